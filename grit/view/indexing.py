"""From changed summaries to rows: edges, readiness, indexes, counts (spec/view.md, Indexes)."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from sys import getsizeof
from typing import Final, NamedTuple

from grit.core.ids import IssueId
from grit.core.issue import Dependency, Summary
from grit.core.limits import BATCH_BYTES_MAX
from grit.view import keys
from grit.view.database import Txn
from grit.view.rows import Row, encode_row, get_row, scan


class Change(NamedTuple):
    """An issue's row before, None when there was none, and its summary now."""

    old: Row | None
    new: Summary


Changes = dict[IssueId, Change]
Summaries = dict[IssueId, Summary]
_VALUE_BYTES: Final = 100
"""What an edge or an assignee takes in memory, generously."""
_ROWS_MAX: Final = 1_000
"""Encoded rows that are held before they are written."""


class Projection:
    """Changed summaries on their way to rows, no more at a time than memory allows.

    Where `writes` is False they are only collected.
    """

    def __init__(self, txn: Txn, *, writes: bool = True) -> None:
        self.changes: Changes = {}
        self._txn = txn
        self._writes = writes
        self._weight = 0

    def add(self, issue_id: IssueId, old: Row | None, new: Summary) -> None:
        """Take in what became of an issue."""
        self.changes[issue_id] = Change(old, new)
        if self._writes:
            self._weight += weight(new) + (0 if old is None else weight(old.summary))
            if self._weight > BATCH_BYTES_MAX:
                self.write()

    def write(self) -> None:
        """Bring all rows that follow from what was taken in up to date."""
        if self._writes:
            project(self._txn, self.changes)
            self.changes.clear()
            self._weight = 0


def project(txn: Txn, changes: Changes) -> None:
    """Bring all rows that follow from summaries up to date."""
    doubtful = _update_edges(txn, changes)
    touched = (
        (issue_id, Change(row, row.summary))
        for issue_id in doubtful - changes.keys()
        if (row := get_row(txn, issue_id)) is not None
    )
    issues: list[tuple[bytes, bytes]] = []
    added: list[bytes] = []
    removed: list[bytes] = []
    for issue_id, (old, new) in chain(changes.items(), touched):
        if issue_id in doubtful:
            blocked = is_open(new) and any(_before_open(txn, changes, new))
        else:
            blocked = old is not None and old.blocked and is_open(new)
        row = Row(new, blocked)
        if row == old:
            continue
        issues.append((keys.ISSUE + issue_id, encode_row(row)))
        now = keys.index_keys(new, blocked=blocked)
        if old is None:
            added += now
        else:
            before = keys.index_keys(old.summary, blocked=old.blocked)
            added += now - before
            removed += before - now
        if len(issues) > _ROWS_MAX:
            txn.cursor().putmulti(issues)
            issues.clear()
    issues.sort()
    txn.cursor().putmulti(issues)
    _update_index(txn, added, removed)


def project_all(txn: Txn, summaries: Summaries) -> None:
    """Write all rows that follow from summaries into a view that has none: `project` in bulk."""
    opened = {issue_id for issue_id, summary in summaries.items() if is_open(summary)}
    blocked: set[IssueId] = set()
    edges: list[tuple[bytes, bytes]] = []
    for issue_id, summary in summaries.items():
        for target, dep_type in summary.dependencies:
            edges.append((keys.dependent_key(target, issue_id, dep_type), b""))
            if dep_type == "depends_on" and target in opened:
                blocked.add(issue_id)
            elif dep_type == "blocks" and issue_id in opened:
                blocked.add(target)
    blocked &= opened
    edges.sort()
    txn.cursor().putmulti(edges)
    added: list[bytes] = []
    for issue_id, summary in summaries.items():
        added += keys.index_keys(summary, blocked=issue_id in blocked)
    _update_index(txn, added, [])
    rows = (
        (keys.ISSUE + issue_id, encode_row(Row(summaries[issue_id], issue_id in blocked)))
        for issue_id in sorted(summaries)
    )
    txn.cursor().putmulti(rows)


def weight(summary: Summary) -> int:
    """Return how many bytes the values of a summary take in memory."""
    texts = chain((summary.title,), summary.labels, chain.from_iterable(summary.fields))
    count = len(summary.assignees) + len(summary.dependencies)
    return sum(map(getsizeof, texts)) + _VALUE_BYTES * count


def is_open(summary: Summary) -> bool:
    """Return whether the issue can be worked on, and so can hold up others."""
    return summary.state == "open" and not summary.deleted


def blockers(txn: Txn, summary: Summary) -> list[Summary]:
    """Return the open issues that must come before this one (semantics of both edges)."""
    return list(_before_open(txn, {}, summary))


def _before_open(txn: Txn, changes: Changes, summary: Summary) -> Iterator[Summary]:
    first = {dep.target for dep in summary.dependencies if dep.dep_type == "depends_on"}
    first.update(source for source, kind in dependents(txn, summary.issue_id) if kind == "blocks")
    for issue_id in sorted(first):
        change = changes.get(issue_id)
        if change is not None:
            other = change.new
        else:
            row = get_row(txn, issue_id)
            if row is None:
                continue
            other = row.summary
        if is_open(other):
            yield other


def dependents(txn: Txn, issue_id: IssueId) -> Iterator[tuple[IssueId, str]]:
    """Yield source and type of the edges that other issues state towards this one."""
    for key, _ in scan(txn, keys.DEPENDENT + issue_id):
        yield keys.dependent_of(key)


def _update_edges(txn: Txn, changes: Changes) -> set[IssueId]:
    """Write the edges; return the issues whose readiness must be computed again."""
    doubtful: set[IssueId] = set()
    for issue_id, (old, new) in changes.items():
        edges = set(new.dependencies)
        known: set[Dependency] = set() if old is None else set(old.summary.dependencies)
        for dep in edges ^ known:
            key = keys.dependent_key(dep.target, issue_id, dep.dep_type)
            if dep in edges:
                txn.put(key, b"")
            else:
                txn.delete(key)
            doubtful.add(dep.target if dep.dep_type == "blocks" else issue_id)
    for issue_id, (old, new) in changes.items():
        opened = is_open(new)
        if opened != (old is not None and is_open(old.summary)):
            if opened:
                doubtful.add(issue_id)
            doubtful.update(d.target for d in new.dependencies if d.dep_type == "blocks")
            doubtful.update(s for s, kind in dependents(txn, issue_id) if kind == "depends_on")
    return doubtful


def _update_index(txn: Txn, added: list[bytes], removed: list[bytes]) -> None:
    for key in removed:
        txn.delete(key)
    added.sort()
    txn.cursor().putmulti((key, b"") for key in added)
    totals = Counter([key[: -keys.SUFFIX_BYTES] for key in added])
    totals.subtract([key[: -keys.SUFFIX_BYTES] for key in removed])
    for prefix, difference in sorted(totals.items()):
        count_key = keys.count_key(prefix)
        value = txn.get(count_key)
        total = difference + (0 if value is None else keys.number(value))
        if total:
            txn.put(count_key, keys.u64(total))
        elif value is not None:
            txn.delete(count_key)
