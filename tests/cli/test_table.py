"""Rows of the hot commands: aligned, fitted to any width, and safe whatever an issue says."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.cli.table import (
    CHUNK_ROWS,
    IssueRow,
    counted,
    empty_list,
    fit,
    label_style,
    list_footer,
    paint_labels,
    render_issue_rows,
    short_id,
    width,
)
from grit.cli.terminal import Screen

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
SGR = re.compile(r"\x1b\[[0-9;]*m")
texts = st.text(st.one_of(st.characters(codec=None), st.sampled_from("\x1b\r\u202e漢😀e\u0301")))


def row(title: str = "A title", **changes: object) -> IssueRow:
    """Build a row; what a test sets is what it is about."""
    base = IssueRow("1a2b3c4", 4, "open", title, NOW_MS - 3 * HOUR_MS)
    return base._replace(**changes)


def render(rows: list[IssueRow], columns: int | None = None, colour: bool = False) -> list[str]:
    return list(render_issue_rows(rows, Screen(columns, colour), NOW_MS))


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("abc", 3),
        ("漢字", 4),
        ("e\u0301", 1),
        ("😀", 2),
        ("👩\u200d💻", 2),
        ("❤\ufe0f", 2),
        ("🇩🇪", 2),
        ("é", 1),
        ("\u1112\u1161", 2),
        ("", 0),
    ],
)
def test_width_counts_cells(text: str, cells: int) -> None:
    """Wide characters and emoji take two cells, marks and what is joined none."""
    assert width(text) == cells


@given(texts, st.integers(0, 30))
def test_fit_never_exceeds_and_keeps_what_fits(text: str, columns: int) -> None:
    """A text that fits is unchanged; one that does not is cut within its columns."""
    fitted = fit(text, columns)
    assert width(fitted) <= columns
    if width(text) <= columns:
        assert fitted == text
    elif columns:
        assert fitted.endswith("…")


def test_fit_cuts_between_wide_characters() -> None:
    """A wide character that fits by half is left out."""
    assert fit("漢字漢字", 6) == "漢字…"
    assert fit("漢字漢字", 5) == "漢字…"
    assert fit("漢字漢字", 4) == "漢…"
    assert fit("abcdef", 5, "...") == "ab..."
    assert fit("abcdef", 2, "...") == ".."


@pytest.mark.parametrize("columns", [24, 40, 45, 60, 80, 120, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_no_row_is_wider_than_the_terminal(columns: int, colour: bool) -> None:
    """However long its texts, a row is one line of the terminal, and colours add no cells."""
    rows = [
        row("word " * 100, labels=("bug", "x" * 90, "漢字" * 20), assignees=("a" * 50, "b")),
        row("漢字" * 100, priority="urgent-and-more", note="waits for " + "1a2b3c4 " * 20),
        row("short"),
        row("old", updated_ts=0, issue_id="1a2b3c4d5e"),
    ]
    for line in render(rows, columns, colour):
        assert width(SGR.sub("", line)) <= columns
        assert ("\x1b" in line) == colour


@pytest.mark.parametrize("columns", [None, 60, 120])
def test_columns_line_up(columns: int | None) -> None:
    """Each column starts in the same cell of every line, wide characters or not."""
    rows = [
        row("plain", labels=("one",), assignees=("ann",)),
        row("漢字漢字", labels=("漢",), assignees=("ann",)),
        row("e\u0301\u0301e", labels=(), assignees=("ann",), issue_id="1a2b3c4d5"),
    ]
    lines = render(rows, columns)
    starts = {width(line[: line.index("ann")]) for line in lines}
    assert len(starts) == 1
    assert len({width(line) for line in lines}) == 1


def test_narrow_drops_the_less_important() -> None:
    """Title, id, state and time stay at 40 columns; labels and people go, then come back."""
    rows = [row("Crash when the input file is empty", labels=("bug",), assignees=("annegret",))]
    narrow, middle, wide = (render(rows, columns)[0] for columns in (40, 72, 120))
    assert "1a2b3c4" in narrow and "3 h" in narrow and "Crash when" in narrow
    assert "annegret" not in narrow
    assert "bug" in middle
    assert "bug" in wide and "annegret" in wide and "3 h ago" in wide


def test_piped_nothing_is_cut() -> None:
    """Where there is no terminal every text is whole, and no line ends in blanks."""
    title = "long " * 200 + "end"
    rows = [row(title, labels=tuple(f"label-{n}" for n in range(30))), row("b", assignees=("ann",))]
    lines = render(rows)
    assert len(lines) == 2
    assert title in lines[0] and "label-29" in lines[0]
    assert all(line == line.rstrip() for line in lines)
    assert len(lines[1]) < 200


@given(st.lists(texts, min_size=1, max_size=4), st.sampled_from([None, 40, 120]))
def test_fault_19_hostile_text_in_every_cell(cells: list[str], columns: int | None) -> None:
    """No text of an issue reaches the terminal as anything but text, on one line."""
    rows = [
        row(c, labels=(c,), assignees=(c,), priority=c, note=c, state=c or "open") for c in cells
    ]
    for line in render(rows, columns):
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]", line)


def test_rows_stream() -> None:
    """Lines come out before the last row is read, and later pieces keep the first's columns."""
    read = 0

    def source() -> object:
        nonlocal read
        for number in range(10 * CHUNK_ROWS):
            read += 1
            yield row("x" * (number % 300), labels=("bug",) if number > CHUNK_ROWS else ())

    lines = render_issue_rows(source(), Screen(80), NOW_MS)  # type: ignore[arg-type]
    next(lines)
    assert read <= CHUNK_ROWS + 1
    rest = list(lines)
    assert len(rest) == 10 * CHUNK_ROWS - 1
    assert {width(line) for line in rest} == {80}


def test_no_rows_no_lines() -> None:
    """An empty list renders as nothing; the caller says why."""
    assert render([]) == []


def test_short_id_shows_what_is_enough_to_type() -> None:
    """The unique part is bold, at least four digits of it, the rest dim."""
    colour = Screen(colour=True)
    assert short_id("1a2b3c4", 5, colour) == "\x1b[1m1a2b3\x1b[m\x1b[2mc4\x1b[m"
    assert short_id("1a2b3c4", 1, colour) == "\x1b[1m1a2b\x1b[m\x1b[2m3c4\x1b[m"
    assert short_id("1a2b3c4", 5, Screen()) == "1a2b3c4"


def test_label_colours_are_stable_and_readable() -> None:
    """A name has one colour for good, and none is hard to read on white or on black."""
    assert [label_style(name) for name in ("bug", "docs", "wip")] == ["95", "35", "91"]
    used = {label_style(f"label {n}") for n in range(200)}
    assert used == {"31", "35", "91", "94", "95"}


def test_labels_that_do_not_fit_are_counted() -> None:
    """What is left out is said; one label alone is cut."""
    assert paint_labels(("bug", "cli", "docs"), None, Screen()) == ("bug cli docs", 12)
    assert paint_labels(("bug", "cli", "docs"), 12, Screen()) == ("bug cli docs", 12)
    assert paint_labels(("bug", "cli", "docs"), 11, Screen()) == ("bug cli +1", 10)
    assert paint_labels(("bug", "cli", "docs"), 6, Screen()) == ("bug +2", 6)
    assert paint_labels(("performance",), 6, Screen()) == ("perfo…", 6)
    assert paint_labels(("performance", "x"), 8, Screen()) == ("perf… +1", 8)


def test_ascii_terminal_gets_ascii() -> None:
    """Where the encoding is not Unicode, marks and ellipses are ASCII, and still tell."""
    rows = [row("long " * 30), row("x", state="closed"), row("x", state="deleted")]
    lines = list(render_issue_rows(rows, Screen(40, unicode=False), NOW_MS))
    assert all(line.isascii() for line in lines)
    assert [line[0] for line in lines] == ["o", "x", "-"]


def test_footers_and_empty_lists() -> None:
    """A list ends by saying how much there is, and an empty one says what to do."""
    assert counted(1, "open issue") == "1 open issue"
    assert list_footer(3, 3, "open issue", Screen()) == "3 open issues"
    footer = list_footer(50, 1234, "open issue", Screen())
    assert footer == "50 of 1,234 open issues; --all shows them"
    assert empty_list("ls") == "No open issues. 'grit new' creates one."
    assert empty_list("ready").startswith("Nothing is ready.")
    assert empty_list("ls", filtered=True).startswith("Nothing open matches")
    assert empty_list("ls", filtered=True, everything=True) == "Nothing matches."
