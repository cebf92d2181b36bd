"""Checking the chunks of a whole log on every core; a few new chunks stay in the process.

Checking a record costs twice what decoding it does, and is pure: helpers forked from this process
take portions of chunks and say of each chunk whether it is sound. What they do not speak for, or
where a helper cannot be had or dies, is checked here.
"""

import os
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from grit.core.codec import DecodedChunk, Problem, decode_chunk, sound_sizes, split_sound

if TYPE_CHECKING:
    from grit.git.blob import Blob

PORTION_BYTES: Final = 1024 * 1024
CHUNK_SENT_BYTES_MIN: Final = 16 * 1024
"""A smaller chunk is checked here: sending it and hearing of it would cost more."""
HELPERS_MAX: Final = 4
_NUMBER: Final = "I"


class _Portion(NamedTuple):
    """Blobs that are decoded together."""

    blobs: list["Blob"]

    def chunks(self) -> list[bytes]:
        return [blob.data for blob in self.blobs if blob.data is not None and _is_sent(blob)]


class _Helper(NamedTuple):
    """A forked process that decodes what it is sent."""

    pid: int
    to: int
    back: int


def decoded(blobs: Iterable["Blob"], *, whole_log: bool) -> Iterator[tuple[str, DecodedChunk]]:
    """Yield each blob's id with what it holds, in the order given."""
    helpers = _start(len(os.sched_getaffinity(0))) if whole_log and _can_fork() else []
    if not helpers:
        for blob in blobs:
            yield blob.oid, _decode_blob(blob)
        return
    try:
        yield from _in_turn(helpers, _portions(blobs))
    finally:
        for helper in helpers:
            os.close(helper.to)
            os.close(helper.back)
            os.waitpid(helper.pid, 0)


def _is_sent(blob: "Blob") -> bool:
    return blob.data is not None and len(blob.data) >= CHUNK_SENT_BYTES_MIN


def _can_fork() -> bool:
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1


def _decode_blob(blob: "Blob") -> DecodedChunk:
    if blob.data is None:
        return DecodedChunk([], [Problem(None, blob.problem or "unreadable", None)])
    return decode_chunk(blob.data)


def _portions(blobs: Iterable["Blob"]) -> Iterator[_Portion]:
    portion: list[Blob] = []
    size = 0
    for blob in blobs:
        portion.append(blob)
        size += len(blob.data or b"")
        if size >= PORTION_BYTES:
            yield _Portion(portion)
            portion, size = [], 0
    if portion:
        yield _Portion(portion)


def _in_turn(
    helpers: list[_Helper], portions: Iterator[_Portion]
) -> Iterator[tuple[str, DecodedChunk]]:
    """Keep one portion with each helper: more could block both sides on full pipes."""
    busy: deque[tuple[_Helper, _Portion]] = deque()
    idle = deque(helpers)
    for portion in portions:
        if not idle:
            idle.append(busy[0][0])
            yield from _collect(*busy.popleft())
        helper = idle.popleft()
        _send(helper.to, portion.chunks())
        busy.append((helper, portion))
    for helper, portion in busy:
        yield from _collect(helper, portion)


def _collect(helper: _Helper, portion: _Portion) -> Iterator[tuple[str, DecodedChunk]]:
    for blob in portion.blobs:
        sizes = _receive_numbers(helper.back) if _is_sent(blob) else None
        if sizes and blob.data is not None:
            yield blob.oid, split_sound(blob.data, sizes)
        else:
            yield blob.oid, _decode_blob(blob)


def _start(count: int) -> list[_Helper]:
    """Fork helpers; fewer, or none, when the system refuses."""
    helpers: list[_Helper] = []
    for _ in range(min(count, HELPERS_MAX)):
        try:
            theirs, to = os.pipe()
            back, ours = os.pipe()
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            _serve(theirs, ours)
        os.close(theirs)
        os.close(ours)
        helpers.append(_Helper(pid, to, back))
    return helpers


def _serve(source: int, sink: int) -> None:
    """Check what comes until nothing comes; never returns and never touches what was inherited."""
    try:
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        while (chunks := _receive(0)) is not None:
            answers = [_numbers(sound_sizes(chunk) or []) for chunk in chunks]
            _write(1, answers)
    finally:
        os._exit(0)


def _send(fd: int, chunks: list[bytes]) -> None:
    """Write a portion: the sizes of its chunks, and themselves."""
    _write(fd, [_numbers([*map(len, chunks)]), *chunks])


def _receive(fd: int) -> list[bytes] | None:
    """Return the next portion, or None when the other side is gone."""
    sizes = _receive_numbers(fd)
    return None if sizes is None else [_read(fd, size) or b"" for size in sizes]


def _numbers(numbers: list[int]) -> bytes:
    """Return how many numbers there are, and the numbers."""
    return array(_NUMBER, [len(numbers), *numbers]).tobytes()


def _receive_numbers(fd: int) -> list[int] | None:
    """Return what `_numbers` was given, or None when the other side is gone."""
    count, numbers = array(_NUMBER), array(_NUMBER)
    head = _read(fd, count.itemsize)
    if head is None:
        return None
    count.frombytes(head)
    body = _read(fd, count[0] * count.itemsize)
    if body is None:
        return None
    numbers.frombytes(body)
    return numbers.tolist()


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
