"""How an append looks in git: the dialects "grit" and "grite" (spec/wal.md, Dialects).

A dialect turns chunks into the files, message and people of commits. It is chosen once, from the
refs of the repository, and given to the log; nothing else knows which one is spoken.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from grit.core.errors import InvalidArgs
from grit.core.limits import APPEND_CHUNKS_MAX, TS_UNIX_MS_MAX
from grit.git.refs import GRIT_REF

MAGIC_GRIT: Final = b"GRITCHNK"
MAGIC_GRITE: Final = b"GRITECNK"
CHUNK_SUFFIX: Final = ".bin"
META_NAME: Final = "meta.json"
ATTACHMENTS: Final = "attachments"
SUBJECT_CHARS_MAX: Final = 200
_GRITE_PERSON: Final = "grite <grit@local>"
_CHUNK_HEAD_BYTES: Final = 18
"""Magic, version, codec length and `cbor-v1`: where the array of records starts."""
_RECORD_IDS_BYTES: Final = 1 + 34 + 17 + 17
"""Head of a record, event id, issue id and actor id: what stands before its time."""


class Request(NamedTuple):
    """What one append is to hold; `people` is (author, committer) as `Name <email>`."""

    chunks: tuple[bytes, ...]
    message: str
    trailers: tuple[str, ...]
    ts_unix_ms: int
    actor_id: bytes
    event_count: int
    attachments: Mapping[str, bytes]
    people: tuple[str, str]


class Plan(NamedTuple):
    """One commit to write: files by path, message, people, time in unix seconds (UTC)."""

    files: dict[str, bytes]
    message: str
    people: tuple[str, str]
    time_s: int


class Dialect(NamedTuple):
    """Which words the log speaks; `shared` logs are read by other implementations too."""

    name: str
    ref: str
    magic: bytes
    """Magic of the chunks to write."""

    @property
    def shared(self) -> bool:
        """Whether only the kinds that every implementation reads (tags 1-14) may be written."""
        return self.name == "grite"

    def groups(self, chunks: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
        """Return the chunks of each commit of one append, in order."""
        if self.shared:
            return [(chunk,) for chunk in chunks]
        if len(chunks) > APPEND_CHUNKS_MAX:
            step = APPEND_CHUNKS_MAX
            return [chunks[at : at + step] for at in range(0, len(chunks), step)]
        return [chunks]

    def plan(self, request: Request, group: tuple[bytes, ...], parent: str | None) -> Plan:
        """Return the commit that carries `group` on top of `parent`."""
        if any(not chunk.startswith(self.magic) for chunk in group):
            raise InvalidArgs(f"a chunk of this log starts with {self.magic.decode()}")
        files = {f"{ATTACHMENTS}/{name}": data for name, data in request.attachments.items()}
        if self.shared:
            return _plan_grite(request, group[0], parent, files)
        files.update({f"{_chunk_hash(chunk)}{CHUNK_SUFFIX}": chunk for chunk in group})
        return Plan(
            files,
            _message(request.message, request.trailers),
            request.people,
            request.ts_unix_ms // 1000,
        )


GRIT: Final = Dialect("grit", GRIT_REF, MAGIC_GRIT)


def _plan_grite(
    request: Request, chunk: bytes, parent: str | None, files: dict[str, bytes]
) -> Plan:
    import json

    name = _chunk_hash(chunk)
    meta = {
        "schema_version": 1,
        "actor_id": request.actor_id.hex(),
        "chunk_hash": name,
        "prev_wal": parent,
    }
    files[META_NAME] = json.dumps(meta, indent=2).encode()
    files[_grite_path(chunk, request.ts_unix_ms)] = chunk
    count = _event_count(chunk)
    message = f"WAL: {count} events from {request.actor_id.hex()[:8]}"
    return Plan(files, message, (_GRITE_PERSON, _GRITE_PERSON), request.ts_unix_ms // 1000)


def plan_grite_join(remote_head: str, time_s: int, local: Sequence[bytes]) -> Plan:
    """Return the commit on the remote's head that carries the chunks which are only here.

    `local`: their contents, oldest first.
    """
    import json

    meta = {
        "schema_version": 1,
        "actor_id": "0" * 32,
        "chunk_hash": _chunk_hash(local[-1]) if local else "0" * 64,
        "prev_wal": remote_head,
    }
    files = {META_NAME: json.dumps(meta, indent=2).encode()}
    files.update({_grite_path(chunk, time_s * 1000): chunk for chunk in local})
    count = sum(_event_count(chunk) for chunk in local)
    message = f"WAL: {count} events from {'0' * 8}"
    return Plan(files, message, (_GRITE_PERSON, _GRITE_PERSON), time_s)


def is_chunk(data: bytes) -> bool:
    """Return whether a file begins as a chunk does; its records are not looked at."""
    magic = data.startswith((MAGIC_GRIT, MAGIC_GRITE))
    return magic and len(data) > _CHUNK_HEAD_BYTES and data[_CHUNK_HEAD_BYTES] >> 5 == 4


def _grite_path(chunk: bytes, else_ms: int) -> str:
    """Return where a chunk stands in a tree: by the day of its first event, else of `else_ms`."""
    from grit.core.times import format_ms

    first_ms = _first_ts(chunk)
    day = format_ms(else_ms if first_ms is None else first_ms).partition("T")[0].replace("-", "/")
    return f"events/{day}/{_chunk_hash(chunk)}{CHUNK_SUFFIX}"


def _chunk_hash(chunk: bytes) -> str:
    from hashlib import blake2b

    return blake2b(chunk, digest_size=32).hexdigest()


def _event_count(chunk: bytes) -> int:
    """Return the length of the CBOR array that follows the chunk's header."""
    return _head_value(chunk, _CHUNK_HEAD_BYTES)[0]


def _first_ts(chunk: bytes) -> int | None:
    """Return the time of the chunk's first record, unix milliseconds; None when it has none."""
    at = _head_value(chunk, _CHUNK_HEAD_BYTES)[1]
    head = chunk[at : at + _RECORD_IDS_BYTES]
    ts_at = at + _RECORD_IDS_BYTES
    if len(chunk) < ts_at + 9 or not head.startswith(b"\x88\x58\x20") or chunk[ts_at] >> 5 != 0:
        return None
    ts_unix_ms = _head_value(chunk, ts_at)[0]
    return ts_unix_ms if ts_unix_ms <= TS_UNIX_MS_MAX else None


def _head_value(data: bytes, at: int) -> tuple[int, int]:
    """Return the number in the CBOR head at `at`, and where the head ends."""
    small = data[at] & 0x1F
    if small < 24:
        return small, at + 1
    end = at + 1 + (1 << (small - 24 & 3))
    return int.from_bytes(data[at + 1 : end], "big"), end


def _message(subject: str, trailers: Sequence[str]) -> str:
    lines = [_one_line(subject)[:SUBJECT_CHARS_MAX].rstrip() or "grit"]
    if trailers:
        lines += ["", *map(_one_line, trailers)]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """Drop what would break the line, drive a terminal or turn the text around."""
    if text.isascii() and text.isprintable():
        return text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
