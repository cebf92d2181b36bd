"""Remote-tracking refs: what the remotes had when they were last fetched from (spec/sync.md)."""

from typing import NamedTuple

from grit.git.refs import refs_below
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
