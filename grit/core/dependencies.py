"""The graph of what must come first: blocked, cycles, order (spec/query.md, Dependencies).

`A blocks B` and `B depends_on A` both say that A comes before B; `related_to` orders nothing.
Nothing here recurses, so depth is bounded by memory alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from grit.core.ids import IssueId
from grit.core.issue import Dependency


class Edge(NamedTuple):
    """`before` must be closed before `after` can be worked on."""

    before: IssueId
    after: IssueId


class Order(NamedTuple):
    """All issues in a workable order, and the cycles that no order can respect."""

    order: tuple[IssueId, ...]
    cycles: tuple[tuple[IssueId, ...], ...]


def edge_of(issue_id: IssueId, dependency: Dependency) -> Edge | None:
    """Return the edge that an issue's dependency states, or None when it orders nothing."""
    if dependency.dep_type == "blocks":
        return Edge(issue_id, dependency.target)
    if dependency.dep_type == "depends_on":
        return Edge(dependency.target, issue_id)
    return None


def edges_of(issues: Iterable[tuple[IssueId, Iterable[Dependency]]]) -> Iterator[Edge]:
    """Yield the edges of many issues; one stated from both ends comes twice."""
    for issue_id, dependencies in issues:
        for dependency in dependencies:
            edge = edge_of(issue_id, dependency)
            if edge is not None:
                yield edge


def is_blocked(
    issue_id: IssueId,
    before: Callable[[IssueId], Iterable[IssueId]],
    is_open: Callable[[IssueId], bool],
) -> bool:
    """Return whether something open must come before the issue.

    `before` gives what comes directly before an issue; `is_open` is false for issues that are
    closed, deleted or not there.
    """
    return any(map(is_open, before(issue_id)))


def find_cycle(
    before: Callable[[IssueId], Iterable[IssueId]], edge: Edge
) -> tuple[IssueId, ...] | None:
    """Return the shortest cycle that adding `edge` would close, or None.

    The path starts with `edge.after`, each issue comes before the next, and it ends with
    `edge.before`, which the new edge would put before the start again. `before` is asked only
    about issues that lead to `edge.before`, once each; ties go to the smaller ids.
    """
    next_of: dict[IssueId, IssueId | None] = {edge.before: None}
    level = [edge.before]
    while level and edge.after not in next_of:
        deeper: list[IssueId] = []
        for issue_id in level:
            for earlier in sorted(before(issue_id)):
                if earlier not in next_of:
                    next_of[earlier] = issue_id
                    deeper.append(earlier)
        level = deeper
    if edge.after not in next_of:
        return None
    path: list[IssueId] = []
    step: IssueId | None = edge.after
    while step is not None:
        path.append(step)
        step = next_of[step]
    return tuple(path)


def topological_order(issues: Mapping[IssueId, int], edges: Iterable[Edge]) -> Order:
    """Return every issue once, what comes first before what waits for it, with the cycles.

    `issues` maps ids to creation times in unix milliseconds; among issues that are free to come
    next the oldest does, then the smallest id. Edges to other issues are left out. The issues
    of one cycle stand together, oldest first, and so does each of the cycles given.
    """
    after: dict[IssueId, list[IssueId]] = {issue_id: [] for issue_id in issues}
    for edge in set(edges):
        if edge.before in after and edge.after in after:
            after[edge.before].append(edge.after)

    def rank(issue_id: IssueId) -> tuple[int, IssueId]:
        return issues[issue_id], issue_id

    groups = [sorted(group, key=rank) for group in _components(after)]
    group_of = {member: index for index, group in enumerate(groups) for member in group}
    waits = [0] * len(groups)
    for index, group in enumerate(groups):
        for target in _targets(group, after, group_of):
            waits[target] += target != index
    free = [(*rank(group[0]), index) for index, group in enumerate(groups) if not waits[index]]
    heapify(free)
    order: list[IssueId] = []
    while free:
        index = heappop(free)[-1]
        order += groups[index]
        for target in _targets(groups[index], after, group_of):
            waits[target] -= target != index
            if not waits[target] and target != index:
                heappush(free, (*rank(groups[target][0]), target))
    cycles = [group for group in groups if len(group) > 1 or group[0] in after[group[0]]]
    return Order(tuple(order), tuple(sorted(map(tuple, cycles), key=lambda cycle: rank(cycle[0]))))


def _targets(
    group: list[IssueId],
    after: Mapping[IssueId, list[IssueId]],
    group_of: Mapping[IssueId, int],
) -> Iterator[int]:
    return (group_of[target] for member in group for target in after[member])


def _components(after: Mapping[IssueId, list[IssueId]]) -> list[list[IssueId]]:
    """Return the strongly connected components (Tarjan's algorithm with a stack of its own)."""
    found: list[list[IssueId]] = []
    index: dict[IssueId, int] = {}
    low: dict[IssueId, int] = {}
    open_nodes: dict[IssueId, None] = {}
    for root in after:
        if root in index:
            continue
        work = [(root, iter(after[root]))]
        index[root] = low[root] = len(index)
        open_nodes[root] = None
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    open_nodes[target] = None
                    work.append((target, iter(after[target])))
                    break
                if target in open_nodes:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found.append(_pop_until(node, open_nodes))
    return found


def _pop_until(node: IssueId, open_nodes: dict[IssueId, None]) -> list[IssueId]:
    group: list[IssueId] = []
    while not group or group[-1] != node:
        group.append(open_nodes.popitem()[0])
    return group
