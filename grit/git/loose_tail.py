"""The newest commits of the log, read as loose files: no process for a short way to catch up."""

import os
from typing import Final

from grit.git.blob import Blob
from grit.git.dialects import CHUNK_SUFFIX
from grit.git.objects import commit_links, read_loose, tree_entries
from grit.git.repository import Repository

_COMMITS_MAX: Final = 64
_TREE_DEPTH_MAX: Final = 8


def read_loose_tail(repository: Repository, head: str, old: str | None) -> list[Blob] | None:
    """Return the chunks of the commits after `old`, oldest first.

    None says that git has to be asked: a commit with two parents, an object that is packed,
    borrowed, too large or broken, a shallow repository, or a longer way.
    """
    if os.path.exists(f"{repository.common_dir}/shallow"):
        return None
    trees: list[str] = []
    oid: str | None = head
    while oid != old:
        found = read_loose(repository, oid) if oid is not None else None
        if found is None or found[0] != "commit" or len(trees) >= _COMMITS_MAX:
            return None
        tree, parents = commit_links(found[1])
        if len(parents) > 1:
            return None
        trees.append(tree)
        oid = parents[0] if parents else None
    blobs: list[Blob] = []
    whole = all(_collect(repository, tree, "", blobs) for tree in reversed(trees))
    return blobs if whole else None


def is_loose_ancestor(repository: Repository, head: str, old: str) -> bool:
    """Return whether a short line of loose commits leads from `head` back to `old`.

    False says only that git has to be asked.
    """
    oid = head
    for _ in range(_COMMITS_MAX):
        if oid == old:
            return True
        found = read_loose(repository, oid)
        parents = commit_links(found[1])[1] if found is not None else ()
        if len(parents) != 1:
            return False
        oid = parents[0]
    return False


def _collect(repository: Repository, tree: str, path: str, blobs: list[Blob]) -> bool:
    found = read_loose(repository, tree)
    if found is None or found[0] != "tree" or path.count("/") > _TREE_DEPTH_MAX:
        return False
    for entry in tree_entries(found[1], repository.object_format):
        name = f"{path}{entry.name}"
        if entry.is_tree:
            if not _collect(repository, entry.oid, f"{name}/", blobs):
                return False
        elif entry.name.endswith(CHUNK_SUFFIX):
            blob = read_loose(repository, entry.oid)
            if blob is None or blob[0] != "blob":
                return False
            blobs.append(Blob(entry.oid, name, blob[1], None))
    return True
