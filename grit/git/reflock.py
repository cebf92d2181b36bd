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

from grit.files.lock import try_lock
from grit.files.private import Folder, Opened, write_all

_PREFIX: Final = "swap-"
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""What a file system without hard links answers."""
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class RefLock:
    """The lock of one ref file; `close` it whatever happens. Every method raises OSError."""

    __slots__ = (
        "_content", "_fd", "_folder", "_lock", "_mode", "_name", "_private", "_private_folder",
        "_sync",
    )  # fmt: skip

    def __init__(
        self, folder: Folder, name: str, private: Folder, content: bytes, mode: int, sync: bool
    ) -> None:
        """Prepare `content` for the ref of that name in `folder`; nobody waits for it yet.

        `private` is grit's own folder; `mode` bits are added to the file's (0: none).
        """
        self._folder = folder
        self._name = name
        self._lock = f"{name}.lock"
        self._private_folder = private
        self._content = content
        self._mode = mode
        self._sync = sync
        self._fd: int | None = None
        self._private: str | None = None

    def take(self) -> bool:
        """Take `<ref>.lock` unless it is there; FileNotFoundError when its folder is missing."""
        try:
            with self._folder.open() as refs:
                if sys.platform == "win32":
                    self._write(refs, self._lock)  # an open file cannot be renamed there
                    self._release()
                else:
                    self._link(refs)
        except FileExistsError:
            with self._folder.open() as refs:
                refs.look(self._lock)  # what is no file is waited for by nobody
            return False
        return True

    def make_folder(self) -> None:
        """Make the folder of the ref."""
        self._folder.open(make=True).close()

    def publish(self) -> None:
        """Let the lock become the ref."""
        with self._folder.open() as refs:
            refs.move(self._lock, self._name)

    def drop(self) -> None:
        """Give the lock back, if it is still this one; the ref stays as it is."""
        with suppress(FileNotFoundError), self._folder.open() as refs:
            self._drop(refs)

    def close(self) -> None:
        """Forget the file's own name."""
        private, self._private = self._private, None
        if private is not None:
            # What stays a later holder clears away.
            with suppress(OSError), self._private_folder.open() as folder:
                folder.remove(private)
        self._release()

    def remove_dead(self) -> bool:
        """Remove `<ref>.lock` when its holder is known to be dead; return whether it was.

        What other dead holders left under names of their own goes too. False says nothing.
        """
        if sys.platform == "win32":
            return False
        try:
            with self._folder.open() as refs, self._private_folder.open() as folder:
                names = [name for name, _ in folder.entries() if name.startswith(_PREFIX)]
                return sum(_clear(refs, self._lock, folder, name) for name in names) > 0
        except OSError:
            return False

    def _drop(self, refs: Opened) -> None:
        found = refs.look(self._lock)
        if found and (self._fd is None or os.path.samestat(os.fstat(self._fd), found)):
            refs.remove(self._lock)

    def _link(self, refs: Opened) -> None:
        with self._private_folder.open(make=True) as folder:
            if self._private is None or folder.look(self._private) is None:
                self.close()
                self._private = f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
                self._write(folder, self._private)
            try:
                folder.link(self._private, self._lock, refs)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.close()
                self._write(refs, self._lock)

    def _write(self, folder: Opened, name: str) -> None:
        self._release()
        fd = self._fd = folder.open(name, _FLAGS)
        try:
            # Whoever clears away may hold it for a moment; then its name goes, and `take` sees.
            try_lock(fd)
            write_all(fd, self._content)
            if self._mode:
                os.fchmod(fd, self._mode)
            if self._sync:
                os.fsync(fd)
        except BaseException:
            if name == self._lock:
                self._drop(folder)
            raise

    def _release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _clear(refs: Opened, lock: str, folder: Opened, private: str) -> bool:
    try:
        fd = folder.open(private)
    except OSError:
        return False  # its holder was faster
    removed = False
    try:
        if not try_lock(fd):
            return False
        own = os.fstat(fd)
        found = refs.look(lock)
        # Only who holds the kernel's lock on this very file removes it: it cannot be new.
        if found is not None and os.path.samestat(own, found):
            refs.remove(lock)
            removed = True
        if removed or own.st_nlink == 1:
            folder.remove(private)
    except OSError:
        return removed
    finally:
        os.close(fd)
    return removed
