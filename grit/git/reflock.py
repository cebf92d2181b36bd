"""Git's `<ref>.lock`, taken so that one which a killed process left is known (spec/wal.md, Locks).

What the ref is to hold is written and synced under a name of its own in grit's folder, held by a
lock of the kernel, and linked to `<ref>.lock`. Who finds one file under both names, and the
kernel's lock free, knows that its holder is dead. Git's own locks have no second name.
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Final

from grit.git.filelock import try_lock

_PREFIX: Final = "swap-"
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""What a file system without hard links answers."""
_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)


class RefLock:
    """The lock of one ref file; `close` it whatever happens. Every method raises OSError."""

    __slots__ = ("_content", "_fd", "_folder", "_lock", "_mode", "_path", "_private", "_sync")

    def __init__(self, path: str, folder: str, content: bytes, mode: int, sync: bool) -> None:
        """Prepare `content` for the ref at `path`; nobody waits for it yet.

        `folder` is grit's own; `mode` bits are added to the file's (0: none).
        """
        self._path = path
        self._lock = f"{path}.lock"
        self._folder = folder
        self._content = content
        self._mode = mode
        self._sync = sync
        self._fd: int | None = None
        self._private: str | None = None

    def take(self) -> bool:
        """Take `<ref>.lock` unless it is there; FileNotFoundError when its folder is missing."""
        try:
            if sys.platform == "win32":
                self._write(self._lock)  # an open file cannot be renamed there
                self._release()
            else:
                self._link()
        except FileExistsError:
            return False
        return True

    def publish(self) -> None:
        """Let the lock become the ref."""
        os.replace(self._lock, self._path)

    def drop(self) -> None:
        """Give the lock back, if it is still this one; the ref stays as it is."""
        with suppress(FileNotFoundError):
            if self._fd is None or os.path.samestat(os.fstat(self._fd), os.lstat(self._lock)):
                os.unlink(self._lock)

    def close(self) -> None:
        """Forget the file's own name."""
        private, self._private = self._private, None
        if private is not None:
            with suppress(OSError):  # a later holder clears it away
                os.unlink(private)
        self._release()

    def _link(self) -> None:
        if self._private is None or not os.path.exists(self._private):
            self._prepare()
        assert self._private is not None
        try:
            os.link(self._private, self._lock)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self.close()
            self._write(self._lock)

    def _prepare(self) -> None:
        self.close()
        os.makedirs(self._folder, exist_ok=True)
        name = f"{self._folder}/{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
        self._private = name
        self._write(name)

    def _write(self, path: str) -> None:
        from grit.git.objects import write_all  # which imports grit.git.refs, and that this

        self._release()
        fd = self._fd = os.open(path, _FLAGS, 0o666)
        try:
            # Whoever clears away may hold it for a moment; then its name goes, and `take` sees.
            try_lock(fd)
            write_all(fd, self._content)
            if self._mode:
                os.chmod(path, self._mode)
            if self._sync:
                os.fsync(fd)
        except BaseException:
            if path == self._lock:
                self.drop()
            raise

    def _release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def remove_dead(lock: str, folder: str) -> bool:
    """Remove `<ref>.lock` when its holder is known to be dead; return whether it was.

    What other dead holders left under names of their own goes too. False says nothing.
    """
    if sys.platform == "win32":
        return False
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX)]
    except OSError:
        return False
    return sum(_clear(lock, f"{folder}/{name}") for name in names) > 0


def _clear(lock: str, private: str) -> bool:
    try:
        fd = os.open(private, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return False  # its holder was faster
    removed = False
    try:
        if not try_lock(fd):
            return False
        own = os.fstat(fd)
        with suppress(FileNotFoundError):
            # Only who holds the kernel's lock on this very file removes it: it cannot be new.
            if os.path.samestat(own, os.lstat(lock)):
                os.unlink(lock)
                removed = True
        if removed or own.st_nlink == 1:
            os.unlink(private)
    except OSError:
        return removed
    finally:
        os.close(fd)
    return removed
