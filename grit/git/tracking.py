"""Remote-tracking refs: what the remotes had when they were last fetched from (spec/sync.md)."""

import time
from typing import Final, NamedTuple

from grit.core.errors import Busy, Conflict, GitFailed, IoFailed, WalDamaged
from grit.git.refs import lies, read_ref, refs_below, set_aside, swap_ref
from grit.git.repository import Repository

_NO_REF: Final = frozenset(" ~^:?*[\\")
_PART_BYTES_MAX: Final = 200
"""A name on the disk has 255 bytes at most, `.lock` included."""


class Tracked(NamedTuple):
    """Heads of remote logs by remote, and the stamp of packed-refs."""

    heads: dict[str, str]
    packed: str


def tracking_name(remote: str) -> str:
    """Return under which name the refs of a remote are recorded: its own, where a ref can have it.

    A section of git's configuration can have names that no ref can: `my fork`, `a..b`, `x~1`.
    """
    if all(map(_is_part, remote.split("/"))) and "@{" not in remote:
        return remote
    from hashlib import sha256

    return f"name-{sha256(remote.encode(errors='surrogateescape')).hexdigest()[:16]}"


def _is_part(part: str) -> bool:
    """Whether a part of a ref's name can be so: what git refuses (git check-ref-format)."""
    plain = part and not (_NO_REF.intersection(part) or ".." in part or "\x7f" in part)
    ends = part.startswith(".") or part.endswith(".lock")
    size = len(part.encode(errors="surrogateescape"))
    return bool(plain) and not ends and min(part) >= " " and size <= _PART_BYTES_MAX


def tracking_ref(remote: str, ref: str) -> str:
    """Return where the state of `ref` on that remote is recorded, outside the log's own folder."""
    root, _, name = ref.removeprefix("refs/").partition("/")
    return f"refs/{root}-remotes/{tracking_name(remote) if remote else ''}/{name}"


def tracked_heads(repository: Repository, ref: str, packed_seen: str | None = None) -> Tracked:
    """Return the heads of the remotes' logs as they were last fetched.

    Those in packed-refs are left out when its stamp is `packed_seen`: they are known then.
    """
    folder, _, name = ref.removeprefix("refs/").partition("/")
    prefix = f"refs/{folder}-remotes/"
    below = refs_below(repository, prefix, packed_seen, name)
    ending = f"/{name}"
    heads = {
        found.removeprefix(prefix).removesuffix(ending): oid
        for found, oid in below.ids.items()
        if found.endswith(ending)
    }
    return Tracked(heads, below.packed)


def clear_record(repository: Repository, ref: str) -> list[str]:
    """Move a record that git could not write, or would write through, out of its way.

    Garbage stops every fetch, and through a symbolic ref a fetch would move the ref that it names:
    a branch, or the log. Return what to tell. Raises WalDamaged when the
    damage is not in a file of its own, IoFailed when the ref cannot be read.
    """
    try:
        read_ref(repository, ref)
        return []
    except WalDamaged as damage:
        try:
            if repository.ref_storage != "files" or not lies(repository, ref):
                raise damage
            kept = set_aside(repository, ref, f"damaged-record-{time.time_ns()}")
        except OSError as error:
            raise WalDamaged(f"{damage.message}, and cannot be moved aside") from error
        what = damage.message.partition(";")[0]
        return [f"{what}: it is kept as {kept}, and recorded anew"]


def record(repository: Repository, tracking: str, head: str) -> list[str]:
    """Let the tracking ref say what was pushed, where git has not done so; return what to tell."""
    try:
        old = read_ref(repository, tracking)
        if old != head:
            swap_ref(repository, tracking, old, head)
    except (Busy, Conflict, GitFailed, IoFailed, WalDamaged) as error:
        return [f"pushed, but {tracking} could not be moved: {error.message}"]
    return []
