"""Pure work on every core: forked processes that are sent parts of bytes and send answers back.

A process that cannot be had, or dies, costs time and changes no answer: what it does not speak for
is left to the caller.
"""

import os
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

HELPERS_MAX: Final = 4
_NUMBER: Final = "I"


class Helper(NamedTuple):
    """A forked process that answers what it is sent."""

    pid: int
    to: int
    back: int


class Pool:
    """Helpers for one kind of work; use it as a context, and give parts of at most 4 GiB."""

    def __init__(self, work: Callable[[bytes], bytes]) -> None:
        """Fork one helper a core, if there are several; `work` must be pure."""
        self.helpers = start(work, len(os.sched_getaffinity(0))) if can_fork() else []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the helpers and wait for them."""
        helpers, self.helpers = self.helpers, []
        for helper in helpers:
            os.close(helper.to)
            os.close(helper.back)
            os.waitpid(helper.pid, 0)

    def answers(
        self, portions: Iterable[T], parts: Callable[[T], list[bytes]]
    ) -> Iterator[tuple[T, list[bytes] | None]]:
        """Yield each portion, in order, with an answer for each of its parts; None: nobody spoke.

        One portion is kept with each helper: more could block both sides on full pipes.
        """
        busy: deque[tuple[Helper, T]] = deque()
        idle = deque(self.helpers)
        for portion in portions:
            if not self.helpers:
                yield portion, None
                continue
            if not idle:
                idle.append(busy[0][0])
                yield _collect(*busy.popleft())
            helper = idle.popleft()
            _send(helper.to, parts(portion))
            busy.append((helper, portion))
        for helper, portion in busy:
            yield _collect(helper, portion)


def can_fork() -> bool:
    """Return whether helpers may be forked, and would help."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def start(work: Callable[[bytes], bytes], count: int) -> list[Helper]:
    """Fork helpers; fewer, or none, when the system refuses."""
    helpers: list[Helper] = []
    for _ in range(min(count, HELPERS_MAX)):
        try:
            theirs, to = os.pipe()
            back, ours = os.pipe()
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            _serve(work, theirs, ours)
        os.close(theirs)
        os.close(ours)
        helpers.append(Helper(pid, to, back))
    return helpers


def _serve(work: Callable[[bytes], bytes], source: int, sink: int) -> None:
    """Answer what comes until nothing comes; never returns and never touches what was inherited."""
    try:
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        while (parts := _receive(0)) is not None:
            _send(1, [work(part) for part in parts])
    finally:
        os._exit(0)


def _collect(helper: Helper, portion: T) -> tuple[T, list[bytes] | None]:
    return portion, _receive(helper.back)


def _send(fd: int, parts: list[bytes]) -> None:
    """Write the sizes of the parts, and themselves."""
    _write(fd, [array(_NUMBER, [len(parts), *map(len, parts)]).tobytes(), *parts])


def _receive(fd: int) -> list[bytes] | None:
    """Return what `_send` was given, or None when the other side is gone."""
    count, sizes = array(_NUMBER), array(_NUMBER)
    head = _read(fd, count.itemsize)
    if head is None:
        return None
    count.frombytes(head)
    body = _read(fd, count[0] * count.itemsize)
    if body is None:
        return None
    sizes.frombytes(body)
    parts: list[bytes] = []
    for size in sizes:
        part = _read(fd, size)
        if part is None:
            return None
        parts.append(part)
    return parts


def _write(fd: int, parts: list[bytes]) -> None:
    """Write everything; what cannot be written is noticed when nothing comes back."""
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(fd, view) :]
    except BrokenPipeError:
        return


def _read(fd: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
