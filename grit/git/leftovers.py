"""Locks of git that a killed process left: waited for, then removed (spec/wal.md, Locks)."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from grit.core.limits import LOCK_LONG_STALE_MS, LOCK_STALE_MS
from grit.files.lock import try_lock
from grit.files.private import Opened
from grit.git.process import run
from grit.git.repository import Repository, git_folder

_NAP_S: Final = 0.02
_HELD_LONG: Final = ("packed-refs.lock", "shallow.lock")
"""Git may hold these for seconds, and taking the first from a living one could cost refs."""


class Lock(NamedTuple):
    """A lock of git by its name below a git directory."""

    git_dir: str
    name: str


def clear(locks: Iterable[Lock]) -> list[str]:
    """Wait for locks of git to go, and remove those that do not; return notices about these.

    Git holds a lock for milliseconds. One that is the same file for LOCK_STALE_MS belongs to a
    dead process; all are watched at once. Those of `packed-refs` and `shallow` must also be
    LOCK_LONG_STALE_MS old. What cannot be removed, or is somebody else's, stays:
    git's own words tell.
    """
    if sys.platform == "win32":
        return []
    with ExitStack() as opened:
        found = (_open(lock, opened) for lock in locks)
        waiting = [one for one in found if one is not None]
        deadline = time.monotonic() + LOCK_STALE_MS / 1000
        while waiting and time.monotonic() < deadline:
            time.sleep(_NAP_S)
            waiting = [one for one in waiting if one.is_same()]
        return [notice for one in waiting if (notice := one.remove()) is not None]


def locks_of_refs(common_dir: str, refs: Iterable[str]) -> Iterator[Lock]:
    """Yield the locks that are in the way of writing these refs; a name may end in "/*"."""
    for ref in refs:
        prefix, star, _ = ref.partition("*")
        if not star:
            yield Lock(common_dir, f"{ref}.lock")
            continue
        with suppress(OSError), git_folder(common_dir, prefix)[0].open() as folder:
            yield from (Lock(common_dir, name) for name in _locks_in(folder, prefix))
    yield Lock(common_dir, "packed-refs.lock")
    yield Lock(common_dir, "shallow.lock")


def _locks_in(folder: Opened, prefix: str) -> Iterator[str]:
    for name, is_folder in folder.entries():
        if name.endswith(".lock") and not is_folder:
            yield f"{prefix}{name}"
        elif is_folder:
            with suppress(OSError), folder.below(name) as inner:
                yield from _locks_in(inner, f"{prefix}{name}/")


def local_remote(repository: Repository, remote: str) -> str | None:
    """Return the git directory of a remote that is a folder of this machine, else None."""
    done = run(repository.git_dir, "ls-remote", "--get-url", "--", remote)
    path = done.stdout.decode(errors="surrogateescape").rstrip("\n").removeprefix("file://")
    path = os.path.join(repository.worktree or repository.git_dir, path)
    for place in (f"{path}/.git", path):
        if os.path.isdir(f"{place}/objects") and os.path.isdir(f"{place}/refs"):
            return place
    return None


def _open(lock: Lock, opened: ExitStack) -> "_Watched | None":
    place, name = git_folder(*lock)
    try:
        folder = opened.enter_context(place.open())
        fd = folder.open(name)
    except OSError:
        return None
    opened.callback(os.close, fd)
    age_ms = (time.time() - os.fstat(fd).st_mtime) * 1000
    if name in _HELD_LONG and age_ms < LOCK_LONG_STALE_MS:
        return None
    return _Watched(folder, name, fd)


class _Watched:
    """A lock file that was there, held open so that its inode is not used again."""

    def __init__(self, folder: Opened, name: str, fd: int) -> None:
        self._folder = folder
        self._name = name
        self._fd = fd
        self._first = os.fstat(fd)

    def is_same(self) -> bool:
        try:
            now = self._folder.look(self._name)
        except OSError:
            return False
        if now is None or not os.path.samestat(now, self._first):
            return False
        return now.st_mtime_ns == self._first.st_mtime_ns

    def remove(self) -> str | None:
        # Of several that have waited, each in turn looks again while it alone holds this very
        # file: nobody removes a new lock. One that a live process of grit holds cannot be locked.
        with suppress(OSError):
            own = self._first.st_uid == os.geteuid()
            if own and try_lock(self._fd) and self.is_same():
                self._folder.remove(self._name)
                path = f"{self._folder.path}/{self._name}"
                return f"removed {path}, which a killed process had left behind"
        return None
