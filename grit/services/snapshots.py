"""Use cases: make, list, verify, remove and choose snapshots (spec/snapshots.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from grit.core import limits
from grit.core.codec import chunk_hash, event_set, join_records
from grit.core.errors import Conflict, GritError, InvalidArgs, NotFound, WalDamaged
from grit.git import snapshots as files
from grit.git.refs import GRIT_REF
from grit.git.snapshots import Snapshot
from grit.services import snapshot_check as check
from grit.services import snapshot_record as book
from grit.services.snapshot_check import Claim
from grit.services.snapshot_record import AGREES, MADE, TRUSTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from grit.services.workspace import Workspace
    from grit.view.reader import ViewReader

UNREADABLE: Final = "its snapshot.json is missing, or not understood"
FUTURE: Final = "its name is a time in the future"
OTHER_LOG: Final = "its head is not in this log"
UNCHECKED: Final = "not checked"
_EVENT_ID_AT: Final = 3
"""Where the event id stands in a record, behind the heads of an array of eight and of itself."""


class Listed(NamedTuple):
    """A snapshot and what this clone thinks of it."""

    snapshot: Snapshot
    status: str
    """`made`, `agrees`, `not checked`, or why it is not used."""

    @property
    def usable(self) -> bool:
        """Whether it was made or verified here, and stands for a part of the log as it is."""
        return self.status in TRUSTED


class Cleared(NamedTuple):
    """What `clear` did with refs."""

    removed: list[str]
    kept: list[str]


def create(workspace: Workspace) -> Snapshot:
    """Make a snapshot of the log as the view holds it, and check it against the log.

    Raises NotFound for an empty log, InvalidArgs in one that others read too, WalDamaged when the
    log has holes, Conflict when view and log disagree; IoFailed, Busy or GitFailed from the disk.
    """
    from grit.services.lease_clock import check_clock
    from grit.services.refresh import refresh

    check_clock(workspace.now_ms())  # a name that no clock reaches would stay for ever
    reader = refresh(workspace, to_write=True)
    if workspace.wal.dialect.shared:
        raise InvalidArgs("this log is shared with other programs, which know no snapshots")
    writer = files.SnapshotWriter(workspace.repository, workspace.wal.config)
    ids: list[bytes] = []
    workspace.ports.progress.start("writing a snapshot")
    try:
        with reader.frozen() as view:
            head, asides = view.head, view.asides
            for records in _chunked(map(workspace.long_texts.record, view.events)):
                chunk = join_records(records)
                writer.add(chunk, chunk_hash(chunk), len(records))
                ids += [_event_id(record) for record in records]
                workspace.ports.progress.advance(len(records))
    finally:
        workspace.ports.progress.done()
    if head is None or not ids:
        raise NotFound("the log is empty: there is nothing to take a snapshot of")
    if len(asides) > limits.SNAPSHOT_ASIDES_MAX:
        raise InvalidArgs(f"more than {limits.SNAPSHOT_ASIDES_MAX} chunks are set aside")
    if not files.have_blobs(workspace.repository, asides):
        raise WalDamaged("the log has missing or broken objects; see 'grit doctor' first")
    made = writer.finish(workspace.now_ms(), head, event_set(ids), asides)
    wrong = check.compare(workspace, made, reader)
    if wrong is not None:
        raise Conflict(f"the view is not what the log holds ({wrong}); see 'grit doctor'")
    book.note_verdict(workspace, made.commit, MADE)
    return writer.publish(made)


def listing(workspace: Workspace) -> list[Listed]:
    """Return every snapshot that is here or recorded at a remote, the newest name first."""
    verdicts = book.load_verdicts(workspace)
    head = workspace.wal.head()
    found = files.list_snapshots(workspace.repository)
    return [Listed(one, _status(workspace, one, head, verdicts)) for one in found]


def verify(workspace: Workspace, commits: Iterable[str] | None = None) -> list[Listed]:
    """Compare snapshots (all, or those of these commits) with the log, and remember the outcome."""
    from grit.services.refresh import refresh

    reader = refresh(workspace)
    wanted = None if commits is None else set(commits)
    return [
        _verify_one(workspace, one, reader)
        for one in listing(workspace)
        if wanted is None or one.snapshot.commit in wanted
    ]


def problem_of(workspace: Workspace, one: Listed, reader: ViewReader) -> str | None:
    """Return why a snapshot is not used, or None; it is read whole, and nothing is remembered.

    `reader` stands for the head of the log.
    """
    if one.status in (UNREADABLE, OTHER_LOG, FUTURE):
        return one.status
    if not one.usable:
        return check.compare(workspace, one.snapshot, reader)
    try:
        for _ in Claim(workspace, one.snapshot, trusted=True).chunks():
            pass
    except check.Unfit as unfit:
        return str(unfit)
    return None


def find(workspace: Workspace, text: str) -> str:
    """Return the commit of the snapshot with that commit id, ref or name, in this order.

    Raises NotFound, or InvalidArgs where it means several: remotes choose names, too.
    """
    known = files.list_snapshots(workspace.repository)
    found: list[str] = []
    if len(text) >= limits.SHORT_ID_CHARS_MIN:
        found = [one.commit for one in known if one.commit.startswith(text)]
    found = found or [one.commit for one in known if text in one.refs]
    found = found or [
        one.commit for one in known if text in (ref.rpartition("/")[2] for ref in one.refs)
    ]
    if not found:
        raise NotFound(f"no snapshot '{text}': see 'grit snapshot list'")
    if len(found) > 1:
        raise InvalidArgs(f"'{text}' names {len(found)} snapshots; give one: {', '.join(found)}")
    return found[0]


def clear(workspace: Workspace, keep: int = limits.SNAPSHOTS_KEPT) -> Cleared:
    """Remove the refs of snapshots that `keep` better ones make superfluous.

    Better are those made or verified here that stand for a log with all of its events. What is
    not understood, does not belong to this log or was found to lie stays as it is. So does, with a
    notice, what git cannot remove; locks that a killed `create` left are cleared away.
    """
    for notice in files.clear_locks(workspace.repository):
        workspace.notice(notice)
    removed: list[str] = []
    useless = {one.commit for one in superfluous(workspace, keep)}
    kept: list[str] = []
    for one in files.list_snapshots(workspace.repository):
        for ref in one.refs:
            if one.commit not in useless:
                kept.append(ref)
            elif files.remove(workspace.repository, ref, one.commit):
                removed.append(ref)
            else:
                kept.append(ref)
                workspace.notice(f"{ref} stays: git could not remove it now; try again later")
    return Cleared(removed, kept)


def superfluous(workspace: Workspace, keep: int = limits.SNAPSHOTS_KEPT) -> list[Snapshot]:
    """Return the snapshots of which `keep` trusted ones hold all that they can hold."""
    listed = listing(workspace)
    best = [one.snapshot for one in best_first(listed) if one.usable][:keep]
    heads = [one.manifest.wal_head for one in best if one.manifest]
    if len(heads) < keep:
        return []
    return [
        one.snapshot
        for one in listed
        if (one.usable or one.status in (UNCHECKED, FUTURE))
        and one.snapshot not in best
        and one.snapshot.manifest is not None
        and all(workspace.wal.contains(head, one.snapshot.manifest.wal_head) for head in heads)
    ]


def _verify_one(workspace: Workspace, one: Listed, reader: ViewReader) -> Listed:
    if one.status in (UNREADABLE, OTHER_LOG):
        return one
    verdict = check.compare(workspace, one.snapshot, reader)
    known = book.load_verdicts(workspace).get(one.snapshot.commit)
    status = verdict or (MADE if known == MADE else AGREES)
    book.note_verdict(workspace, one.snapshot.commit, status)
    return one._replace(status=status)


def _status(workspace: Workspace, one: Snapshot, head: str | None, verdicts: book.Verdicts) -> str:
    if one.manifest is None:
        return UNREADABLE
    if not _is_of_log(workspace, one, head):
        return OTHER_LOG
    verdict = verdicts.get(one.commit, UNCHECKED)
    if verdict not in TRUSTED and one.name_ts > _latest_ms(workspace):
        return FUTURE
    return verdict


def _is_of_log(workspace: Workspace, one: Snapshot, head: str | None) -> bool:
    if head is None or one.manifest is None or workspace.wal.ref != GRIT_REF:
        return False
    return workspace.wal.contains(head, one.manifest.wal_head)


def _latest_ms(workspace: Workspace) -> int:
    return workspace.now_ms() + limits.CLOCK_AHEAD_MS_MAX


def best_first(listed: list[Listed]) -> list[Listed]:
    """Sort by the events that they hold, then by name."""

    def rank(one: Listed) -> tuple[int, int]:
        manifest = one.snapshot.manifest
        return (manifest.event_count if manifest else 0, one.snapshot.name_ts)

    return sorted(listed, key=rank, reverse=True)


def _chunked(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield records in lists that fill one chunk each, within a writer's bounds."""
    part: list[bytes] = []
    size = 0
    for record in records:
        full = len(part) >= limits.CHUNK_EVENTS_MAX
        if part and (full or size + len(record) > limits.CHUNK_TARGET_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record)
    if part:
        yield part


def _event_id(record: bytes) -> bytes:
    return record[_EVENT_ID_AT : _EVENT_ID_AT + limits.EVENT_ID_BYTES]


def choose(workspace: Workspace, head: str, but: Iterable[str] = ()) -> Claim | None:
    """Return the snapshot to begin with when the log up to `head` is read anew, or None.

    The one with the most events, of those made or verified here; else, where reading it beside
    the log pays, of those that nothing speaks against. Never one of `but`. What is not believed
    is told once. Snapshots that cannot be looked at are a reason to read the log, no more.
    """
    if workspace.wal.ref != GRIT_REF:
        return None
    try:
        verdicts = book.load_verdicts(workspace)
        trusted = [commit for commit, verdict in verdicts.items() if verdict in TRUSTED]
        found = files.list_snapshots(workspace.repository, _latest_ms(workspace), trusted)
        candidates = []
        for one in found:
            status = _status(workspace, one, head, verdicts)
            if one.commit in but:
                continue
            if status in TRUSTED or status == UNCHECKED:
                candidates.append(Listed(one, status))
            else:
                book.tell_once(workspace, one.commit, one.refs[0], status)
        for best in sorted(best_first(candidates), key=lambda one: not one.usable):
            manifest = best.snapshot.manifest
            if manifest and (best.usable or check.pays(workspace, manifest)):
                return Claim(workspace, best.snapshot, trusted=best.usable)
    except GritError as error:
        workspace.notice(f"snapshots are not used: {error.message}")
    return None


def settle(workspace: Workspace, claim: Claim, reader: ViewReader) -> None:
    """Remember whether a snapshot that was read beside the log is what the log holds."""
    if claim.trusted:
        return
    wrong = claim.verdict(reader)
    if wrong is None:
        book.note_verdict(workspace, claim.snapshot.commit, AGREES)
    else:
        disbelieve(workspace, claim.snapshot, wrong)


def disbelieve(workspace: Workspace, one: Snapshot, reason: str) -> None:
    """Tell, and remember, why a snapshot is not used."""
    book.tell_once(workspace, one.commit, one.refs[0], reason)
    book.note_verdict(workspace, one.commit, reason)
