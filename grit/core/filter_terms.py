"""What each key of the filter language means: its values to a Term (spec/query.md, Terms)."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from grit.core.errors import InvalidArgs
from grit.core.events import STATES
from grit.core.ids import parse_number, parse_prefix
from grit.core.query import PRIORITY_RANK_UNSET, Term, TermKind, field_value, priority_rank
from grit.core.text import words
from grit.core.times import Span, clamp_ms, parse_duration_ms, parse_span

IS_WORDS: Final = ("ready", "blocked", "epic", "deleted")
FIELD_KEYS: Final = ("type", "priority", "milestone", "status", "due", "parent", "estimate")
"""Fields with a word of their own in the language; any other is `field.KEY`."""
RANGE: Final = re.compile(r"(>=|<=|>|<)(.+)|(.*)\.\.(.*)", re.DOTALL)
"""A comparison or a range among values that could also be plain words."""
_NUMBER_DIGITS_MAX: Final = 15
_NUMBER_MAX: Final = 10**15 - 1


class Piece(NamedTuple):
    """One blank-separated part of a filter, before its meaning."""

    at: int
    """Where a fault of its values is shown, in characters from 0."""
    negated: bool
    key: str
    """A key of BUILDERS, or `sort`; "" for a word and for a phrase."""
    field: str
    """KEY of `field.KEY`."""
    values: tuple[str, ...]
    quoted: bool


def _search(piece: Piece, now_ms: int) -> Term:
    found = tuple(words(piece.values[0]))
    if not found:
        raise InvalidArgs("there is nothing to search for here: give a letter or a digit")
    return Term("text" if len(found) == 1 and not piece.quoted else "phrase", found)


def _any_of(kind: TermKind) -> Callable[[Piece, int], Term]:
    return lambda piece, now_ms: Term(kind, piece.values)


def _state(piece: Piece, now_ms: int) -> Term:
    if piece.values == ("all",):
        return Term("state", STATES)
    if not set(STATES).issuperset(piece.values):
        raise InvalidArgs("a state is open, closed or all (deleted issues: 'is:deleted')")
    return Term("state", piece.values)


def _is(piece: Piece, now_ms: int) -> Term:
    if set(STATES).issuperset(piece.values):
        return Term("state", piece.values)
    if not set(IS_WORDS).issuperset(piece.values):
        raise InvalidArgs(f"'is:' takes {', '.join(IS_WORDS)}, or else open, closed")
    return Term("is", piece.values)


def _no(piece: Piece, now_ms: int) -> Term:
    names = []
    for value in piece.values:
        name = value.removeprefix("field.")
        if name in FIELD_KEYS:
            names.append(name)
        elif value in ("assignee", "label") or name != value:
            names.append(value)
        else:
            raise InvalidArgs(f"'no:' takes assignee, label, {', '.join(FIELD_KEYS)} or field.KEY")
    return Term("no", tuple(dict.fromkeys(names)))


def _ids(kind: TermKind) -> Callable[[Piece, int], Term]:
    def build(piece: Piece, now_ms: int) -> Term:
        return Term(kind, tuple(dict.fromkeys(parse_prefix(value) for value in piece.values)))

    return build


def _field(piece: Piece, now_ms: int) -> Term:
    return _field_term(piece.field, piece.values)


def _named_field(piece: Piece, now_ms: int) -> Term:
    return _field_term(piece.key, piece.values)


def _field_term(key: str, values: tuple[str, ...]) -> Term:
    forms = dict.fromkeys(field_value(key, value) for value in values)
    return Term("field", tuple(forms), key=key)


def _priority(piece: Piece, now_ms: int) -> Term:
    if any(map(RANGE.fullmatch, piece.values)):
        return _number_range("priority", _rank)(piece, now_ms)
    return _named_field(piece, now_ms)


def _number(text: str) -> Span:
    number = parse_number(text, _NUMBER_DIGITS_MAX, signed=True)
    if number is None:
        raise InvalidArgs(f"'{text}' is not a whole number")
    return Span(number, number)


def _rank(text: str) -> Span:
    rank = priority_rank(text)
    return _number(text) if rank == PRIORITY_RANK_UNSET else Span(rank, rank)


def _number_range(kind: TermKind, number: Callable[[str], Span]) -> Callable[[Piece, int], Term]:
    def build(piece: Piece, now_ms: int) -> Term:
        low, high = _bounds(piece, number)
        return Term(kind, low=_clamp_number(low), high=_clamp_number(high))

    return build


def _clamp_number(number: int | None) -> int | None:
    return None if number is None else max(-_NUMBER_MAX, min(number, _NUMBER_MAX))


def _time_range(kind: TermKind, direction: int) -> Callable[[Piece, int], Term]:
    """Build terms over times; durations lie before now (direction -1) or after it (1)."""

    def build(piece: Piece, now_ms: int) -> Term:
        def moment(text: str) -> Span:
            duration_ms = parse_duration_ms(text)
            if duration_ms is not None:
                return Span(*[now_ms + direction * duration_ms] * 2)
            span = parse_span(text)
            if span is None:
                raise InvalidArgs(
                    f"'{text}' is no time: write 7d, 12h, 3mo, 2025-01-31 or 2025-01-31T10:00"
                )
            return span

        low, high = _bounds(piece, moment)
        if parse_duration_ms(piece.values[0]) is not None:
            low, high = (low, None) if direction < 0 else (now_ms, high)
        return Term(
            kind,
            low=None if low is None else clamp_ms(low),
            high=None if high is None else clamp_ms(high),
        )

    return build


def _bounds(piece: Piece, span: Callable[[str], Span]) -> tuple[int | None, int | None]:
    if len(piece.values) > 1:
        raise InvalidArgs(f"'{piece.key}:' takes one value or one range such as a..b")
    found = RANGE.fullmatch(piece.values[0])
    if found is None:
        return span(piece.values[0])
    operator, operand, first, last = found.groups()
    if operator is not None:
        bound = span(operand)
        if operator[0] == ">":
            return (bound.first_ms if operator == ">=" else bound.last_ms + 1), None
        return None, (bound.last_ms if operator == "<=" else bound.first_ms - 1)
    low = span(first).first_ms if first else None
    high = span(last).last_ms if last else None
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise InvalidArgs("nothing lies in this range: write the smaller or earlier end first")
    return low, high


BUILDERS: Final[dict[str, Callable[[Piece, int], Term]]] = {
    "": _search,
    "state": _state,
    "label": _any_of("label"),
    "assignee": _any_of("assignee"),
    "author": _any_of("author"),
    "is": _is,
    "no": _no,
    "id": _ids("id"),
    "parent": _ids("parent"),
    "type": _named_field,
    "priority": _priority,
    "milestone": _named_field,
    "status": _named_field,
    "estimate": _number_range("estimate", _number),
    "due": _time_range("due", 1),
    "created": _time_range("created", -1),
    "updated": _time_range("updated", -1),
    "field.KEY": _field,
}
