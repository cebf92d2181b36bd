"""The newest commits of the log, read as loose files: no process for a short way to catch up."""

import os
from typing import Final

from grit.core.limits import BATCH_BYTES_MAX
from grit.git.blob import Blob
from grit.git.log_tree import walk_tree
from grit.git.objects import commit_links, read_loose
from grit.git.repository import Repository

_COMMITS_MAX: Final = 64


def read_loose_tail(repository: Repository, head: str, old: str | None) -> list[Blob] | None:
    """Return the chunks of the commits after `old`, oldest first.

    None says that git has to be asked: a commit with two parents, an object that is packed,
    borrowed, too large, broken or of another kind, a shallow repository, or a longer way.
    """
    if os.path.exists(f"{repository.common_dir}/shallow"):
        return None
    trees: list[str] = []
    oid: str | None = head
    while oid != old:
        if oid is None or len(trees) >= _COMMITS_MAX:
            return None
        tree, parents = commit_links(
            _read(repository, oid, "commit") or b"", repository.object_format
        )
        if not tree or len(parents) > 1:
            return None
        trees.append(tree)
        oid = parents[0] if parents else None
    blobs: dict[str, Blob] = {}
    size = 0

    def read_tree(oid: str) -> bytes | None:
        return _read(repository, oid, "tree")

    for tree in reversed(trees):
        for entry in walk_tree(read_tree, repository.object_format, tree):
            if entry is None:
                return None
            if entry.oid in blobs:
                continue
            data = _read(repository, entry.oid, "blob")
            if data is None:
                return None
            size += len(data)
            if size > BATCH_BYTES_MAX:
                return None  # git gives them one by one
            blobs[entry.oid] = Blob(entry.oid, data, None)
    return [*blobs.values()]


def is_loose_ancestor(repository: Repository, head: str, old: str) -> bool:
    """Return whether a short line of loose commits leads from `head` back to `old`.

    False says only that git has to be asked.
    """
    oid = head
    for _ in range(_COMMITS_MAX):
        if oid == old:
            return True
        parents = commit_links(_read(repository, oid, "commit") or b"", repository.object_format)[1]
        if len(parents) != 1:
            return False
        oid = parents[0]
    return False


def _read(repository: Repository, oid: str, kind: str) -> bytes | None:
    found = read_loose(repository, oid)
    return found[1] if found is not None and found[0] == kind else None
