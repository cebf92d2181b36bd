"""Canonical CBOR: event ids, records, chunks, rows; the only door to cbor2 (spec/encoding.md)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain, islice
from typing import Final, NamedTuple, NoReturn, Protocol, cast

import cbor2

from grit.core import limits
from grit.core.errors import InvalidArgs, InvalidEvent
from grit.core.events import (
    CONTEXT_UPDATED,
    ISSUE_CREATED,
    Draft,
    Event,
    Payload,
    Value,
    check_payload,
    payloads_hold,
)
from grit.core.ids import ActorId, EventId

MAGIC: Final = b"GRITCHNK"
MAGIC_GRITE: Final = b"GRITECNK"
_MAGICS: Final = (MAGIC, MAGIC_GRITE)
_HEADER_TAIL: Final = b"\x01\x00" + b"\x07cbor-v1"
"""u16 little-endian version 1, length of the codec name, codec name."""
HEADER_BYTES: Final = len(MAGIC) + len(_HEADER_TAIL)

_PREIMAGE_HEAD: Final = b"\x87\x01"
"""An array of seven, schema version 1."""
RECORD_HEAD: Final = b"\x88\x58\x20"
"""An array of eight, and the head of the event_id in it."""
_ISSUE_HEAD: Final = b"\x50"
"""Follows the event_id in a record; what follows a parent is a small integer."""
_RECORD_HEAD_BYTES: Final = len(RECORD_HEAD) + limits.EVENT_ID_BYTES
"""What a record has where a preimage has its head."""
_SIG_NULL_BYTES: Final = 1
_SIG_BYTES: Final = 2 + limits.SIGNATURE_BYTES
_HEAD_BYTES_MAX: Final = 9
_SIMPLE_HEADS: Final = bytes(range(0xE0, 0xF4))
"""Simple values without a meaning: one byte, and an object of its own once decoded."""
_TS_LONG: Final = 2**32
"""Times from here on (February 1970) take nine bytes."""
_RECORD_BYTES: Final = 1 + 34 + 17 + 17 + 9 + 1 + 1 + 1 + 1
"""A record of such a time without parent, payload and signature, of a kind below 24."""
_COLUMNS_RECORDS_MIN: Final = 16
"""Fewer records are checked faster one by one."""
_GROUP_BYTES_MAX: Final = 1 << 18
"""Chunks that are checked together; fewer bytes than what makes one costly."""
NOT_CANONICAL: Final = "not canonical CBOR"
NOT_EIGHT: Final = "a record needs eight fields"
NO_EVENT_ID: Final = "event_id is not 32 bytes"
OTHER_REASONS: Final = "other reasons"
"""Stands for those beyond the bound on how many are told apart."""


class Digest(Protocol):
    """What hashlib returns, as far as it is used."""

    def digest(self) -> bytes:
        """Return the hash."""


Symbols = tuple[tuple[str, str, int, int], ...]
Rows = tuple[tuple[object, ...], ...]
"""Decoded records that are arrays."""
_Bytes = tuple[bytes, ...]
_Numbers = tuple[int, ...]
_Optional = tuple[bytes | None, ...]
Columns = tuple[
    _Bytes, _Bytes, _Bytes, _Numbers, _Optional, _Numbers, tuple[Payload, ...], _Optional
]
"""The fields of records, once checked."""
Hasher = Callable[[bytes], Digest]
"""BLAKE2b-256."""


class Problem(NamedTuple):
    """Why a record, or with position None a whole chunk, is set aside."""

    position: int | None
    reason: str
    event_id: bytes | None
    record_count: int = 1
    """How many records of the chunk it stands for: the first, and more for the same reason."""


class DecodedChunk(NamedTuple):
    """The valid events of a chunk, each with its stored record, and what was set aside."""

    records: list[tuple[Event, bytes]]
    problems: list[Problem]


def _refuse(*_: object) -> NoReturn:
    raise InvalidEvent(NOT_CANONICAL)


_TAGS: Final = (*range(6), 25, *range(28, 31), *range(35, 38), 100, 256, 258, 260, 261, 1004)
_NO_TAGS: Final = dict.fromkeys((*_TAGS, 43000, 55799), _refuse)


def _loads(data: bytes) -> object:
    return cbor2.loads(
        data,
        immutable=True,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
        max_depth=limits.CBOR_DEPTH_MAX,
        tag_hook=_refuse,
        object_hook=_refuse,
        semantic_decoders=_NO_TAGS,
    )


def hasher() -> Hasher:
    """Return BLAKE2b-256."""
    # Imported here because hashlib brings OpenSSL along: 2 ms that reading the view can do without.
    from hashlib import blake2b

    return partial(blake2b, digest_size=limits.EVENT_ID_BYTES)


def pack(value: object) -> bytes:
    """Return canonical CBOR of tuples, strings, bytes, integers and None."""
    return cbor2.dumps(value)


def unpack(data: bytes) -> Value:
    """Return what `pack` was given, arrays as tuples; raise InvalidEvent when it is not CBOR."""
    try:
        return cast(Value, _loads(data))
    except (cbor2.CBORError, ValueError, OverflowError) as error:
        raise InvalidEvent(NOT_CANONICAL) from error


def seal(draft: Draft, actor_id: ActorId, ts_unix_ms: int, parent: EventId | None) -> Event:
    """Return the unsigned event of a draft: labels and symbols sorted, bounds checked, id computed.

    Raises InvalidArgs when the payload breaks a bound (spec/events.md, Bounds).
    """
    issue_id, tag, payload = draft
    if tag == ISSUE_CREATED:
        title, body, labels = payload
        names: list[str] = sorted(set(cast(tuple[str, ...], labels)), key=_utf8)
        payload = (title, body, tuple(names))
    elif tag == CONTEXT_UPDATED:
        path, language, symbols, *rest = payload
        payload = (path, language, tuple(sorted(cast(Symbols, symbols))), *rest)
    if ts_unix_ms < 0:
        raise InvalidArgs(
            f"the time {ts_unix_ms} is out of bounds: it lies before 1970; set the clock of the "
            "machine right that it comes from, and try again"
        )
    if ts_unix_ms > limits.TS_UNIX_MS_MAX:
        raise InvalidArgs(
            f"the time {ts_unix_ms} is out of bounds: a clock is wrong, here or where an event of "
            "this issue was made ('grit issue history' shows it); go on in a new issue"
        )
    try:
        check_payload(tag, payload)
        preimage = cbor2.dumps((1, issue_id, actor_id, ts_unix_ms, parent, tag, payload))
    except InvalidEvent as error:
        raise InvalidArgs(f"refused: {error}") from error
    except UnicodeEncodeError as error:
        raise InvalidArgs("refused: the text is not valid Unicode (a lone surrogate)") from error
    if len(preimage) > limits.EVENT_BYTES_MAX:
        raise InvalidArgs(f"refused: larger than {limits.EVENT_BYTES_MAX} bytes")
    event_id = EventId(hasher()(preimage).digest())
    return Event(event_id, issue_id, actor_id, ts_unix_ms, parent, tag, payload, None)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def encode_record(event: Event) -> bytes:
    """Return the stored form of a sealed event."""
    return cbor2.dumps(tuple(event))


def decode_record(data: bytes) -> Event:
    """Return the event of a record that was checked before (a row of the view)."""
    return tuple.__new__(Event, cast(tuple[Value, ...], _loads(data)))


def encode_chunk(events: Sequence[Event], magic: bytes = MAGIC) -> bytes:
    """Return a chunk file: header and an array of records, in the order given."""
    return magic + _HEADER_TAIL + cbor2.dumps([tuple(event) for event in events])


def join_records(records: Sequence[bytes]) -> bytes:
    """Return a chunk file of stored records, as `encode_chunk` makes it of their events."""
    return b"".join((MAGIC, _HEADER_TAIL, _array_head(len(records)), *records))


def _array_head(count: int) -> bytes:
    if count < 24:
        return bytes((0x80 + count,))
    return b"\x99" + count.to_bytes(2, "big") if count >= 2**8 else bytes((0x98, count))


def split_chunks(events: Sequence[Event], magic: bytes = MAGIC) -> Iterator[bytes]:
    """Yield chunks within the writer's bounds of count and bytes, keeping the order."""
    part: list[Event] = []
    size = 0
    for event in events:
        weight = len(encode_record(event))
        full = len(part) >= limits.CHUNK_EVENTS_MAX or size + weight > limits.CHUNK_TARGET_BYTES
        if part and full:
            yield encode_chunk(part, magic)
            part, size = [], 0
        part.append(event)
        size += weight
    if part:
        yield encode_chunk(part, magic)


def chunk_hash(data: bytes) -> bytes:
    """Return BLAKE2b-256 of a whole chunk file."""
    return hasher()(data).digest()


def event_set(ids: Iterable[bytes]) -> bytes:
    """Return BLAKE2b-256 over the event ids, sorted by bytes: the same for equal sets alone."""
    return hasher()(b"".join(sorted(ids))).digest()


def decode_chunk(data: bytes) -> DecodedChunk:
    """Check and decode a chunk; what fails is reported and never stops the rest.

    Never raises: a chunk with a bad header, size or encoding comes back as problems
    (spec/encoding.md, Reading).
    """
    try:
        body, count = _open_chunk(data)
    except InvalidEvent as error:
        return DecodedChunk([], [Problem(None, str(error), None)])
    if count and (_is_costly(body) or not body.startswith(RECORD_HEAD, head_bytes(count))):
        # Not what a writer makes: the items are counted before any is made.
        return _decode_slowly(body, count)
    try:
        values = cast(tuple[object, ...], _loads(body))
        sound = _sound_records(body, values) if count >= _COLUMNS_RECORDS_MIN else None
        if sound is not None:
            return DecodedChunk(_events(cast(Rows, values), sound), [])
        raws = [cbor2.dumps(value) for value in values]
    except (cbor2.CBORError, InvalidEvent, ValueError, OverflowError):
        return _decode_slowly(body, count)
    if b"".join(raws) != body[head_bytes(count) :]:
        return _decode_slowly(body, count)
    blake2b = hasher()
    try:
        return DecodedChunk(
            [(check_record(one, raw, blake2b), raw) for one, raw in zip(values, raws, strict=True)],
            [],
        )
    except InvalidEvent:
        return _decode_slowly(body, count)


def decode_chunks(chunks: Iterable[bytes]) -> Iterator[DecodedChunk]:
    """Yield what `decode_chunk` says of each, in order.

    Small chunks, of which many a log consists, are checked together: that costs half as much.
    """
    group: list[bytes] = []
    size = 0
    for data in chunks:
        if group and size + len(data) > _GROUP_BYTES_MAX:
            yield from _sound_group(group) or map(decode_chunk, group)
            group, size = [], 0
        group.append(data)
        size += len(data)
    yield from _sound_group(group) or map(decode_chunk, group)


def _sound_group(chunks: Sequence[bytes]) -> list[DecodedChunk] | None:
    """Return what chunks hold, checked as if they were one; None when one needs a closer look."""
    try:
        opened = [_open_chunk(data) for data in chunks]
        counts = [count for _, count in opened]
        parts = [body[head_bytes(count) :] for body, count in opened]
        if len(parts) < 2 or not all(part.startswith(RECORD_HEAD) for part in parts):
            return None
        body = b"".join((_array_head(sum(counts)), *parts))
        values = cast(Rows, _loads(body))
        records = _sound_records(body, values)
    except (cbor2.CBORError, InvalidEvent, ValueError, OverflowError):
        return None  # or they claim more records than a head of two bytes can say
    if records is None:
        return None
    events = iter(_events(values, records))
    found = [DecodedChunk(list(islice(events, count)), []) for count in counts]
    sizes = [sum([len(record) for _, record in chunk.records]) for chunk in found]
    # Or one chunk has the rest of another one's record.
    return found if sizes == list(map(len, parts)) else None


def _open_chunk(data: bytes) -> tuple[bytes, int]:
    """Return the CBOR body and the number of records that it claims."""
    if len(data) > limits.CHUNK_BYTES_MAX:
        raise InvalidEvent(f"a chunk of {len(data)} bytes; at most {limits.CHUNK_BYTES_MAX}")
    if data[:8] not in _MAGICS:
        raise InvalidEvent("not a chunk: wrong magic")
    if data[8:HEADER_BYTES] != _HEADER_TAIL:
        raise InvalidEvent("a chunk of an unknown version or codec")
    body = data[HEADER_BYTES:]
    major, count, _ = item_head(body, 0)
    if major != 4:
        raise InvalidEvent(NOT_CANONICAL)
    # Few records are walked whatever they claim: a short or missing one costs only itself.
    if count > limits.CHUNK_EVENTS_MAX and count * limits.RECORD_BYTES_MIN > len(body):
        raise InvalidEvent("a chunk that claims more records than it can hold")
    if count == 0 and len(body) > 1:
        raise InvalidEvent(NOT_CANONICAL)
    return body, count


def _is_costly(body: bytes) -> bool:
    """Whether a body may be decoded only after its items were counted.

    It is larger than what many records fill; or it has very many bytes that each could stand for
    an object of its own: also a text in a script of three bytes a letter, which costs only time.
    """
    if len(body) <= limits.CBOR_ITEMS_MAX:
        return False
    if len(body) > _HEAD_BYTES_MAX + limits.CHUNK_TARGET_BYTES:
        return True
    return len(body) - len(body.translate(None, _SIMPLE_HEADS)) > limits.CBOR_ITEMS_MAX


def sound_sizes(data: bytes) -> list[int] | None:
    """Return the sizes of a chunk's records; None when `decode_chunk` must take a closer look.

    Most of the work of decoding, and a small answer: a helper process can do it for `split_sound`.
    """
    try:
        body, count = _open_chunk(data)
        if not count or _is_costly(body):
            return None
        records = _sound_records(body, cast(tuple[object, ...], _loads(body)))
    except (cbor2.CBORError, InvalidEvent, ValueError, OverflowError):
        return None
    return None if records is None else list(map(len, records))


def split_sound(data: bytes, sizes: Sequence[int]) -> DecodedChunk:
    """Return what is in a chunk for which `sound_sizes` gave these sizes, without a check."""
    rows = cast(Rows, _loads(data[HEADER_BYTES:]))
    starts = accumulate(sizes, initial=len(data) - sum(sizes))
    records = [data[start : start + size] for start, size in zip(starts, sizes, strict=False)]
    return DecodedChunk(_events(rows, records), [])


def _events(rows: Rows, records: list[bytes]) -> list[tuple[Event, bytes]]:
    """Return the events of checked rows, each with its record."""
    event = cast(Callable[[object], Event], partial(tuple.__new__, Event))
    return list(zip(map(event, rows), records, strict=True))


def _records(body: bytes, rows: Rows) -> list[bytes]:
    """Return the records of a canonical body whose rows begin with an event_id and an issue_id.

    Every record begins with what is looked for; if other places do too, there are too many, and
    too few if an id has the head of a record in it.
    """
    starts = {cast(bytes, row[0]) + _ISSUE_HEAD for row in rows}
    size = limits.EVENT_ID_BYTES + len(_ISSUE_HEAD)
    records: list[bytes] = []
    for rest in body.split(RECORD_HEAD)[1:]:
        if not records or rest[:size] in starts:
            records.append(RECORD_HEAD + rest)
        else:
            records[-1] += RECORD_HEAD + rest
    return records


def _sound_records(body: bytes, values: tuple[object, ...]) -> list[bytes] | None:
    """Return the records of a body, all checked; None when one of them needs a closer look."""
    if set(map(type, values)) != {tuple}:
        return None
    rows = cast(Rows, values)
    if set(map(len, rows)) != {len(Event._fields)} or _canonical_bytes(rows) != len(body):
        return None
    records = _records(body, rows)
    if len(records) != len(rows):
        return None
    blake2b = hasher()
    start = _RECORD_HEAD_BYTES
    for row, record in zip(rows, records, strict=True):
        end = -_SIG_NULL_BYTES if row[-1] is None else -_SIG_BYTES
        if blake2b(_PREIMAGE_HEAD + record[start:end]).digest() != row[0]:
            return None
    return records


def _canonical_bytes(rows: Rows) -> int | None:
    """Check the fields of rows, column by column; return the size of their encoding, or None.

    A value of these types has one shortest encoding and only longer other ones: a body is
    canonical if it is as long as the shortest. Its bound keeps that of an event.
    """
    columns = cast(Columns, zip(*rows, strict=True))
    ids, issues, actors, times, parents, tags, payloads, sigs = columns
    if not (
        _all_bytes(ids, limits.EVENT_ID_BYTES)
        and _all_bytes(issues, limits.ID_BYTES)
        and _all_bytes(actors, limits.ID_BYTES)
        and set(map(type, times)) == {int}
        and min(times) >= _TS_LONG
        and max(times) <= limits.TS_UNIX_MS_MAX
        and set(map(type, tags)) == {int}
        and payloads_hold(tags, payloads)
    ):
        return None
    known_parents = [parent for parent in parents if parent is not None]
    known_sigs = [sig for sig in sigs if sig is not None]
    if known_parents and not _all_bytes(known_parents, limits.EVENT_ID_BYTES):
        return None
    if known_sigs and not _all_bytes(known_sigs, limits.SIGNATURE_BYTES):
        return None
    fields = list(chain.from_iterable(payloads))
    return (
        head_bytes(len(rows))
        + _RECORD_BYTES * len(rows)
        + (1 + limits.EVENT_ID_BYTES) * len(known_parents)
        + sum([tag >= 24 for tag in tags])
        + (len(cbor2.dumps(fields)) - head_bytes(len(fields)))
        + (_SIG_BYTES - _SIG_NULL_BYTES) * len(known_sigs)
    )


def _all_bytes(column: Sequence[object], size: int) -> bool:
    if set(map(type, column)) != {bytes}:
        return False
    return set(map(len, cast(Sequence[bytes], column))) == {size}


def check_record(value: object, raw: bytes, blake2b: Hasher) -> Event:
    """Return the event of a canonical record, or raise InvalidEvent with the first reason."""
    if type(value) is not tuple or len(value) != 8:
        raise InvalidEvent(NOT_EIGHT)
    event_id, issue_id, actor_id, ts, parent, tag, payload, sig = value
    if type(event_id) is not bytes or len(event_id) != 32:
        raise InvalidEvent(NO_EVENT_ID)
    if type(issue_id) is not bytes or len(issue_id) != 16:
        raise InvalidEvent("issue_id is not 16 bytes")
    if type(actor_id) is not bytes or len(actor_id) != 16:
        raise InvalidEvent("actor_id is not 16 bytes")
    if type(ts) is not int or not 0 <= ts <= limits.TS_UNIX_MS_MAX:
        raise InvalidEvent("ts_unix_ms is out of bounds")
    if parent is not None and (type(parent) is not bytes or len(parent) != 32):
        raise InvalidEvent("parent is not null or 32 bytes")
    if type(tag) is not int or not 0 < tag < 2**32:
        raise InvalidEvent("kind_tag is out of bounds")
    if len(raw) > limits.EVENT_BYTES_MAX:
        raise InvalidEvent(f"an event of {len(raw)} bytes; at most {limits.EVENT_BYTES_MAX}")
    if sig is None:
        end = -_SIG_NULL_BYTES
    elif type(sig) is bytes and len(sig) == limits.SIGNATURE_BYTES:
        end = -_SIG_BYTES
    else:
        raise InvalidEvent("sig is not null or 64 bytes")
    if blake2b(_PREIMAGE_HEAD + raw[_RECORD_HEAD_BYTES:end]).digest() != event_id:
        raise InvalidEvent("event_id is not the hash of the event")
    check_payload(tag, payload)
    return tuple.__new__(Event, value)


def head_bytes(length: int) -> int:
    """Return the size of the shortest head of a string or array of this length."""
    for size, bound in ((1, 24), (2, 2**8), (3, 2**16)):
        if length < bound:
            return size
    return 5


def item_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return major type, argument and the position behind the head of the item at `at`."""
    if at >= len(data):
        raise InvalidEvent("cut short")
    major, info = data[at] >> 5, data[at] & 31
    if info < 24:
        return major, info, at + 1
    if info > 27:
        raise InvalidEvent(NOT_CANONICAL)
    end = at + 1 + (1 << (info - 24))
    return major, int.from_bytes(data[at + 1 : end], "big"), end


def _decode_slowly(body: bytes, count: int) -> DecodedChunk:
    from grit.core.walk import decode_slowly

    return decode_slowly(body, count)
