"""The graph of what must come first (spec/query.md, Dependencies)."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from grit.core.dependencies import (
    Edge,
    edge_of,
    edges_of,
    find_cycle,
    is_blocked,
    topological_order,
)
from grit.core.ids import IssueId
from grit.core.issue import Dependency


def an_id(number: int) -> IssueId:
    return IssueId(number.to_bytes(16, "big"))


A, B, C, D, E = map(an_id, range(1, 6))


def before_of(edges: Iterable[tuple[IssueId, IssueId]]):
    lookup: dict[IssueId, list[IssueId]] = {}
    for before, after in edges:
        lookup.setdefault(after, []).append(before)
    return lambda issue_id: lookup.get(issue_id, ())


def test_both_kinds_of_edge_say_the_same() -> None:
    """`A blocks B` and `B depends_on A` put A first; `related_to` orders nothing."""
    assert edge_of(A, Dependency(B, "blocks")) == Edge(A, B)
    assert edge_of(B, Dependency(A, "depends_on")) == Edge(A, B)
    assert edge_of(A, Dependency(B, "related_to")) is None
    stated = [
        (A, [Dependency(B, "blocks"), Dependency(C, "related_to")]),
        (B, [Dependency(A, "depends_on")]),
    ]
    assert list(edges_of(stated)) == [Edge(A, B), Edge(A, B)]


def test_an_issue_is_blocked_while_something_before_it_is_open() -> None:
    """Closed, deleted and missing issues block nothing."""
    before = before_of([(A, C), (B, C)])
    assert is_blocked(C, before, {B}.__contains__)
    assert not is_blocked(C, before, {C}.__contains__)
    assert not is_blocked(A, before, {A, B, C}.__contains__)


def test_regression_7_an_edge_that_closes_a_cycle_is_found_with_its_path() -> None:
    """`A depends_on B` plus `A blocks B` is a cycle over both kinds; the path is shown."""
    stated = [(A, [Dependency(B, "depends_on")])]
    before = before_of(edges_of(stated))
    new = edge_of(A, Dependency(B, "blocks"))
    assert new is not None
    assert find_cycle(before, new) == (B, A)
    assert find_cycle(before, Edge(B, A)) is None


def test_a_cycle_is_the_shortest_and_the_same_each_time() -> None:
    """Of several paths the shortest is shown, and of those the one with the smaller ids."""
    edges = [(D, C), (C, A), (D, B), (B, A), (D, E), (E, B)]
    assert find_cycle(before_of(edges), Edge(A, D)) == (D, B, A)
    assert find_cycle(before_of(edges[::-1]), Edge(A, D)) == (D, B, A)
    assert find_cycle(before_of([]), Edge(A, A)) == (A,)


def test_the_search_for_a_cycle_asks_only_for_what_it_needs() -> None:
    """Issues that do not lead to the new edge are never looked up, others once."""
    asked: list[IssueId] = []
    lookup = before_of([(A, B), (B, C), (A, C), (D, E)])

    def before(issue_id: IssueId) -> Iterable[IssueId]:
        asked.append(issue_id)
        return lookup(issue_id)

    assert find_cycle(before, Edge(C, D)) is None
    assert sorted(asked) == [A, B, C]


def test_regression_7_a_merged_cycle_hides_nothing() -> None:
    """An order holds every issue once, a cycle's members together, and names the cycles."""
    created = {E: 5, D: 1, C: 3, B: 2, A: 4}
    edges = [Edge(C, B), Edge(B, C), Edge(C, E), Edge(D, D), Edge(E, an_id(99)), Edge(C, B)]
    result = topological_order(created, edges)
    assert result.order == (D, B, C, A, E)
    assert result.cycles == ((D,), (B, C))


def test_free_issues_come_oldest_first_and_then_by_id() -> None:
    """Without edges the order is by creation, then id; an edge overrules both."""
    assert topological_order({C: 1, B: 1, A: 2}, []).order == (B, C, A)
    assert topological_order({C: 1, B: 1, A: 2}, [Edge(A, B)]).order == (C, A, B)
    assert topological_order({}, []) == ((), ())


NODES = st.integers(0, 7).map(an_id)


@given(st.lists(st.tuples(NODES, NODES).map(lambda pair: Edge(*pair)), max_size=20), st.randoms())
def test_order_respects_every_edge_outside_cycles(edges: list[Edge], random) -> None:
    """Before stands first unless both are in one cycle; arrival order changes nothing."""
    created = {an_id(number): number % 3 for number in range(8)}
    result = topological_order(created, edges)
    assert sorted(result.order) == sorted(created)
    place = {issue_id: index for index, issue_id in enumerate(result.order)}
    together = {frozenset((a, b)) for cycle in result.cycles for a in cycle for b in cycle}
    for edge in edges:
        assert frozenset(edge) in together or place[edge.before] < place[edge.after]
    shuffled = list(edges)
    random.shuffle(shuffled)
    assert topological_order(dict(reversed(created.items())), shuffled) == result
    for first in created:
        for second in created:
            mutual = all(
                find_cycle(before_of(edges), Edge(*pair)) is not None
                for pair in ((first, second), (second, first))
            )
            if first != second:
                assert mutual == (frozenset((first, second)) in together)
    assert {cycle for cycle in result.cycles if len(cycle) == 1} <= {
        (edge.before,) for edge in edges if edge.before == edge.after
    }


@given(st.lists(st.tuples(NODES, NODES).map(lambda pair: Edge(*pair)), max_size=20))
def test_edges_added_under_the_rule_never_make_a_cycle(edges: list[Edge]) -> None:
    """If each edge is refused when it closes a cycle, the order has none, and the reverse."""
    kept: list[Edge] = []
    for edge in edges:
        cycle = find_cycle(before_of(kept), edge)
        if cycle is None:
            kept.append(edge)
            continue
        steps = [Edge(*pair) for pair in pairwise(cycle)]
        assert (cycle[0], cycle[-1]) == (edge.after, edge.before)
        assert set(steps) <= set(kept)
    assert topological_order({an_id(number): 0 for number in range(8)}, kept).cycles == ()


def test_a_chain_of_100_000_issues_needs_no_recursion() -> None:
    """Depth is no limit: a long chain is ordered, searched, and closed to one long cycle."""
    size = 100_000
    ids = [an_id(number) for number in range(size)]
    chain = [Edge(ids[n], ids[n + 1]) for n in range(size - 1)]
    created = dict.fromkeys(ids, 0)
    assert topological_order(created, chain).order == tuple(ids)
    closing = Edge(ids[-1], ids[0])
    assert find_cycle(before_of(chain), closing) == tuple(ids)
    assert topological_order(created, [*chain, closing]).cycles == (tuple(ids),)
