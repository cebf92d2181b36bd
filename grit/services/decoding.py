"""Checking the chunks of a whole log on every core; a few new chunks stay in the process.

Checking a record costs twice what decoding it does, and is pure: forked processes take portions of
chunks and say of each chunk whether it is sound. What they do not speak for is checked here.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from grit.core.codec import DecodedChunk, Problem, decode_chunks, sound_sizes, split_sound
from grit.services.forked import Pool

if TYPE_CHECKING:
    from grit.git.blob import Blob

PORTION_BYTES: Final = 1024 * 1024
CHUNK_SENT_BYTES_MIN: Final = 16 * 1024
"""A smaller chunk is checked here: sending it and hearing of it would cost more."""
_NUMBER: Final = "I"


def decoded(blobs: Iterable["Blob"], *, whole_log: bool) -> Iterator[tuple[str, DecodedChunk]]:
    """Yield each blob's id with what it holds, in the order given.

    What a chunk holds may take 100 MB: a loop lets it go (`del`) before it asks for the next.
    """
    if not whole_log:
        for portion in _portions(blobs):
            yield from _collect(portion, None)
        return
    with Pool(_sizes) as pool:
        for portion, answers in pool.answers(_portions(blobs), _chunks):
            yield from _collect(portion, answers)


def count_events(blobs: Iterable["Blob"]) -> int:
    """Return how many different events the blobs hold."""
    found = decoded(blobs, whole_log=False)
    return len({event.event_id for _, chunk in found for event, _ in chunk.records})


def _sizes(chunk: bytes) -> bytes:
    """Return the sizes of a sound chunk's records as bytes; nothing for any other chunk."""
    return array(_NUMBER, sound_sizes(chunk) or ()).tobytes()


def _chunks(portion: list["Blob"]) -> list[bytes]:
    return [blob.data for blob in portion if blob.data is not None and _is_sent(blob)]


def _is_sent(blob: "Blob") -> bool:
    return blob.data is not None and len(blob.data) >= CHUNK_SENT_BYTES_MIN


def _portions(blobs: Iterable["Blob"]) -> Iterator[list["Blob"]]:
    portion: list[Blob] = []
    size = 0
    for blob in blobs:
        portion.append(blob)
        size += len(blob.data or b"")
        if size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _collect(
    portion: list["Blob"], answers: list[bytes] | None
) -> Iterator[tuple[str, DecodedChunk]]:
    spoken = iter(answers or ())
    sizes = [next(spoken, b"") if _is_sent(blob) else b"" for blob in portion]
    pairs = list(zip(portion, sizes, strict=True))
    rest = decode_chunks(blob.data for blob, size in pairs if blob.data is not None and not size)
    for blob, size in pairs:
        if blob.data is None:
            reason = blob.problem or "unreadable"
            yield blob.oid, DecodedChunk([], [Problem(None, reason, None)])
        elif size:
            yield blob.oid, split_sound(blob.data, array(_NUMBER, size).tolist())
        else:
            yield blob.oid, next(rest)
