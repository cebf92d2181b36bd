"""Values of the view's rows: checksums, and the rows that are decoded (spec/view.md, Rows)."""

from collections.abc import Iterator
from typing import Final, NamedTuple, cast
from zlib import crc32

from grit.core.codec import RECORD_HEAD, decode_record, encode_record, pack, unpack
from grit.core.errors import InvalidEvent
from grit.core.events import Event, Value
from grit.core.ids import ActorId, EventId
from grit.core.issue import Dependency, Summary
from grit.core.limits import BATCH_BYTES_MAX
from grit.core.long_text import Long
from grit.view import keys
from grit.view.database import Txn
from grit.view.trust import ViewDoubt

_CRC_BYTES: Final = 4


class Row(NamedTuple):
    """What the view keeps of an issue."""

    summary: Summary
    blocked: bool
    """Open, not deleted, and something open must come before it."""


class Person(NamedTuple):
    """An actor as its best announcement says (certified, then the latest), and its last event."""

    actor_id: ActorId
    last_event_id: EventId
    """The parent of the actor's next event."""
    last_ts: int
    announced_ts: int | None
    """None when the log holds no announcement; then the words are empty."""
    announced_id: EventId | None
    label: str
    name: str
    email: str
    public_key: bytes | None
    certified: bool
    """The announcement is signed with the key that certifies the actor, so nobody forged it."""


class Meta(NamedTuple):
    """The head that the rows stand for, and totals."""

    head: str | None = None
    next_seq: int = 0
    """Also the number of events: rows are never removed."""
    unknown_count: int = 0
    """Events of kinds that this version does not know."""
    journal_next: int = 0
    journal_first: int = 0
    joined: str = ""
    """Ids of remote heads, in order, that were compared with this log, or could not be."""
    packed: str = ""
    """Stamp of packed-refs when they were."""
    policy: bytes = b""
    """What the rows were folded under (`standing.Stamp`)."""
    settings: bytes = b""
    missing: tuple[bytes, ...] = ()


class Aside(NamedTuple):
    """A chunk of the log of which something was set aside: the first of it."""

    blob: str
    position: int | None
    """Index of the record within the chunk; None when the whole chunk is meant."""
    reason: str
    event_id: bytes | None
    record_count: int
    """How much of the chunk was set aside: records, and the chunk itself."""


def seal(data: bytes) -> bytes:
    """Return a row's value: checksum and data."""
    return crc32(data).to_bytes(_CRC_BYTES, "big") + data


def unseal(value: bytes) -> bytes:
    """Return the data of a sealed value; raise ViewDoubt when it was changed."""
    data = value[_CRC_BYTES:]
    if crc32(data) != int.from_bytes(value[:_CRC_BYTES], "big"):
        raise ViewDoubt("damaged", "a row of the view is damaged")
    return data


def _values(value: bytes) -> tuple[Value, ...]:
    try:
        return cast(tuple[Value, ...], unpack(unseal(value)))
    except InvalidEvent as error:
        raise ViewDoubt("damaged", "a row of the view is damaged") from error


def encode_row(row: Row) -> bytes:
    """Return the value of an ISSUE row."""
    return seal(pack((*row.summary, row.blocked)))


def decode_row(value: bytes) -> Row:
    """Return the row of an ISSUE value."""
    *fields, blocked = _values(value)
    fields[10] = tuple([Dependency(*edge) for edge in cast(tuple[Dependency, ...], fields[10])])
    return Row(tuple.__new__(Summary, fields), bool(blocked))


def get_row(txn: Txn, issue_id: bytes) -> Row | None:
    """Return the row of an issue, or None when the view knows no such issue."""
    value = txn.get(keys.ISSUE + issue_id)
    return None if value is None else decode_row(value)


def get_event(txn: Txn, seq: bytes) -> Event:
    """Return the event with that sequence number (as stored in ORDER rows)."""
    return decode_event(get_event_row(txn, seq))


def get_event_row(txn: Txn, seq: bytes) -> bytes:
    """Return the row of the event with that sequence number."""
    value = txn.get(keys.EVENT + seq)
    if value is None:
        raise ViewDoubt("damaged", "an event is missing from the view")
    return unseal(value)


def decode_event(row: bytes) -> Event:
    """Return the event of a row: a record as the log has it, or one without its long texts."""
    if row.startswith(RECORD_HEAD):
        return decode_record(row)
    from grit.view.long_rows import decode_row  # few logs have any

    return decode_row(row)


def encode_event(event: Event) -> bytes:
    """Return the row of an event that was read from one."""
    if not any(isinstance(value, Long) for value in event.payload):
        return encode_record(event)
    from grit.view.long_rows import encode_row

    return encode_row(event)


def all_of(txn: Txn, issue_id: bytes) -> Iterator[Event]:
    """Yield the events of an issue in their order, with the texts that their rows hold."""
    for _, seq in scan(txn, keys.ORDER + issue_id):
        yield get_event(txn, seq)


class IssueEvents:
    """The events of an issue in their order, read anew each time one goes through them.

    Beyond BATCH_BYTES_MAX of rows, texts come as beginnings: all are held by who folds them.
    """

    __slots__ = ("_issue_id", "_txn")

    def __init__(self, txn: Txn, issue_id: bytes) -> None:
        """Read nothing yet."""
        self._txn = txn
        self._issue_id = issue_id

    def __iter__(self) -> Iterator[Event]:
        """Yield each event."""
        size = 0
        for key, seq in scan(self._txn, keys.ORDER + self._issue_id):
            row = get_event_row(self._txn, seq)
            size += len(row)
            event = decode_event(row)
            if size > BATCH_BYTES_MAX:
                from grit.view.long_rows import spared  # few issues have so many

                event = spared(event, key, len(row))
            yield event


def encode_person(person: Person) -> bytes:
    """Return the value of an ACTOR row."""
    return seal(pack(tuple(person[1:])))


def decode_person(actor_id: bytes, value: bytes) -> Person:
    """Return the actor of an ACTOR value."""
    return tuple.__new__(Person, (actor_id, *_values(value)))


def get_person(txn: Txn, actor_id: bytes) -> Person | None:
    """Return what the view knows of an actor, or None when it wrote nothing."""
    value = txn.get(keys.ACTOR + actor_id)
    return None if value is None else decode_person(actor_id, value)


def get_meta(txn: Txn) -> Meta:
    """Return head and totals; those of an empty log when nothing was written."""
    value = txn.get(keys.META)
    return Meta() if value is None else tuple.__new__(Meta, _values(value))


def put_meta(txn: Txn, meta: Meta) -> None:
    """Replace head and totals."""
    txn.put(keys.META, seal(pack(tuple(meta))))


def get_count(txn: Txn, prefix: bytes) -> int:
    """Return how many issues stand under an index prefix."""
    value = txn.get(keys.count_key(prefix))
    return 0 if value is None else keys.number(value)


def scan(
    txn: Txn, prefix: bytes, start: bytes | None = None, *, reverse: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of the rows under `prefix`, from `start` on (inclusive)."""
    cursor = txn.cursor()
    if reverse:
        if cursor.set_range(keys.after(prefix) if start is None else start):
            if cursor.key() != start and not cursor.prev():
                return
        elif not cursor.last():
            return
        rows = cursor.iterprev()
    elif cursor.set_range(prefix if start is None else start):
        rows = cursor.iternext()
    else:
        return
    for key, value in rows:
        if not key.startswith(prefix):
            return
        yield key, value
