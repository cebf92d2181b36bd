"""Texts read whole of which the view gave the beginning (spec/view.md, Long texts)."""

from collections.abc import Iterator
from json import JSONEncoder
from os import SEEK_END
from typing import IO, TYPE_CHECKING, Final

from grit.core.codec import RECORD_HEAD, encode_record
from grit.core.errors import WalDamaged
from grit.core.events import Event
from grit.core.ids import EventId
from grit.core.limits import CHUNK_BYTES_MAX, TEXT_KEPT_BYTES
from grit.core.long_text import WHOLE_PAYLOAD, Long, Text, beginning
from grit.core.walk import event_within, find_event, records_of
from grit.git.catfile import CatFile
from grit.view.long_rows import to_name, to_place, to_row
from grit.view.reader import ViewReader
from grit.view.rows import decode_event

if TYPE_CHECKING:
    from grit.services.workspace import Workspace

_BLOBS_BYTES: Final = 32 * 1024 * 1024
"""Contents that are kept, since the next text often lies in one of them."""


class LongTexts:
    """Reads from the log, or from the rows of the view, what was left out of events."""

    def __init__(self, workspace: "Workspace") -> None:
        """Read nothing yet."""
        self._workspace = workspace
        self._objects = CatFile(workspace.repository)
        self._blobs: dict[bytes, bytes] = {}
        self._read_before: set[bytes] = set()
        self._spool: IO[bytes] | None = None
        self._spooled: dict[tuple[bytes, EventId], tuple[int, int]] = {}
        """Where the file has the events of blobs that were read twice, and their sizes."""
        self._places: dict[EventId, bytes] | None = None
        """Where the log has its long events; once a blob was not where the view has it."""

    def close(self) -> None:
        """End the git process that reads, and give the file back."""
        self._objects.close()
        if self._spool is not None:
            self._spool.close()

    def text(self, text: Text) -> str:
        """Return a text whole; raise WalDamaged when the log lacks it."""
        if isinstance(text, str):
            return text
        whole = self._find(text).payload[text.field]
        return self.text(whole) if isinstance(whole, Long) else str(whole)

    def start(self, text: Text) -> str:
        """Return as much of a text as people are shown."""
        key = to_row(text.place) if isinstance(text, Long) else None
        if isinstance(text, Long) and key is not None:
            event = ViewReader(self._workspace.database).event_at(key)
            whole = event.payload[text.field] if event is not None else None
            text = whole if isinstance(whole, (str, Long)) else text
        return beginning(text)

    def event(self, event: Event) -> Event:
        """Return an event with its whole payload; raise WalDamaged when the log lacks it."""
        long = next((value for value in event.payload if isinstance(value, Long)), None)
        if long is None:
            return event
        return self.event(event._replace(payload=self._find(long).payload))

    def record(self, row: bytes) -> bytes:
        """Return the whole record of a row of the view."""
        if row.startswith(RECORD_HEAD):
            return row
        event = decode_event(row)
        return encode_record(self.event(event))

    def json(self, value: object) -> object:
        """Return what stands in JSON for a text; `default` of an encoder."""
        from grit.services.shapes import kind_json

        if not isinstance(value, Long):
            raise TypeError(f"{type(value).__name__} has no form in JSON")
        if value.field == WHOLE_PAYLOAD:
            event = self._find(value)
            return kind_json(event.tag, event.payload)
        return self.text(value)

    def json_pieces(self, document: object) -> Iterator[str]:
        """Yield a document with long texts as JSON, in pieces no larger than one of them."""
        return JSONEncoder(default=self.json).iterencode(document)

    def _find(self, long: Long) -> Event:
        key = to_row(long.place)
        if key is not None:
            event = ViewReader(self._workspace.database).event_at(key)
        else:
            event = self._read(long.place, long.event_id)
        if event is None:
            # The blob is gone, or the view was replaced by one that holds the event back.
            if self._places is None:
                self._places = self._find_places()
            place = self._places.get(long.event_id)
            event = self._read(place, long.event_id) if place else None
        if event is None:
            raise WalDamaged(
                f"the text of event {long.event_id.hex()[:12]} is not in the log any more; "
                "'grit doctor' says what is left of it",
                event_id=long.event_id.hex(),
            )
        return event

    def _read(self, place: bytes, event_id: EventId) -> Event | None:
        """Return an event of a blob; what is read a second time goes into a file, cut in events."""
        spooled = self._spooled.get((place, event_id))
        if spooled is not None and self._spool is not None:
            self._spool.seek(spooled[0])
            raw = self._spool.read(spooled[1])
            return event_within(raw, 0, len(raw))
        content = self._blobs.pop(place, None)
        if content is None:
            content = self._content(place)
            if place in self._read_before:
                self._keep_events(place, content)
            self._read_before.add(place)
            while self._blobs and sum(map(len, self._blobs.values())) + len(content) > _BLOBS_BYTES:
                del self._blobs[next(iter(self._blobs))]  # the one that was not used for longest
        self._blobs[place] = content
        return find_event(content, event_id)

    def _content(self, place: bytes) -> bytes:
        name = to_name(place)
        header = self._objects.header(name)
        small = header is not None and header.size <= CHUNK_BYTES_MAX
        found = self._objects.read(name) if small else None
        return found[1] if found else b""

    def _keep_events(self, place: bytes, content: bytes) -> None:
        """Put the long events of a blob into a file, if there is room for them."""
        import tempfile

        kept: dict[tuple[bytes, EventId], tuple[int, int]] = {}
        try:
            if self._spool is None:
                self._spool = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this
            at = self._spool.seek(0, SEEK_END)
            for event_id, start, end in records_of(content):
                # What only claims an id must not stand for the event that has it.
                if end - start > TEXT_KEPT_BYTES and event_within(content, start, end):
                    self._spool.write(memoryview(content)[start:end])
                    kept[place, event_id] = at, end - start
                    at += end - start
            self._spool.flush()
        except OSError:
            return  # each read then unpacks the blob again
        self._spooled |= kept

    def _find_places(self) -> dict[EventId, bytes]:
        """Read the whole log for its long events."""
        from grit.services.decoding import decoded

        head = self._workspace.wal.head()
        if head is None:
            return {}
        return {
            event.event_id: to_place(oid)
            for oid, chunk in decoded(self._workspace.wal.read(head, None), whole_log=True)
            for event, record in chunk.records
            if len(record) > TEXT_KEPT_BYTES
        }
