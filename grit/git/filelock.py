"""A lock of grit's as a file, and the wait for it (spec/wal.md, Locks)."""

import os
import time
from types import TracebackType
from typing import Final

from grit.core.errors import Busy, IoFailed
from grit.core.ids import parse_number
from grit.core.limits import LOCK_WAIT_MS_MAX
from grit.files.lock import nap, try_lock, unlock, wait_in_line
from grit.files.private import Folder, failed

_NAP_MS_MIN: Final = 0.2
_NAP_MS_MAX: Final = 20.0
_LINE_MS_MAX: Final = 250.0
"""How long to wait in the kernel's line at once: a network's may wake nobody."""


class FileLock:
    """An exclusive lock between processes and threads, as a context manager.

    The file stays: removing it would let two holders in. Its content is the holder's pid, for
    messages only. Raises Busy after `wait_ms_max`, IoFailed when the file cannot be locked.
    """

    __slots__ = ("_fd", "_folder", "_name", "_nap_ms_max", "_pid", "_wait_ms_max", "held")

    def __init__(
        self,
        folder: Folder,
        name: str,
        wait_ms_max: int = LOCK_WAIT_MS_MAX,
        nap_ms_max: float = _NAP_MS_MAX,
    ) -> None:
        """Remember the lock's file; nothing is opened before the lock is asked for."""
        self._folder = folder
        self._name = name
        self._wait_ms_max = wait_ms_max
        self._nap_ms_max = nap_ms_max
        self._fd: int | None = None
        self._pid = 0
        self.held = False

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, waiting for it; raises Busy and IoFailed."""
        nap_ms: float = _NAP_MS_MIN
        deadline = time.monotonic() + self._wait_ms_max / 1000
        try:
            while not self.try_acquire():
                left_ms = (deadline - time.monotonic()) * 1000
                if left_ms <= 0:
                    raise self.busy()
                if self._wait_in_line(min(left_ms, _LINE_MS_MAX)) is None:
                    nap(nap_ms)
                    nap_ms = min(nap_ms * 2, self._nap_ms_max)
        except BaseException:
            self.release()
            raise

    def try_acquire(self) -> bool:
        """Take the lock if it is free; `release` belongs to either answer. Raises IoFailed."""
        if self._fd is None:
            self._fd = self._open()
        try:
            self.held = try_lock(self._fd)
            if self.held:
                self._pid = os.getpid()
                os.lseek(self._fd, 0, os.SEEK_SET)
                os.write(self._fd, b"%d\n" % self._pid)
        except OSError as error:
            raise self._failed(error) from error
        return self.held

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        fd, self._fd = self._fd, None
        held, self.held = self.held, False
        if fd is not None:
            if held and self._pid == os.getpid():
                unlock(fd)  # a forked child may have the descriptor still
            os.close(fd)

    def busy(self) -> Busy:
        """Return the error that names who holds the lock."""
        pid = self._holder()
        return Busy(f"busy (pid {pid}): another grit command is writing", pid=pid)

    def _wait_in_line(self, wait_ms: float) -> bool | None:
        """Wait until the lock can be had, as it seems; None where the kernel keeps no line."""
        assert self._fd is not None
        try:
            return wait_in_line(self._fd, wait_ms)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> IoFailed:
        self.release()
        return failed(f"cannot lock {self._folder.path}/{self._name}", error)

    def _open(self) -> int:
        try:
            with self._folder.open(make=True) as folder:
                return folder.open(self._name, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise failed(f"cannot open the lock {self._folder.path}/{self._name}", error) from error

    def _holder(self) -> str:
        if self._fd is None:
            return "unknown"
        os.lseek(self._fd, 0, os.SEEK_SET)
        text = os.read(self._fd, 20).split(b"\n", 1)[0]
        return text.decode() if parse_number(text) is not None else "unknown"
