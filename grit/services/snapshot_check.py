"""What a snapshot holds, checked by itself and against the log (spec/snapshots.md, Trust)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from grit.core import limits
from grit.core.codec import DecodedChunk, chunk_hash, event_set, join_records
from grit.git.snapshots import one_event_oid, read_blobs, read_parts
from grit.services.decoding import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grit.core.events import Event
    from grit.git.blob import Blob
    from grit.git.snapshots import Manifest, Part, Snapshot
    from grit.services.workspace import Workspace
    from grit.view.reader import ViewReader

EXTRAS_MAX: Final = 100_000
"""Events of the log, missing from a snapshot, that are looked at one by one."""


class Unfit(Exception):
    """Why a snapshot is not what it claims to be."""


class Claim:
    """A snapshot as a stream of chunks that stands for the log up to its head.

    A trusted one is read as it is. Any other is read beside the log: what the log lists as a
    chunk of one event that the snapshot holds need not be read, everything else is.
    """

    def __init__(self, workspace: Workspace, snapshot: Snapshot, *, trusted: bool) -> None:
        """Read nothing yet; the snapshot has a manifest."""
        assert snapshot.manifest is not None
        self.snapshot = snapshot
        self.manifest: Manifest = snapshot.manifest
        self.trusted = trusted
        self._workspace = workspace
        self._ids: set[bytes] = set()
        self._known: dict[bytes, bool] = {}
        self._asides = set(self.manifest.asides)
        self._extras: list[Event] = []
        self._complaint: str | None = None

    def chunks(self) -> Iterator[tuple[str, DecodedChunk]]:
        """Yield chunks whose events together are those of the log up to the snapshot's head.

        Raises Unfit where the snapshot is broken, or holds what the log does not.
        """
        yield from self._own()
        if self.trusted:
            blobs = read_blobs(self._workspace.repository, self.manifest.asides)
            yield from decoded(blobs, whole_log=False)
        else:
            yield from self._rest_of_log()

    def verdict(self, reader: ViewReader) -> str | None:
        """Return what the snapshot lacks, or None; `reader` holds the log up to its head.

        To be asked of one that is not trusted, when all chunks have been taken.
        """
        if self._complaint is not None:
            return self._complaint
        for extra in self._extras:
            copy = reader.stored(extra)
            if copy is None or copy.sig == extra.sig:
                return f"the log holds event {extra.event_id.hex()[:8]}, and it does not"
        return None

    def _own(self) -> Iterator[tuple[str, DecodedChunk]]:
        parts: deque[Part] = deque()

        def blobs() -> Iterator[Blob]:
            for part, blob in read_parts(self._workspace.repository, self.snapshot):
                if blob.data is None or chunk_hash(blob.data) != part.chunk_hash:
                    raise Unfit(f"its chunk {part.path} is missing or broken")
                parts.append(part)
                yield blob

        for oid, chunk in decoded(blobs(), whole_log=True):
            part = parts.popleft()
            if chunk.problems or not chunk.records or len(chunk.records) != part.event_count:
                raise Unfit(f"its chunk {part.path} does not hold what it should")
            before = len(self._ids)
            self._ids.update([event.event_id for event, _ in chunk.records])
            if len(self._ids) != before + len(chunk.records):
                raise Unfit("it holds an event twice")
            if not self.trusted:
                self._known.update([(self._key(record), False) for _, record in chunk.records])
            yield oid, chunk
            del chunk
        if event_set(self._ids) != self.manifest.event_set:
            raise Unfit("it holds other events than it says")

    def _rest_of_log(self) -> Iterator[tuple[str, DecodedChunk]]:
        known = self._known
        left = set(self._asides)
        blobs = self._workspace.wal.read(self.manifest.wal_head, None, known)
        for oid, chunk in decoded(blobs, whole_log=True):
            left.discard(oid)
            rest = []
            for item in chunk.records:
                key = self._key(item[1])
                if key in known:
                    known[key] = True
                else:
                    rest.append(item)
            self._note(oid, [event for event, _ in rest], bool(chunk.problems))
            if rest or chunk.problems:
                yield oid, DecodedChunk(rest, chunk.problems)
        alien = sum(not listed for listed in known.values())
        if alien:
            raise Unfit(f"{alien} of its events are not in the log")
        if left:
            self._complaint = f"chunk {min(left)[:12]}, which it names, was not set aside"

    def _note(self, oid: str, events: list[Event], problems: bool) -> None:
        if oid in self._asides:
            return  # read beside the snapshot anyway
        if problems:
            self._complaint = f"it does not name chunk {oid[:12]}, of which something is set aside"
        self._extras += [event._replace(payload=()) for event in events]
        if len(self._extras) > EXTRAS_MAX:
            self._complaint = f"the log holds more than {EXTRAS_MAX} events that it does not"
            self._extras = []

    def _key(self, record: bytes) -> bytes:
        return one_event_oid(self._workspace.repository, join_records((record,)))


def compare(workspace: Workspace, snapshot: Snapshot, reader: ViewReader) -> str | None:
    """Return why a snapshot is not what the log holds up to its head, or None.

    `reader` stands for the log's head; that the snapshot's is part of it is for the caller to see.
    """
    claim = Claim(workspace, snapshot, trusted=False)
    try:
        for _ in claim.chunks():
            pass
    except Unfit as unfit:
        return str(unfit)
    return claim.verdict(reader)


def pays(workspace: Workspace, manifest: Manifest) -> bool:
    """Return whether reading a snapshot beside the log is faster than reading the log.

    It is where most events have a commit of their own; large chunks would be read twice.
    """
    from grit.git.snapshots import count_commits

    if manifest.event_count < limits.SNAPSHOT_EVENTS_MIN:
        return False
    return 2 * count_commits(workspace.repository, manifest.wal_head) >= manifest.event_count
