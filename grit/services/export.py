"""Use case: the whole tracker as JSON, Markdown, CSV or HTML, streamed (spec/exchange.md)."""

import csv
import json
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from grit.core.errors import InvalidArgs, IoFailed, NotFound
from grit.core.escape import INVISIBLE, escape
from grit.core.events import ATTACHMENT_ADDED, Event
from grit.core.fold import fold
from grit.core.ids import ActorId, EventId, IssueId, parse_number, parse_prefix, user_name
from grit.core.issue import Issue, Order, Summary
from grit.core.times import format_ms, parse_duration_ms, parse_span
from grit.services.refresh import refresh
from grit.services.shapes import Json, event_json, issue_json
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader

FORMATS: Final = ("json", "md", "csv", "html")
EXPORT_VERSION: Final = 1
_FIRST_ORDER: Final[Order] = (0, ActorId(b""), EventId(b""))
_MS_DIGITS_MAX: Final = 15
CSV_COLUMNS: Final = (
    "issue_id", "title", "state", "type", "priority", "status", "labels", "assignees", "parent",
    "author", "created", "updated", "comment_count", "source", "body",
)  # fmt: skip
_SIGNS: Final = (
    r"=+@\-" "\uff1d\uff0b\uff20\uff0d\ufe66\ufe62\ufe6b\ufe63"
    "\u207c\u207a\u207b\u208c\u208a\u208b\u2212\ufb29"
)  # fmt: skip
_FORMULA: Final = rf"[\t\r\n]|[{INVISIBLE}]*[{_SIGNS}]"
"""Spreadsheets take full-width and small signs for plain ones, and look behind blanks."""


class Asked(NamedTuple):
    """What an export is asked for: a format, where to begin, whether contents go along."""

    format: str = "json"
    since: str | None = None
    attachments: bool = False


class Exported(NamedTuple):
    """What an exporter takes: the reader, and the selection of events and issues."""

    workspace: Workspace
    reader: ViewReader
    after: Order
    """Events that sort after this are exported."""
    issue_ids: set[IssueId] | None
    """Issues to export; None: all."""
    names: Callable[[ActorId], str]


def export(workspace: Workspace, asked: Asked) -> Iterator[str]:
    """Return the export's text in pieces; raises InvalidArgs or NotFound for a bad `since`."""
    reader = refresh(workspace)
    after = _FIRST_ORDER
    issue_ids: set[IssueId] | None = None
    if asked.since is not None:
        after = _position(workspace, reader, asked.since)
        issue_ids = {event.issue_id for event in _events(reader, after)}
    source = Exported(workspace, reader, after, issue_ids, people(reader))
    if asked.format == "html":
        from grit.services.export_html import html_pieces

        return html_pieces(source)
    return {"md": _markdown, "csv": _csv}.get(asked.format, lambda it: _json(it, asked))(source)


def save(path: str, pieces: Iterable[str]) -> int:
    """Write the export to a file that appears whole or not at all; return its bytes.

    Raises IoFailed.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        partial = target
    else:
        partial = f"{target}.{os.getpid()}.part"
    size = 0
    try:
        with open(partial, "wb") as file:
            for piece in pieces:
                size += file.write(piece.encode())
        if partial != target:
            os.replace(partial, target)
    except OSError as error:
        raise IoFailed(f"cannot write '{path}': {error.strerror}") from error
    finally:
        if partial != target and os.path.exists(partial):
            os.unlink(partial)
    return size


def people(reader: ViewReader) -> Callable[[ActorId], str]:
    """Return the function from an actor to the name that people know."""
    known = {one.actor_id: one.label or one.name for one in reader.actors()}
    return lambda actor_id: user_name(known.get(actor_id, ""), actor_id)


def issues(
    source: Exported, *, deleted: bool = False, newest_first: bool = False
) -> Iterator[Issue]:
    """Yield whole issues, the oldest first unless asked; deleted ones only when asked."""
    for row in _summaries(source, deleted, newest_first):
        issue = fold(source.reader.events_of(row.issue_id))
        if issue is not None:
            yield issue


def _summaries(source: Exported, deleted: bool, newest_first: bool) -> Iterator[Summary]:
    """Yield summaries in order of creation; only times and ids are held in memory."""
    wanted = source.issue_ids
    places = [
        (row.created_ts, row.issue_id)
        for row in source.reader.all_rows()
        if (deleted or not row.deleted) and (wanted is None or row.issue_id in wanted)
    ]
    places.sort(reverse=newest_first)
    for _, issue_id in places:
        row = source.reader.summary(issue_id)
        if row is not None:
            yield row


def _position(workspace: Workspace, reader: ViewReader, since: str) -> Order:
    text = since.strip()
    span_ms = parse_duration_ms(text)
    if span_ms is not None:
        return _before(workspace.now_ms() - span_ms)
    span = parse_span(text)
    if span is not None:
        return _before(span.first_ms)
    number = parse_number(text, _MS_DIGITS_MAX)
    if number is not None:
        return _before(number)
    try:
        prefix = parse_prefix(text, chars_max=64, what="event id")
    except InvalidArgs as error:
        raise InvalidArgs(
            f"'{since}' is no duration (7d), date, unix milliseconds or event id"
        ) from error
    found = [event.order for event in reader.all_events() if event[0].hex().startswith(prefix)]
    if not found:
        raise NotFound(f"no event '{prefix}'", id=prefix)
    if len(found) > 1:
        raise InvalidArgs(f"'{prefix}' names {len(found)} events; give more digits")
    return found[0]


def _before(ts_unix_ms: int) -> Order:
    """Return the place that sorts right before every event of this time."""
    return (ts_unix_ms, ActorId(b""), EventId(b""))


def _events(reader: ViewReader, after: Order) -> Iterator[Event]:
    return (event for event in reader.all_events() if event.order > after)


def _json(source: Exported, asked: Asked) -> Iterator[str]:
    """Yield one document whose issues and events stand one a line."""
    stats = source.reader.stats()
    meta = {
        "schema_version": EXPORT_VERSION,
        "generated_ts": source.workspace.now_ms(),
        "wal_head": stats.head,
        "event_count": stats.event_count,
    }
    if asked.since is not None:
        meta["since"] = asked.since
    yield f'{{"meta": {json.dumps(meta)},\n"issues": [\n'
    found = issues(source, deleted=True)
    shapes = (issue_json(one, *_relations(source.reader, one.summary)) for one in found)
    yield from _listed(source, shapes)
    if asked.attachments:
        yield '],\n"attachments": [\n'
        yield from _listed(source, _attachments(source))
    yield '],\n"events": [\n'
    events = _events(source.reader, source.after)
    yield from _listed(source, (event_json(event) for event in events))
    yield "]}\n"


def _listed(source: Exported, shapes: Iterable[Json]) -> Iterator[str]:
    comma = ""
    for shape in shapes:
        try:
            yield comma + json.dumps(shape)
        except TypeError:
            yield comma
            yield from source.workspace.long_texts.json_pieces(shape)
        comma = ",\n"
    if comma:
        yield "\n"


def _relations(reader: ViewReader, row: Summary) -> tuple[list[Json], list[Json]]:
    def shape(issue_id: IssueId, dep_type: str) -> Json:
        other = reader.summary(issue_id)
        return {
            "issue_id": issue_id.hex(),
            "dep_type": dep_type,
            "title": other.title if other else None,
            "state": other.state if other else None,
        }

    return (
        [shape(*edge) for edge in row.dependencies],
        [shape(*edge) for edge in reader.dependents(row.issue_id)],
    )


def _attachments(source: Exported) -> Iterator[Json]:
    """Yield every content once that the log holds."""
    done: set[bytes] = set()
    for event in _events(source.reader, source.after):
        digest = event.payload[1] if event.tag == ATTACHMENT_ADDED else None
        if isinstance(digest, bytes) and digest not in done:
            done.add(digest)
            content = source.workspace.wal.attachment(digest.hex())
            if content is None:
                source.workspace.notice(f"the log does not hold attachment {digest.hex()}")
                continue
            yield {"sha256": digest.hex(), "content": b64encode(content).decode()}


def _csv(source: Exported) -> Iterator[str]:
    """Yield a header and one row an issue (RFC 4180)."""
    line = _Line()
    writer = csv.writer(line)
    writer.writerow(CSV_COLUMNS)
    yield line.text
    for issue in issues(source):
        row = issue.summary
        field = dict(row.fields)
        cells = (
            row.issue_id.hex(), row.title, row.state, field.get("type", ""),
            field.get("priority", ""), field.get("status", ""), ", ".join(row.labels),
            ", ".join(row.assignees), field.get("parent", ""), source.names(row.author),
            format_ms(row.created_ts), format_ms(row.updated_ts), str(row.comment_count),
            field.get("source", ""), source.workspace.whole(issue.body),
        )  # fmt: skip
        writer.writerow([safe_cell(cell) for cell in cells])
        yield line.text


class _Line:
    """What csv writes to: keeps the last line."""

    text = ""

    def write(self, text: str) -> int:
        self.text = text
        return len(text)


def safe_cell(text: str) -> str:
    """Return the text so that neither a spreadsheet nor a terminal does what it says."""
    clean = escape(text, multiline=True)
    return "'" + clean if re.match(_FORMULA, text) else clean


_MARKUP: Final = re.compile(r"([\\`*_\[\]<>#|~&])")
_TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")
_FENCE: Final = re.compile(r"\s{0,3}(`{3,}|~{3,})")


def _markdown(source: Exported) -> Iterator[str]:
    """Yield one document: a section an issue, texts as quotes."""
    yield "# Issues\n"
    for issue in issues(source):
        yield from _issue_markdown(source, issue)


def _issue_markdown(source: Exported, issue: Issue) -> Iterator[str]:
    row = issue.summary
    yield f"\n## {_plain(row.title)}\n\n"
    facts = [("id", f"`{row.issue_id.hex()}`"), ("state", row.state)]
    facts += [(key, _plain(value)) for key, value in row.fields]
    facts += [("labels", _plain(", ".join(row.labels)))] if row.labels else []
    facts += [("assignees", _plain(", ".join(row.assignees)))] if row.assignees else []
    facts.append(("opened", f"{format_ms(row.created_ts)} by {_plain(source.names(row.author))}"))
    facts.append(("updated", format_ms(row.updated_ts)))
    for edge in row.dependencies:
        other = source.reader.summary(edge.target)
        title = f" {_plain(other.title)}" if other else ""
        facts.append((edge.dep_type.replace("_", " "), f"`{edge.target.hex()}`{title}"))
    facts += [
        ("link", _plain(one.url) + (f" ({_plain(one.note)})" if one.note else ""))
        for one in issue.links
    ]
    facts += [
        ("attachment", f"{_plain(one.name)} (sha256 `{one.sha256.hex()}`)")
        for one in issue.attachments
    ]
    for key, value in facts:
        yield f"- **{_plain(key)}:** {value}\n"
    body = source.workspace.whole(issue.body)
    if body.strip():
        yield "\n" + quoted(body)
    for comment in issue.comments:
        who = _plain(source.names(comment.actor))
        yield f"\n### {who}, {format_ms(comment.ts_unix_ms)}\n\n"
        hidden = comment.redacted
        text = source.workspace.whole(comment.body)
        yield quoted(text) if hidden is None else f"*redacted: {_plain(hidden)}*\n"


def _plain(text: str) -> str:
    """Return one line that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", escape(" ".join(text.split())))


def quoted(text: str) -> str:
    """Return a text as a Markdown quote: its own markup holds, HTML tags outside code do not."""
    lines: list[str] = []
    fence = ""
    for line in escape(text.replace("\r\n", "\n"), multiline=True).rstrip().split("\n"):
        found = _FENCE.match(line)
        if found and not fence:
            fence = found[1][:3]
        elif found and found[1].startswith(fence):
            fence = ""
        lines.append(f"> {line if fence or found else _TAG.sub('&lt;', line)}".rstrip())
    return "\n".join(lines) + "\n"
