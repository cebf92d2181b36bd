"""The leases that this clone knows, and how a change of one is published: remote first.

The caller holds `locked()` around looking and publishing (spec/leases.md, Changes).
"""

import time
from typing import TYPE_CHECKING, Final, NoReturn

from grit.core.errors import GitFailed, GritError
from grit.core.lease import Lease
from grit.core.limits import LEASE_ROUNDS_MAX, LEASE_WAIT_MS_MAX, LOCKS_AT_ONCE
from grit.git import leases as refs
from grit.git.leases import LockRef
from grit.git.remotes import Remote, find_remote, sync_remote
from grit.git.tracking import tracking_ref
from grit.services.lease_clock import by_own_clock, check_clock
from grit.services.workspace import Workspace

if TYPE_CHECKING:
    from grit.git.filelock import FileLock
    from grit.git.transport import Pushed, Update

_NAP_S: Final = 0.01


class LeaseBook:
    """The lock refs here and on the remote that decides; `remote` is None where there is none."""

    def __init__(self, workspace: Workspace, *, local: bool) -> None:
        """Choose the remote, unless only this clone is to decide; raises GitFailed."""
        self._workspace = workspace
        self._wal = workspace.wal
        self._locks: list[LockRef] = []
        self._places: dict[tuple[str, str | None], LockRef] = {}
        self.remote = None if local else chosen_remote(workspace)

    def locked(self) -> "FileLock":
        """Return the lock of this clone's leases; raises Busy after LEASE_WAIT_MS_MAX."""
        from grit.git.filelock import FileLock

        private = self._workspace.repository.private
        return FileLock(private, "leases.lock-file", LEASE_WAIT_MS_MAX)

    def look(self, *, ask: bool = True) -> list[LockRef]:
        """Return the newest lock refs, after asking the remote where there is one.

        Without `ask`, the remote is believed to stand as `publish` has just found it.

        Raises GitFailed with the remote's words when it does not answer.
        """
        if self.remote is not None and ask:
            self._fetch(self.remote)
        self._read()
        if self.remote is not None:
            self._follow(self.remote)
        return refs.newest(self._wal, self._locks)

    def all_locks(self) -> list[LockRef]:
        """Return all lock refs as `look` found them, those included that others outdate."""
        return self._locks

    def clear_broken(self) -> list[tuple[str, str]]:
        """Move broken lock refs aside, over which every fetch fails; return (ref, file) of each.

        Raises WalDamaged when one cannot be moved.
        """
        cleared = []
        for lock in refs.list_locks(self._wal):
            if lock.broken:
                here = lock.ref if lock.remote is None else tracking_ref(lock.remote, lock.ref)
                kept = refs.set_aside(self._wal, here, self._workspace.now_ms())
                if kept is not None:
                    cleared.append((here, kept))
        return cleared

    def publish(self, lease: Lease) -> bool:
        """Store a change of a lease that `look` has shown; False when somebody was faster.

        Raises GitFailed with the remote's words when it refuses for another reason.
        """
        check_clock(self._workspace.now_ms())
        ref = f"{refs.locks_folder(self._wal)}/{lease.resource.lock_name}"
        here, there = self._at(ref, None), self._there(ref)
        now_ms = self._workspace.now_ms()
        parents = dict.fromkeys(
            lock.oid
            for lock in refs.newest(self._wal, self._locks)
            if lock.ref == ref
            and lock.lease is not None
            and lock.oid is not None
            # A live lease of another was not followed by this one, and must not seem so.
            and (lock.lease.holder == lease.holder or not lock.lease.live(now_ms))
        )
        new = refs.write_lock(
            self._wal,
            self._workspace.ports.environ,
            lease,
            tuple(parents),
            self._workspace.now_ms(),
        )
        if self.remote is None:
            return self._move(ref, here, new)
        if not self._push(self.remote, ref, there, new):
            return False
        try:
            self._move(ref, here, new)
        except GritError as failure:
            # The remote has decided; what is here only follows.
            self._workspace.notice(f"stored at {self.remote.name}, not here: {failure.message}")
        return True

    def remove(self, locks: list[LockRef]) -> list[LockRef]:
        """Remove lock refs that `look` has shown, where they still stand so; return those."""
        removed = self._drop([one for one in locks if one.remote is None])
        there = [one for one in locks if self.remote and one.remote == self.remote.tracking]
        if self.remote is None or not there:
            return removed
        for start in range(0, len(there), LOCKS_AT_ONCE):
            removed += self._remove_there(self.remote, there[start : start + LOCKS_AT_ONCE])
        return removed

    def _remove_there(self, remote: Remote, locks: list[LockRef]) -> list[LockRef]:
        from grit.git.transport import Update

        outcomes = self._talk(remote, [Update(None, one.ref, one.oid) for one in locks])
        pairs = list(zip(locks, outcomes, strict=True))
        for lock, pushed in pairs:
            if not pushed.done:
                self._workspace.notice(f"{remote.name} keeps {lock.ref}: {pushed.words}")
        removed = [lock for lock, pushed in pairs if pushed.done]
        self._drop(removed)
        return removed

    def _read(self) -> None:
        self._locks = by_own_clock(self._workspace, refs.list_locks(self._wal))
        self._places = {(lock.ref, lock.remote): lock for lock in self._locks}

    def _at(self, ref: str, remote: str | None) -> LockRef | None:
        return self._places.get((ref, remote))

    def _there(self, ref: str) -> LockRef | None:
        return self._at(ref, self.remote.tracking) if self.remote is not None else None

    def _drop(self, locks: list[LockRef]) -> list[LockRef]:
        """Remove what is here of these refs, or records of them; return those that are gone."""
        places = {
            lock.ref if lock.remote is None else tracking_ref(lock.remote, lock.ref): lock
            for lock in locks
            if lock.oid is not None
        }
        gone = refs.remove_locks(self._wal, {at: lock.oid or "" for at, lock in places.items()})
        return [places[at] for at in gone]

    def _fetch(self, remote: Remote) -> None:
        from grit.git.transport import fetch

        workspace = self._workspace
        folder = refs.locks_folder(self._wal)
        spec = f"+{folder}/*:{tracking_ref(remote.tracking, folder)}/*"
        words = ""
        for attempt in range(LEASE_ROUNDS_MAX):
            done = fetch(
                workspace.repository, remote.address, [spec], workspace.ports.environ, prune=True
            )
            if done.failed is None:
                self._complete(remote)
                return
            words = done.failed
            cleared = self.clear_broken() if attempt == 0 else []
            for ref, kept in cleared:
                workspace.notice(f"{ref} was broken; what it held is kept as {kept}")
            if not cleared and "cannot lock ref" not in words:
                break
            time.sleep(_NAP_S * (attempt + 1))  # a plain `git fetch` is recording the same refs
        _unreachable(remote, words)

    def _complete(self, remote: Remote) -> None:
        """Fetch what a plain `git fetch` of a partial clone left out of what it recorded."""
        if self._workspace.repository.promisor is None:
            return
        from grit.git.refs import refs_below
        from grit.services.partial import complete_commits

        recorded = tracking_ref(remote.tracking, f"{refs.locks_folder(self._wal)}/")
        found = refs_below(self._workspace.repository, recorded).ids
        complete_commits(self._workspace, remote, found.values())

    def _follow(self, remote: Remote) -> None:
        """Move what is here to where the remote has moved on, so that a plain push agrees."""
        for at, here in enumerate(self._locks):
            there = self._at(here.ref, remote.tracking) if here.remote is None else None
            if there is not None and there.oid and refs.outruns(self._wal, there, here):
                moved = refs.move_lock(self._wal, here.ref, here.oid, there.oid, [])
                self._locks[at] = there._replace(remote=None) if moved else here
                self._places[here.ref, None] = self._locks[at]

    def _push(self, remote: Remote, ref: str, there: LockRef | None, new: str) -> bool:
        from grit.git.transport import Update

        old = there.oid if there is not None else None
        (pushed,) = self._talk(remote, [Update(new, ref, old or "")])
        # What stands there counts: the answer may have been lost after the remote had moved the
        # ref, and there are servers that call a lost race done (decision 0018).
        self._fetch(remote)
        self._read()
        there = self._at(ref, remote.tracking)
        stands = there.oid if there is not None else None
        if stands == new or (stands is not None and self._wal.contains(stands, new)):
            return True
        if not pushed.done and not pushed.moved:
            _unreachable(remote, pushed.words)
        return False

    def _talk(self, remote: Remote, updates: "list[Update]") -> "list[Pushed]":
        from grit.git.transport import push

        return push(
            self._workspace.repository, remote.address, updates, self._workspace.ports.environ
        )

    def _move(self, ref: str, known: LockRef | None, new: str) -> bool:
        """Move a ref of this clone; one that is broken is kept aside first."""
        workspace = self._workspace
        notices: list[str] = []
        old = known.oid if known is not None else None
        if known is not None and known.broken:
            kept = refs.set_aside(self._wal, ref, workspace.now_ms())
            if kept is not None:
                notices.append(f"{ref} was broken; what it held is kept as {kept}")
                old = None
        try:
            return refs.move_lock(self._wal, ref, old, new, notices)
        finally:
            for notice in notices:
                workspace.notice(notice)


def record(workspace: Workspace, remote: Remote) -> None:
    """Take note of the leases of a remote, as a sync does; what goes wrong is told."""
    book = LeaseBook(workspace, local=True)
    book.remote = remote
    try:
        with book.locked():
            book.look()
    except GritError as failure:
        workspace.notice(f"the leases of {remote.address} are not known: {failure.message}")


def chosen_remote(workspace: Workspace) -> Remote | None:
    """Return the remote that decides about leases: the one that is synced with, or None.

    Raises GitFailed when there are several and none is chosen.
    """
    from grit.git.actors import load_config

    sync = load_config(workspace.repository).get("sync")
    chosen = sync.get("remote") if isinstance(sync, dict) else None
    config = workspace.wal.config
    remote = sync_remote(config, str(chosen) if chosen else None)
    return find_remote(config, remote) if remote is not None else None


def _unreachable(remote: Remote, words: str) -> NoReturn:
    raise GitFailed(
        f"{remote.name} decides about leases, and that failed: {words}\n"
        "try again later; with --local this clone decides alone, and no other is kept away",
        remote=remote.name,
    )
