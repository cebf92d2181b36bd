r"""Text made safe to show: what drives, reorders or hides is written out (spec/threat-model.md).

Safe means that a terminal, a pager or a reader of a pipe sees every character there is, in the
order in which it is stored. Escapes read like Python's: `\x1b`, `\u202e`, `\U000e0041`; a
backslash that was there already stays as it is.
"""

import functools
import re
from typing import Final

MARKS_MAX: Final = 4
"""Combining marks in a row that are shown; living languages need no more."""

_UNSAFE: Final = (
    "\x00-\x1f\x7f-\x9f"  # controls, C0 and C1: ESC, CSI, OSC, CR ...
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, overrides, isolates
    "\u2028\u2029"  # separators that some programs take for a line's end
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # drawn as nothing
    "\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"
    "\ud800-\udfff"  # lone surrogates cannot be written at all
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # tags carry hidden text
)
_JOINERS: Final = "\u200c\u200d"
INVISIBLE: Final = _UNSAFE + _JOINERS + "\\s\u2800\ufe00-\ufe0f\U00013430-\U0001345f"
"""All that shows as nothing or as a blank, as it stands in a class of a regular expression."""
_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


@functools.cache
def _odd() -> re.Pattern[str]:
    """What takes a closer look than its own character: joiners, and storms of marks.

    Marks are not word characters, so a storm of them shows as a run of odd characters.
    """
    return re.compile(f"[{_JOINERS}]|[^\\w\\x00-\\x7f]{{{MARKS_MAX + 1}}}")


@functools.cache
def _unsafe() -> re.Pattern[str]:
    return re.compile(f"[{_UNSAFE}]")


class _WrittenOut(dict[int, str]):
    """How each character is shown by `str.translate`, found when it is first met."""

    def __init__(self, kept: str) -> None:
        super().__init__({ord(char): char for char in kept})

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = shown = char if _unsafe().match(char) is None else _visible(char)
        return shown


@functools.cache
def _unseen() -> re.Pattern[str]:
    """What the eye does not see, or takes for a blank."""
    return re.compile(f"[{INVISIBLE}]+")


def without_unseen(text: str) -> str:
    """Return the text without blanks and what is drawn as nothing, case and width folded."""
    from grit.core.characters import fold  # 0.3 ms to load, and few texts need it

    return _unseen().sub("", fold(_unseen().sub("", text)))


def escape(text: str, multiline: bool = False) -> str:
    r"""Return the text with every character that is not safe to show written as an escape.

    With `multiline`, tabs and newlines stay and CRLF becomes a newline; else they are `\t`, `\n`.
    A zero-width joiner stays between two characters that it can join, as in emoji and Persian.
    Text that is safe already is returned as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = "\n\t" if multiline else ""
    if multiline:
        text = text.replace("\r\n", "\n")
        plain = text.replace("\n", "").replace("\t", "")
    else:
        plain = text
    if plain.isascii() and plain.isprintable():
        return text
    if _odd().search(plain) is None:
        # Controls and the like are written out one by one: most texts that hold any, hold no more.
        return text if _unsafe().search(plain) is None else text.translate(_WrittenOut(kept))
    return _escaped(text, kept)


def _escaped(text: str, kept: str) -> str:
    from grit.core.characters import category

    unsafe = _unsafe().match
    shown: list[str] = []
    marks = 0
    for at, char in enumerate(text):
        if category(char) in ("Mn", "Me") and unsafe(char) is None:
            marks += 1
            shown.append(char if marks <= MARKS_MAX else _visible(char))
            continue
        if char not in kept and unsafe(char) is not None:
            marks = 0
            shown.append(_visible(char))
        elif char in _JOINERS:
            # A joiner does not end a run of marks, or it would be the way round the limit; and it
            # has nothing to join to a mark that is beyond it, which will be written out.
            after = text[at + 1 : at + 2]
            joins = bool(shown) and _joinable(shown[-1]) and _joinable(after)
            if joins and marks >= MARKS_MAX:
                joins = category(after) not in ("Mn", "Me")
            shown.append(char if joins else _visible(char))
        else:
            marks = 0
            shown.append(char)
    return "".join(shown)


def _joinable(char: str) -> bool:
    """Whether a joiner has something to do beside what was shown, or will be."""
    return not char.isascii() and char not in _JOINERS and _unsafe().match(char) is None


def _visible(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
