"""Texts read whole of which the view gave the beginning (spec/view.md, Long texts)."""

from collections.abc import Iterator
from json import JSONEncoder
from typing import TYPE_CHECKING, Final

from grit.core.codec import RECORD_HEAD, encode_record
from grit.core.errors import WalDamaged
from grit.core.events import Event, Payload
from grit.core.ids import EventId
from grit.core.limits import CHUNK_BYTES_MAX, TEXT_KEPT_BYTES
from grit.core.long_text import WHOLE_PAYLOAD, Long, Text, beginning
from grit.core.walk import find_event
from grit.git.catfile import CatFile
from grit.view.keys import SEQ_BYTES
from grit.view.long_rows import to_name, to_place
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
        self._places: dict[EventId, bytes] | None = None
        """Where the log has its long events; once a blob was not where the view has it."""

    def close(self) -> None:
        """End the git process that reads."""
        self._objects.close()

    def text(self, text: Text) -> str:
        """Return a text whole; raise WalDamaged when the log lacks it."""
        if isinstance(text, str):
            return text
        whole = self._payload(text)[text.field]
        return self.text(whole) if isinstance(whole, Long) else str(whole)

    def start(self, text: Text) -> str:
        """Return as much of a text as people are shown."""
        if isinstance(text, Long) and text.size > len(text.head) and len(text.place) == SEQ_BYTES:
            text = self._from_row(text) or text
        return beginning(text)

    def event(self, event: Event) -> Event:
        """Return an event with its whole payload; raise WalDamaged when the log lacks it."""
        long = next((value for value in event.payload if isinstance(value, Long)), None)
        if long is None:
            return event
        return self.event(event._replace(payload=self._payload(long)))

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

    def _payload(self, long: Long) -> Payload:
        return self._find(long).payload

    def _from_row(self, long: Long) -> Text | None:
        event = ViewReader(self._workspace.database).event_at(long.place)
        if event is None or event.event_id != long.event_id:
            return None  # rebuilt meanwhile
        text = event.payload[long.field]
        return text if isinstance(text, (str, Long)) else None

    def _find(self, long: Long) -> Event:
        if len(long.place) == SEQ_BYTES:
            event = ViewReader(self._workspace.database).event_at(long.place)
            if event is not None and event.event_id == long.event_id:
                return event
        else:
            event = find_event(self._blob(long.place), long.event_id)
            if event is not None:
                return event
        if self._places is None:
            self._places = self._find_places()
        place = self._places.get(long.event_id, b"")
        event = find_event(self._blob(place), long.event_id) if place else None
        if event is None:
            raise WalDamaged(
                f"the text of event {long.event_id.hex()[:12]} is not in the log any more; "
                "'grit doctor' says what is left of it",
                event_id=long.event_id.hex(),
            )
        return event

    def _blob(self, place: bytes) -> bytes:
        known = self._blobs.pop(place, None)
        if known is None:
            header = self._objects.header(to_name(place))
            small = header is not None and header.size <= CHUNK_BYTES_MAX
            found = self._objects.read(to_name(place)) if small else None
            known = found[1] if found else b""
            while self._blobs and sum(map(len, self._blobs.values())) + len(known) > _BLOBS_BYTES:
                del self._blobs[next(iter(self._blobs))]  # the one that was not used for longest
        self._blobs[place] = known
        return known

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
