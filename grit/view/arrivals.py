"""What came into the view, in the order in which it came (spec/watch.md, Feed).

Every function looks at one file only: `opening` is `Database.openings` as it was when the caller
learnt its place, and None comes back when the view was replaced since.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from grit.core.events import Event
from grit.core.ids import EventId
from grit.view import keys
from grit.view.database import Database
from grit.view.rows import decode_event, get_event, get_meta, scan, unseal

EVENTS_MAX: Final = 10_000
RECORD_BYTES_MAX: Final = 16 * 1024 * 1024


class Place(NamedTuple):
    """How far somebody has seen the view: everything before `next_seq`."""

    opening: int
    next_seq: int
    head: str | None
    """The head that the rows stood for."""


class Arrivals(NamedTuple):
    """A portion of what came after a place."""

    counted: list[Event]
    held: dict[bytes, bytes]
    """Events that do not count yet: ORDER key to sequence number."""
    seen: list[EventId]
    """The ids of both."""
    place: Place
    last: bool
    """Whether nothing came after these."""


def place(database: Database) -> Place:
    """Return where the view ends."""
    with database.reading() as txn:
        meta = get_meta(txn)
        return Place(database.openings, meta.next_seq, meta.head)


def arrivals(
    database: Database,
    since: Place,
    events_max: int = EVENTS_MAX,
    record_bytes_max: int = RECORD_BYTES_MAX,
) -> Arrivals | None:
    """Return the next events after a place."""
    with database.reading() as txn:
        if database.openings != since.opening:
            return None
        meta = get_meta(txn)
        counted: list[Event] = []
        held: dict[bytes, bytes] = {}
        seen: list[EventId] = []
        record_bytes = 0
        for key, value in scan(txn, keys.EVENT, keys.EVENT + keys.u64(since.next_seq)):
            event = decode_event(unseal(value))
            order = keys.event_order(event)
            if txn.get(order) is None:
                held[order] = key[1:]
            else:
                counted.append(event)
            seen.append(event.event_id)
            record_bytes += len(value)
            if len(seen) >= events_max or record_bytes >= record_bytes_max:
                break
        next_seq = since.next_seq + len(seen)
        reached = Place(since.opening, next_seq, meta.head)
        return Arrivals(counted, held, seen, reached, next_seq >= meta.next_seq)


def all_held(database: Database, opening: int) -> dict[bytes, bytes] | None:
    """Return every event that does not count: ORDER key to sequence number."""
    with database.reading() as txn:
        if database.openings != opening:
            return None
        return {keys.ORDER + key[1:]: value[:8] for key, value in scan(txn, keys.HELD)}


def places_of(
    database: Database, opening: int, orders: Iterable[bytes]
) -> list[bytes | None] | None:
    """Return the sequence number of each event that counts, by its ORDER key; else None."""
    with database.reading() as txn:
        if database.openings != opening:
            return None
        return [txn.get(order) for order in orders]


def events_at(database: Database, opening: int, places: Sequence[bytes]) -> list[Event] | None:
    """Return the events with these sequence numbers."""
    with database.reading() as txn:
        return None if database.openings != opening else [get_event(txn, place) for place in places]
