"""The platform's file lock, which the kernel releases when its holder dies (spec/wal.md, Locks)."""

import os
import sys
import time

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
