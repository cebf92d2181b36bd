"""Use case: bring the log up to a beads export; a second time adds nothing (spec/exchange.md)."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from grit.core.codec import encode_record
from grit.core.events import TIME_OVERRULED, Event
from grit.core.ids import ActorId, IssueId
from grit.core.limits import CLOCK_AHEAD_MS_MAX
from grit.services.actors import signer
from grit.services.beads_events import Finding, Translation, actor_id_of, translate
from grit.services.beads_record import LINE_BYTES_MAX
from grit.services.refresh import refresh
from grit.services.workspace import Workspace
from grit.services.write import Written, store
from grit.view.reader import ViewReader

BYTES_MAX: Final = 32 * 1024 * 1024
"""Records of one append: within limits.APPEND_CHUNKS_MAX chunks, each up to two of its target."""


class Imported(NamedTuple):
    """What the export held and what of it was new."""

    translation: Translation
    written: Written

    @property
    def dropped(self) -> list[Finding]:
        """What could not be kept."""
        return [finding for finding in self.translation.findings if finding.dropped]


def import_beads(workspace: Workspace, file: BinaryIO) -> Imported:
    """Store what the export says and earlier imports did not; raises what `store` raises."""
    author = signer(workspace)
    reader = refresh(workspace)
    enabled = gc.isenabled()
    # Nothing here makes cycles, and collecting costs a fifth of the time.
    gc.disable()
    try:
        translation = translate(
            _counted(workspace, _lines(file)),
            _Told(workspace, reader).events_of,
            workspace.now_ms() + CLOCK_AHEAD_MS_MAX,
        )
        if not translation.events:
            return Imported(translation, Written((), reader.head()))
        subject = f"import {translation.issues} issues from beads"
        stored: list[Event] = []
        head: str | None = None
        for part in _parts(translation.events):
            written = store(workspace, part, subject, author)
            stored += written.events
            head = written.head
    finally:
        if enabled:
            gc.enable()
    return Imported(translation, Written(stored, head))


def _parts(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Yield portions that each fit into one append."""
    start = size = 0
    for at, event in enumerate(events):
        weight = len(encode_record(event))
        if size + weight > BYTES_MAX and at > start:
            yield events[start:at]
            start, size = at, 0
        size += weight
    yield events[start:]


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines, of a longer one no more than what shows that it is too long."""
    while line := file.readline(LINE_BYTES_MAX + 1):
        yield line
        while len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES_MAX + 1)


def _counted(workspace: Workspace, lines: Iterable[bytes]) -> Iterator[bytes]:
    progress = workspace.ports.progress
    progress.start("reading the export")
    try:
        for line in lines:
            yield line
            progress.advance()
    finally:
        progress.done()


class _Told:
    """What earlier imports stored: the events of actors whose id their name gives."""

    def __init__(self, workspace: Workspace, reader: ViewReader) -> None:
        self._workspace = workspace
        self._reader = reader
        self._actors = {
            person.actor_id
            for person in reader.actors()
            if is_import(person.actor_id, person.label)
        }

    def events_of(self, issue_id: IssueId) -> Sequence[Event]:
        if not self._actors:
            return ()
        events = self._reader.events_of(issue_id)
        if not any(event.actor_id in self._actors for event in events):
            return ()
        # What anybody says of their times decides when they count; texts are compared whole.
        return [
            self._workspace.long_texts.event(event)
            for event in events
            if event.actor_id in self._actors or event.tag == TIME_OVERRULED
        ]


def is_import(actor_id: ActorId, label: str) -> bool:
    """Return whether the actor is one that an import derived from the source."""
    return actor_id_of(label) == actor_id
