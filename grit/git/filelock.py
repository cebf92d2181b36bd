"""A file lock that the kernel releases when its holder dies (spec/wal.md, Locks)."""

import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Final

from grit.core.errors import Busy, IoFailed
from grit.core.limits import LOCK_WAIT_MS_MAX

_NAP_MS_MIN: Final = 0.2
_NAP_MS_MAX: Final = 20.0
_LINE_MS_MAX: Final = 250.0
"""How long to wait in the kernel's line at once: a network's may wake nobody."""

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

    def unlock(fd: int) -> None:
        """Give the lock back."""
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock the file unless somebody else has it; raises OSError."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Give the lock back."""
        fcntl.flock(fd, fcntl.LOCK_UN)


def wait_in_line(fd: int, wait_ms: float) -> bool | None:
    """Wait for the lock in the kernel's line, at most that long; return whether it is had.

    None, at once, where that has no sure end: the alarm clock ends it, which must be unused, and
    which wakes the main thread of a process of Linux alone. Raises OSError.
    """
    if sys.platform != "linux":
        return None
    import signal

    before = signal.getsignal(signal.SIGALRM)
    used = before is not signal.SIG_DFL or signal.getitimer(signal.ITIMER_REAL)[0]
    if used or signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return None
    waiting = True

    def ring(_number: int, _frame: object) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            raise _Rung

    try:
        signal.signal(signal.SIGALRM, ring)
    except ValueError:
        return None  # not the main thread
    try:
        try:
            # It rings again, since the first time may be just before the wait begins.
            wait_s = max(wait_ms, 1) / 1000
            signal.setitimer(signal.ITIMER_REAL, wait_s, wait_s)
            fcntl.flock(fd, fcntl.LOCK_EX)
            return True
        finally:
            waiting = False
    except _Rung:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Rung(Exception):
    """The alarm clock rang."""


def nap(nap_ms: float) -> None:
    """Sleep about that long; the jitter keeps waiting processes from trying in step."""
    jitter = 0.5 + (time.monotonic_ns() // 1000 % 1000) / 1000
    time.sleep(nap_ms * jitter / 1000)


class FileLock:
    """An exclusive lock between processes and threads, as a context manager.

    The file stays: removing it would let two holders in. Its content is the holder's pid, for
    messages only. Raises Busy after `wait_ms_max`, IoFailed when the file cannot be locked.
    """

    __slots__ = ("_fd", "_nap_ms_max", "_path", "_pid", "_wait_ms_max", "held")

    def __init__(
        self, path: str, wait_ms_max: int = LOCK_WAIT_MS_MAX, nap_ms_max: float = _NAP_MS_MAX
    ) -> None:
        """Remember the lock's file; nothing is opened before the lock is asked for."""
        self._path = path
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
        return IoFailed(f"cannot lock {self._path}: {error.strerror}", errno=error.errno)

    def _open(self) -> int:
        # Never through a link: a repository that was shipped could name any file of this user.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            try:
                return os.open(self._path, flags, 0o666)
            except FileNotFoundError:
                # Not what is above: a repository that was moved away is not to come back.
                with suppress(FileExistsError):
                    os.mkdir(os.path.dirname(self._path))
                return os.open(self._path, flags, 0o666)
        except OSError as error:
            raise IoFailed(
                f"cannot open the lock {self._path}: {error.strerror}", errno=error.errno
            ) from error

    def _holder(self) -> str:
        if self._fd is None:
            return "unknown"
        os.lseek(self._fd, 0, os.SEEK_SET)
        text = os.read(self._fd, 20).split(b"\n", 1)[0]
        return text.decode() if text.isdigit() else "unknown"
