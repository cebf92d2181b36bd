"""A file lock that the kernel releases when its holder dies (spec/wal.md, Locks)."""

import os
import sys
import time
from types import TracebackType
from typing import Final

from grit.core.errors import Busy, IoFailed
from grit.core.limits import LOCK_WAIT_MS_MAX

_NAP_MS_MIN: Final = 1
_NAP_MS_MAX: Final = 50

if sys.platform == "win32":
    import msvcrt

    def try_lock(fd: int) -> bool:
        """Lock the file unless somebody else has it; raises OSError."""
        os.lseek(fd, 1 << 20, os.SEEK_SET)  # beyond the pid, which others must be able to read
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the file unless somebody else has it; raises OSError."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """An exclusive lock between processes and threads, as a context manager.

    The file stays: removing it would let two holders in. Its content is the holder's pid, for
    messages only. Raises Busy after `wait_ms_max`, IoFailed when the file cannot be locked.
    """

    __slots__ = ("_fd", "_path", "_wait_ms_max")

    def __init__(self, path: str, wait_ms_max: int = LOCK_WAIT_MS_MAX) -> None:
        """Remember the lock's file; nothing is opened before the lock is entered."""
        self._path = path
        self._wait_ms_max = wait_ms_max
        self._fd: int | None = None

    def __enter__(self) -> "FileLock":
        fd = self._open()
        try:
            self._wait(fd)
            self._write_pid(fd)
        except OSError as error:
            os.close(fd)
            raise IoFailed(f"cannot lock {self._path}: {error.strerror}") from error
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)  # the lock goes with the descriptor
            self._fd = None

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            try:
                return os.open(self._path, flags, 0o666)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
                return os.open(self._path, flags, 0o666)
        except OSError as error:
            raise IoFailed(
                f"cannot open the lock {self._path}: {error.strerror}", errno=error.errno
            ) from error

    def _wait(self, fd: int) -> None:
        nap_ms = _NAP_MS_MIN
        deadline = time.monotonic() + self._wait_ms_max / 1000
        while not try_lock(fd):
            if time.monotonic() >= deadline:
                pid = self._holder(fd)
                raise Busy(f"busy (pid {pid}): another grit command is writing", pid=pid)
            # The jitter keeps waiting processes from trying in step.
            jitter = 0.5 + (time.monotonic_ns() // 1000 % 1000) / 1000
            time.sleep(nap_ms * jitter / 1000)
            nap_ms = min(nap_ms * 2, _NAP_MS_MAX)

    def _holder(self, fd: int) -> str:
        os.lseek(fd, 0, os.SEEK_SET)
        text = os.read(fd, 20).split(b"\n", 1)[0]
        return text.decode() if text.isdigit() else "unknown"

    def _write_pid(self, fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"%d\n" % os.getpid())
