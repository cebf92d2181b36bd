"""What a reader of the log delivers: one chunk file, or why it cannot be had."""

from hashlib import sha1, sha256
from typing import NamedTuple

from grit.core.limits import CHUNK_BYTES_MAX


class Blob(NamedTuple):
    """A chunk file of the log: its bytes, or the problem that keeps it from being read."""

    oid: str
    name: str
    """Path below the commit's tree; empty where git does not tell it."""
    data: bytes | None
    problem: str | None


def checked(oid: str, name: str, data: bytes) -> Blob:
    """Return the chunk file, or the problem when its bytes are not those of its object id.

    Git does not make this check when it delivers an object. The name is not looked at: a chunk
    that somebody lists under a false name is still a chunk.
    """
    head = b"blob %d\0" % len(data)
    digest = sha256(head) if len(oid) == 64 else sha1(head, usedforsecurity=False)
    digest.update(data)
    if digest.hexdigest() != oid:
        return Blob(oid, name, None, f"blob {oid} is broken: it has other contents")
    return Blob(oid, name, data, None)


def too_large(oid: str, name: str) -> Blob:
    """Return the report of a blob that nobody should read."""
    return Blob(oid, name, None, f"larger than {CHUNK_BYTES_MAX} bytes")


def unreadable(oid: str, name: str, what: str = "blob") -> Blob:
    """Return the report of an object that is missing or broken."""
    return Blob(oid, name, None, f"{what} {oid} is missing or broken")
