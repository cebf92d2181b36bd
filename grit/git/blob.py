"""What a reader of the log delivers: one chunk file, or why it cannot be had."""

from typing import Final, NamedTuple

from grit.core.limits import CHUNK_BYTES_MAX

_UNREADABLE: Final = " is missing or broken"


class Blob(NamedTuple):
    """A chunk file of the log: its bytes, or the problem that keeps it from being read."""

    oid: str
    data: bytes | None
    problem: str | None


def too_large(oid: str) -> Blob:
    """Return the report of an object that nobody should read."""
    return Blob(oid, None, f"larger than {CHUNK_BYTES_MAX} bytes")


def unreadable(oid: str, what: str = "blob") -> Blob:
    """Return the report of an object that is missing or broken."""
    return Blob(oid, None, f"{what} {oid}{_UNREADABLE}")


def not_a_blob(oid: str, kind: str) -> Blob:
    """Return the report of an object that is named as a chunk file and is something else."""
    return Blob(oid, None, f"{oid} is a {kind}, no file")


def is_broken(blob: Blob) -> bool:
    """Return whether something is missing or broken that a copy could mend."""
    return blob.problem is not None and blob.problem.endswith(_UNREADABLE)
