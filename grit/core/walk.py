"""Decoding a chunk that is damaged, hostile or large, record by record.

What is no record is walked over and never made; the walk is bounded by a budget of items, whatever
the bytes claim, and what is set aside by its number (spec/encoding.md, Reading).
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from grit.core import limits
from grit.core.codec import (
    HEADER_BYTES,
    NO_EVENT_ID,
    NOT_CANONICAL,
    NOT_EIGHT,
    OTHER_REASONS,
    RECORD_HEAD,
    DecodedChunk,
    Problem,
    check_record,
    hasher,
    head_bytes,
    item_head,
    pack,
    unpack,
)
from grit.core.errors import InvalidEvent
from grit.core.events import Event
from grit.core.ids import EventId

_SHORT_ARRAYS: Final = range(0x80, 0x98)
_ARRAY: Final = 4
_MAP: Final = 5
_TAG: Final = 6
_EMPTY_ARRAY: Final = 0x80


def _flat_bytes(head: int) -> int:
    """Return the size of an item that begins with this byte; 0 where it takes a closer look."""
    major, info = head >> 5, head & 31
    if major in (_ARRAY, _MAP, _TAG) or info > 27:
        return 1 if head == _EMPTY_ARRAY else 0
    if major in (2, 3):
        return 1 + info if info < 24 else 0
    return 1 if info < 24 else 1 + (1 << (info - 24))


FLAT_BYTES: Final = tuple(map(_flat_bytes, range(256)))
"""By an item's first byte, its size where that alone tells it and it holds no other item."""


def skip_item(data: bytes, at: int, budget: int) -> tuple[int, int]:
    """Return the position behind the item at `at`, and what is left of the budget of items.

    Raises InvalidEvent where the walk cannot go on. Spelled out: it sees every byte of an attack.
    """
    bytes_count, flat = len(data), FLAT_BYTES
    open_items: list[int] = []
    left = 1
    while True:
        left -= 1
        budget -= 1
        if budget < 0:
            raise InvalidEvent("too many items")
        size = flat[data[at]] if at < bytes_count else 0
        if size:
            at += size
        else:
            major, argument, at = item_head(data, at)
            if major in (2, 3):
                at += argument
            else:
                open_items.append(left)
                left = argument if major == _ARRAY else 2 * argument if major == _MAP else 1
                if left > bytes_count:
                    raise InvalidEvent("cut short")
                if len(open_items) > limits.CBOR_DEPTH_WALKED_MAX - 1:
                    raise InvalidEvent("nested too deep")
        if at > bytes_count:
            raise InvalidEvent("cut short")
        while not left:
            if not open_items:
                return at, budget
            left = open_items.pop()


class Problems:
    """What is set aside in one chunk: the first by themselves, the rest counted by reason."""

    __slots__ = ("_first", "_rest")

    def __init__(self) -> None:
        self._first: list[Problem] = []
        self._rest: dict[str, list[int]] = {}
        """By reason: the first position, and how many."""

    def add(self, position: int | None, reason: str, value: object = None) -> None:
        """Note a record, by its position and what it holds, or the chunk as a whole."""
        if len(self._first) < limits.PROBLEMS_LISTED_MAX or position is None:
            self._first.append(Problem(position, reason, _claimed_id(value)))
            return
        rest = self._rest
        if reason not in rest and len(rest) >= limits.PROBLEM_REASONS_MAX:
            reason = OTHER_REASONS
        rest.setdefault(reason, [position, 0])[1] += 1

    def found(self) -> list[Problem]:
        """Return what was noted."""
        rest = [Problem(at, why, None, count) for why, (at, count) in self._rest.items()]
        return self._first + rest


def decode_slowly(body: bytes, count: int) -> DecodedChunk:
    """Decode record by record, so that one that is not canonical costs only itself.

    What does not begin as a record does is walked over, and never made.
    """
    blake2b = hasher()
    records: list[tuple[Event, bytes]] = []
    problems = Problems()
    at = item_head(body, 0)[2]
    size, budget = len(body), limits.CBOR_ITEMS_MAX
    if at != head_bytes(count):
        problems.add(None, NOT_CANONICAL)
    for index in range(count):
        start = at
        flat = FLAT_BYTES[body[at]] if at < size else 0
        try:
            if flat and budget and at + flat <= size:
                at, budget = at + flat, budget - 1
            else:
                at, budget = skip_item(body, at, budget)
        except InvalidEvent as error:
            problems.add(None, f"unreadable from record {index} on: {error}")
            return DecodedChunk(records, problems.found())
        if flat or body[start] in _SHORT_ARRAYS:
            if flat or body[start] != RECORD_HEAD[0]:
                problems.add(index, NOT_EIGHT)
                continue
            if not body.startswith(RECORD_HEAD, start):
                problems.add(index, NO_EVENT_ID)
                continue
        raw = body[start:at]
        value: object = None
        try:
            value = unpack(raw)
            if pack(value) != raw:
                raise InvalidEvent(NOT_CANONICAL)
            records.append((check_record(value, raw, blake2b), raw))
        except InvalidEvent as error:
            problems.add(index, str(error), value)
    if at != size:
        problems.add(None, f"{size - at} bytes after the last record")
    return DecodedChunk(records, problems.found())


def records_of(chunk: bytes, at: int = HEADER_BYTES) -> Iterator[tuple[EventId, int, int]]:
    """Yield the id that each record of a chunk claims, where it begins and where it ends.

    What another event holds may look like a record, so all are walked. Ends where that cannot go
    on; `at` is where the array of records begins.
    """
    with suppress(InvalidEvent):
        _, count, at = item_head(chunk, at)
        budget = len(chunk)
        for _ in range(count):
            start = at
            at, budget = skip_item(chunk, at, budget)
            if chunk.startswith(RECORD_HEAD, start):
                first = start + len(RECORD_HEAD)
                yield EventId(chunk[first : first + limits.EVENT_ID_BYTES]), start, at


def event_within(chunk: bytes, start: int, end: int) -> Event | None:
    """Return the event of a record of `records_of`; None where it is not what it claims."""
    raw = chunk[start:end]
    try:
        return check_record(unpack(raw), raw, hasher())
    except InvalidEvent:
        return None


def find_event(chunk: bytes, event_id: EventId, at: int = HEADER_BYTES) -> Event | None:
    """Return the event of that id that a chunk holds, checked; None without one."""
    if chunk.find(RECORD_HEAD + event_id) < 0:
        return None
    found = (event_within(chunk, *span) for one, *span in records_of(chunk, at) if one == event_id)
    return next(filter(None, found), None)


def _claimed_id(value: object) -> bytes | None:
    first = value[0] if type(value) is tuple and value else None
    return first if type(first) is bytes and len(first) == limits.EVENT_ID_BYTES else None
