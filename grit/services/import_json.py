"""Use case: store the events of grit's own JSON export, signatures included (spec/exchange.md)."""

import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from os import SEEK_END
from typing import IO, BinaryIO, Final, NamedTuple, cast

from grit.core import codec
from grit.core.documents import NotJson, parse_json
from grit.core.errors import InvalidArgs
from grit.core.events import ATTACHMENT_ADDED, TIME_OVERRULED, Event
from grit.core.fold import overruled_times
from grit.core.ids import EventId, IssueId
from grit.core.limits import (
    ATTACHMENT_BYTES_MAX,
    CLOCK_AHEAD_MS_MAX,
    EVENT_ID_BYTES,
    ID_BYTES,
    OVERRULED_WRITE_MAX,
    SIGNATURE_BYTES,
)
from grit.core.times import format_ms
from grit.services.actors import Signer, signer
from grit.services.append import Label, append_contents
from grit.services.refresh import refresh
from grit.services.shapes import event_from_json
from grit.services.workspace import Workspace
from grit.services.write import store

EVENTS_MAX: Final = 50_000
BYTES_MAX: Final = 32 * 1024 * 1024
"""Events and bytes of one append."""
_LINE_BYTES_MAX: Final = 2 * ATTACHMENT_BYTES_MAX
_WHOLE_BYTES_MAX: Final = 512 * 1024 * 1024
"""A document that does not have the exporter's lines is read in one piece."""
_FUTURE: Final = (
    "its time is over a day ahead of this machine's clock, and no TimeOverruled names it; if the "
    "clock is wrong, set it and import again"
)
_META: Final = b'{"meta": '
_NAMES: Final = {
    b'"issues": [': "issues",
    b'"attachments": [': "attachments",
    b'"events": [': "events",
}


REFUSALS_MAX: Final = 10_000
"""What is set aside and named one by one; the rest is counted."""


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
    """The first of them, REFUSALS_MAX at most."""
    refused: int
    """How many there are."""


def import_json(workspace: Workspace, file: BinaryIO) -> Imported:
    """Store the events that the log does not hold; what is no valid event is set aside.

    Raises InvalidArgs when the file is not an export, and what `store` raises.
    """
    author = signer(workspace)
    intake = _Intake(workspace.now_ms() + CLOCK_AHEAD_MS_MAX)
    progress = workspace.ports.progress
    progress.start("importing events")
    try:
        for name, shape in _items(file):
            intake.take(name, shape)
            progress.advance()
            if intake.full:
                _flush(workspace, intake, author)
        if intake.ahead:
            reader = refresh(workspace)
            for issue_id in sorted({event.issue_id for _, event in intake.ahead}):
                intake.note_overruled(reader.events_of(issue_id))
            intake.judge_ahead(reader.has_event)
        _flush(workspace, intake, author)
        _store_the_rest(workspace, intake, author)
    finally:
        intake.contents.close()
        progress.done()
    return Imported(
        intake.valid, intake.added, workspace.wal.head(), intake.refusals, intake.refused
    )


class _Contents:
    """Contents of attachments, kept on the disk until the events that name them are stored."""

    def __init__(self) -> None:
        # Closed by the import.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(BYTES_MAX)  # noqa: SIM115
        self._places: dict[str, tuple[int, int]] = {}
        self.positions: dict[str, int] = {}
        """Where each stands in the document, of those that are not stored yet."""

    def close(self) -> None:
        self._file.close()

    def keep(self, digest: str, content: bytes, position: int) -> None:
        if digest in self._places:
            return
        self._places[digest] = self._file.seek(0, SEEK_END), len(content)
        self._file.write(content)
        self.positions[digest] = position

    def size(self, digest: str) -> int:
        return self._places[digest][1]

    def read(self, digest: str) -> bytes:
        start, size = self._places[digest]
        self._file.seek(start)
        return self._file.read(size)


class _Intake:
    """Checks what the document holds and gathers it for the next append."""

    def __init__(self, latest_ms: int) -> None:
        self.latest_ms = latest_ms
        self.ahead: list[tuple[int, Event]] = []
        """Events from the future and their places, until it is known what overrules them."""
        self.overruled: dict[tuple[IssueId, EventId], int] = {}
        self.events: list[Event] = []
        self.contents = _Contents()
        self.named: dict[str, None] = {}
        """Contents that go with these events."""
        self.wanted: set[str] = set()
        """Contents that some event of the document names."""
        self.refusals: list[Refusal] = []
        self.refused = 0
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
                self.note_overruled([event])
                if event.ts_unix_ms > self.latest_ms:
                    self._wait(position, event)
                else:
                    self.accept(event)
            else:
                found, content = _attachment(shape)
                self.contents.keep(found, content, position)
        except InvalidArgs as error:
            self.refuse(name, position, error.message)

    def refuse(self, what: str, position: int, reason: str) -> None:
        self.refused += 1
        if len(self.refusals) < REFUSALS_MAX:
            self.refusals.append(Refusal(what, position, reason))

    def accept(self, event: Event) -> None:
        self.events.append(event)
        self.valid += 1
        self.size += len(codec.encode_record(event))
        digest = event.payload[1] if event.tag == ATTACHMENT_ADDED else None
        if isinstance(digest, bytes):
            self.wanted.add(digest.hex())
            self.name(digest.hex())

    def _wait(self, position: int, event: Event) -> None:
        if len(self.ahead) >= OVERRULED_WRITE_MAX:
            raise InvalidArgs(f"{_FUTURE}: {format_ms(event.ts_unix_ms)}")
        self.ahead.append((position, event))

    def note_overruled(self, events: Iterable[Event]) -> None:
        """Note which times do not count (spec/projection.md)."""
        for event in events:
            if event.tag == TIME_OVERRULED:
                for event_id, ts_unix_ms in overruled_times([event]).items():
                    key = event.issue_id, event_id
                    told = self.overruled.get(key, ts_unix_ms)
                    self.overruled[key] = min(told, ts_unix_ms)

    def judge_ahead(self, known: Callable[[Event], bool]) -> None:
        """Accept of what is from the future what something overrules and what the log holds."""
        for position, event in self.ahead:
            key = event.issue_id, event.event_id
            if self.overruled.get(key, event.ts_unix_ms) <= self.latest_ms or known(event):
                self.accept(event)
            else:
                self.refuse("events", position, f"{_FUTURE}: {format_ms(event.ts_unix_ms)}")
        self.ahead = []

    def name(self, digest: str) -> None:
        """Let a content go along, if there is one that is not stored yet."""
        if digest in self.contents.positions and digest not in self.named:
            self.named[digest] = None
            self.size += self.contents.size(digest)


def _flush(workspace: Workspace, intake: _Intake, author: Signer) -> None:
    """Store what was gathered, the contents with the events that name them."""
    if intake.events:
        subject = f"import {len(intake.events)} events"
        events = list({event.event_id: event for event in intake.events}.values())
        attachments = {digest: intake.contents.read(digest) for digest in intake.named}
        written = store(workspace, events, subject, author, attachments)
        intake.added += len(written.events)
        if written.events:
            for digest in intake.named:
                del intake.contents.positions[digest]
    intake.events, intake.named, intake.size = [], {}, 0


def _store_the_rest(workspace: Workspace, intake: _Intake, author: Signer) -> None:
    """Store contents whose events were here without them, and report those that nothing names."""
    from grit.git.attached import contents as held

    contents, head = intake.contents, workspace.wal.head()
    label = Label("import attachments", author.actor_id)
    rest = dict(contents.positions)
    if rest and head is not None:
        for digest, _ in held(workspace.repository, head, contents.positions.keys()):
            del rest[digest]
    part: dict[str, bytes] = {}
    size = 0
    for digest, position in rest.items():
        if digest not in intake.wanted:
            intake.refuse("attachments", position, "no event names it")
        elif workspace.wal.dialect.shared:
            intake.refuse("attachments", position, "its event came without it before")
        else:
            part[digest] = contents.read(digest)
            size += contents.size(digest)
            if size >= BYTES_MAX:
                append_contents(workspace, part, label)
                part, size = {}, 0
    if part:
        append_contents(workspace, part, label)


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
