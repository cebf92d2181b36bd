"""Decoding the chunks of a whole log on every core; one of a few new chunks stays in the process.

Checking a record costs several times what reading it does, and is pure: helpers forked from this
process take portions of chunks and give back plain tuples. Where a helper cannot be had, or dies,
its portion is decoded here.
"""

import marshal
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from grit.core.codec import DecodedChunk, Problem, decode_chunk
from grit.core.events import Event

if TYPE_CHECKING:
    from grit.git.blob import Blob

PORTION_BYTES: Final = 1024 * 1024
HELPERS_MAX: Final = 4
_HEADER_BYTES: Final = 8


class _Portion(NamedTuple):
    """Blobs that are decoded together."""

    blobs: list["Blob"]

    def chunks(self) -> list[bytes]:
        return [blob.data for blob in self.blobs if blob.data is not None]


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
    results = _receive(helper.back)
    if not isinstance(results, list):
        yield from ((blob.oid, _decode_blob(blob)) for blob in portion.blobs)
        return
    found = iter(results)
    for blob in portion.blobs:
        if blob.data is None:
            yield blob.oid, _decode_blob(blob)
            continue
        records, problems = next(found)
        yield (
            blob.oid,
            DecodedChunk(
                [(tuple.__new__(Event, event), record) for event, record in records],
                [Problem(*problem) for problem in problems],
            ),
        )


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
    """Decode what comes until nothing comes; never returns and never touches what was inherited."""
    try:
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        while isinstance(chunks := _receive(0), list):
            _send(1, [_plain(decode_chunk(chunk)) for chunk in chunks])
    finally:
        os._exit(0)


def _plain(chunk: DecodedChunk) -> tuple[list[tuple[object, bytes]], list[tuple[object, ...]]]:
    records: list[tuple[object, bytes]] = [(tuple(event), raw) for event, raw in chunk.records]
    return records, [tuple(problem) for problem in chunk.problems]


def _send(fd: int, value: object) -> None:
    """Write a value; what cannot be written is noticed when nothing comes back."""
    data = marshal.dumps(value)  # type: ignore[arg-type]
    view = memoryview(len(data).to_bytes(_HEADER_BYTES, "big") + data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except BrokenPipeError:
        return


def _receive(fd: int) -> object:
    """Return the next value, or None when the other side is gone."""
    header = _read(fd, _HEADER_BYTES)
    if header is None:
        return None
    data = _read(fd, int.from_bytes(header, "big"))
    return None if data is None else marshal.loads(data)


def _read(fd: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
