"""Aligned rows of the hot commands (ls, ready, blocked, search), and widths of text in cells."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from grit.cli.terminal import Screen, relative_time
from grit.core.escape import escape
from grit.core.ids import parse_number
from grit.core.limits import PREFIX_CHARS_MIN

CHUNK_ROWS: Final = 200
"""Rows laid out together; the first of them decide the columns of all."""
PIPED_TITLE_CELLS: Final = 64
NAMES_SHOWN_MAX: Final = 100
"""Labels and assignees of one issue that are shown; the others are counted."""
PIPED_LABELS_CELLS: Final = 32
"""Where nothing is cut, longer cells push their own row instead of padding all others."""

BOLD: Final = "1"
DIM: Final = "2"
RED: Final = "31"
GREEN: Final = "32"
MAGENTA: Final = "35"
BLUE: Final = "94"
_LABEL_COLOURS: Final = ("31", "35", "91", "94", "95")
"""Their contrast is 3 or more on white and on black; green, cyan, yellow, dark blue have 2."""

_MARKS: Final = {
    "open": ("●", "o", GREEN),
    "closed": ("✓", "x", MAGENTA),
    "unknown": ("?", "?", DIM),
}
_MARK_OTHER: Final = ("✗", "-", RED)


class IssueRow(NamedTuple):
    """One issue in a list; texts are raw, they are made safe here.

    `issue_id` is the part that is shown, of which `unique` digits are enough to type; `state` is
    open, closed or deleted; a `priority` that is a number is shown as P1; `note` follows
    the title, as "waits for 1a2b3c4".
    """

    issue_id: str
    unique: int
    state: str
    title: str
    updated_ts: int
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    priority: str = ""
    note: str = ""


class _Layout(NamedTuple):
    """Cells of each column; 0 drops the column, `cut` forbids a cell to be wider."""

    issue_id: int
    priority: int
    title: int
    labels: int
    assignees: int
    time: int
    cut: bool
    ago: bool


class _Cells(NamedTuple):
    """A row's texts, safe, before they are fitted."""

    row: IssueRow
    title: str
    note: str
    labels: tuple[str, ...]
    hidden_labels: int
    assignees: str
    priority: str
    time: str


@functools.lru_cache(maxsize=4096)
def _cells_of(char: str) -> int:
    from unicodedata import category, east_asian_width

    if category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Return the terminal cells that the text takes: 2 for wide characters and emoji, 0 for marks.

    An emoji joined to the one before it takes none, one made colourful by U+FE0F takes two.
    """
    return len(text) if text.isascii() else _measure(text, len(text) * 2)[0]


def _measure(text: str, room: int) -> tuple[int, int]:
    """Return the cells of the longest start that takes at most `room`, and where it ends."""
    cells = end = last = 0
    joined = False
    for at, char in enumerate(text, 1):
        if char == "\u200d":
            taken = 0
        elif char == "\ufe0f":
            taken = 1 if last == 1 else 0
            last = 2
        else:
            taken = _cells_of(char)
            last = taken or last
            if joined and taken == 2:
                taken = 0
        joined = char == "\u200d"
        if cells + taken > room:
            break
        cells += taken
        end = at
    return cells, end


def fit(text: str, columns: int, ellipsis: str = "…") -> str:
    """Return the text, cut to `columns` cells with an ellipsis where it is wider."""
    if len(text) * 2 <= columns or width(text) <= columns:
        return text
    room = columns - len(ellipsis)
    if room < 0:
        return ellipsis[: max(columns, 0)]
    end = room if text.isascii() else _measure(text, room)[1]
    return text[:end].rstrip("\u200d ") + ellipsis


def pad(text: str, columns: int) -> str:
    """Return the text with spaces up to `columns` cells."""
    return text + " " * (columns - width(text))


def paint(text: str, style: str, screen: Screen) -> str:
    """Return the text in an SGR style (one of the 16 standard colours), if colour is wanted."""
    return f"\x1b[{style}m{text}\x1b[m" if screen.colour and text and style else text


def ellipsis_of(screen: Screen) -> str:
    """Return the sign for text that was cut."""
    return "…" if screen.unicode else "..."


def state_mark(state: str, screen: Screen) -> str:
    """Return the one-cell sign of a state, in its colour."""
    sign, plain, style = _MARKS.get(state, _MARK_OTHER)
    return paint(sign if screen.unicode else plain, style, screen)


def short_id(issue_id: str, unique: int, screen: Screen) -> str:
    """Return the id with the part that is enough to type in bold, and the rest dim."""
    enough = max(unique, PREFIX_CHARS_MIN)
    return paint(issue_id[:enough], BOLD, screen) + paint(issue_id[enough:], DIM, screen)


@functools.lru_cache(maxsize=4096)
def label_style(label: str) -> str:
    """Return the label's colour: the same name has the same one everywhere, always."""
    number = 0
    for char in label:
        number = (number * 31 + ord(char)) & 0xFFFFFFFF
    return _LABEL_COLOURS[(number ^ number >> 16) % len(_LABEL_COLOURS)]


def paint_labels(
    labels: Sequence[str], columns: int | None, screen: Screen, hidden: int = 0
) -> tuple[str, int]:
    """Return safe labels side by side, as many as fit, "+2" for the others, and their cells.

    `hidden` are others that are not among the labels.
    """
    shown: list[str] = []
    cells = 0
    for at, label in enumerate(labels):
        left = len(labels) - at - 1 + hidden
        gap = 1 if shown else 0
        tail = len(f" +{left}") if left else 0
        if columns is not None and cells + gap + width(label) + tail > columns:
            if shown:
                rest = f"+{left + 1}"
                return " ".join((*shown, paint(rest, DIM, screen))), cells + 1 + len(rest)
            cut = fit(label, columns - tail, ellipsis_of(screen))
            shown.append(paint(cut, label_style(label), screen))
            cells += width(cut)
            if left:
                return f"{shown[0]} {paint(f'+{left}', DIM, screen)}", cells + tail
            break
        shown.append(paint(label, label_style(label), screen))
        cells += gap + width(label)
    if hidden:
        shown.append(paint(f"+{hidden}", DIM, screen))
        cells += len(f" +{hidden}")
    return " ".join(shown), cells


def join_names(names: Sequence[str]) -> str:
    """Return safe names in a row, of very many the first ones and how many more there are."""
    shown = list(map(escape, names[:NAMES_SHOWN_MAX]))
    more = len(names) - len(shown)
    return ", ".join([*shown, f"+{more}"] if more else shown)


def render_issue_rows(rows: Iterable[IssueRow], screen: Screen, now_ms: int) -> Iterator[str]:
    """Yield one line an issue, aligned, in pieces of CHUNK_ROWS as the rows come.

    On a terminal less important columns shrink or go, the title gets what is left, and is cut;
    elsewhere nothing is cut.
    """
    source = iter(rows)
    first = [_cells(row, now_ms) for row in islice(source, CHUNK_ROWS)]
    if not first:
        return
    after = next(source, None)
    layout = _layout(first, screen.columns, more=after is not None)
    for cells in first:
        yield _line(cells, layout, screen)
    if after is not None:
        for row in chain((after,), source):
            yield _line(_cells(row, now_ms), layout, screen)


def _cells(row: IssueRow, now_ms: int) -> _Cells:
    return _Cells(
        row,
        escape(row.title),
        escape(row.note),
        tuple(map(escape, row.labels[:NAMES_SHOWN_MAX])),
        max(len(row.labels) - NAMES_SHOWN_MAX, 0),
        join_names(row.assignees),
        f"P{row.priority}" if parse_number(row.priority) is not None else escape(row.priority),
        relative_time(row.updated_ts, now_ms),
    )


def _layout(chunk: Sequence[_Cells], columns: int | None, *, more: bool) -> _Layout:
    id_cells = max(len(cells.row.issue_id) for cells in chunk)
    titles = [width(c.title) + (2 + width(c.note) if c.note else 0) for c in chunk]
    title_cells = max(titles)
    labels_cells = max(sum(map(width, c.labels)) + max(len(c.labels) - 1, 0) for c in chunk)
    assignees_cells = max(width(c.assignees) for c in chunk)
    priority_cells = min(max(width(c.priority) for c in chunk), 8)
    if columns is None:
        return _Layout(
            id_cells,
            priority_cells,
            min(title_cells, PIPED_TITLE_CELLS),
            min(labels_cells, PIPED_LABELS_CELLS),
            min(assignees_cells, PIPED_LABELS_CELLS),
            10,
            cut=False,
            ago=True,
        )
    ago = columns >= 80
    time_cells = max(len(c.time if ago else c.time.removesuffix(" ago")) for c in chunk)
    if more:
        time_cells = 10 if ago else 6
    title_share = min(title_cells, max(14, columns * 2 // 5))
    room = columns - 2 - id_cells - 2 - title_share
    wanted = (
        ("priority", priority_cells, priority_cells),
        ("time", time_cells, time_cells),
        ("labels", min(labels_cells, max(16, columns // 5)), 8),
        ("assignees", min(assignees_cells, max(8, columns // 8)), 6),
    )
    taken = {}
    for name, want, least in wanted:
        cells = min(want, room - 2)
        taken[name] = cells if cells >= min(want, least) and cells > 0 else 0
        room -= taken[name] + 2 if taken[name] else 0
    title = max(title_share + room, 1)
    return _Layout(
        id_cells,
        taken["priority"],
        title if more else min(title, title_cells),
        taken["labels"],
        taken["assignees"],
        taken["time"],
        cut=True,
        ago=ago,
    )


def _line(cells: _Cells, layout: _Layout, screen: Screen) -> str:
    row = cells.row
    blank = " " * (layout.issue_id - len(row.issue_id))
    parts = [f"{state_mark(row.state, screen)} {short_id(row.issue_id, row.unique, screen)}{blank}"]
    cut, sign = layout.cut, ellipsis_of(screen)
    if layout.priority:
        text = fit(cells.priority, layout.priority, sign) if cut else cells.priority
        parts.append(pad(text, layout.priority))
    title = fit(cells.title, layout.title, sign) if cut else cells.title
    left = layout.title - width(title)
    note = cells.note
    if note and cut:
        note = fit(note, left - 2, sign) if left >= 8 else ""
    if note:
        title += f"  {paint(note, DIM, screen)}"
        left -= 2 + width(note)
    parts.append(title + " " * left)
    if layout.labels:
        room = layout.labels if cut else None
        text, taken = paint_labels(cells.labels, room, screen, cells.hidden_labels)
        parts.append(text + " " * (layout.labels - taken))
    if layout.assignees:
        text = fit(cells.assignees, layout.assignees, sign) if cut else cells.assignees
        blank = " " * (layout.assignees - width(text))
        parts.append(paint(text, BLUE, screen) + blank)
    if layout.time:
        text = cells.time if layout.ago else cells.time.removesuffix(" ago")
        parts.append(paint(text.rjust(layout.time), DIM, screen))
    return "  ".join(parts).rstrip()


def counted(number: int, noun: str) -> str:
    """Return "1 open issue", "1,234 open issues"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def list_footer(shown: int, total: int, noun: str, screen: Screen) -> str:
    """Return the line below a list: "50 of 1,234 open issues; --all shows them"."""
    if shown >= total:
        return paint(counted(total, noun), DIM, screen)
    return paint(f"{shown:,} of {counted(total, noun)}; --all shows them", DIM, screen)


def empty_list(command: str, *, filtered: bool = False, everything: bool = False) -> str:
    """Return what a list says when it has nothing to show; `everything`: whatever the state."""
    if everything:
        return "Nothing matches."
    if filtered or command == "search":
        return "Nothing open matches; --state all looks at closed issues too."
    return {
        "ready": "Nothing is ready. 'grit blocked' shows what waits for what.",
        "blocked": "Nothing is blocked.",
        "log": "Nothing has happened yet. 'grit new' creates an issue.",
    }.get(command, "No open issues. 'grit new' creates one.")
