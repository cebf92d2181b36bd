"""What a reader of the log delivers: one chunk file, or why it cannot be had."""

from hashlib import blake2b
from typing import Final, NamedTuple

from grit.core.limits import CHUNK_BYTES_MAX

_HEX: Final = frozenset("0123456789abcdef")
_HASH_CHARS: Final = 64
_SUFFIX_CHARS: Final = len(".bin")
_NAME_CHARS: Final = _HASH_CHARS + _SUFFIX_CHARS


class Blob(NamedTuple):
    """A chunk file of the log: its bytes, or the problem that keeps it from being read."""

    oid: str
    name: str
    """Path below the commit's tree; empty where git does not tell it."""
    data: bytes | None
    problem: str | None


def checked(oid: str, name: str, data: bytes) -> Blob:
    """Return the chunk file, or the problem when it is not what its name says.

    Git does not compare a loose object with its id when it delivers it, so the name, which is the
    chunk's BLAKE2b-256, is what tells damage. Names that are no hash say nothing.
    """
    stem = name[-_NAME_CHARS:-_SUFFIX_CHARS]
    if len(stem) == _HASH_CHARS and stem != blake2b(data, digest_size=32).hexdigest():
        if _HEX.issuperset(stem) and name[:-_NAME_CHARS][-1:] in ("", "/"):
            return Blob(oid, name, None, f"blob {oid} is broken: its hash is not its name")
    return Blob(oid, name, data, None)


def too_large(oid: str, name: str) -> Blob:
    """Return the report of a blob that nobody should read."""
    return Blob(oid, name, None, f"larger than {CHUNK_BYTES_MAX} bytes")


def unreadable(oid: str, name: str, what: str = "blob") -> Blob:
    """Return the report of an object that is missing or broken."""
    return Blob(oid, name, None, f"{what} {oid} is missing or broken")
