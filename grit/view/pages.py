"""Pages of issues: a query is answered from keys as far as possible (spec/view.md, Pages).

The scarcest index that the query allows is walked in the order asked for, the other terms are
tested by asking whether a key exists, and rows are decoded for the page alone or for terms that
no index holds. The answer equals `grit.core.query.matches`.
"""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Final, NamedTuple

from grit.core.ids import IssueId
from grit.core.issue import Summary
from grit.core.query import Facts, Query, Term, row_matches, sort_key, wants_deleted
from grit.view import keys
from grit.view.database import Txn
from grit.view.rows import get_count, get_row, scan
from grit.view.search import Stale, ids_with, stale_issues

_PARENT_CHARS_MAX: Final = 32
_DECODE_COST: Final = 4
"""A row decoded costs about as much as this many keys walked."""
_PRIORITIES: Final = range(5)


class Place(NamedTuple):
    """Where an issue stands in every index by last update."""

    order: bytes
    issue_id: IssueId
    state: int


Test = Callable[[Place], bool]


class _Plan:
    """What a query comes down to: names of indexes, sets of ids, tests of keys and of rows."""

    def __init__(self, txn: Txn, query: Query) -> None:
        self.txn = txn
        self.states = _states(query)
        self.names: list[list[bytes]] = [[keys.ALL]]
        """Index names (tag and term), any of which holds; one list for each positive term."""
        self.sets: list[set[IssueId]] = []
        self.tests: list[Test] = []
        self.row_terms: list[Term] = []
        self._stale: Stale | None = None
        self._query = query
        for term in query.terms:
            self._add(term)

    def _add(self, term: Term) -> None:
        if term.kind == "state" or _is_deleted(term):
            return  # in self.states
        names = _index_names(term)
        if names is not None:
            if term.negated:
                self.tests.append(lambda place: not self._has(names, place))
            else:
                self.names.append(names)
            return
        ids = self._ids(term)
        if ids is not None:
            if term.negated:
                self.tests.append(lambda place: place.issue_id not in ids)
            else:
                self.sets.append(ids)
            return
        test = self._test(term)
        if test is None:
            self.row_terms.append(term)
        else:
            self.tests.append(lambda place: test(place) != term.negated)

    def _ids(self, term: Term) -> set[IssueId] | None:
        """Return the issues that fulfil the term, if that is how to find out."""
        if term.kind in ("text", "phrase"):
            if self._stale is None:
                self._stale = stale_issues(self.txn, self._query.terms)
            return ids_with(self.txn, term, self._stale)
        if term.kind == "parent" and all(len(v) <= _PARENT_CHARS_MAX for v in term.values):
            head = keys.INDEX + keys.FIELD
            return {
                IssueId(key[-keys.ID_BYTES :])
                for value in term.values
                for key, _ in scan(self.txn, head + keys.field_term("parent", value))
            }
        return None

    def _test(self, term: Term) -> Test | None:
        """Return a test of the key alone, negation left out; None when rows must be read."""
        if term.kind == "id":
            return lambda place: place.issue_id.hex().startswith(term.values)
        if term.kind == "updated":
            low, high = term.low, term.high
            return lambda place: (
                (low is None or low <= keys.updated_of(place.order))
                and (high is None or keys.updated_of(place.order) <= high)
            )
        if term.kind == "is":
            tests = [_IS[word] for word in term.values]
            return lambda place: any(test(self, place) for test in tests)
        return None

    def _has(self, names: list[bytes], place: Place) -> bool:
        order, issue_id, state = place
        tail = b"\0" + bytes((state,)) + order + issue_id
        return any(self.txn.get(keys.INDEX + name + tail) is not None for name in names)

    def is_blocked(self, place: Place) -> bool:
        """Whether it is open and something open must come before it."""
        return place.state == keys.OPEN and self._has([keys.BLOCKED], place)

    def is_ready(self, place: Place) -> bool:
        """Whether it is open and nothing open must come before it."""
        return place.state == keys.OPEN and not self._has([keys.BLOCKED], place)

    def is_epic(self, place: Place) -> bool:
        """Whether it is called an epic, or is the parent of an issue that is not deleted."""
        if self._has([_EPIC], place):
            return True
        prefix = keys.INDEX + keys.FIELD + keys.field_term("parent", place.issue_id.hex()) + b"\0"
        first = next(scan(self.txn, prefix), None)
        return first is not None and first[0][len(prefix)] in (keys.OPEN, keys.CLOSED)

    def count(self, names: list[bytes]) -> int:
        """Return how many keys stand under the names in the states that are allowed."""
        return sum(
            get_count(self.txn, keys.INDEX + name + b"\0" + bytes((state,)))
            for name in names
            for state in self.states
        )

    def places(self, *, reverse: bool) -> Iterator[Place]:
        """Yield the places that fulfil every term, the last updated first."""
        found = self._candidates(reverse=reverse)
        for place in found:
            if all(test(place) for test in self.tests) and self._row_fulfils(place):
                yield place

    def total_known(self) -> int | None:
        """Return how many issues match, where the counts say it without a walk."""
        if self.tests or self.row_terms or self.sets or len(self.names) > 2:
            return None
        names = self.names[-1]
        return self.count(names) if len(names) == 1 else None

    def _candidates(self, *, reverse: bool) -> Iterator[Place]:
        scarcest = min(self.names, key=self.count)
        for names in self.names:
            if names is not scarcest and names != [keys.ALL]:
                self._require(names)
        if self.sets:
            smallest = min(self.sets, key=len)
            if len(smallest) * _DECODE_COST < self.count(scarcest):
                if scarcest != [keys.ALL]:
                    self._require(scarcest)
                ids = smallest.intersection(*self.sets)
                return iter(sorted(self._placed(ids), reverse=reverse))
            common = smallest.intersection(*self.sets)
            self.tests.insert(0, lambda place: place.issue_id in common)
        return self._walk(scarcest, reverse=reverse)

    def _require(self, names: list[bytes]) -> None:
        self.tests.append(lambda place: self._has(names, place))

    def _placed(self, ids: Iterable[IssueId]) -> Iterator[Place]:
        for issue_id in ids:
            row = get_row(self.txn, issue_id)
            if row is not None and (state := keys.state_of(row.summary)) in self.states:
                yield Place(keys.updated_order(row.summary.updated_ts), issue_id, state)

    def _walk(self, names: list[bytes], *, reverse: bool) -> Iterator[Place]:
        ranges = [
            _range(self.txn, name, state, reverse=reverse)
            for name in names
            for state in self.states
        ]
        if len(ranges) == 1:
            yield from ranges[0]
            return
        last: Place | None = None
        for place in merge(*ranges, reverse=reverse):
            if place != last:
                yield place
            last = place

    def _row_fulfils(self, place: Place) -> bool:
        if not self.row_terms:
            return True
        row = get_row(self.txn, place.issue_id)
        return row is not None and all(
            row_matches(term, row.summary, Facts()) != term.negated for term in self.row_terms
        )


def _range(txn: Txn, name: bytes, state: int, *, reverse: bool) -> Iterator[Place]:
    for key, _ in scan(txn, keys.INDEX + name + b"\0" + bytes((state,)), reverse=reverse):
        yield Place(key[-24:-16], IssueId(key[-16:]), state)


_EPIC: Final = keys.FIELD + keys.field_term("type", "epic")
_IS: Final[dict[str, Callable[[_Plan, Place], bool]]] = {
    "ready": _Plan.is_ready,
    "blocked": _Plan.is_blocked,
    "epic": _Plan.is_epic,
    "deleted": lambda _, place: place.state in (keys.DELETED_OPEN, keys.DELETED_CLOSED),
}


def _is_deleted(term: Term) -> bool:
    return term.kind == "is" and term.values == ("deleted",)


def _states(query: Query) -> list[int]:
    """Return the state bytes that the query allows."""
    allowed = set(keys.STATES if wants_deleted(query) else (keys.OPEN, keys.CLOSED))
    for term in query.terms:
        if term.kind == "state":
            named = {keys.OPEN, keys.DELETED_OPEN} if "open" in term.values else set()
            named |= {keys.CLOSED, keys.DELETED_CLOSED} if "closed" in term.values else set()
        elif _is_deleted(term):
            named = {keys.DELETED_OPEN, keys.DELETED_CLOSED}
        else:
            continue
        allowed = allowed - named if term.negated else allowed & named
    return sorted(allowed)


def _index_names(term: Term) -> list[bytes] | None:
    """Return the indexes of which one must hold an issue for the term, or None."""
    if term.kind == "label":
        return [keys.LABEL + keys.term_bytes(value) for value in term.values]
    if term.kind == "assignee":
        return [keys.ASSIGNEE + keys.term_bytes(value) for value in term.values]
    if term.kind == "author":
        assert term.actors is not None, "author terms are resolved before they are matched"
        return [keys.AUTHOR + keys.actor_term(actor) for actor in term.actors]
    if term.kind == "field":
        return [keys.FIELD + keys.field_term(term.key, value) for value in term.values]
    if term.kind == "priority":
        low, high = term.low or 0, term.high
        return [
            keys.FIELD + keys.field_term("priority", str(rank))
            for rank in _PRIORITIES
            if low <= rank and (high is None or rank <= high)
        ]
    return None


def select(txn: Txn, query: Query, limit: int | None, offset: int) -> tuple[list[IssueId], int]:
    """Return the issues of a page in the order asked for, and how many match in all."""
    end = None if limit is None else offset + limit
    ranked = _ranked(query)
    if ranked is not None:
        prefix = keys.index_prefix(ranked, b"", keys.OPEN)
        rows = scan(txn, prefix, reverse=query.reverse)
        ids = [IssueId(key[-keys.ID_BYTES :]) for key, _ in islice(rows, offset, end)]
        return ids, get_count(txn, prefix)
    plan = _Plan(txn, query)
    name = query.sort or "updated"
    if name == "updated":
        total = plan.total_known()
        places = plan.places(reverse=query.reverse)
        if total is not None:
            return [place.issue_id for place in islice(places, offset, end)], total
        ids, total = [], 0
        for place in places:
            if total >= offset and (end is None or total < end):
                ids.append(place.issue_id)
            total += 1
        return ids, total
    found = []
    for place in plan.places(reverse=False):
        row = get_row(txn, place.issue_id)
        if row is not None:
            found.append((sort_key(row.summary, name), place.issue_id))
    found.sort(reverse=query.reverse)
    return [issue_id for _, issue_id in found[offset:end]], len(found)


def _ranked(query: Query) -> bytes | None:
    """Return the index that answers the query alone: ready or blocked issues by priority."""
    if query.sort != "priority":
        return None
    terms = [term for term in query.terms if term != Term("state", ("open",))]
    if terms == [Term("is", ("ready",))]:
        return keys.READY_RANKED
    return keys.BLOCKED_RANKED if terms == [Term("is", ("blocked",))] else None


def summaries(txn: Txn, ids: Iterable[IssueId]) -> list[Summary]:
    """Return the rows of issues that the view knows, in the order given."""
    rows = (get_row(txn, issue_id) for issue_id in ids)
    return [row.summary for row in rows if row is not None]
