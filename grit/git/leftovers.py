"""Locks of git that a killed process left: waited for, then removed (spec/wal.md, Locks)."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from grit.core.limits import LOCK_STALE_MS
from grit.git.filelock import try_lock
from grit.git.process import run
from grit.git.repository import Repository

_NAP_S: Final = 0.02


def clear(locks: Iterable[str]) -> list[str]:
    """Wait for locks of git to go, and remove those that do not; return notices about these.

    Git holds a lock for milliseconds. One that is the same file for LOCK_STALE_MS belongs to a
    dead process. What cannot be removed, or is somebody else's, stays: git's own words tell.
    """
    return [notice for lock in locks if (notice := _clear(lock)) is not None]


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


def _clear(lock: str) -> str | None:
    if sys.platform == "win32":
        return None
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        first = os.fstat(fd)
        deadline = time.monotonic() + LOCK_STALE_MS / 1000
        while _is_same(lock, first):
            if time.monotonic() >= deadline:
                return _remove(fd, lock, first)
            time.sleep(_NAP_S)
    finally:
        os.close(fd)
    return None


def _remove(fd: int, lock: str, first: os.stat_result) -> str | None:
    # Of several that have waited, each in turn looks again while it alone holds this very file:
    # nobody removes a new lock. One that a live process of grit holds cannot be locked.
    with suppress(OSError):
        if first.st_uid == os.geteuid() and try_lock(fd) and _is_same(lock, first):
            os.unlink(lock)
            return f"removed {lock}, which a killed process had left behind"
    return None


def _is_same(lock: str, first: os.stat_result) -> bool:
    try:
        now = os.lstat(lock)
    except OSError:
        return False
    return os.path.samestat(now, first) and now.st_mtime_ns == first.st_mtime_ns
