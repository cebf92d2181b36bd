"""Words of a text: what the text index stores and what a search compares (spec/query.md, Text).

The words depend on the text alone: never on locale, environment, hash seed or the Unicode version
of this Python.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from grit.core.limits import TEXTS_SEARCHED_BYTES
from grit.core.long_text import Text, beginning, utf8_bytes

WORD_BYTES_MAX: Final = 64
"""UTF-8 bytes of a word; what is longer is cut, in texts and in queries alike."""

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
# Patterns are compiled where they are first used (and kept by `re`): the second one takes 2 ms.
# The group cuts in the regex engine: a second pass over the words would double the cost.
_ASCII_WORD: Final = r"(\w{1,64})\w*"
_WORD: Final = rf"(?=\w)[{_CJK}]|[^\W{_CJK}]+"


def words(text: str) -> list[str]:
    """Return the words of `text` in order, folded so that case and compatibility forms agree.

    A word is a run of letters, digits and underscores; a CJK character is a word of its own.
    Every word w satisfies words(w) == [w].
    """
    if text.isascii():
        return re.findall(_ASCII_WORD, text.lower(), re.ASCII)
    from grit.core.characters import fold  # not needed for most texts

    return [
        word if len(word) * 4 <= WORD_BYTES_MAX else _cut(word)
        for word in re.findall(_WORD, fold(text))
    ]


def tokens(text: str) -> set[str]:
    """Return the distinct words of `text`: the keys under which the text index files it."""
    return set(words(text))


def matches_phrase(haystack: str, phrase: Sequence[str]) -> bool:
    """Return whether the words of `phrase`, as `words` gives them, follow each other in `haystack`.

    Punctuation, case and the width of white space do not count.
    """
    return f" {' '.join(phrase)} " in f" {' '.join(words(haystack))} "


def searched(texts: Iterable[Text]) -> Iterator[str]:
    """Yield what is searched of an issue's texts: their beginnings, until all that is too much.

    No text counts in part because of those before it (spec/query.md, Text).
    """
    size = 0
    for text in texts:
        part = beginning(text)
        size += utf8_bytes(part)
        if size > TEXTS_SEARCHED_BYTES:
            return
        yield part


def _cut(word: str) -> str:
    return word.encode()[:WORD_BYTES_MAX].decode(errors="ignore")
