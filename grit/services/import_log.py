"""Use case: bring the events of another log into the one that counts (spec/exchange.md).

Logs of two dialects are never joined; their events can be stored again, as they are.
"""

from collections import Counter
from typing import Final, NamedTuple

from grit.core.errors import InvalidArgs, NotFound
from grit.core.events import ACTOR_ANNOUNCED, ATTACHMENT_ADDED, SHARED_TAG_MAX, Event, kind_name
from grit.core.ids import EventId
from grit.services.actors import Signer, signer
from grit.services.workspace import Workspace
from grit.services.write import store

EVENTS_MAX: Final = 50_000
BYTES_MAX: Final = 32 * 1024 * 1024
"""Events and bytes of one append."""
_HEX: Final = frozenset("0123456789abcdef")
_PREFIX_MIN: Final = 7
_IDS_MAX: Final = 100
_REASONS_MAX: Final = 20
_MORE: Final = "other reasons"


class ImportedLog(NamedTuple):
    """What the other log held, how much of it was new, and what was set aside, by reason."""

    source: str
    """Its newest commit."""
    events: int
    added: int
    attachments: int
    """Contents that came along."""
    lacking: int
    """Contents that neither log holds, though events name them."""
    head: str | None
    refusals: dict[str, int]


def import_log(workspace: Workspace, name: str) -> ImportedLog:
    """Store the events of the log at a ref or commit that the log here does not hold.

    What the dialect here cannot hold is set aside. Raises InvalidArgs or NotFound for the name,
    WalDamaged when it is no log, and what `store` raises; what was stored until then stays, and
    another import goes on from there.
    """
    from grit.git.joins import check_is_log
    from grit.services.decoding import decoded
    from grit.services.partial import check_log
    from grit.services.two_logs import is_held, note_imported

    source = _resolve(workspace, name)
    check_is_log(workspace.repository, source)
    check_log(workspace.repository, source, None)
    if is_held(workspace, source):
        return ImportedLog(source, 0, 0, 0, 0, workspace.wal.head(), {})
    intake = _Intake(workspace, source, signer(workspace))
    progress = workspace.ports.progress
    progress.start("importing events")
    try:
        for _, chunk in decoded(workspace.wal.read(source, None), whole_log=False):
            for problem in chunk.problems:
                intake.set_aside(problem.reason)
            for event, record in chunk.records:
                intake.take(event, len(record))
            progress.advance(len(chunk.records))
            del chunk
        intake.flush()
    finally:
        progress.done()
    if not intake.left_out:
        note_imported(workspace, source)
    return ImportedLog(
        source,
        intake.count,
        intake.added,
        intake.brought,
        intake.lacking,
        workspace.wal.head(),
        intake.refusals,
    )


class _Intake:
    """Gathers events for the next append, and stores them with the contents they name."""

    def __init__(self, workspace: Workspace, source: str, author: Signer) -> None:
        self._workspace, self._source, self._author = workspace, source, author
        self._events: dict[EventId, Event] = {}
        self._size = 0
        self.count = self.added = self.brought = self.lacking = 0
        self.left_out = False
        """Whether there are events that this log's dialect cannot hold."""
        self.refusals: Counter[str] = Counter()

    def set_aside(self, reason: str) -> None:
        known = reason in self.refusals or len(self.refusals) < _REASONS_MAX
        self.refusals[reason if known else _MORE] += 1

    def take(self, event: Event, size: int) -> None:
        self.count += 1
        if self._workspace.wal.dialect.shared and event.tag > SHARED_TAG_MAX:
            if event.tag != ACTOR_ANNOUNCED:  # what is never written there is no loss
                self.left_out = True
                self.set_aside(f"{kind_name(event.tag)}: this log's other readers do not know it")
            return
        self._events[event.event_id] = event
        self._size += size
        if len(self._events) >= EVENTS_MAX or self._size >= BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Store what was gathered: first, in portions, events whose contents came along."""
        from grit.git.attached import contents

        repository, wal = self._workspace.repository, self._workspace.wal
        naming: dict[str, list[Event]] = {}
        for event in self._events.values():
            if event.tag == ATTACHMENT_ADDED:
                naming.setdefault(_digest(event), []).append(event)
        head = wal.head()
        if naming and head is not None:
            for name, _ in contents(repository, head, naming.keys()):
                del naming[name]
        portion: dict[str, bytes] = {}
        size = 0
        for name, content in contents(repository, self._source, naming.keys()):
            portion[name] = content
            size += len(content)
            if size >= BYTES_MAX:
                self._store([one for name in portion for one in naming[name]], portion)
                self.brought += len(portion)
                naming = {name: one for name, one in naming.items() if name not in portion}
                portion, size = {}, 0
        self.brought += len(portion)
        self._store([*self._events.values()], portion)
        self.lacking += len(naming.keys() - portion.keys())
        self._events, self._size = {}, 0

    def _store(self, events: list[Event], attachments: dict[str, bytes]) -> None:
        if not events:
            return
        again = {
            event.event_id
            for event in events
            if event.tag == ATTACHMENT_ADDED and _digest(event) in attachments
        }
        subject = f"import {len(events)} events of the log at {self._source[:12]}"
        written = store(self._workspace, events, subject, self._author, attachments, again=again)
        self.added += len(written.events)


def _digest(event: Event) -> str:
    """Return the SHA-256 of the content that an attachment event names."""
    sha256 = event.payload[1]
    assert isinstance(sha256, bytes), "a valid event"
    return sha256.hex()


def _resolve(workspace: Workspace, name: str) -> str:
    """Return the commit that a ref or an id names; git is not asked for refs it might wait for."""
    from grit.git.catfile import CatFile
    from grit.git.process import run
    from grit.git.refs import read_ref

    repository = workspace.repository
    if name.startswith("refs/") and ".." not in name and name.isprintable():
        found = read_ref(repository, name)
        if found is None:
            raise NotFound(f"no ref '{name}' in this repository")
        return found
    if len(name) < _PREFIX_MIN or not _HEX.issuperset(name):
        raise InvalidArgs(
            f"name the log by its ref, as in refs/grite/wal, or by a commit id of {_PREFIX_MIN} "
            f"digits or more, not '{name}'"
        )
    listed = run(repository.git_dir, "rev-parse", f"--disambiguate={name}").stdout.split()
    with CatFile(repository) as objects:
        ids = [oid.decode() for oid in listed[:_IDS_MAX]]
        commits = [oid for oid in ids if (at := objects.header(oid)) and at.kind == "commit"]
    if not commits:
        raise NotFound(f"no commit '{name}' in this repository")
    if len(commits) > 1:
        raise InvalidArgs(f"'{name}' names {len(commits)} commits; give more digits")
    return commits[0]
