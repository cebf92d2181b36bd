"""Use case: at the end of a sync, make a snapshot when one is due, share it, and clear old ones."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from grit.core import limits
from grit.core.errors import GitFailed, GritError
from grit.git.actors import load_config
from grit.git.refs import GRIT_REF
from grit.git.tracking import tracking_ref
from grit.services import snapshot_record as book
from grit.services.snapshot_record import Newest
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

if TYPE_CHECKING:
    from grit.git.remotes import Remote
    from grit.git.snapshots import Snapshot
    from grit.services.workspace import Workspace

_DAY_MS: Final = 24 * 60 * 60 * 1000
_ANSWER_S_MAX: Final = 30.0


def get_ready(workspace: Workspace) -> None:
    """Open the view that `upkeep` will ask; what is wrong with it shows then."""
    with suppress(ViewDoubt, OSError):
        ViewReader(workspace.database).place()


def upkeep(workspace: Workspace, remote: Remote) -> Snapshot | None:
    """Make a snapshot when one is due, push it, clear old ones here and there; return it.

    `remote` is what was synced with. Nothing that goes wrong is raised: the sync is done already,
    and a snapshot is never needed. When none is due, next to nothing is imported or read.
    """
    try:
        if not _due(workspace, None) or not _due(workspace, book.load_newest(workspace)):
            return None
        from grit.services import snapshots

        newest = _look_around(workspace, remote)
        if not _due(workspace, newest):
            if newest is not None:
                book.note_newest(workspace, newest)
            return None
        made = snapshots.create(workspace)
        manifest = made.manifest
        assert manifest is not None
        book.note_newest(workspace, Newest(manifest.event_count, manifest.created_ts))
        _send(workspace, remote, made)
        clear_remote(workspace, remote)
        snapshots.clear(workspace)
    except (GritError, ViewDoubt) as error:
        workspace.notice(f"no snapshot was made: {error}")
        return None
    return made


def fetch_newest(workspace: Workspace, remote: Remote) -> None:
    """Fetch the newest snapshot of a remote whose log was just adopted, if that is a long one.

    The first read uses it (`snapshots.choose`). What goes wrong is told, and costs time alone.
    """
    head = workspace.wal.head()
    if head is None or workspace.wal.ref != GRIT_REF:
        return
    from grit.git.snapshots import count_commits

    try:
        if count_commits(workspace.repository, head) >= limits.SNAPSHOT_EVENTS_MIN:
            _fetch_unknown(workspace, remote, set(), 1)
    except GritError as error:
        workspace.notice(f"no snapshot was fetched: {error}")


def clear_remote(workspace: Workspace, remote: Remote) -> list[str]:
    """Remove from a remote what `snapshots.clear` removes here, or has removed; return the refs.

    Only snapshots that this clone made or verified are judged, and each ref goes only while it
    stands where it was seen. Raises GitFailed when the remote cannot be asked.
    """
    from grit.git.snapshots import remove
    from grit.git.transport import Update, push
    from grit.services import snapshots

    useless = {one.commit for one in snapshots.superfluous(workspace)}
    wanted = {one.snapshot.commit for one in snapshots.listing(workspace)} - useless
    verdicts = book.load_verdicts(workspace)
    useless |= {commit for commit, verdict in verdicts.items() if verdict in book.TRUSTED}
    there = _remote_refs(workspace, remote)
    gone = [(ref, oid) for ref, oid in there.items() if oid in useless - wanted]
    if not gone:
        return []
    updates = [Update(None, ref, oid) for ref, oid in gone]
    done = push(workspace.repository, remote.address, updates, workspace.ports.environ)
    removed = [one.ref for one in done if one.done]
    for ref, oid in gone:
        if ref in removed:
            remove(workspace.repository, tracking_ref(remote.tracking, ref), oid)
    return removed


def _due(workspace: Workspace, newest: Newest | None) -> bool:
    """Whether the log is worth a snapshot, and enough is new since the newest one."""
    count = ViewReader(workspace.database).place().event_count
    if count < limits.SNAPSHOT_EVENTS_MIN or workspace.wal.ref != GRIT_REF:
        return False
    events, days = _settings(workspace)
    if not events and not days:
        return False
    if newest is None:
        return True
    new = count - newest.event_count
    if events and new >= events:
        return True
    return bool(days) and new > 0 and workspace.now_ms() - newest.created_ts >= days * _DAY_MS


def _settings(workspace: Workspace) -> tuple[int, int]:
    """Return the events and days after which a snapshot is due; 0 is never."""
    table = load_config(workspace.repository).get("snapshot")
    values = table if isinstance(table, dict) else {}
    found = []
    for name, default in (
        ("events", limits.SNAPSHOT_EVENTS_MIN),
        ("days", limits.SNAPSHOT_DAYS),
    ):
        value = values.get(name, default)
        found.append(value if type(value) is int and value >= 0 else default)
    return found[0], found[1]


def _look_around(workspace: Workspace, remote: Remote) -> Newest | None:
    """Return the newest snapshot that can be used, one that only the remote has included.

    A snapshot of somebody else counts once it was compared with the log: a false one must not
    keep this clone from making its own.
    """
    from grit.services import snapshots

    known = {one.snapshot.commit for one in snapshots.listing(workspace)}
    _fetch_unknown(workspace, remote, known, limits.SNAPSHOTS_KEPT)
    unchecked = [one for one in snapshots.listing(workspace) if one.status == snapshots.UNCHECKED]
    best = snapshots.best_first(unchecked)[: limits.SNAPSHOTS_KEPT]
    if best:
        snapshots.verify(workspace, [one.snapshot.commit for one in best])
    usable = [one for one in snapshots.listing(workspace) if one.usable]
    manifests = [one.snapshot.manifest for one in snapshots.best_first(usable)]
    return next((Newest(one.event_count, one.created_ts) for one in manifests if one), None)


def _fetch_unknown(workspace: Workspace, remote: Remote, known: set[str], count: int) -> None:
    """Fetch the `count` newest snapshots of the remote that this clone does not have."""
    from grit.git.snapshots import name_ts
    from grit.git.transport import fetch

    latest_ms = workspace.now_ms() + limits.CLOCK_AHEAD_MS_MAX
    there = _remote_refs(workspace, remote)
    refs = sorted(
        (ref for ref, oid in there.items() if oid not in known and name_ts(ref) <= latest_ms),
        key=name_ts,
        reverse=True,
    )
    specs = [f"+{ref}:{tracking_ref(remote.tracking, ref)}" for ref in refs[:count]]
    if specs:
        done = fetch(workspace.repository, remote.address, specs, workspace.ports.environ)
        if done.failed is not None:
            raise GitFailed(f"the snapshots of {remote.name} cannot be fetched: {done.failed}")


def _remote_refs(workspace: Workspace, remote: Remote) -> dict[str, str]:
    from grit.git.snapshots import SNAPSHOTS, name_ts
    from grit.git.transport import remote_refs

    found = remote_refs(
        workspace.repository,
        remote.address,
        [f"{SNAPSHOTS}*"],
        workspace.ports.environ,
        _ANSWER_S_MAX,
    )
    if isinstance(found, str):
        raise GitFailed(f"{remote.name} cannot be asked for its snapshots: {found}")
    return {ref: oid for ref, oid in found.items() if ref.startswith(SNAPSHOTS) and name_ts(ref)}


def _send(workspace: Workspace, remote: Remote, made: Snapshot) -> None:
    from grit.git.transport import Update, push

    [ref] = made.refs
    [sent] = push(
        workspace.repository,
        remote.address,
        [Update(made.commit, ref, "")],
        workspace.ports.environ,
    )
    if not sent.done:
        workspace.notice(f"the snapshot stays here: {remote.name} did not take it ({sent.words})")
