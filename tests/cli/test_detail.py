"""The page of one issue, its history and the log: complete, wrapped, and safe."""

import re

from hypothesis import given
from hypothesis import strategies as st

from grit.cli.detail import (
    AttachmentView,
    CommentView,
    HistoryRow,
    IssueView,
    LinkView,
    RelationView,
    lines_of_history,
    lines_of_issue,
    lines_of_log,
    lines_of_text,
    wrap,
)
from grit.cli.table import width
from grit.cli.terminal import Screen

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
HOSTILE = "a\x1b]52;c;AA\x07\r\x9b2J\u202eb\u2028c" + "\u0301" * 50


def view(**changes: object) -> IssueView:
    base = IssueView(
        "1a2b3c4", "1a2b3c4d" * 4, 4, "open", "A title", "ann", NOW_MS - HOUR_MS, NOW_MS - HOUR_MS
    )
    return base._replace(**changes)


def page(issue: IssueView, columns: int | None = None) -> str:
    return "\n".join(lines_of_issue(issue, Screen(columns), NOW_MS))


def test_page_shows_everything() -> None:
    """All that an issue holds is on its page."""
    issue = view(
        labels=("bug",),
        assignees=("bob",),
        fields=(("priority", "1"), ("component", "parser")),
        body="The body.",
        comments=(
            CommentView("c0ffee1", "carl", NOW_MS - HOUR_MS, "First.", NOW_MS),
            CommentView("deadbee", "dora", NOW_MS - HOUR_MS, "", None, "spam"),
        ),
        links=(LinkView("https://example.org/1", "upstream"), LinkView("https://example.org/2")),
        attachments=(AttachmentView("log.txt", "text/plain", "emil", NOW_MS),),
        relations=(
            RelationView("Waits for", "77aa012", 4, "open", "Other"),
            RelationView("Blocks", "9b3c111", 4, "closed", "Third"),
            RelationView("Waits for", "88bb012", 4, "open", "Fourth"),
        ),
        progress=(3, 5),
    )
    text = page(issue)
    for part in (
        "● A title", "open · 1a2b3c4 · opened by ann 1 h ago", "2 comments", issue.full_id,
        "bug", "bob", "priority", "component", "parser", "The body.", "carl", "First.", "edited",
        "#c0ffee1", "(taken away: spam)", "https://example.org/1  upstream", "log.txt", "emil",
        "3 of 5 closed", "✓ 9b3c111  Third",
    ):  # fmt: skip
        assert part in text
    assert text.count("Waits for") == 1
    assert text.index("Fourth") < text.index("Blocks")


def test_page_fits_narrow_terminals() -> None:
    """At 45 columns words wrap, and only what must stay whole is longer."""
    issue = view(
        title="word " * 30,
        body="word " * 100 + "\n\n- " + "item " * 30,
        comments=(CommentView("c0ffee1", "ann", NOW_MS - 5 * HOUR_MS, "word " * 50),),
    )
    lines = page(issue, 45).split("\n")
    assert max(map(width, lines)) <= 45
    assert len([line for line in lines if line.startswith("    item")]) > 2


def test_code_tables_and_indents_are_not_wrapped() -> None:
    """Lines of fenced and indented code and of tables stay lines; prose around them wraps."""
    code = "x = " + "1 + " * 40 + "1"
    body = f"{'word ' * 20}\n```\n{code}\n~~~\n{code}\n```\n    {code}\n| {code} |\n{'word ' * 20}"
    lines = [line.strip() for line in lines_of_text(body, Screen(40))]
    assert lines.count(code) == 3
    assert f"| {code} |" in lines
    assert len([line for line in lines if line.startswith("word")]) >= 6


def test_wrap_keeps_addresses_whole_and_breaks_wide_text() -> None:
    """An address is never broken; text without spaces in wide characters is."""
    url = "https://example.org/" + "a" * 60
    assert wrap(f"see {url} for more", 40) == ["see", url, "for more"]
    assert wrap("漢字" * 10, 16) == ["漢字漢字漢字漢字", "漢字漢字漢字漢字", "漢字漢字"]
    assert wrap("- one two three four", 12) == ["- one two", "  three four"]
    assert wrap("anything " * 30, None) == ["anything " * 30]


@given(st.text(st.sampled_from("ab 漢😀-1.#>\t`|é")), st.integers(16, 60))
def test_wrap_loses_nothing(text: str, columns: int) -> None:
    """What is wrapped holds the same characters in the same order, blanks aside."""
    line = text.expandtabs(4).rstrip()
    assert "".join("".join(wrap(line, columns)).split()) == "".join(line.split())


def test_fault_19_hostile_text_in_every_part_of_a_page() -> None:
    """Whatever field holds the escape, the page shows it as text."""
    issue = view(
        title=HOSTILE,
        author=HOSTILE,
        labels=(HOSTILE,),
        assignees=(HOSTILE,),
        fields=((HOSTILE, HOSTILE),),
        body=HOSTILE,
        comments=(
            CommentView("c0ffee1", HOSTILE, NOW_MS, HOSTILE),
            CommentView("c0ffee1", HOSTILE, NOW_MS, "", None, HOSTILE),
        ),
        links=(LinkView(HOSTILE, HOSTILE),),
        attachments=(AttachmentView(HOSTILE, HOSTILE, HOSTILE, NOW_MS),),
        relations=(RelationView(HOSTILE, "77aa012", 4, "open", HOSTILE),),
    )
    row = HistoryRow("c0ffee1", NOW_MS, HOSTILE, HOSTILE, "none", "1a2b3c4", 4, HOSTILE)
    for columns in (None, 40, 120):
        screen = Screen(columns)
        text = page(issue, columns)
        text += "\n".join(lines_of_history([row], screen, NOW_MS))
        text += "\n".join(lines_of_log([row], screen, NOW_MS))
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]|\u0301{5}", text)


def test_history_and_log_are_one_line_an_event() -> None:
    """Each event is one line within the terminal, whole in a pipe, with its verification."""
    rows = [
        HistoryRow("c0ffee1", NOW_MS, "ann", "added label bug", "valid", "1a2b3c4", 4, "Title"),
        HistoryRow("c0ffee2", NOW_MS, "n" * 40, "word " * 50, "invalid", "1a2b3c4", 4, "Title"),
        HistoryRow("c0ffee3", NOW_MS, "ann", "x", "unknown_key", "1a2b3c4", 4, "Title"),
        HistoryRow("c0ffee4", NOW_MS, "ann", "x", "none", "1a2b3c4", 4),
    ]
    for columns in (45, 80, 180):
        for lines in (lines_of_history, lines_of_log):
            shown = list(lines(rows, Screen(columns), NOW_MS))
            assert len(shown) == 4
            assert max(map(width, shown)) <= columns
    whole = list(lines_of_history(rows, Screen(), NOW_MS))
    assert [line[0] for line in whole] == ["✓", "✗", "?", "-"]
    assert "n" * 40 in whole[1] and ("word " * 50).strip() in whole[1]
