"""escape(): nothing that is shown drives a terminal, reorders or hides text (faults.md row 19)."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grit.core.escape import MARKS_MAX, escape

ACUTE = "\u0301"
DANGEROUS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\u2028\u2029\u200b\u2060\ufeff\xad\u3164",
    *"\ud800\udfff\U000e0041",
]
hostile_text = st.text(
    st.one_of(
        st.characters(codec=None),
        st.sampled_from([*DANGEROUS, ACUTE, "\u0336", "\u200d", "\u200c", "👩", "💻", "e", "한"]),
    ),
    max_size=40,
)


def storms(text: str) -> int:
    """Return the length of the longest run of combining marks."""
    longest = run = 0
    for char in text:
        run = run + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        longest = max(longest, run)
    return longest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("C:\\dir \\x1b", "C:\\dir \\x1b"),
        ("\x1b]52;c;AAAA\x07", "\\x1b]52;c;AAAA\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\tc\nd", "a\\rb\\tc\\nd"),
        ("abc\u202edef", "abc\\u202edef"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("\ud83d", "\\ud83d"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("pay\u200bpal", "pay\\u200bpal"),
        ("pay\u200dpal", "pay\\u200dpal"),
    ],
)
def test_fault_19_escapes_are_shown(text: str, shown: str) -> None:
    """What drives, reorders or hides becomes a visible escape; backslashes stay."""
    assert escape(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Größe, naïve, 日本語の題名, Ελλάδα, русский",
        "👩‍💻 and ❤️‍🔥 🇩🇪 👍🏽",
        "می‌خواهم",
        "क्‍ष",
        "Việt e" + ACUTE * MARKS_MAX,
        "……！！？？。。",
        "😀😀😀😀😀😀",
        "nbsp\u00a0and wide\u3000space",
    ],
)
def test_living_text_is_shown_as_it_is(text: str) -> None:
    """Accents, wide characters, emoji with joiners and long punctuation are not touched."""
    assert escape(text) == text


def test_fault_19_storm_of_combining_marks() -> None:
    """200 marks on one letter: the first few are drawn, the others are written out."""
    shown = escape("Z" + ACUTE * 200 + "!")
    assert shown == "Z" + ACUTE * MARKS_MAX + "\\u0301" * (200 - MARKS_MAX) + "!"


def test_fault_19_joiner_does_not_restart_a_storm() -> None:
    """Marks with joiners between them count as one run."""
    shown = escape("é" + (ACUTE + "\u200d") * 50)
    assert shown.count(ACUTE) == MARKS_MAX


def test_fault_19_joiner_before_a_mark_that_is_written_out() -> None:
    """A joiner with nothing left to join to is written out too: escaping twice changes nothing."""
    full = "e" + ACUTE * MARKS_MAX
    assert escape(f"{full}\u200d{ACUTE}") == f"{full}\\u200d\\u0301"
    assert escape(f"{full}\u200dé") == f"{full}\u200dé"
    shown = escape(f"{full}\u200d{ACUTE}")
    assert escape(shown) == shown


def test_multiline_keeps_the_shape_of_a_body() -> None:
    """Tabs and newlines stay, CRLF is a newline, a lone CR is shown, and so is the rest."""
    assert escape("a\tb\nc", multiline=True) == "a\tb\nc"
    assert escape("a\r\nb\r", multiline=True) == "a\nb\\r"
    assert escape("ä\n\x1b[2J", multiline=True) == "ä\n\\x1b[2J"
    assert escape("é\n\tö", multiline=True) == "é\n\tö"


@given(hostile_text, st.booleans())
@example("\u200d\u200dé" + ACUTE * 6 + "\u200d" + ACUTE, False)
def test_never_dangerous_never_lossy_and_stable(text: str, multiline: bool) -> None:
    """No dangerous character is left, all can be read back, and safe text is left alone."""
    shown = escape(text, multiline)
    kept = "\n\t" if multiline else ""
    assert not [c for c in shown if c in DANGEROUS and c not in kept]
    assert storms(shown) <= MARKS_MAX
    shown.encode()
    assert escape(shown, multiline) == shown
    if "\\" not in text:
        back = shown.encode("latin-1", "backslashreplace").decode("unicode_escape")
        assert back == (text.replace("\r\n", "\n") if multiline else text)


@given(hostile_text)
def test_joiners_stay_only_where_they_join(text: str) -> None:
    """A joiner that is left has a character beyond ASCII, itself no joiner, on both sides."""
    shown = escape(text)
    for at, char in enumerate(shown):
        if char in "\u200c\u200d":
            for beside in (shown[at - 1 : at], shown[at + 1 : at + 2]):
                assert beside and not beside.isascii() and beside not in "\u200c\u200d"


@given(hostile_text, st.booleans())
@example("a\x1b[31m\n", True)
@example("a\u202eb\t", False)
def test_both_ways_of_writing_out_agree(text: str, multiline: bool) -> None:
    """A text with a joiner is looked at character by character, and reads no different before."""
    assert escape(text + "\u200d", multiline) == escape(text, multiline) + "\\u200d"
