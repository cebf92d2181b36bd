"""Rows of events with long texts: the beginning, and the blob that has it all (spec/view.md)."""

from collections.abc import Sequence
from typing import Final, cast

from grit.core.codec import pack, unpack
from grit.core.events import (
    COMMENT_ADDED,
    COMMENT_EDITED,
    CONTEXT_UPDATED,
    ISSUE_CREATED,
    ISSUE_UPDATED,
    KINDS,
    PROJECT_CONTEXT_UPDATED,
    Event,
    Value,
)
from grit.core.limits import TEXT_KEPT_BYTES
from grit.core.long_text import WHOLE_PAYLOAD, Long, Text, beginning, whole_bytes
from grit.view.keys import ORDER_KEY_BYTES

Records = Sequence[tuple[Event, bytes]]
_TEXTS: Final = {ISSUE_CREATED: 1, ISSUE_UPDATED: 1, COMMENT_ADDED: 0, COMMENT_EDITED: 1}
"""Kinds that a fold takes a long text from, and its field."""
_UNREAD: Final = frozenset({CONTEXT_UPDATED, PROJECT_CONTEXT_UPDATED})
"""Kinds of whose payload a fold needs nothing, as of those that are not known."""
_ID_HEX_CHARS: Final = 40
"""A name of a blob is longer than any id: the commit in hex, a colon and a path."""
_ROW_MARK: Final = b"\0"
"""Before the ORDER key of a row; names of blobs, which may be as long, do not begin so."""
SPARED_BYTES: Final = 1024
"""What is read of a text of an issue whose rows are too many to be held."""


def to_place(blob: str) -> bytes:
    """Return the place that names a blob: its id, or where a snapshot has it."""
    return blob.encode() if ":" in blob else bytes.fromhex(blob)


def to_name(place: bytes) -> str:
    """Return the name by which git knows the blob of a place."""
    return place.decode() if b":" in place[_ID_HEX_CHARS:] else place.hex()


def to_row(place: bytes) -> bytes | None:
    """Return the ORDER key of the row that a place names, None where it names a blob."""
    is_row = len(place) == len(_ROW_MARK) + ORDER_KEY_BYTES and place.startswith(_ROW_MARK)
    return place[len(_ROW_MARK) :] if is_row else None


def shortened(records: Records, blob: str) -> Records:
    """Return the events of a blob with their rows: of those with long texts only beginnings."""
    if max([len(record) for _, record in records], default=0) <= TEXT_KEPT_BYTES:
        return records
    return [one if len(one[1]) <= TEXT_KEPT_BYTES else _shortened(*one, blob) for one in records]


def _shortened(event: Event, record: bytes, blob: str) -> tuple[Event, bytes]:
    place = to_place(blob)
    if event.tag in _TEXTS:
        short = _cut(event, TEXT_KEPT_BYTES, place)
    elif event.tag in KINDS and event.tag not in _UNREAD:
        short = event
    else:
        short = _without_payload(event, len(record), place)
    return (event, record) if short is event else (short, encode_row(short))


def spared(event: Event, key: bytes, size: int) -> Event:
    """Return an event without most of its text, and without what no fold reads.

    `key` is the ORDER key of its row, `size` how large that is.
    """
    place = _ROW_MARK + key
    if event.tag in _TEXTS:
        return _cut(event, SPARED_BYTES, place)
    if size <= SPARED_BYTES or (event.tag in KINDS and event.tag not in _UNREAD):
        return event
    return _without_payload(event, size, place)


def _cut(event: Event, bytes_max: int, place: bytes) -> Event:
    """Return the event with the beginning of its text if that is longer, else itself."""
    field = _TEXTS[event.tag]
    text = cast(Text | None, event.payload[field])
    size = 0 if text is None else whole_bytes(text)
    if text is None or size <= bytes_max:
        return event
    head = beginning(text, bytes_max)
    payload = list(event.payload)
    payload[field] = Long(event.event_id, field, head, size, place)
    return event._replace(payload=tuple(payload))


def _without_payload(event: Event, size: int, place: bytes) -> Event:
    first = event.payload[0] if event.payload else None
    head = beginning(first, SPARED_BYTES) if isinstance(first, (str, Long)) else ""
    whole = Long(event.event_id, WHOLE_PAYLOAD, head, size, place)
    return event._replace(payload=(whole,))


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
