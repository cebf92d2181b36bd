"""The filter language: text to Query and back (spec/query.md, Grammar).

label:bug -label:wip assignee:ann updated:>7d is:ready "exact phrase" crash
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from grit.core.errors import InvalidArgs
from grit.core.filter_terms import BUILDERS, RANGE, Piece
from grit.core.limits import FILTER_CHARS_MAX, FILTER_TERMS_MAX
from grit.core.query import SORT_NAMES, Query, SortName, Term
from grit.core.times import format_ms

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\])')
# What follows the colon keeps `https://x` and `std::vector` searchable as words.
_KEY: Final = re.compile(
    r'(?:(field)\.(?:"((?:[^"\\]|\\.)*)"|([^\s":,\\]+))|([a-z][a-z_.-]*)):(?!//|:)',
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
_ITEM: Final = re.compile(r'[^\s",]+')
_WORD: Final = re.compile(r'[^\s"]+')
_PLAIN_ITEM: Final = re.compile(r'[^\s",\\/:][^\s",\\]*')
_PLAIN_KEY: Final = re.compile(r'[^\s":,\\]+')


def parse(text: str, *, now_ms: int) -> Query:
    """Return the query that the text writes; durations count from `now_ms` (unix milliseconds).

    Raises InvalidArgs for anything outside the grammar of spec/query.md or beyond its bounds,
    with a caret under the place and the details `filter` and `position` (characters from 0).
    """
    if len(text) > FILTER_CHARS_MAX:
        raise InvalidArgs(f"the filter is too long: at most {FILTER_CHARS_MAX} characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refused(text, error.start, "the filter is not valid text") from None
    terms: list[Term] = []
    sort: SortName | None = None
    reverse = False
    for piece in _pieces(text):
        try:
            if piece.key == "sort":
                if sort is not None or piece.negated:
                    raise InvalidArgs("'sort:' stands once and without '-' before it")
                sort, reverse = _sort(piece.values)
            else:
                term = BUILDERS[piece.key](piece, now_ms)
                terms.append(term._replace(negated=piece.negated))
        except InvalidArgs as error:
            raise _refused(text, piece.at, error.message) from None
        if len(terms) > FILTER_TERMS_MAX:
            raise _refused(text, piece.at, f"the filter has more than {FILTER_TERMS_MAX} terms")
    return Query(tuple(terms), sort, reverse)


def to_text(query: Query) -> str:
    """Return the filter text of a query; `parse` reads it back to an equal one.

    Times come out as fixed UTC times. A resolved query is written with the names it was asked by.
    """
    parts = [("-" if term.negated else "") + _term_text(term) for term in query.terms]
    if query.sort is not None:
        parts.append(f"sort:{'-' if query.reverse else ''}{query.sort}")
    return " ".join(parts)


def _sort(values: tuple[str, ...]) -> tuple[SortName, bool]:
    for name in SORT_NAMES:
        if values in ((name,), (f"-{name}",)):
            return name, values[0] != name
    raise InvalidArgs(f"sort by one of {', '.join(SORT_NAMES)}, with '-' before it to reverse")


def _refused(text: str, at: int, message: str) -> InvalidArgs:
    from grit.core.characters import is_printable

    start = max(0, at - 40)
    shown = "".join(char if is_printable(char) else " " for char in text[start : at + 40])
    caret = " " * (at - start) + "^"
    return InvalidArgs(f"{message}\n  {shown}\n  {caret}", filter=text, position=at)


def _pieces(text: str) -> Iterator[Piece]:
    at = _space_end(text, 0)
    while at < len(text):
        piece, at = _piece(text, at)
        yield piece
        at = _space_end(text, at)


def _space_end(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _piece(text: str, at: int) -> tuple[Piece, int]:
    negated = text[at] == "-" and at + 1 < len(text)
    at += negated
    found = _KEY.match(text, at)
    if found is not None:
        key = "field.KEY" if found[1] else found[4].lower()
        if key not in BUILDERS and key != "sort":
            raise _refused(text, at, _unknown_key(key))
        values, end = _values(text, found.end(), key)
        field = found[3] or _ESCAPED.sub(r"\1", found[2] or "")
        return Piece(found.end(), negated, key, field, values, quoted=False), end
    if text[at] == '"':
        value, end = _quoted(text, at)
        return Piece(at, negated, "", "", (value,), quoted=True), end
    word = _WORD.match(text, at)
    if word is None:
        raise _refused(text, at, "'-' needs a term after it")
    return Piece(at, negated, "", "", (word[0],), quoted=False), word.end()


def _unknown_key(key: str) -> str:
    from difflib import get_close_matches  # only for the message

    known = [name for name in (*BUILDERS, "sort") if name]
    nearest = get_close_matches(key, known, n=1, cutoff=0)[0]
    return (
        f"unknown filter key '{key}'; did you mean '{nearest}'? Known keys: {', '.join(known)}. "
        "To search for the text itself, put it in quotes"
    )


def _quoted(text: str, at: int) -> tuple[str, int]:
    found = _QUOTED.match(text, at)
    if found is None:
        raise _refused(text, at, "this quote is never closed")
    return _ESCAPED.sub(r"\1", found[1]), found.end()


def _values(text: str, at: int, key: str) -> tuple[tuple[str, ...], int]:
    """Read `a,"b c",d` from `at`; return the distinct values and where they end."""
    values: list[str] = []
    while True:
        if text.startswith('"', at):
            value, at = _quoted(text, at)
        else:
            found = _ITEM.match(text, at)
            if found is None:
                raise _refused(text, at, f"'{key}:' needs a value here")
            value, at = found[0], found.end()
        values.append(value)
        if not text.startswith(",", at):
            break
        at += 1
    if at < len(text) and not text[at].isspace():
        raise _refused(text, at, "put the whole value in quotes, or a space after it")
    return tuple(dict.fromkeys(values)), at


def _term_text(term: Term) -> str:
    if term.kind == "text":
        return term.values[0]
    if term.kind == "phrase":
        return f'"{" ".join(term.values)}"'
    if term.kind in ("created", "updated", "due"):
        return f"{term.kind}:{_bounds_text(term, format_ms)}"
    if term.kind in ("priority", "estimate"):
        return f"{term.kind}:{_bounds_text(term, str)}"
    key: str = term.kind
    if term.kind == "field":
        key = f"field.{_text(term.key, _PLAIN_KEY)}"
        if _is_short(term):
            key = term.key
    return f"{key}:{','.join(_text(value, _PLAIN_ITEM) for value in term.values)}"


def _is_short(term: Term) -> bool:
    if term.key == "priority":
        return not any(map(RANGE.fullmatch, term.values))
    return term.key in ("type", "milestone", "status")


def _bounds_text(term: Term, show: Callable[[int], str]) -> str:
    low = "" if term.low is None else show(term.low)
    high = "" if term.high is None else show(term.high)
    return f"{low}..{high}"


def _text(value: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
