"""Reading the whole view in portions: no transaction is open while a value is used."""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush, merge
from itertools import islice
from typing import Final, NamedTuple, cast

from grit.core.codec import unpack
from grit.core.errors import InvalidEvent
from grit.core.events import Event
from grit.core.ids import IssueId
from grit.core.issue import Summary
from grit.core.limits import BATCH_BYTES_MAX
from grit.view import asides, keys
from grit.view.database import Database, Txn
from grit.view.rows import decode_event, decode_row, get_event_row, get_meta, scan, unseal
from grit.view.trust import ViewDoubt

_PORTION: Final = 500
_LATEST_PORTION: Final = 50

Item = tuple[bytes, bytes]
_Waiting = list[tuple[tuple[int, bytes], Iterator[Item], bytes, int]]
"""A heap of issues by their newest event not yet given out, the newest first; its sequence number,
and the negated time of the last update, before which no event of the issue comes."""


class JournalEntry(NamedTuple):
    """The raw objects of one append: kind ("commit", "tree", "blob") and content."""

    commit: str
    objects: tuple[tuple[str, bytes], ...]


class Frozen(NamedTuple):
    """The whole view as of one moment; valid while its transaction is open."""

    head: str | None
    events: Iterator[bytes]
    """The row of every event, in the order in which they came."""
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


def _events(
    database: Database, places: Iterable[bytes], portion: int = _PORTION
) -> Iterator[Event]:
    """Yield the events with these sequence numbers; few are held at once, in count and bytes."""
    source = iter(places)
    while wanted := list(islice(source, portion)):
        while wanted:
            rows = _first_rows(database, wanted)
            del wanted[: len(rows)]
            yield from map(decode_event, rows)


def _first_rows(database: Database, places: Iterable[bytes]) -> list[bytes]:
    rows: list[bytes] = []
    size = 0
    with database.reading() as txn:
        for place in places:
            rows.append(get_event_row(txn, place))
            size += len(rows[-1])
            if size >= BATCH_BYTES_MAX:
                break
    return rows


def all_rows(database: Database) -> Iterator[Summary]:
    """Yield every issue's summary by id, deleted ones included."""
    for items in portions(database, keys.ISSUE):
        for _, value in items:
            yield decode_row(value).summary


def all_events(database: Database) -> Iterator[Event]:
    """Yield every event, by (ts_unix_ms, actor_id, event_id).

    Those that do not count are among them. Holds 64 bytes of each event in memory.
    """
    places = [
        key[17:] + value[:8]
        for table in (keys.ORDER, keys.HELD)
        for items in portions(database, table, size=20 * _PORTION)
        for key, value in items
    ]
    places.sort()
    return _events(database, (place[-8:] for place in places))


def held(database: Database) -> Iterator[tuple[Event, str]]:
    """Yield every event that does not count, and why."""
    for items in portions(database, keys.HELD):
        events = _events(database, [value[:8] for _, value in items])
        for event, (_, value) in zip(events, items, strict=True):
            yield event, value[8:].decode()


def latest_events(database: Database) -> Iterator[Event]:
    """Yield the events of all issues, newest first, reading no more than what is taken.

    None comes as newer than the last update of its issue (spec/projection.md, Times that do not
    count). Events whose issue has not arrived are left out, as are those of deleted issues.
    """
    return _events(database, _latest(database), _LATEST_PORTION)


def _latest(database: Database) -> Iterator[bytes]:
    """Yield the sequence numbers of those events; their keys say the order."""
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


def _backwards(database: Database, issue_id: IssueId) -> Iterator[Item]:
    """Yield the ORDER rows of an issue, the last one first."""
    for items in portions(database, keys.ORDER + issue_id, reverse=True, size=20):
        yield from items


def _push(waiting: _Waiting, rows: Iterator[Item], newest: int) -> None:
    row = next(rows, None)
    if row is not None:
        key, seq = row
        # Inverted bytes make the order the exact reverse of the events' own.
        inverted = bytes(255 - byte for byte in key[25:])
        place = max(-keys.number(key[17:25]), newest), inverted
        heappush(waiting, (place, rows, seq, newest))


def _take(waiting: _Waiting) -> bytes:
    _, rows, seq, newest = heappop(waiting)
    _push(waiting, rows, newest)
    return seq


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
