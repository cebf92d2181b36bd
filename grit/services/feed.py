"""Use case: follow the log; every event is given out once, as it becomes visible (spec/watch.md).

The view's sequence numbers say what is new, as long as it is one and the same view. After a
rebuild, the log says it: what the head of now holds and the one of before did not.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from grit.core.errors import Busy, GitFailed, IoFailed, WalDamaged
from grit.core.events import NO_ISSUE, Event
from grit.core.ids import ActorId, EventId
from grit.core.limits import EVENT_ID_BYTES, READER_WAIT_MS_MAX
from grit.git.repository import Repository
from grit.services import join, listing, lost
from grit.services.decoding import decoded
from grit.services.refresh import refresh
from grit.services.workspace import Ports, Workspace
from grit.view import arrivals, keys
from grit.view.arrivals import Place
from grit.view.database import Database
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

T = TypeVar("T")

_PORTION: Final = 500
_DOUBTS_MAX: Final = 20
"""How often in a row the view may turn out to be of no use."""
_WAITS_MAX: Final = 5
"""How often in a row something may have to wait before it is told why."""


class Feed:
    """The events of one repository as they become visible; holds nothing open while it waits."""

    def __init__(self, repository: Repository, ports: Ports, actor: str | None = None) -> None:
        """Follow the whole log, or what the actor of that name does."""
        self._repository = repository
        self._heard: list[str] = []
        self._ports = ports._replace(notice=self._heard.append)
        self._notice = ports.notice
        self._actor = actor
        self._actors: frozenset[ActorId] | None = None
        self._database: Database | None = None
        self._place = Place(-1, 0, None)
        self._given: set[EventId] = set()
        """Those that came since the head moved: what the head of the place does not say."""
        self._lost: set[EventId] = set()
        self._held: dict[bytes, bytes] = {}
        self._doubts = 0
        self._waits = 0
        self._told: list[str] = []
        self.behind = False
        """Whether `look` should be called again soon, though nothing moves any more."""

    @property
    def reader(self) -> ViewReader:
        """The view that the events given out last came from."""
        assert self._database is not None, "nothing was given out"
        return ViewReader(self._database)

    def begin(self, since_ms: int | None = None, limit: int | None = 0) -> Iterator[Event]:
        """Take the place where the log is now; yield what was there before, the oldest first.

        That is what `listing.activity` shows: `limit` events, None for all. Raises NotFound when
        nobody is called like the actor, ViewDoubt when the view is replaced meanwhile.
        """
        workspace = self._open()
        reader = refresh(workspace)
        self._tell()
        if self._actor is not None:
            self._actors = listing.people_called(workspace, reader, self._actor)
        if workspace.wal.head() is None:
            return
        self._use(workspace)
        database = workspace.database
        self._place = arrivals.place(database)
        self._held = _same(arrivals.all_held(database, self._place.opening))
        self.behind = self._is_behind(workspace)
        if limit == 0:
            return
        latest = reader.latest_events()
        if since_ms is not None:
            latest = listing.events_since(latest, since_ms)
        if self._actors is not None:
            latest = (event for event in latest if event.actor_id in self._actors)
        places = self._known(database, latest, limit)
        yield from _stored(database, self._place.opening, places)

    def look(self) -> Iterator[Event]:
        """Yield what became visible since the last look.

        Raises WalDamaged when the log is gone or damaged, IoFailed, GitFailed, ViewDoubt.
        """
        workspace = self._open()
        try:
            if workspace.wal.head() is None and self._place.head is not None:
                raise WalDamaged(
                    f"{workspace.wal.ref} is gone, and with it every issue; 'grit doctor' says "
                    "what is left of it",
                    ref=workspace.wal.ref,
                )
            refresh(workspace)
            if workspace.wal.head() is None:
                return  # there is no log yet
            self._use(workspace)
            self.behind = self._is_behind(workspace)
            self._waits = self._waits + 1 if self.behind else 0
            if not self.behind or self._waits > _WAITS_MAX:
                self._tell()
            if self._place.opening != workspace.database.openings:
                yield from self._rebuilt(workspace)
            if self._place.opening == workspace.database.openings:
                yield from self._arrived(workspace)
            self._doubts = 0
        except Busy:
            self.behind = True
        except ViewDoubt:
            self._doubts += 1
            if self._doubts > _DOUBTS_MAX:
                raise
            self.behind = True
        finally:
            self._heard.clear()

    def renew(self) -> None:
        """Make sure that there is a view: it was removed since the last look."""
        workspace = self._open()
        refresh(workspace)
        self._use(workspace)
        self._heard.clear()

    def close(self) -> None:
        """Close the view."""
        if self._database is not None:
            self._database.close()

    def _open(self) -> Workspace:
        """Return a workspace as a fresh command would have it, with the view that is open."""
        workspace = Workspace(self._repository, self._ports)
        if self._database is not None:
            workspace.use_database(self._database)
        return workspace

    def _use(self, workspace: Workspace) -> None:
        """Keep the view open; another one (a temporary, say) has other places."""
        if workspace.database is not self._database:
            self._database = workspace.database
            self._place = self._place._replace(opening=-1)

    def _tell(self) -> None:
        """Pass on what this look has to say, unless it was the last that was said."""
        for text in self._heard:
            if text not in self._told:
                self._notice(text)
        self._told = [*self._heard] or self._told
        self._heard.clear()

    def _is_behind(self, workspace: Workspace) -> bool:
        """Return whether the view, or the log, has still to take in what is there."""
        seen, head = ViewReader(workspace.database).place(), workspace.wal.head()
        return seen.head != head or join.look(workspace, head, seen) is not None

    def _known(self, database: Database, latest: Iterator[Event], limit: int | None) -> list[bytes]:
        """Return where the newest events stand that were there at `begin`, the oldest first."""
        found: list[bytes] = []
        while limit is None or len(found) < limit:
            portion = [keys.event_order(event) for event in islice(latest, _PORTION)]
            if not portion:
                break
            found += [
                place
                for place in _same(arrivals.places_of(database, self._place.opening, portion))
                if place is not None and keys.number(place) < self._place.next_seq
            ]
        del found[len(found) if limit is None else limit :]
        found.reverse()
        return found

    def _asked(self, events: Iterable[Event]) -> list[Event]:
        """Return what is to be given out, ordered; what is back was given out long ago."""
        actors = self._actors
        found = []
        for event in events:
            if event.event_id in self._lost:
                self._lost.discard(event.event_id)
            elif event.tag not in NO_ISSUE and (actors is None or event.actor_id in actors):
                found.append(event)
        found.sort(key=lambda event: event.order)
        return found

    def _arrived(self, workspace: Workspace) -> Iterator[Event]:
        """Yield what came into the view after the place, and what counts only now."""
        database, old = workspace.database, self._place.head
        seen: set[EventId] = set()
        while True:
            portion = arrivals.arrivals(database, self._place)
            if portion is None:
                self.behind = True  # rebuilt meanwhile
                return
            self._place = portion.place._replace(head=old)
            seen.update(portion.seen)
            self._given.update(portion.seen)
            released = self._released(database) if portion.last else []
            self._held.update(portion.held)
            yield from self._asked([*portion.counted, *released])
            if portion.last:
                break
        self._place = portion.place
        if portion.place.head == workspace.wal.head():
            self._given.clear()
        elif portion.place.head != old:
            # What was given out before this look all belongs to the new head. What came now may
            # be a part of the next one: a long catch-up that was killed leaves that.
            self._given = seen

    def _released(self, database: Database) -> list[Event]:
        """Return events that were held back, and count now."""
        if not self._held:
            return []
        opening, orders = self._place.opening, [*self._held]
        counting = _same(arrivals.places_of(database, opening, orders))
        now = [one for one, place in zip(orders, counting, strict=True) if place is not None]
        events = _same(arrivals.events_at(database, opening, [self._held[one] for one in now]))
        for one in now:
            del self._held[one]
        return events

    def _rebuilt(self, workspace: Workspace) -> Iterator[Event]:
        """Yield what is new in another view, by the log, and take the place where it ends."""
        database = workspace.database
        place = _settled(workspace)
        if place is None or place.head is None:
            self.behind = True
            return
        opening, old = place.opening, self._place.head
        news: set[bytes] = set()
        try:
            news = _only_in(workspace, place.head, old)
            if old is not None and not workspace.wal.contains(place.head, old):
                # Whoever built the view anew may have known nothing of the head before.
                lost.keep(workspace, old, place.head)
                self._tell()
                self._note_lost(database, opening, _only_in(workspace, old, place.head))
        except (WalDamaged, GitFailed) as error:
            self._notice(f"what came before cannot be compared any more: {error.message}")
        news = {one for one in news if one[-EVENT_ID_BYTES:] not in self._given}
        orders = sorted(news | self._held.keys(), key=_by_time)
        for start in range(0, len(orders), _PORTION):
            portion = orders[start : start + _PORTION]
            places = _same(arrivals.places_of(database, opening, portion))
            counting = [one for one in places if one is not None]
            events = [*_stored(database, opening, counting)]
            self._given.update(event.event_id for event in events)
            for event in events:
                self._held.pop(keys.event_order(event), None)
            yield from self._asked(events)
        held = _same(arrivals.all_held(database, opening))
        # What was given out before it was held back is not given out again.
        self._held = {one: held[one] for one in orders if one in held}
        self._place, self._given = place, set()

    def _note_lost(self, database: Database, opening: int, gone: set[bytes]) -> None:
        """Remember what was given out, or was there, and is not in the log any more."""
        orders = [one for one in gone if one not in self._held]
        places = _same(arrivals.places_of(database, opening, orders))
        self._lost.update(
            EventId(one[-EVENT_ID_BYTES:])
            for one, place in zip(orders, places, strict=True)
            if place is None
        )
        self._lost |= self._given


def _same(found: T | None) -> T:
    """Return what was found in the view that is meant; raise ViewDoubt when it was replaced."""
    if found is None:
        raise ViewDoubt("changed", "the view was replaced while it was read")
    return found


def _stored(database: Database, opening: int, places: list[bytes]) -> Iterator[Event]:
    """Yield the events at these places, in this order."""
    for start in range(0, len(places), _PORTION):
        portion = places[start : start + _PORTION]
        yield from _same(arrivals.events_at(database, opening, portion))


def _settled(workspace: Workspace) -> Place | None:
    """Return where the view ends, once it holds the log's head and no part of another one."""
    database = workspace.database
    try:
        # Nobody writes meanwhile, so that no part of a catch-up is in it.
        with database.exclusive(READER_WAIT_MS_MAX):
            place = arrivals.place(database)
    except (IoFailed, OSError):
        place = arrivals.place(database)  # a folder that cannot be written
    return place if place.head == workspace.wal.head() else None


def _only_in(workspace: Workspace, head: str, old: str | None) -> set[bytes]:
    """Return the ORDER keys of the events that `head` holds and `old` does not."""
    found: set[bytes] = set()
    for event in _events(workspace, head, old):
        found.add(keys.event_order(event))
    if found and old is not None:
        # A chunk that is new may repeat what an old one holds.
        for event in _events(workspace, old, None):
            found.discard(keys.event_order(event))
    return found


def _events(workspace: Workspace, head: str, old: str | None) -> Iterator[Event]:
    for _, chunk in decoded(workspace.wal.read(head, old), whole_log=False):
        for event, _ in chunk.records:
            yield event
        del chunk


def _by_time(order: bytes) -> bytes:
    """Return time, actor and id of an ORDER key."""
    return order[1 + keys.ID_BYTES :]
