"""Use case: store the events of grit's own JSON export, signatures included (spec/exchange.md)."""

from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from typing import BinaryIO, Final, NamedTuple, cast

from grit.core import codec
from grit.core.documents import NotJson, parse_json
from grit.core.errors import InvalidArgs
from grit.core.events import Event
from grit.core.limits import ATTACHMENT_BYTES_MAX, EVENT_ID_BYTES, ID_BYTES, SIGNATURE_BYTES
from grit.services.actors import Signer, signer
from grit.services.shapes import event_from_json
from grit.services.workspace import Workspace
from grit.services.write import store

EVENTS_MAX: Final = 50_000
BYTES_MAX: Final = 32 * 1024 * 1024
"""Events and bytes of one append."""
_LINE_BYTES_MAX: Final = 2 * ATTACHMENT_BYTES_MAX
_WHOLE_BYTES_MAX: Final = 512 * 1024 * 1024
"""A document that does not have the exporter's lines is read in one piece."""
_META: Final = b'{"meta": '
_NAMES: Final = {
    b'"issues": [': "issues",
    b'"attachments": [': "attachments",
    b'"events": [': "events",
}


class Refusal(NamedTuple):
    """An event or attachment that was set aside: its place in its list, from 0, and why."""

    what: str
    position: int
    reason: str


class Imported(NamedTuple):
    """How many events the document held and how many were new, and what was set aside."""

    events: int
    added: int
    head: str | None
    refusals: list[Refusal]


def import_json(workspace: Workspace, file: BinaryIO) -> Imported:
    """Store the events that the log does not hold; what is no valid event is set aside.

    Raises InvalidArgs when the file is not an export, and what `store` raises.
    """
    author = signer(workspace)
    intake = _Intake()
    progress = workspace.ports.progress
    progress.start("importing events")
    try:
        for name, shape in _items(file):
            intake.take(name, shape)
            progress.advance()
            if intake.full:
                _flush(workspace, intake, author)
        _flush(workspace, intake, author)
    finally:
        progress.done()
    return Imported(intake.valid, intake.added, workspace.wal.head(), intake.refusals)


class _Intake:
    """Checks what the document holds and gathers it for the next append."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.attachments: dict[str, bytes] = {}
        self.places: dict[str, int] = {}
        self.refusals: list[Refusal] = []
        self.positions = {"events": 0, "attachments": 0}
        self.valid = 0
        self.added = 0
        self.size = 0

    @property
    def full(self) -> bool:
        return len(self.events) >= EVENTS_MAX or self.size >= BYTES_MAX

    def take(self, name: str, shape: object) -> None:
        position = self.positions[name]
        self.positions[name] += 1
        try:
            if name == "events":
                event = _checked(event_from_json(shape))
                self.events.append(event)
                self.valid += 1
                self.size += len(codec.encode_record(event))
            else:
                digest, content = _attachment(shape)
                self.attachments[digest] = content
                self.places[digest] = position
                self.size += len(content)
        except InvalidArgs as error:
            self.refusals.append(Refusal(name, position, error.message))


def _flush(workspace: Workspace, intake: _Intake, author: Signer) -> None:
    if not intake.events:
        return
    subject = f"import {len(intake.events)} events"
    events = list({event.event_id: event for event in intake.events}.values())
    attachments = intake.attachments
    written = store(workspace, events, subject, author, attachments)
    intake.added += len(written.events)
    if not written.events:
        # Contents travel with new events; without one there is no append to carry them.
        intake.refusals += [
            Refusal("attachments", intake.places[digest], "its event came without it before")
            for digest in attachments
            if workspace.wal.attachment(digest) is None
        ]
    intake.events, intake.attachments, intake.size = [], {}, 0


def _checked(event: Event) -> Event:
    """Return the event when the log would keep it; its payload and id were checked before."""
    sizes = (
        ("issue_id", event.issue_id, ID_BYTES),
        ("actor", event.actor_id, ID_BYTES),
        ("parent", event.parent, EVENT_ID_BYTES),
        ("sig", event.sig, SIGNATURE_BYTES),
    )
    for name, value, size in sizes:
        if value is not None and len(value) != size:
            raise InvalidArgs(f"not an event: {name} is not {size} bytes")
    if type(event.ts_unix_ms) is not int or type(event.tag) is not int:
        raise InvalidArgs("not an event: a time and a tag are integers")
    if not 0 < event.tag < 2**32:
        raise InvalidArgs("not an event: the tag is out of bounds")
    return event


def _attachment(shape: object) -> tuple[str, bytes]:
    try:
        fields = cast(dict[str, str], shape)
        digest, content = fields["sha256"], b64decode(fields["content"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgs(f"not an attachment: {error}") from error
    if len(content) > ATTACHMENT_BYTES_MAX or sha256(content).hexdigest() != digest:
        raise InvalidArgs("an attachment that is too large, or not what its sha256 says")
    return digest, content


def _items(file: BinaryIO) -> Iterator[tuple[str, object]]:
    """Yield ("attachments" or "events", value); line by line where the exporter wrote lines."""
    first = file.readline(_LINE_BYTES_MAX)
    second = file.readline(_LINE_BYTES_MAX)
    if not first.startswith(_META) or second.rstrip() not in _NAMES:
        yield from _whole(first + second, file)
        return
    name = _NAMES[second.rstrip()]
    ended = False
    while line := file.readline(_LINE_BYTES_MAX):
        text = line.strip()
        if text in _NAMES:
            name = _NAMES[text]
        elif text in (b"]", b"],", b"]}"):
            ended = text == b"]}"
        elif name != "issues":
            yield name, _loads(text.removesuffix(b","))
    if not ended:
        raise InvalidArgs("the export ends in the middle; what came before its end is stored")


def _loads(text: bytes) -> object:
    """Return the value, or None for what is not JSON: the caller sets that aside."""
    try:
        return parse_json(text)
    except NotJson:
        return None


def _whole(head: bytes, file: BinaryIO) -> Iterator[tuple[str, object]]:
    data = head + file.read(_WHOLE_BYTES_MAX)
    if len(data) >= _WHOLE_BYTES_MAX:
        raise InvalidArgs("too large for one piece: give the file as 'grit export' wrote it")
    try:
        document = parse_json(data)
    except NotJson as error:
        raise InvalidArgs(f"not a JSON document: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("data"), dict):
        document = document["data"]
    if not isinstance(document, dict) or not isinstance(document.get("events"), list):
        raise InvalidArgs("not an export of grit: it has no list of events")
    attachments = document.get("attachments")
    for shape in attachments if isinstance(attachments, list) else ():
        yield "attachments", shape
    for shape in document["events"]:
        yield "events", shape
