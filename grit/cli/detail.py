"""How one issue, its history and the activity log are laid out as lines."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from grit.cli.table import (
    BLUE,
    BOLD,
    DIM,
    GREEN,
    MAGENTA,
    NAMES_SHOWN_MAX,
    RED,
    ellipsis_of,
    fit,
    join_names,
    pad,
    paint,
    paint_labels,
    short_id,
    state_mark,
    width,
)
from grit.cli.terminal import Screen, absolute_time, exact_time, relative_time
from grit.core.escape import escape

PROSE_CELLS_MAX: Final = 100
"""Prose is not wrapped wider than this, however wide the terminal is."""
TAB_CELLS: Final = 4
ACTOR_CELLS: Final = 16
NARROW_CELLS: Final = 72
"""Below this many columns some parts of a line go, or are shortened."""
INDENT: Final = "  "
_STATE_STYLES: Final = {"open": GREEN, "closed": MAGENTA}


class CommentView(NamedTuple):
    """A comment, called by its number or id; `redacted` says why its text was taken away."""

    comment_id: str
    author: str
    ts_unix_ms: int
    body: str
    edited_ts: int | None = None
    redacted: str | None = None


class RelationView(NamedTuple):
    """Another issue, under the heading that says how it relates: "Waits for", "Blocks" ..."""

    heading: str
    issue_id: str
    unique: int
    state: str
    title: str


class LinkView(NamedTuple):
    """A URL with an optional note."""

    url: str
    note: str | None = None


class AttachmentView(NamedTuple):
    """A file kept in the log."""

    name: str
    mime: str
    author: str
    ts_unix_ms: int


class IssueView(NamedTuple):
    """A whole issue with names in place of ids; texts are raw, they are made safe here.

    `issue_id` is the short form, of which `unique` digits are enough to type; `progress` counts
    the closed children of an epic and all of them; `hidden` says what of it is left out, in words.
    """

    issue_id: str
    full_id: str
    unique: int
    state: str
    title: str
    author: str
    created_ts: int
    updated_ts: int
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    comments: tuple[CommentView, ...] = ()
    links: tuple[LinkView, ...] = ()
    attachments: tuple[AttachmentView, ...] = ()
    relations: tuple[RelationView, ...] = ()
    progress: tuple[int, int] | None = None
    comments_before: int = 0
    """Older comments that are left out."""
    hidden: tuple[str, ...] = ()


class HistoryRow(NamedTuple):
    """One event: who, when, what ("added label bug"), and valid, invalid, unknown_key or none.

    `issue_id` (short), `unique` and `title` name the issue in the log of all issues.
    """

    event_id: str
    ts_unix_ms: int
    actor: str
    text: str
    signature: str
    issue_id: str = ""
    unique: int = 0
    title: str = ""


def lines_of_issue(issue: IssueView, screen: Screen, now_ms: int) -> Iterator[str]:
    """Yield the page of `grit show`: title, state and dates, facts, body, relations, comments."""
    mark = state_mark(issue.state, screen)
    title = wrap(escape(issue.title), _prose_cells(screen))
    for at, line in enumerate(title):
        yield (INDENT if at else f"{mark} ") + paint(line, BOLD, screen)
    yield from _byline(issue, screen, now_ms)
    yield ""
    yield from _facts(issue, screen)
    if issue.body.strip():
        yield ""
        yield from lines_of_text(issue.body, screen)
    yield from _relations(issue.relations, screen)
    if issue.links:
        yield from _heading("Links", screen)
        for link in issue.links:
            note = f"  {paint(escape(link.note), DIM, screen)}" if link.note else ""
            yield INDENT * 2 + escape(link.url) + note
    if issue.attachments:
        yield from _heading("Attachments", screen)
        for file in issue.attachments:
            about = f"{escape(file.mime)}, {escape(file.author)} "
            about += relative_time(file.ts_unix_ms, now_ms)
            yield f"{INDENT * 2}{escape(file.name)}  {paint(about, DIM, screen)}"
    if issue.hidden:
        yield ""
        yield INDENT + paint(f"not shown, but in --json: {', '.join(issue.hidden)}", DIM, screen)
    for comment in issue.comments:
        yield ""
        yield from _comment(comment, screen, now_ms)


def lines_of_history(rows: Iterable[HistoryRow], screen: Screen, now_ms: int) -> Iterator[str]:
    """Yield one line an event of one issue: verified or not, id, when, who, what."""
    narrow = screen.columns is not None and screen.columns < NARROW_CELLS
    for row in rows:
        when = absolute_time(row.ts_unix_ms)
        if narrow:
            when = relative_time(row.ts_unix_ms, now_ms).rjust(10)
        actor, actor_cells = _actor(row.actor, screen)
        left = f"{_signature(row.signature, screen)} "
        used = 2 + len(when) + 2 + actor_cells + 2
        if not narrow:
            left += f"{escape(row.event_id)}  "
            used += len(row.event_id) + 2
        text = _cut(escape(row.text), used, screen)
        yield f"{left}{paint(when, DIM, screen)}  {actor}  {text}".rstrip()


def lines_of_log(rows: Iterable[HistoryRow], screen: Screen, now_ms: int | None) -> Iterator[str]:
    """Yield one line an event across issues as they come: when, which issue, who, what.

    Without `now_ms` the time is written out, for lines that stay while time goes on.
    """
    for row in rows:
        ts_unix_ms = row.ts_unix_ms
        when = exact_time(ts_unix_ms) if now_ms is None else relative_time(ts_unix_ms, now_ms)
        when = when.rjust(10)
        issue = short_id(row.issue_id, row.unique, screen)
        actor, actor_cells = _actor(row.actor, screen)
        used = len(when) + 2 + len(row.issue_id) + 2 + actor_cells + 2
        text = _cut(escape(row.text), used, screen)
        used += width(text) + 2
        title = ""
        if row.title and (screen.columns is None or screen.columns - used >= 12):
            title = "  " + paint(_cut(escape(row.title), used, screen), DIM, screen)
        yield f"{paint(when, DIM, screen)}  {issue}  {actor}  {text}{title}".rstrip()


def _actor(name: str, screen: Screen) -> tuple[str, int]:
    """Return the actor's name as a column, and its cells; only a pipe sees long names whole."""
    text = escape(name)
    cells = ACTOR_CELLS
    if screen.columns is not None:
        cells = ACTOR_CELLS if screen.columns >= NARROW_CELLS else ACTOR_CELLS // 2
        text = fit(text, cells, ellipsis_of(screen))
    text = pad(text, cells)
    return paint(text, BLUE, screen), width(text)


def lines_of_text(text: str, screen: Screen) -> Iterator[str]:
    """Yield a body or comment, safe, indented, and wrapped where the terminal has a width.

    Fenced and indented code, tables and quotes keep their lines.
    """
    columns = _prose_cells(screen)
    fence = ""
    for raw in escape(text.strip("\r\n"), multiline=True).split("\n"):
        line = raw.expandtabs(TAB_CELLS).rstrip()
        start = line.lstrip()[:3]
        if start in ("```", "~~~") and fence in ("", start):
            fence = "" if fence else start
            yield INDENT + paint(line, DIM, screen)
        elif fence or not line or _verbatim(line):
            yield (INDENT + line).rstrip()
        else:
            heading = line.startswith("#") and line.lstrip("#").startswith(" ")
            style = BOLD if heading else DIM if start.startswith(">") else ""
            for piece in wrap(line, columns):
                yield INDENT + paint(piece, style, screen)


def wrap(line: str, columns: int | None) -> list[str]:
    """Return the line in pieces of at most `columns` cells, broken at words.

    What follows a list mark or an indent hangs under its text. A word that is wider than a line
    is broken only if it holds wide characters: addresses stay whole, to be copied.
    """
    if columns is None or (len(line) * 2 <= columns) or width(line) <= columns:
        return [line]
    mark = _list_mark().match(line)
    hang = mark.end() if mark and mark.end() <= columns // 2 else 0
    lead = line[:hang]
    room = max(columns - width(lead), 8)
    pieces: list[str] = []
    held = ""
    held_cells = 0
    for word in _words(line[hang:], room):
        cells = width(word.rstrip(" "))
        if held and held_cells + cells > room:
            pieces.append(held.rstrip(" "))
            held, held_cells = "", 0
        held += word
        held_cells += width(word)
    pieces.append(held.rstrip(" "))
    return [(" " * width(lead) if at else lead) + piece for at, piece in enumerate(pieces)]


def _words(text: str, room: int) -> Iterator[str]:
    """Yield the words, each with the spaces after it; wide ones that do not fit, by character."""
    for word in re.findall(r" *[^ ]+ *", text):
        if width(word) > room and not word.isascii():
            yield from _clusters(word)
        else:
            yield word


def _clusters(word: str) -> Iterator[str]:
    held = ""
    for char in word:
        if held and width(held + char) > width(held) and not held.endswith("\u200d"):
            yield held
            held = char
        else:
            held += char
    yield held


@functools.cache
def _list_mark() -> re.Pattern[str]:
    return re.compile(r" *(?:(?:[-*+]|\d{1,3}[.)]|>) +(?:\[[ xX]\] )?)?")


def _verbatim(line: str) -> bool:
    """Whether a line outside fences is code or a table row, which wrapping would spoil."""
    if line.startswith("|"):
        return True
    mark = _list_mark().match(line)
    return line.startswith("    ") and mark is not None and mark.group().isspace()


def _prose_cells(screen: Screen) -> int | None:
    if screen.columns is None:
        return None
    return max(min(screen.columns, PROSE_CELLS_MAX) - len(INDENT), 16)


def _byline(issue: IssueView, screen: Screen, now_ms: int) -> Iterator[str]:
    dot = " · " if screen.unicode else " - "
    parts = [
        paint(issue.state, _STATE_STYLES.get(issue.state, RED), screen),
        short_id(issue.issue_id, issue.unique, screen),
    ]
    cells = 2 + len(issue.state) + 3 + len(issue.issue_id)
    told = [f"opened by {escape(issue.author)} {relative_time(issue.created_ts, now_ms)}"]
    if issue.updated_ts > issue.created_ts:
        told.append(f"updated {relative_time(issue.updated_ts, now_ms)}")
    if count := issue.comments_before + len(issue.comments):
        told.append(f"{count:,} comment" + ("" if count == 1 else "s"))
    line = INDENT + dot.join(parts)
    for text in told:
        if screen.columns is not None and cells + 3 + width(text) > screen.columns:
            yield line
            line, cells = INDENT + text, 2 + width(text)
        else:
            line, cells = line + dot + text, cells + 3 + width(text)
    yield line


def _facts(issue: IssueView, screen: Screen) -> Iterator[str]:
    """Yield the table of what is set, one fact a line; the full id and the date close it."""
    facts: list[tuple[str, str]] = []
    columns = _prose_cells(screen)
    fields = issue.fields[:NAMES_SHOWN_MAX]
    keys = [escape(key) for key, _ in fields]
    key_cells = min(max(map(width, ["assignees", *keys])), 20)
    room = None if columns is None else max(columns - key_cells - 2, 8)
    if issue.labels:
        shown = tuple(map(escape, issue.labels[:NAMES_SHOWN_MAX]))
        labels, _ = paint_labels(shown, room, screen, len(issue.labels) - len(shown))
        facts.append(("labels", labels))
    if issue.assignees:
        facts.append(("assignees", paint(join_names(issue.assignees), BLUE, screen)))
    facts += [(key, escape(value)) for key, (_, value) in zip(keys, fields, strict=True)]
    if len(issue.fields) > len(fields):
        facts.append(("", f"and {len(issue.fields) - len(fields):,} more fields"))
    if issue.progress is not None:
        closed, every = issue.progress
        facts.append(("progress", f"{closed:,} of {every:,} closed"))
    facts.append(("created", absolute_time(issue.created_ts)))
    facts.append(("id", issue.full_id))
    for key, value in facts:
        yield INDENT + paint(pad(fit(key, key_cells), key_cells), DIM, screen) + INDENT + value


def _heading(text: str, screen: Screen) -> Iterator[str]:
    yield ""
    yield INDENT + paint(text, BOLD, screen)


def _relations(relations: Sequence[RelationView], screen: Screen) -> Iterator[str]:
    """Yield the related issues under their headings, in the order the headings first come."""
    headings = dict.fromkeys(relation.heading for relation in relations)
    for heading in headings:
        yield from _heading(escape(heading), screen)
        for other in relations:
            if other.heading != heading:
                continue
            left = f"{state_mark(other.state, screen)} "
            left += short_id(other.issue_id, other.unique, screen)
            title = _cut(escape(other.title), 4 + 2 + len(other.issue_id) + 2, screen)
            yield f"{INDENT * 2}{left}  {title}"


def _comment(comment: CommentView, screen: Screen, now_ms: int) -> Iterator[str]:
    rule = "─" if screen.unicode else "-"
    dot = " · " if screen.unicode else " - "
    author = escape(comment.author)
    when = relative_time(comment.ts_unix_ms, now_ms)
    date = absolute_time(comment.ts_unix_ms)
    about = f"{when} ({date})" if not date.startswith(when) else date
    if comment.edited_ts is not None:
        about += f"{dot}edited {relative_time(comment.edited_ts, now_ms)}"
    about += f"{dot}#{comment.comment_id}"
    if screen.columns is not None and screen.columns < 60:
        about = f"{when}{dot}#{comment.comment_id}"
    cells = 6 + width(author) + width(about)
    full = min(screen.columns or 0, PROSE_CELLS_MAX)
    tail = f" {rule * (full - cells - 2)}" if full > cells + 4 else ""
    head = f"{INDENT}{paint(rule * 2, DIM, screen)} {paint(author, BLUE, screen)} "
    yield head + paint(about + tail, DIM, screen)
    if comment.redacted is not None:
        reason = f": {escape(comment.redacted)}" if comment.redacted else ""
        yield INDENT + paint(f"(taken away{reason})", DIM, screen)
    else:
        yield from lines_of_text(comment.body, screen)


def _signature(signature: str, screen: Screen) -> str:
    sign, plain, style = {
        "valid": ("✓", "v", GREEN),
        "invalid": ("✗", "!", RED),
        "unknown_key": ("?", "?", RED),
    }.get(signature, ("-", "-", DIM))
    return paint(sign if screen.unicode else plain, style, screen)


def _cut(text: str, used: int, screen: Screen) -> str:
    if screen.columns is None:
        return text
    return fit(text, max(screen.columns - used, 8), ellipsis_of(screen))
