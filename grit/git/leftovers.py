"""Locks of git that a killed process left: waited for, then removed (spec/wal.md, Locks)."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

from grit.core.limits import LOCK_LONG_STALE_MS, LOCK_STALE_MS
from grit.git.filelock import try_lock
from grit.git.process import run
from grit.git.repository import Repository

_NAP_S: Final = 0.02
_HELD_LONG: Final = ("/packed-refs.lock", "/shallow.lock")
"""Git may hold these for seconds, and taking the first from a living one could cost refs."""


def clear(locks: Iterable[str]) -> list[str]:
    """Wait for locks of git to go, and remove those that do not; return notices about these.

    Git holds a lock for milliseconds. One that is the same file for LOCK_STALE_MS belongs to a
    dead process; all are watched at once. Those of `packed-refs` and `shallow` must also be
    LOCK_LONG_STALE_MS old. What cannot be removed, or is somebody else's, stays:
    git's own words tell.
    """
    if sys.platform == "win32":
        return []
    with ExitStack() as opened:
        waiting = [_Watched(lock, fd) for lock in locks if (fd := _open(lock, opened)) is not None]
        deadline = time.monotonic() + LOCK_STALE_MS / 1000
        while waiting and time.monotonic() < deadline:
            time.sleep(_NAP_S)
            waiting = [one for one in waiting if one.is_same()]
        return [notice for one in waiting if (notice := one.remove()) is not None]


def locks_of_refs(common_dir: str, refs: Iterable[str]) -> Iterator[str]:
    """Yield the locks that are in the way of writing these refs; a name may end in "*"."""
    for ref in refs:
        folder, star, _ = f"{common_dir}/{ref}".partition("*")
        if not star:
            yield f"{folder}.lock"
            continue
        for base, _, files in os.walk(folder):
            yield from (f"{base}/{name}" for name in files if name.endswith(".lock"))
    yield f"{common_dir}/packed-refs.lock"
    yield f"{common_dir}/shallow.lock"


def local_remote(repository: Repository, remote: str) -> str | None:
    """Return the git directory of a remote that is a folder of this machine, else None."""
    done = run(repository.git_dir, "ls-remote", "--get-url", "--", remote)
    path = done.stdout.decode(errors="surrogateescape").rstrip("\n").removeprefix("file://")
    path = os.path.join(repository.worktree or repository.git_dir, path)
    for place in (f"{path}/.git", path):
        if os.path.isdir(f"{place}/objects") and os.path.isdir(f"{place}/refs"):
            return place
    return None


def _open(lock: str, opened: ExitStack) -> int | None:
    try:
        fd = os.open(lock, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    opened.callback(os.close, fd)
    age_ms = (time.time() - os.fstat(fd).st_mtime) * 1000
    if lock.endswith(_HELD_LONG) and age_ms < LOCK_LONG_STALE_MS:
        return None
    return fd


class _Watched:
    """A lock file that was there, held open so that its inode is not used again."""

    def __init__(self, lock: str, fd: int) -> None:
        self._lock = lock
        self._fd = fd
        self._first = os.fstat(fd)

    def is_same(self) -> bool:
        try:
            now = os.lstat(self._lock)
        except OSError:
            return False
        return os.path.samestat(now, self._first) and now.st_mtime_ns == self._first.st_mtime_ns

    def remove(self) -> str | None:
        # Of several that have waited, each in turn looks again while it alone holds this very
        # file: nobody removes a new lock. One that a live process of grit holds cannot be locked.
        with suppress(OSError):
            own = self._first.st_uid == os.geteuid()
            if own and try_lock(self._fd) and self.is_same():
                os.unlink(self._lock)
                return f"removed {self._lock}, which a killed process had left behind"
        return None
