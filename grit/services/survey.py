"""One reading of the whole log that gathers what `doctor` and `db` report (spec/doctor.md).

Nothing is kept per event but two 64-bit numbers, so that a log of a million events fits in memory.
What cannot be decided on the way (a parent that was not seen, a signature whose key comes later,
a second copy of an event) is looked at again in a second reading, which sound logs do not need.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise, starmap
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from grit.core.codec import OTHER_REASONS, decode_chunk
from grit.core.dependencies import edges_of, topological_order
from grit.core.errors import GitFailed, IoFailed, WalDamaged
from grit.core.events import (
    ACTOR_ANNOUNCED,
    DEPENDENCY_ADDED,
    DEPENDENCY_REMOVED,
    ISSUE_CREATED,
    ISSUE_DELETED,
    ISSUE_RESTORED,
    KINDS,
    NO_ISSUE,
    TIME_OVERRULED,
    Event,
)
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Dependency, Order
from grit.core.limits import CLOCK_AHEAD_MS_MAX, OVERRULED_WRITE_MAX
from grit.services.workspace import Workspace

if TYPE_CHECKING:
    from grit.core.codec import Problem
    from grit.git.blob import Blob

EXAMPLES_MAX: Final = 3
SUSPECTS_MAX: Final = 10_000
"""Events or parents that one second reading looks at."""
REASONS_MAX: Final = 100
"""Different reasons that are told apart; the rest count as one."""
_SHORT: Final = 8
_RANKS: Final = ("valid", "invalid", "unknown_key", "stripped", "none")
"""What is known of a signature; of several copies of an event the first in this order counts."""


class Tally:
    """How often something was found, and the first few places."""

    __slots__ = ("count", "examples")

    def __init__(self) -> None:
        """Begin with nothing found."""
        self.count = 0
        self.examples: list[str] = []

    def add(self, example: str, count: int = 1) -> None:
        """Count one more, or several of which this is the first."""
        self.count += count
        if len(self.examples) < EXAMPLES_MAX and example not in self.examples:
            self.examples.append(example)

    def __str__(self) -> str:
        """Return the places as text, with dots when there are more."""
        return ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")


Tallies = dict[str, Tally]
_Place = tuple[int, Order]
"""When an event counts, and its place by the time that it bears."""


class Facts(NamedTuple):
    """What the log holds, and what is wrong with it; counts are of different events."""

    event_count: int
    issue_count: int
    records_checked: int
    """Records as they are stored: copies and those set aside included."""
    damaged: Tally
    """Objects that are missing or broken."""
    chunks: Tallies
    """Chunk files that cannot be read whole, by reason."""
    records: Tallies
    """Records set aside, by reason."""
    signatures: Tallies
    """Events by `valid`, `invalid`, `unknown_key`, `stripped` (the actor has a key), `none`."""
    unknown: Tally
    orphans: Tally
    """Issues whose creation has not arrived."""
    cycles: tuple[tuple[IssueId, ...], ...]
    future: Tally
    missing_parents: Tally
    forks: Tally
    stopped: str | None
    """Why the reading ended before the end of the log."""


class _Copy(NamedTuple):
    """The best state seen of the signature of an event whose first copy was not valid."""

    actor_id: ActorId
    status: str


def survey(workspace: Workspace, head: str | None, *, signatures: bool = True) -> Facts:
    """Read the log up to `head` and return the facts; damage is a fact, never an error."""
    surveyor = _Surveyor(workspace.now_ms() + CLOCK_AHEAD_MS_MAX, signatures=signatures)
    stopped = _pass(workspace, head, "reading the log", surveyor.take, surveyor.note)
    suspects = surveyor.suspects()
    if suspects:
        _pass(workspace, head, "looking again", surveyor.look_again, lambda _blob, _problem: None)
    return surveyor.facts(stopped)


def _pass(
    workspace: Workspace,
    head: str | None,
    label: str,
    take: Callable[[Event], None],
    note: "Callable[[Blob, Problem], None]",
) -> str | None:
    """Give every event and every problem away; return why it ended early, if it did."""
    if head is None:
        return None
    progress = workspace.ports.progress
    progress.start(label)

    def give(blob: "Blob", events: list[Event], problems: "list[Problem]") -> int:
        for event in events:
            take(event)
        for problem in problems:
            note(blob, problem)
        return len(events)

    try:
        # No loop over chunks: its names would hold a large one while the next is decoded.
        for count in starmap(give, _read(workspace, head)):
            progress.advance(count)
    except (WalDamaged, GitFailed, IoFailed) as failure:
        return failure.message
    finally:
        progress.done()
    return None


def _read(workspace: Workspace, head: str) -> "Iterator[tuple[Blob, list[Event], list[Problem]]]":
    from grit.core.codec import Problem

    for blob in workspace.wal.read(head, None):
        if blob.data is None:
            yield blob, [], [Problem(None, blob.problem or "unreadable", None)]
            continue
        records, problems = decode_chunk(blob.data)
        events = [event for event, _ in records]
        del records
        yield blob, events, problems
        del blob, events


class _Surveyor:
    """Adds up what the readings show."""

    def __init__(self, latest_ms: int, *, signatures: bool) -> None:
        self._latest_ms = latest_ms
        self._signatures = signatures
        self._ids = array("Q")
        self._parents = array("Q")
        self._created: set[IssueId] = set()
        self._touched: set[IssueId] = set()
        self._seen_problems: set[tuple[str, int | None, str]] = set()
        self._keys: dict[ActorId, bytes] = {}
        self._copies: dict[EventId, _Copy] = {}
        self._counts: Counter[str] = Counter()
        self._unsigned: Counter[ActorId] = Counter()
        self._edges: dict[tuple[IssueId, Dependency], tuple[_Place, bool]] = {}
        self._deleted: dict[IssueId, tuple[_Place, bool]] = {}
        self._damaged = Tally()
        self._chunks: Tallies = {}
        self._records: Tallies = {}
        self._set_aside = 0
        self._unknown = Tally()
        self._ahead: dict[EventId, IssueId] = {}
        self._ahead_count = 0
        self._overruled: dict[tuple[IssueId, EventId], int] = {}
        """The earliest time of a TimeOverruled that names the event."""
        self._families: dict[int, set[tuple[EventId, ActorId, EventId]]] = {}
        """By parent: the events that name it, where the parent is missing or named twice."""
        self._existing: set[EventId] = set()
        self._checked = 0
        self._event_count = 0

    def take(self, event: Event) -> None:
        """Note a valid event of the first reading."""
        self._ids.append(_number(event.event_id))
        if event.parent is not None:
            self._parents.append(_number(event.parent))
        tag = event.tag
        if tag == ISSUE_CREATED:
            self._created.add(event.issue_id)
            self._touched.discard(event.issue_id)
        elif tag not in KINDS:
            self._unknown.add(f"kind {tag} in event {_short(event.event_id)}")
        elif tag not in NO_ISSUE and event.issue_id not in self._created:
            self._touched.add(event.issue_id)
        if tag in (DEPENDENCY_ADDED, DEPENDENCY_REMOVED):
            self._note_edge(event)
        elif tag in (ISSUE_DELETED, ISSUE_RESTORED):
            self._note_deletion(event)
        elif tag == ACTOR_ANNOUNCED:
            self._note_key(event)
        elif tag == TIME_OVERRULED:
            self._note_overruled(event)
        if event.ts_unix_ms > self._latest_ms:
            self._ahead_count += event.event_id not in self._ahead
            if len(self._ahead) < SUSPECTS_MAX:
                self._ahead[event.event_id] = event.issue_id
        if self._signatures:
            self._note_signature(event)

    def note(self, blob: "Blob", problem: "Problem") -> None:
        """Note something that was set aside; after damage a chunk may come a second time."""
        place = (blob.oid, problem.position, problem.reason)
        if len(self._seen_problems) < SUSPECTS_MAX:
            if place in self._seen_problems:
                return
            self._seen_problems.add(place)
        where = f"chunk {blob.oid[:12]}"
        if problem.position is not None:
            self._set_aside += problem.record_count
            claimed = f" ({_short(problem.event_id)})" if problem.event_id else ""
            record = f"{where} record {problem.position}{claimed}"
            _tally(self._records, problem.reason, record, problem.record_count)
        elif blob.data is None and problem.reason.endswith("missing or broken"):
            self._damaged.add(problem.reason.removesuffix(" is missing or broken"))
        else:
            _tally(self._chunks, problem.reason, where)

    def suspects(self) -> bool:
        """Choose what has to be looked at again; return whether there is anything."""
        ids, parents = sorted(self._ids), sorted(self._parents)
        self._ids, self._parents = array("Q"), array("Q")
        self._checked = len(ids)
        self._event_count = len(ids) - sum(1 for _ in _twins(ids))
        for number in chain(_not_among(parents, ids), _twins(parents)):
            if len(self._families) < SUSPECTS_MAX:
                self._families[number] = set()
        if self._overruled:
            # What came last among edges and deletions is decided by the times that count.
            self._edges, self._deleted = {}, {}
            return True
        return bool(self._families) or any(map(self._in_doubt, self._copies.values()))

    def _in_doubt(self, copy: _Copy) -> bool:
        return copy.status == "invalid" or copy.actor_id in self._keys

    def look_again(self, event: Event) -> None:
        """Note an event of the second reading, if it is among what is in doubt."""
        if _number(event.event_id) in self._families:
            self._existing.add(event.event_id)
        if event.parent is not None:
            children = self._families.get(_number(event.parent))
            if children is not None and len(children) < SUSPECTS_MAX:
                children.add((event.parent, event.actor_id, event.event_id))
        if self._overruled and event.tag in (DEPENDENCY_ADDED, DEPENDENCY_REMOVED):
            self._note_edge(event)
        elif self._overruled and event.tag in (ISSUE_DELETED, ISSUE_RESTORED):
            self._note_deletion(event)
        copy = self._copies.get(event.event_id)
        if copy is not None and copy.status != "valid":
            status = self._status(event)
            if _RANKS.index(status) < _RANKS.index(copy.status):
                self._copies[event.event_id] = copy._replace(status=status)

    def facts(self, stopped: str | None) -> Facts:
        """Return everything found."""
        orphans, missing, forks = Tally(), Tally(), Tally()
        for issue_id in sorted(self._touched):
            orphans.add(_short(issue_id))
        for family in self._families.values():
            self._judge(family, missing, forks)
        return Facts(
            event_count=self._event_count,
            issue_count=len(self._created),
            records_checked=self._checked + self._set_aside,
            damaged=self._damaged,
            chunks=self._chunks,
            records=self._records,
            signatures=self._signature_tallies(),
            unknown=self._unknown,
            orphans=orphans,
            cycles=self._cycles(),
            future=self._future(),
            missing_parents=Tally() if stopped else missing,
            forks=forks,
            stopped=stopped,
        )

    def _note_edge(self, event: Event) -> None:
        edge = event.issue_id, Dependency(*cast(tuple[IssueId, str], event.payload))
        known, place = self._edges.get(edge), self._place(event)
        if known is None or known[0] < place:
            self._edges[edge] = (place, event.tag == DEPENDENCY_ADDED)

    def _note_deletion(self, event: Event) -> None:
        known, place = self._deleted.get(event.issue_id), self._place(event)
        if known is None or known[0] < place:
            self._deleted[event.issue_id] = (place, event.tag == ISSUE_DELETED)

    def _place(self, event: Event) -> _Place:
        """Return the event's place by the times that count, as far as they are known."""
        told = self._overruled.get((event.issue_id, event.event_id), event.ts_unix_ms)
        return min(event.ts_unix_ms, told), event.order

    def _note_overruled(self, event: Event) -> None:
        for event_id in cast(tuple[EventId, ...], event.payload[0]):
            key = event.issue_id, event_id
            if key in self._overruled or len(self._overruled) < OVERRULED_WRITE_MAX:
                told = self._overruled.get(key, event.ts_unix_ms)
                self._overruled[key] = min(told, event.ts_unix_ms)

    def _future(self) -> Tally:
        """Return what is from the future, without what counts at an earlier time."""
        tally = Tally()
        for event_id, issue_id in self._ahead.items():
            if self._overruled.get((issue_id, event_id), self._latest_ms + 1) > self._latest_ms:
                tally.add(f"event {_short(event_id)} of issue {_short(issue_id)}")
        tally.count += self._ahead_count - len(self._ahead)
        return tally

    def _note_key(self, event: Event) -> None:
        key = event.payload[3]
        if self._signatures and isinstance(key, bytes):
            from grit.core.signing import actor_id_of

            if actor_id_of(key) == bytes(event.issue_id):
                # Whoever announces it: the key proves itself.
                self._keys[ActorId(bytes(event.issue_id))] = key

    def _note_signature(self, event: Event) -> None:
        if event.sig is None and event.actor_id not in self._keys:
            # Imports are unsigned by the thousand: nothing but their number is kept.
            self._unsigned[event.actor_id] += 1
            return
        status = self._status(event)
        if status == "valid" or len(self._copies) >= SUSPECTS_MAX:
            self._counts[status] += 1
        elif event.event_id not in self._copies:
            self._copies[event.event_id] = _Copy(event.actor_id, status)

    def _status(self, event: Event) -> str:
        from grit.core.signing import signature_status

        key = self._keys.get(event.actor_id)
        status = signature_status(event, key)
        return "stripped" if status == "none" and key is not None else status

    def _signature_tallies(self) -> Tallies:
        found = {status: Tally() for status in _RANKS}
        for event_id, copy in self._copies.items():
            found[copy.status].add(f"event {_short(event_id)} by {_short(copy.actor_id)}")
        for status, count in self._counts.items():
            found[status].count += count
        for actor_id, count in self._unsigned.items():
            if actor_id in self._keys:
                found["stripped"].add(f"events by {_short(actor_id)}")
                found["stripped"].count += count - 1
            else:
                found["none"].count += count
        return found

    def _judge(
        self, family: set[tuple[EventId, ActorId, EventId]], missing: Tally, forks: Tally
    ) -> None:
        """Tell a parent that is not in the log from one that an actor gave to several events."""
        children: dict[tuple[EventId, ActorId], list[EventId]] = {}
        for parent, actor_id, event_id in sorted(family):
            children.setdefault((parent, actor_id), []).append(event_id)
        for (parent, actor_id), events in children.items():
            if parent not in self._existing:
                missing.add(f"{_short(parent)}, before event {_short(events[0])}")
            elif len(events) > 1:
                forks.add(f"actor {_short(actor_id)} after event {_short(parent)}")

    def _cycles(self) -> tuple[tuple[IssueId, ...], ...]:
        hidden = {issue_id for issue_id, (_, gone) in self._deleted.items() if gone}
        edges = list(
            edges_of(
                (issue_id, (dependency,))
                for (issue_id, dependency), (_, there) in self._edges.items()
                if there
            )
        )
        ends = {end for edge in edges for end in edge if end not in hidden}
        return topological_order(dict.fromkeys(sorted(ends), 0), edges).cycles


def _tally(tallies: Tallies, reason: str, example: str, count: int = 1) -> None:
    if reason not in tallies and len(tallies) >= REASONS_MAX:
        reason = OTHER_REASONS
    tallies.setdefault(reason, Tally()).add(example, count)


def _number(event_id: bytes) -> int:
    return int.from_bytes(event_id[:8], "big")


def _short(value: bytes) -> str:
    return value.hex()[:_SHORT]


def _twins(numbers: Sequence[int]) -> Iterator[int]:
    """Yield each number of an ascending sequence that equals the one before."""
    return (left for left, right in pairwise(numbers) if left == right)


def _not_among(wanted: Sequence[int], known: Sequence[int]) -> Iterator[int]:
    """Yield the wanted numbers that are not known; both ascend."""
    others = iter(known)
    other = next(others, None)
    for number in wanted:
        while other is not None and other < number:
            other = next(others, None)
        if other != number:
            yield number
