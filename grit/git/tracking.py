"""Remote-tracking refs: what the remotes had when they were last fetched from (spec/sync.md)."""

import time
from typing import NamedTuple

from grit.core.errors import Busy, Conflict, GitFailed, IoFailed, WalDamaged
from grit.git.refs import lies, read_ref, refs_below, set_aside, swap_ref
from grit.git.repository import Repository


class Tracked(NamedTuple):
    """Heads of remote logs by remote, and the stamp of packed-refs."""

    heads: dict[str, str]
    packed: str


def tracking_ref(remote: str, ref: str) -> str:
    """Return where the state of `ref` on that remote is recorded, outside the log's own folder."""
    root, _, name = ref.removeprefix("refs/").partition("/")
    return f"refs/{root}-remotes/{remote}/{name}"


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
