"""What is fuzzed: each target takes bytes and raises when grit breaks a promise about them."""

from collections.abc import Callable
from io import BytesIO
from typing import Final

from fuzz import files, outputs
from grit.core import codec, events
from grit.core.errors import InvalidArgs, InvalidEvent
from grit.core.escape import escape
from grit.core.events import Draft, Event
from grit.core.filter_text import parse, to_text
from grit.core.fold import fold, summarise
from grit.core.ids import ActorId, IssueId
from grit.services.beads_events import translate
from grit.services.import_json import _Intake, _items

HEADER: Final = codec.encode_chunk([])[: codec.HEADER_BYTES]
NOW_MS: Final = 1_700_000_000_000
ISSUE: Final = IssueId(bytes(16))
ACTOR: Final = ActorId(bytes(16))
GOOD: Final = codec.encode_chunk(
    [codec.seal(Draft(ISSUE, events.ISSUE_CREATED, ("T", "", ())), ACTOR, NOW_MS, None)]
)


def chunk(data: bytes) -> None:
    """Reading a chunk never raises; what it keeps is canonical, and is kept again."""
    records, problems = codec.decode_chunk(data)
    assert next(codec.decode_chunks((data, GOOD))) == (records, problems)
    assert records or problems or data[codec.HEADER_BYTES :] == b"\x80"
    for event, raw in records:
        assert codec.encode_record(event) == raw
        assert codec.decode_record(raw) == event
    kept = [event for event, _ in records]
    again = codec.decode_chunk(codec.encode_chunk(kept))
    assert again == (records, [])
    check_fold(kept)


def event(data: bytes) -> None:
    """Any CBOR as a record, and as the payload of every kind, is kept or set aside."""
    chunk(HEADER + b"\x81" + data)
    try:
        value = codec.unpack(data)
    except InvalidEvent:
        return
    for tag in events.KINDS:
        payload = value if isinstance(value, tuple) else (value,)
        try:
            events.check_payload(tag, payload)
            sealed = codec.seal(Draft(ISSUE, tag, payload), ACTOR, NOW_MS, None)
        except (InvalidEvent, InvalidArgs):
            continue
        assert codec.decode_chunk(codec.encode_chunk([sealed])).records
        check_fold([sealed])


def check_fold(kept: list[Event]) -> None:
    """Check that events fold, whatever they say, and that the two folds agree."""
    created = codec.seal(Draft(ISSUE, events.ISSUE_CREATED, ("T", "", ())), ACTOR, 0, None)
    moved = [one._replace(issue_id=ISSUE) for one in kept]
    ordered = sorted({created, *moved}, key=lambda one: one.order)
    issue = fold(ordered)
    assert issue is not None
    assert issue.summary == summarise(ordered)
    assert issue.summary.event_count == len(ordered)


def filter_text(data: bytes) -> None:
    """Any text is a query or is refused with InvalidArgs; a query survives being written."""
    text = data.decode("utf-8", "replace")
    try:
        query = parse(text, now_ms=NOW_MS)
    except InvalidArgs as refusal:
        assert refusal.message
        return
    assert parse(to_text(query), now_ms=NOW_MS) == query


def terminal(data: bytes) -> None:
    """Escaped text holds no control character, and escaping it again changes nothing."""
    text = data.decode("utf-8", "surrogateescape")
    line = escape(text)
    assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in line)
    assert escape(line) == line
    assert not any(char < " " and char not in "\t\n" for char in escape(text, multiline=True))


def beads(data: bytes) -> None:
    """Any lines of a beads tracker become valid events, the same each time."""
    lines = data.splitlines(keepends=True)
    first = translate(lines)
    assert translate(lines).events == first.events
    assert codec.decode_chunk(codec.encode_chunk(first.events)).problems == []


def export(data: bytes) -> None:
    """Any file as an export gives valid events, or is refused with InvalidArgs."""
    intake = _Intake(latest_ms=2**50)
    try:
        for name, shape in _items(BytesIO(data)):
            intake.take(name, shape)
    except InvalidArgs as refusal:
        assert refusal.message
    assert codec.decode_chunk(codec.encode_chunk(intake.events)).problems == []


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    **files.TARGETS,
    **outputs.TARGETS,
    "chunk": chunk,
    "event": event,
    "beads": beads,
    "export": export,
    "filter": filter_text,
    "terminal": terminal,
}
