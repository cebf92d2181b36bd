"""Bring the view up to the log: catch up, or rebuild when in doubt."""

import gc
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from grit.core.errors import Busy, GritError, IoFailed
from grit.core.ids import EventId
from grit.core.limits import (
    BATCH_BYTES_MAX,
    LOCK_WAIT_MS_MAX,
    READER_WAIT_MS_MAX,
    TEXT_KEPT_BYTES,
)
from grit.services import join
from grit.services.workspace import Workspace
from grit.view.database import Database
from grit.view.reader import Place, ViewReader
from grit.view.trust import ViewDoubt

if TYPE_CHECKING:
    from grit.core.codec import DecodedChunk, Problem
    from grit.core.events import Event
    from grit.git.wal import StoredObject
    from grit.services.signatures import Judge
    from grit.services.snapshot_check import Claim
    from grit.view.rows import Meta
    from grit.view.writer import Writer

BATCH_EVENTS = 50_000
"""Events held in memory before they go into the view."""


def refresh(workspace: Workspace, *, to_write: bool = False, joining: bool = True) -> ViewReader:
    """Return a reader of a view that stands for the log's head.

    Heads that were fetched come into the log first, unless `joining` says no. A view that is
    missing, damaged, of another version or of another log is rebuilt; where it
    cannot be written it is built in a temporary folder, with a notice. While another process
    brings it up to date, the state before that is served, with a notice; not `to_write`, since
    what is decided on it could not be stored. Raises Busy then, WalDamaged when the ref is gone.
    """
    head = workspace.wal.head()
    place = _place(workspace)
    news = join.look(workspace, head, place or Place()) if joining else None
    looked = news is not None and join.take_in_news(workspace, news, locked=to_write)
    if news is not None and news.others:
        head = workspace.wal.head()
    if head is None and not to_write and not workspace.database.exists():
        # There is nothing to look at: a command that only reads creates nothing either.
        workspace.use_database(Database.temporary())
        _fill(workspace, None, force=True)
        return ViewReader(workspace.database)
    if workspace.wal.hidden_ref is not None:
        _tell_of_other_log(workspace, workspace.wal.hidden_ref, head)
    reader = _brought_up(workspace, head, place, to_write=to_write)
    if news is not None and looked:
        _note_joined(workspace, news)
    return reader


def _place(workspace: Workspace) -> Place | None:
    """Return where the view stands, or None when it must be rebuilt first."""
    try:
        return ViewReader(workspace.database).place()
    except ViewDoubt:
        return None


def _brought_up(
    workspace: Workspace, head: str | None, place: Place | None, *, to_write: bool
) -> ViewReader:
    reader = ViewReader(workspace.database)
    old: str | None = None
    try:
        place = reader.place() if place is None else place
        if place.settings != workspace.settings_stamp(actors=bool(place.policy)):
            _take_settings(workspace, place)
        old = place.head
        if old == head:
            return reader
        _catch_up(workspace, head, old, LOCK_WAIT_MS_MAX if to_write else READER_WAIT_MS_MAX)
    except ViewDoubt as doubt:
        if doubt.reason in ("changed", "damaged"):
            workspace.notice(f"{doubt}; building it anew from the log")
        _rebuild(workspace, head, force=False)
    except Busy as busy:
        if old is None or to_write:
            raise
        workspace.notice(f"{busy.message}; showing the state as of {old[:12]}")
        return reader
    except (IoFailed, OSError) as failure:
        _use_temporary(workspace, head, str(failure))
    return ViewReader(workspace.database)


def _note_joined(workspace: Workspace, news: join.News) -> None:
    """Spare the next command the comparison; when that fails it is made again."""
    from grit.view.writer import writing

    try:
        with writing(workspace.database, None, 0) as writer:
            writer.note_joined(news.heads, news.packed)
    except (Busy, IoFailed, OSError, ViewDoubt):
        return


def _tell_of_other_log(workspace: Workspace, hidden: str, head: str | None) -> None:
    """Say so when the repository holds another log, whose issues are not shown."""
    from grit.git.refs import read_ref
    from grit.services.two_logs import is_held

    other = read_ref(workspace.repository, hidden)
    if other and head and not is_held(workspace, other):
        workspace.notice(
            f"{workspace.wal.ref} is shown; {hidden} holds another log, whose issues are not"
        )


def rebuild(workspace: Workspace) -> ViewReader:
    """Build the view anew from the whole log, whatever it holds, without any snapshot."""
    _rebuild(workspace, workspace.wal.head(), force=True, snapshots=False)
    return ViewReader(workspace.database)


def rebuild_from_snapshot(workspace: Workspace) -> tuple[ViewReader, str | None]:
    """Build the view anew from a snapshot and the commits after it; return the ref it had.

    None where no snapshot could be used, and the whole log was read.
    """
    used = _rebuild(workspace, workspace.wal.head(), force=True)
    return ViewReader(workspace.database), used


def show_append(
    workspace: Workspace,
    events: Sequence["Event"],
    old: str | None,
    head: str,
    objects: tuple["StoredObject", ...],
    *,
    own: Collection[EventId] = (),
) -> None:
    """Bring an append of this process into the view; a view that cannot take it catches up later.

    The events are in the log already: nothing that goes wrong here may look like a failure. This
    process has just signed those that are `own`; others are verified.
    """
    from grit.core.codec import encode_record

    records = [(event, encode_record(event)) for event in events]
    if any(len(record) > TEXT_KEPT_BYTES for _, record in records):
        return  # of long texts the view keeps where they lie: it takes them from the log
    try:
        from grit.view.writer import writing  # a disk that fails may hold grit too

        with writing(workspace.database) as writer:
            meta = writer.meta()
            if meta.head != old:
                return
            stamp = workspace.settings_stamp(actors=bool(meta.policy))
            judge = None
            if meta.policy or stamp != meta.settings or len(own) < len(events):
                judge = _judge_append(workspace, meta, stamp)
                try:
                    judge.begin(records, own=own)
                finally:
                    judge.close()
                writer.ask(judge)
            writer.apply(records, head, journal=(head, objects))
        if judge is not None and len(own) < len(events):
            judge.tell(workspace)
    except (Busy, IoFailed, OSError) as failure:
        workspace.notice(f"stored; the view will catch up later ({failure})")
    except ViewDoubt:
        pass  # the next read rebuilds it


def _catch_up(workspace: Workspace, head: str | None, old: str | None, wait_ms_max: int) -> None:
    """Add what is new; raises ViewDoubt when the view stands for another log."""
    from grit.git.log_reader import HeadUnknown
    from grit.view.writer import writing

    if old is None:
        # An empty view is filled aside, so that nobody sees it half full.
        raise ViewDoubt("absent", "the view is empty")
    from grit.services.signatures import judge_of

    with writing(workspace.database, wait_ms_max=wait_ms_max) as writer:
        # Whoever held the lock may have moved both: the head is read again under it.
        meta, head = writer.meta(), workspace.wal.head()
        known = meta.head
        judge = judge_of(ViewReader(workspace.database), meta)
        writer.ask(judge)
        if known == head:
            return
        if known is None:
            raise ViewDoubt("absent", "the view is empty")
        if head is None or not workspace.wal.contains(head, known):
            from grit.services import lost

            lost.keep(workspace, known, head)
            raise ViewDoubt("schema", "the log was replaced")
        try:
            _feed(workspace, writer, judge, head, known)
        except HeadUnknown as error:
            raise ViewDoubt("schema", "the log was replaced") from error


def _rebuild(
    workspace: Workspace, head: str | None, *, force: bool, snapshots: bool = True
) -> str | None:
    from grit.services.policy import load_policy

    load_policy(workspace)  # settings that do not say which events count are no reason to go on
    try:
        used = _fill(workspace, head, force=force, snapshots=snapshots)
        # A view that was written but cannot be read is of no more use than one that was not.
        ViewReader(workspace.database).head()
    except (IoFailed, OSError, ViewDoubt) as failure:
        return _use_temporary(workspace, head, str(failure), snapshots=snapshots)
    return used


def _use_temporary(
    workspace: Workspace, head: str | None, reason: str, *, snapshots: bool = True
) -> str | None:
    workspace.notice(f"the view cannot be written ({reason}); built in a temporary folder")
    workspace.use_database(Database.temporary())
    return _fill(workspace, head, force=True, snapshots=snapshots)


def _fill(
    workspace: Workspace, head: str | None, *, force: bool, snapshots: bool = True
) -> str | None:
    """Fill a new view from a snapshot or the whole log; return the snapshot's ref, if any."""
    from grit.core.trust import OFF
    from grit.services.policy import load_policy

    # A snapshot holds one copy of each event: not all that it may take to find the signed one.
    snapshots = snapshots and load_policy(workspace).verify == OFF
    if head is None or not snapshots:
        _fill_from(workspace, head, None, force=force)
        return None
    from grit.services.snapshot_check import Unfit
    from grit.services.snapshots import choose, disbelieve, settle

    unfit: list[str] = []
    while claim := choose(workspace, head, unfit):
        try:
            used = _fill_from(workspace, head, claim, force=force)
        except Unfit as reason:
            unfit.append(claim.snapshot.commit)
            disbelieve(workspace, claim.snapshot, str(reason))
            continue
        if used:
            settle(workspace, claim, ViewReader(workspace.database))
        return claim.snapshot.refs[0] if used else None
    _fill_from(workspace, head, None, force=force)
    return None


def _fill_from(
    workspace: Workspace, head: str | None, claim: "Claim | None", *, force: bool
) -> bool:
    """Fill a new view, from a snapshot where there is one; return whether that was read.

    Raises Unfit, with the old view in place, when the snapshot is not what it claims to be.
    """
    from grit.core.trust import encode_policy
    from grit.services.policy import load_policy
    from grit.services.signatures import ChainFilled, Judge
    from grit.view.standing import Stamp
    from grit.view.writer import rebuilding

    settings = workspace.settings_stamp(actors=True), workspace.settings_stamp()
    policy = load_policy(workspace)
    data = encode_policy(policy)
    stamp = Stamp(data, settings[0 if data else 1])
    with rebuilding(workspace.database, force=force) as writer:
        # Somebody may have rebuilt it meanwhile: then only what is newer is missing.
        meta = writer.meta()
        known = meta.head
        judge = Judge(ViewReader(workspace.database), policy, stamp._replace(missing=meta.missing))
        writer.ask(judge)
        replaced = known is not None and (
            head is None or meta.policy != data or not workspace.wal.contains(head, known)
        )
        used = claim is not None and known is None
        if claim is not None and used:
            known = claim.manifest.wal_head
            _apply(workspace, writer, judge, claim.chunks(), None, known)
        if head is None:
            writer.apply((), None)
        elif known != head and not replaced:
            try:
                _feed(workspace, writer, judge, head, known)
            except ChainFilled:
                replaced = True
    if replaced:
        _fill_from(workspace, workspace.wal.head(), None, force=True)
    return used


def _feed(
    workspace: Workspace, writer: "Writer", judge: "Judge", head: str, old: str | None
) -> None:
    """Read, check and apply what `head` has and `old` does not.

    The head moves with the last batch: what a kill leaves is read again, and known already.
    """
    from grit.services.decoding import decoded

    try:
        for upto, since, verified in judge.spans(workspace, head, old):
            chunks = decoded(workspace.wal.read(upto, since), whole_log=since is None)
            reached = head if upto == head else old
            _apply(workspace, writer, judge, chunks, old, reached, verified=verified)
        judge.finish(workspace, head)
    finally:
        judge.close()


def _apply(
    workspace: Workspace,
    writer: "Writer",
    judge: "Judge",
    chunks: "Iterable[tuple[str, DecodedChunk]]",
    old: str | None,
    head: str | None,
    *,
    verified: bool = False,
) -> None:
    """Apply decoded chunks in bounded batches; the head moves from `old` with the last one."""
    from grit.view.long_rows import shortened

    progress = workspace.ports.progress
    progress.start("reading the log")
    # A collection walks everything that was decoded, and finds nothing: a fifth of the time.
    collecting = gc.isenabled()
    gc.disable()
    records: list[tuple[Event, bytes]] = []
    problems: list[tuple[str, Problem]] = []
    size = 0
    try:
        for oid, chunk in chunks:
            taken = shortened(chunk.records, oid)
            records += taken
            problems += ((oid, problem) for problem in chunk.problems)
            progress.advance(len(taken))
            size += sum([len(row) for _, row in taken])
            full = len(records) + len(problems) >= BATCH_EVENTS
            del chunk, taken  # large ones must not stay while the next is decoded
            if full or size >= BATCH_BYTES_MAX:
                judge.begin(records, verified=verified)
                writer.apply(records, old, problems, more=True)
                records, problems, size = [], [], 0
        judge.begin(records, verified=verified)
        writer.apply(records, head, problems)
    finally:
        if collecting:
            gc.enable()
        progress.done()


def _take_settings(workspace: Workspace, place: Place) -> None:
    """Note that the settings were changed; raises ViewDoubt when another policy is in force.

    Settings that do not say which leave it as it is, with a notice.
    """
    from grit.core.trust import encode_policy
    from grit.services.policy import load_policy
    from grit.services.signatures import judge_of
    from grit.view.writer import writing

    stamp = workspace.settings_stamp(actors=bool(place.policy))
    try:
        policy = load_policy(workspace)
    except IoFailed as failure:
        workspace.notice(f"{failure.message}; the policy for signatures stays as it was")
        return
    if encode_policy(policy) != place.policy:
        raise ViewDoubt("schema", "the policy for signatures was changed")
    try:
        with writing(workspace.database, wait_ms_max=0) as writer:
            now = writer.meta()
            if now.policy == place.policy:
                writer.ask(judge_of(ViewReader(workspace.database), now._replace(settings=stamp)))
                writer.apply((), now.head)
    except (Busy, IoFailed, OSError):
        return  # it will be looked at again


def _judge_append(workspace: Workspace, meta: "Meta", stamp: bytes) -> "Judge":
    """Return the judge for an append, with the settings noted if they say what they did before."""
    from grit.core.trust import encode_policy
    from grit.services.policy import load_policy
    from grit.services.signatures import judge_of

    if stamp != meta.settings:
        try:
            if encode_policy(load_policy(workspace)) == meta.policy:
                meta = meta._replace(settings=stamp)
        except GritError:
            pass  # the next command says so
    return judge_of(ViewReader(workspace.database), meta)
