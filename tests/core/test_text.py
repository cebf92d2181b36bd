"""Words of a text (spec/query.md, Text)."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.text import WORD_BYTES_MAX, matches_phrase, tokens, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" -- !! ", []),
        ("Fix RACE in wal_append()", ["fix", "race", "in", "wal_append"]),
        ("src/a-b.py:10", ["src", "a", "b", "py", "10"]),
        ("Straße ÉTÉ", ["strasse", "été"]),
        ("e\u0301te\u0301", ["été"]),
        ("ﬁle Ⅷ ①", ["file", "viii", "1"]),
        ("日本語ab検索", ["日", "本", "語", "ab", "検", "索"]),
        ("ｶﾀｶﾅ・ー", ["カ", "タ", "カ", "ナ", "ー"]),
        ("한국어 검색", ["한국어", "검색"]),
        ("a\u0000b\u202ec", ["a", "b", "c"]),
    ],
)
def test_words_are_folded_runs_of_letters_and_digits(text: str, expected: list[str]) -> None:
    """Words are case-folded, in compatibility form, and CJK characters stand alone."""
    assert words(text) == expected
    assert tokens(text) == set(expected)


@pytest.mark.parametrize("char", ["a", "é", "ж", "\U00010400", "가"])
def test_a_long_word_is_cut_at_its_bound(char: str) -> None:
    """A word keeps at most WORD_BYTES_MAX bytes of UTF-8, cut between characters."""
    (folded,) = words(char)
    for count in (1, 16, 17, 63, 64, 65, 200):
        fitting = min(count, WORD_BYTES_MAX // len(folded.encode()))
        assert words(char * count) == [folded * fitting]
    assert words("x" * 65 + " y") == ["x" * 64, "y"]


@given(st.text())
def test_a_word_is_its_own_word(text: str) -> None:
    """Words of words are the same words, so that a query finds what the index holds."""
    for word in words(text):
        assert words(word) == [word]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_takes_a_short_cut_to_the_same_words(text: str) -> None:
    """The fast path for ASCII agrees with the general one."""
    assert words(text) == words(text + " ж")[:-1]


def test_words_do_not_depend_on_the_environment() -> None:
    """Locale, time zone and hash seed change nothing."""
    program = "from grit.core.text import words; print(ascii(words('I İ ı Straße 日本 x')))"
    outputs = set()
    for locale, seed in (("C", "1"), ("tr_TR.UTF-8", "2"), ("C.UTF-8", "3")):
        environ = {**os.environ, "LC_ALL": locale, "PYTHONHASHSEED": seed, "PYTHONUTF8": "1"}
        outputs.add(
            subprocess.run(
                [sys.executable, "-c", program], env=environ, capture_output=True, check=True
            ).stdout
        )
    assert len(outputs) == 1


def test_a_phrase_is_whole_words_in_sequence() -> None:
    """Punctuation, case and spacing do not count; order, adjacency and whole words do."""
    text = "The WAL-append, race\nis back"
    assert matches_phrase(text, words("wal append"))
    assert matches_phrase(text, words("Append   RACE is"))
    assert not matches_phrase(text, words("append wal"))
    assert not matches_phrase(text, words("wal race"))
    assert not matches_phrase(text, words("append rac"))
    assert not matches_phrase(text, words("l append"))
    assert matches_phrase("全文検索", words("文検"))
