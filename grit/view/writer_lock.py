"""The lock of the view's writers: released by the kernel, with a bounded wait (spec/view.md, Lock).

LMDB's own writer lock blocks without a bound; this one stands in front of it.
"""

import os
import time
from typing import Final

from grit.core import limits
from grit.core.errors import Busy
from grit.core.ids import parse_number
from grit.files.lock import try_lock, unlock
from grit.files.private import Folder

_NAME: Final = "writer.lock"
_NOTE_BYTES: Final = 32
_POLL_MS_MAX: Final = 20


class WriterLock:
    """An exclusive lock on a file, with a note by which others see who holds it and how far it is.

    The note is "<pid> <word>"; the word is "checked" once the holder knows that the view is sound.
    """

    __slots__ = ("_fd", "_folder", "_pid")

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._pid = 0

    @property
    def held(self) -> bool:
        """Whether this process holds the lock; a forked child never does."""
        return self._fd is not None and self._pid == os.getpid()

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Raises OSError where the folder cannot be written."""
        assert not self.held, "the view's writer lock is not reentrant"
        with self._folder.open() as folder:
            fd = folder.open(_NAME, os.O_RDWR | os.O_CREAT)
        if not try_lock(fd):
            os.close(fd)
            return False
        self._fd, self._pid = fd, os.getpid()
        self.note("checking")
        return True

    def acquire(self, wait_ms_max: int = limits.LOCK_WAIT_MS_MAX) -> None:
        """Take the lock, waiting for it; raise Busy, naming the holder, after the bound."""
        deadline = time.monotonic() + wait_ms_max / 1000
        pause_ms = 0.5
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                pid = self.holder()[0]
                raise Busy(f"the view is busy (pid {pid}); the log is not affected", pid=pid)
            time.sleep(pause_ms / 1000)
            pause_ms = min(pause_ms * 2, _POLL_MS_MAX)

    def note(self, word: str) -> None:
        """Tell the others how far the holder is."""
        if self._fd is not None:
            os.lseek(self._fd, 0, os.SEEK_SET)
            os.write(self._fd, f"{os.getpid()} {word}".ljust(_NOTE_BYTES).encode())

    def holder(self) -> tuple[int, str]:
        """Return pid and word of the last note; (0, "") when there is none."""
        try:
            with self._folder.open() as folder:
                note = folder.read(_NAME, cut=True)[:_NOTE_BYTES]
        except OSError:
            return 0, ""
        pid, _, word = note.decode("ascii", "replace").partition(" ")
        number = parse_number(pid)
        return (0, "") if number is None else (number, word.strip())

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        fd, self._fd = self._fd, None
        if fd is not None:
            if self._pid == os.getpid():
                os.lseek(fd, 0, os.SEEK_SET)
                os.write(fd, b" " * _NOTE_BYTES)
                unlock(fd)
            os.close(fd)
