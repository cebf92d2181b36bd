"""Reading the whole view in portions: no transaction is open while a value is used."""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, merge
from itertools import islice
from typing import Final, NamedTuple, cast

from grit.core.codec import decode_record, unpack
from grit.core.errors import InvalidEvent
from grit.core.events import Event
from grit.core.ids import IssueId
from grit.core.issue import Summary
from grit.view import asides, keys
from grit.view.database import Database, Txn
from grit.view.rows import decode_row, get_meta, get_record, scan, unseal
from grit.view.trust import ViewDoubt

_PORTION: Final = 500

Item = tuple[bytes, bytes]
_Waiting = list[tuple[tuple[int, bytes], Iterator[Event], Event, int]]
"""A heap of issues by their newest event not yet given out, the newest first; and the negated time
of the last update, before which no event of the issue comes."""


class JournalEntry(NamedTuple):
    """The raw objects of one append: kind ("commit", "tree", "blob") and content."""

    commit: str
    objects: tuple[tuple[str, bytes], ...]


class Frozen(NamedTuple):
    """The whole view as of one moment; valid while its transaction is open."""

    head: str | None
    records: Iterator[bytes]
    """Every stored event, in the order in which they came."""
    asides: frozenset[str]
    """The blobs in which something was set aside, ASIDES_MAX at most."""


def portions(
    database: Database, prefix: bytes, *, reverse: bool = False, size: int = _PORTION
) -> Iterator[list[Item]]:
    """Yield the rows of a table, or of a prefix, in lists read in one transaction each."""
    last: bytes | None = None
    while True:
        items = _portion(database, prefix, last, reverse, size + 1 if last is not None else size)
        if last is not None and items and items[0][0] == last:
            del items[0]
        if not items:
            return
        yield items
        last = items[-1][0]


def _portion(
    database: Database, prefix: bytes, start: bytes | None, reverse: bool, size: int
) -> list[Item]:
    # LMDB gives the slot of a reader back with the last reference to its transaction: a generator
    # that waits must not hold one, not even a closed one.
    with database.reading() as txn:
        return list(islice(scan(txn, prefix, start, reverse=reverse), size))


def _records(database: Database, places: Iterable[bytes]) -> list[bytes]:
    with database.reading() as txn:
        return [get_record(txn, place) for place in places]


def all_rows(database: Database) -> Iterator[Summary]:
    """Yield every issue's summary by id, deleted ones included."""
    for items in portions(database, keys.ISSUE):
        for _, value in items:
            yield decode_row(value).summary


def all_events(database: Database) -> Iterator[tuple[Event, bytes]]:
    """Yield every event with its record, by (ts_unix_ms, actor_id, event_id).

    Those that do not count are among them. Holds 64 bytes of each event in memory.
    """
    places = [
        key[17:] + value[:8]
        for table in (keys.ORDER, keys.HELD)
        for items in portions(database, table, size=20 * _PORTION)
        for key, value in items
    ]
    places.sort()
    for start in range(0, len(places), _PORTION):
        portion = places[start : start + _PORTION]
        for record in _records(database, [place[-8:] for place in portion]):
            yield decode_record(record), record


def held(database: Database) -> Iterator[tuple[Event, str]]:
    """Yield every event that does not count, and why."""
    for items in portions(database, keys.HELD):
        records = _records(database, [value[:8] for _, value in items])
        for record, (_, value) in zip(records, items, strict=True):
            yield decode_record(record), value[8:].decode()


def latest_events(database: Database) -> Iterator[Event]:
    """Yield the events of all issues, newest first, reading no more than what is taken.

    None comes as newer than the last update of its issue (spec/projection.md, Times that do not
    count). Events whose issue has not arrived are left out, as are those of deleted issues.
    """
    waiting: _Waiting = []
    updates = (_updates(database, state) for state in (keys.OPEN, keys.CLOSED))
    for event_order, issue_id in merge(*updates):
        # Equal times wait: the other issue's event may come first by its actor or id.
        while waiting and waiting[0][0][0] < event_order:
            yield _take(waiting)
        _push(waiting, _backwards(database, issue_id), event_order)
    while waiting:
        yield _take(waiting)


def _updates(database: Database, state: int) -> Iterator[tuple[int, IssueId]]:
    """Yield negated update time and id of the issues in a state, newest first."""
    for items in portions(database, keys.index_prefix(keys.ALL, b"", state), size=50):
        for key, _ in items:
            yield -keys.updated_of(key[-24:-16]), IssueId(key[-16:])


def _backwards(database: Database, issue_id: IssueId) -> Iterator[Event]:
    """Yield the events of an issue, the last one first."""
    for items in portions(database, keys.ORDER + issue_id, reverse=True, size=20):
        for record in _records(database, [seq for _, seq in items]):
            yield decode_record(record)


def _push(waiting: _Waiting, events: Iterator[Event], newest: int) -> None:
    event = next(events, None)
    if event is not None:
        # Inverted bytes make the order the exact reverse of the events' own.
        inverted = bytes(255 - byte for byte in event.actor_id + event.event_id)
        place = max(-event.ts_unix_ms, newest), inverted
        heappush(waiting, (place, events, event, newest))


def _take(waiting: _Waiting) -> Event:
    _, events, event, newest = heappop(waiting)
    _push(waiting, events, newest)
    return event


def frozen(txn: Txn) -> Frozen:
    """Return what the view holds, to be taken while `txn` is open."""
    return Frozen(
        get_meta(txn).head,
        (unseal(value) for _, value in scan(txn, keys.EVENT)),
        frozenset(aside.blob for aside in asides.listed(txn)),
    )


def journal(database: Database) -> Iterator[JournalEntry]:
    """Yield the raw objects of this clone's last appends, the newest first."""
    for items in portions(database, keys.JOURNAL, reverse=True, size=1):
        for _, value in items:
            try:
                commit, objects = cast(
                    tuple[str, tuple[tuple[str, bytes], ...]], unpack(unseal(value))
                )
            except InvalidEvent as error:
                raise ViewDoubt("damaged", "the journal is damaged") from error
            yield JournalEntry(commit, objects)
