"""A clone in memory: objects, the ref of the log, a view, and ways in which it can be killed."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast

from grit.core import codec
from grit.core.events import Event
from grit.core.limits import APPEND_RETRIES_MAX
from grit.services.actors import Signer
from grit.services.write import Transaction
from grit.view.reader import ViewReader
from tests.simulation import log
from tests.simulation.log import Commit, Objects
from tests.simulation.operations import Work
from tests.simulation.view import View

POINTS = ("reading", "objects", "ref", "view")
"""Where a write can be killed: half of the view caught up; before the ref; after it; at the end."""


class Killed(Exception):
    """The process died here; its memory is gone."""


class Snapshot(NamedTuple):
    """Events up to a head, in few chunks, and the set that they are said to be."""

    wal_head: str
    event_set: bytes
    chunks: tuple[bytes, ...]


class Backup(NamedTuple):
    """What a copy of the git directory holds; the view is not part of it."""

    objects: Objects
    head: str | None
    tracking: dict[str, str]


class Replica:
    """One clone; several processes of it may write at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: Objects = {}
        self.head: str | None = None
        self.tracking: dict[str, str] = {}
        """Heads as last seen at other places."""
        self.view = View()
        self.snapshots: list[Snapshot] = []
        self.clock_ms = 0
        """How far the clock is ahead."""
        self.rejected: list[Snapshot] = []

    def swap(self, old: str | None, new: str) -> bool:
        """Move the ref by compare-and-swap."""
        if self.head != old:
            return False
        self.head = new
        return True

    def commits(self) -> Objects:
        """Return the commits of the log."""
        return log.span(self.objects, self.head)

    def events(self) -> list[Event]:
        """Return the events of the log, in whatever order; twice what is stored twice."""
        return list(log.events_of(self.commits()))

    def join(self) -> int:
        """Take in every head that was fetched; return how many joins were needed."""
        made = 0
        for place in sorted(self.tracking):
            theirs = self.tracking[place]
            new = log.join(self.objects, self.head, theirs)
            if new is not None and new != self.head:
                made += new != theirs
                assert self.swap(self.head, new)
        return made

    def refresh(self, *, kill: bool = False) -> None:
        """Bring the view up to the log, by what is new or, in doubt, from the beginning.

        `kill`: die when half of it is in the view, whose head is the old one then.
        """
        if self.view.head == self.head:
            return
        if not log.is_ancestor(self.objects, self.view.head, self.head):
            self.rebuild()
            return
        fresh = list(log.events_of(log.span(self.objects, self.head, self.view.head)))
        if kill:
            self.view.apply(fresh[: len(fresh) // 2], self.view.head)
            raise Killed
        self.view.apply(fresh, self.head)

    def rebuild(self) -> bool:
        """Build the view anew; return whether a snapshot could be used for it."""
        self.view = View()
        usable = [one for one in self.snapshots if self._is_usable(one)]
        if not usable:
            self.view.apply(self.events(), self.head)
            return False
        best = max(usable, key=lambda one: sum(map(len, one.chunks)))
        self.view.apply(_snapshot_events(best), best.wal_head)
        self.refresh()
        return True

    def _is_usable(self, snapshot: Snapshot) -> bool:
        """Check a snapshot against the log: it is a claim of somebody (spec/snapshots.md)."""
        if not log.is_ancestor(self.objects, snapshot.wal_head, self.head):
            return False
        claimed = _snapshot_events(snapshot)
        stored = set(log.events_of(log.span(self.objects, snapshot.wal_head)))
        if set(claimed) == stored and event_set(claimed) == snapshot.event_set:
            return True
        self.rejected.append(snapshot)
        return False

    def snapshot(self) -> Snapshot | None:
        """Make a snapshot of the log as it is."""
        if self.head is None:
            return None
        events = sorted(set(self.events()), key=lambda event: event.order)
        return Snapshot(self.head, event_set(events), tuple(codec.split_chunks(events)))

    def write(
        self,
        work: Work,
        signer: Signer,
        now_ms: int,
        *,
        kill: str | None = None,
        race: Callable[[], None] | None = None,
    ) -> tuple[Event, ...]:
        """Decide, seal, append and show, as `grit.services.write` does; return what was stored.

        `race` runs between the decision and the ref's move; `kill` names where to die.
        """
        for _ in range(APPEND_RETRIES_MAX):
            self.refresh(kill=kill == "reading")
            transaction = Transaction(cast(ViewReader, self.view), lambda: signer, now_ms)
            work(transaction)
            if not transaction.decided:
                return ()
            if self._append(transaction.events, kill, race):
                return tuple(transaction.events)
            race = None
        raise AssertionError("the log moved too often")

    def store(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Append sealed events, those left out that are known."""
        self.refresh()
        fresh = [event for event in events if event.event_id not in self.view.events]
        if fresh:
            assert self._append(fresh, None, None)
        return tuple(fresh)

    def _append(
        self, events: Sequence[Event], kill: str | None, race: Callable[[], None] | None
    ) -> bool:
        old = self.head
        parents = () if old is None else (old,)
        new = log.put(self.objects, Commit(parents, tuple(codec.split_chunks(events))))
        if kill == "objects":
            raise Killed
        if race is not None:
            race()
        if not self.swap(old, new):
            return False
        if kill == "ref":
            raise Killed
        self.view.apply(events, new)
        if kill == "view":
            raise Killed
        return True

    def backup(self) -> Backup:
        """Return a copy of what a backup would hold."""
        return Backup(dict(self.objects), self.head, dict(self.tracking))

    def restore(self, backup: Backup) -> None:
        """Go back to a copy; the view stays as it is and has to notice."""
        self.objects = dict(backup.objects)
        self.head = backup.head
        self.tracking = dict(backup.tracking)


def event_set(events: Iterable[Event]) -> bytes:
    """Return the hash over the sorted ids of distinct events."""
    ids = sorted({event.event_id for event in events})
    return blake2b(b"".join(ids), digest_size=32).digest()


def _snapshot_events(snapshot: Snapshot) -> list[Event]:
    return list(log.events_of({"": Commit((), snapshot.chunks)}))
