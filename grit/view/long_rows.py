"""Rows of events with long texts: the beginning, and the blob that has it all (spec/view.md)."""

from collections.abc import Sequence
from typing import Final, cast

from grit.core.codec import pack, unpack
from grit.core.events import (
    COMMENT_ADDED,
    COMMENT_EDITED,
    ISSUE_CREATED,
    ISSUE_UPDATED,
    Event,
    Value,
)
from grit.core.limits import TEXT_KEPT_BYTES
from grit.core.long_text import WHOLE_PAYLOAD, Long, beginning, utf8_bytes

Records = Sequence[tuple[Event, bytes]]
_TEXTS: Final = frozenset((ISSUE_CREATED, ISSUE_UPDATED, COMMENT_ADDED, COMMENT_EDITED))
"""Kinds that a fold takes a text from; of others that are large nothing is kept."""
ID_HEX_CHARS: Final = 40
"""A name of a blob is longer than any id: the commit in hex, a colon and a path."""
SPARED_BYTES: Final = 1024
"""What is read of a text of an issue whose rows are too many to be held."""


def to_place(blob: str) -> bytes:
    """Return the place that names a blob: its id, or where a snapshot has it."""
    return blob.encode() if ":" in blob else bytes.fromhex(blob)


def to_name(place: bytes) -> str:
    """Return the name by which git knows the blob of a place."""
    return place.decode() if b":" in place[ID_HEX_CHARS:] else place.hex()


def shortened(records: Records, blob: str) -> Records:
    """Return the events of a blob with their rows: of those with long texts only beginnings."""
    if max([len(record) for _, record in records], default=0) <= TEXT_KEPT_BYTES:
        return records
    return [one if len(one[1]) <= TEXT_KEPT_BYTES else _shortened(*one, blob) for one in records]


def _shortened(event: Event, record: bytes, blob: str) -> tuple[Event, bytes]:
    place = to_place(blob)
    if event.tag in _TEXTS:
        short = _cut(event, TEXT_KEPT_BYTES, place)
        return (event, record) if short is event else (short, encode_row(short))
    first = event.payload[0] if event.payload else ""
    head = beginning(_text(first), SPARED_BYTES)
    whole = Long(event.event_id, WHOLE_PAYLOAD, head, len(record), place)
    event = event._replace(payload=(whole,))
    return event, encode_row(event)


def spared(event: Event, seq: bytes) -> Event:
    """Return the event of a row with no more of its texts than what tells them apart."""
    return _cut(event, SPARED_BYTES, seq) if event.tag in _TEXTS else event


def _cut(event: Event, bytes_max: int, place: bytes) -> Event:
    """Return the event with the beginnings of its texts that are longer; itself without any."""
    payload = list(event.payload)
    for field, value in enumerate(payload):
        size = value.size if isinstance(value, Long) else utf8_bytes(_text(value))
        if size > bytes_max:
            head = beginning(_text(value), bytes_max)
            payload[field] = Long(event.event_id, field, head, size, place)
    return event if tuple(payload) == event.payload else event._replace(payload=tuple(payload))


def _text(value: Value) -> str:
    return str(value) if isinstance(value, (str, Long)) else ""


def encode_row(event: Event) -> bytes:
    """Return the row of an event that holds Long values: record with beginnings, sizes, blob."""
    longs = [value for value in event.payload if isinstance(value, Long)]
    heads = tuple(value.head if isinstance(value, Long) else value for value in event.payload)
    sizes = tuple((one.field, one.size) for one in longs)
    return pack((tuple(event._replace(payload=heads)), sizes, longs[0].place))


def decode_row(data: bytes) -> Event:
    """Return the event of such a row; raise InvalidEvent when it is damaged."""
    fields, sizes, place = cast(
        tuple[tuple[Value, ...], tuple[tuple[int, int], ...], bytes], unpack(data)
    )
    event: Event = tuple.__new__(Event, fields)
    payload = list(event.payload)
    for field, size in sizes:
        # A payload that is left out whole stands in the first place.
        at = max(field, 0)
        payload[at] = Long(event.event_id, field, str(payload[at]), size, place)
    return event._replace(payload=tuple(payload))
