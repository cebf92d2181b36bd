"""An issue as `grit show` prints it: the service's values with names in place of ids."""

from collections.abc import Iterator, Sequence
from typing import Final

from grit.cli.context import Context
from grit.cli.detail import (
    AttachmentView,
    CommentView,
    IssueView,
    LinkView,
    RelationView,
    lines_of_issue,
)
from grit.cli.names import name_of, short
from grit.core.escape import escape
from grit.core.ids import IssueId, parse_hex
from grit.core.issue import Comment, Summary
from grit.core.limits import ID_BYTES, TEXT_KEPT_BYTES
from grit.core.long_text import Text, whole_bytes
from grit.services.listing import Relation, Shown
from grit.services.shapes import Json, event_json, issue_json
from grit.view.reader import ViewReader

_LISTED_MAX: Final = 1_000
"""Comments, links, attachments and related issues of one page, each."""
_COMMENTS_BYTES_MAX: Final = 1024 * 1024
_HEADINGS: Final = {
    ("blocks", False): "Blocks",
    ("depends_on", False): "Waits for",
    ("blocks", True): "Waits for",
    ("depends_on", True): "Blocks",
    ("related_to", False): "Related",
    ("related_to", True): "Related",
}


def relations_json(relations: Sequence[Relation]) -> list[Json]:
    """Return edges with the titles and states of the issues at their other end."""
    return [
        {
            "issue_id": one.issue_id.hex(),
            "dep_type": one.dep_type,
            "title": one.row.title if one.row else None,
            "state": one.row.state if one.row else None,
        }
        for one in relations
    ]


def shown_json(shown: Shown, with_events: bool) -> Json:
    """Return the data of `grit show --json`."""
    data: Json = {
        "issue": issue_json(
            shown.issue, relations_json(shown.dependencies), relations_json(shown.dependents)
        )
    }
    if with_events:
        from grit.services.signatures import judged

        events = shown.reader.history_of(shown.issue.summary.issue_id)
        data["events"] = [event_json(*one) for one in judged(shown.reader, events)]
    return data


def shown_lines(run: Context, shown: Shown, with_events: bool) -> Iterator[str]:
    """Yield the page of `grit show`."""
    yield from lines_of_issue(_view(run, shown), run.terminal.screen, run.now_ms)
    if with_events:
        from grit.cli.detail import lines_of_history
        from grit.cli.wording import history_rows

        yield ""
        events = shown.reader.history_of(shown.issue.summary.issue_id)
        rows = history_rows(shown.reader, events)
        yield from lines_of_history(rows, run.terminal.screen, run.now_ms)


def _view(run: Context, shown: Shown) -> IssueView:
    issue, reader = shown.issue, shown.reader
    row = issue.summary
    relations = list(_relations(shown))
    first = _first_shown(issue.comments)
    hidden = {
        "older comments": first,
        "links": len(issue.links) - _LISTED_MAX,
        "attachments": len(issue.attachments) - _LISTED_MAX,
        "related issues": len(relations) - _LISTED_MAX,
    }
    unique = reader.unique_chars(row.issue_id)
    closed = sum(child.state == "closed" for child in shown.children)
    return IssueView(
        issue_id=short(reader, row.issue_id),
        full_id=row.issue_id.hex(),
        unique=unique,
        state="deleted" if row.deleted else row.state,
        title=row.title,
        author=name_of(reader, row.author),
        created_ts=row.created_ts,
        updated_ts=row.updated_ts,
        labels=row.labels,
        assignees=row.assignees,
        fields=tuple((key, value) for key, value in row.fields if key != "parent"),
        body=_shown_text(run, issue.body),
        comments=tuple(
            CommentView(
                str(number),
                name_of(reader, one.actor),
                one.ts_unix_ms,
                _shown_text(run, one.body),
                one.edited_ts,
                one.redacted,
            )
            for number, one in enumerate(issue.comments[first:], first + 1)
        ),
        links=tuple(LinkView(one.url, one.note) for one in issue.links[:_LISTED_MAX]),
        attachments=tuple(
            AttachmentView(one.name, one.mime, name_of(reader, one.actor), one.ts_unix_ms)
            for one in issue.attachments[:_LISTED_MAX]
        ),
        relations=tuple(_relation(*one, reader) for one in relations[:_LISTED_MAX]),
        progress=(closed, len(shown.children)) if shown.children else None,
        comments_before=first,
        hidden=tuple(f"{count:,} {what}" for what, count in hidden.items() if count > 0),
    )


def _first_shown(comments: Sequence[Comment]) -> int:
    """Return how many comments are left out: the last ones are shown, within bounds."""
    size = 0
    for count, comment in enumerate(reversed(comments)):
        size += min(whole_bytes(comment.body), TEXT_KEPT_BYTES)
        if count == _LISTED_MAX or size > _COMMENTS_BYTES_MAX:
            return len(comments) - count
    return 0


def _shown_text(run: Context, text: Text) -> str:
    """Return a text, of one that is too long for a page the beginning, and how long it is."""
    size = whole_bytes(text)
    if size <= TEXT_KEPT_BYTES:
        return run.workspace.whole(text)
    start = run.workspace.long_texts.start(text)
    return f"{start}\n\n[the first {TEXT_KEPT_BYTES:,} of {size:,} bytes; --json has all]"


def _relations(shown: Shown) -> Iterator[tuple[str, str, Summary | None]]:
    """Yield heading, id and row of what is related."""
    reader = shown.reader
    parent = shown.issue.summary.field("parent")
    if parent is not None:
        found = parse_hex(parent, ID_BYTES)
        row = reader.summary(IssueId(found)) if found is not None else None
        yield "Part of", parent, row
    for one in shown.dependencies:
        yield _HEADINGS[one.dep_type, False], one.issue_id.hex(), one.row
    for one in shown.dependents:
        yield _HEADINGS[one.dep_type, True], one.issue_id.hex(), one.row
    for child in shown.children:
        yield "Parts", child.issue_id.hex(), child


def _relation(heading: str, text: str, row: Summary | None, reader: ViewReader) -> RelationView:
    if row is None:
        # The text is a field's value where it is no id: anything may stand there.
        return RelationView(heading, escape(text)[:7], 7, "unknown", "(has not arrived)")
    state = "deleted" if row.deleted else row.state
    unique = reader.unique_chars(row.issue_id)
    return RelationView(heading, short(reader, row.issue_id), unique, state, row.title)


def relation_lines(
    run: Context, shown: Shown, relations: Sequence[Relation], reverse: bool
) -> list[str]:
    """Return one line an edge, as `grit issue dep list` prints them."""
    found: list[str] = []
    for one in relations:
        title = escape(one.row.title) if one.row else "(has not arrived)"
        state = one.row.state if one.row else "unknown"
        found.append(f"{one.dep_type:<10}  {one.issue_id.hex()[:7]}  {state:<7}  {title}")
    return found
