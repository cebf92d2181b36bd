"""What a fetch left as loose objects: they get second names like those that grit writes itself.

Git unpacks a small fetch, and a `git prune` that is at work takes what it did not see (spec/wal.md,
Kept objects).
"""

from typing import Final

from grit.git.kept import Keeper, absent
from grit.git.objects import commit_links, read_loose, tree_entries
from grit.git.repository import Repository

_COMMITS_MAX: Final = 64
"""Git unpacks 100 objects at most, unless it was told otherwise; a commit comes with two."""
_DEPTH_MAX: Final = 8


def keep_fetched(repository: Repository, theirs: str, old: str | None, shared_mode: int) -> bool:
    """Keep what is loose of the newest commits of `theirs`; return whether all of it is there.

    It ends at `old`, and where the objects are packed. Call it before a ref of ours names it.
    """
    walk = _Walk(repository, Keeper(repository, shared_mode))
    waiting, seen = [theirs], {old}
    while waiting and len(seen) <= _COMMITS_MAX:
        oid = waiting.pop()
        if oid in seen:
            continue
        seen.add(oid)
        content = walk.take(oid)
        if content is not None:
            tree, parents = commit_links(content)
            walk.take_tree(tree, 0)
            waiting += parents
    return not absent(repository, walk.others)


class _Walk:
    def __init__(self, repository: Repository, keeper: Keeper) -> None:
        self._repository = repository
        self._keeper = keeper
        self.others: list[str] = []
        """Those that are packed, or gone."""

    def take(self, oid: str) -> bytes | None:
        """Keep a loose object and return its content."""
        found = read_loose(self._repository, oid)
        path = f"{self._repository.objects_dir}/{oid[:2]}/{oid[2:]}"
        if found is None or not self._keeper.keep(path, oid):
            self.others.append(oid)
            return None
        return found[1]

    def take_tree(self, oid: str, depth: int) -> None:
        content = self.take(oid)
        if content is None or depth > _DEPTH_MAX:
            return
        for entry in tree_entries(content, self._repository.object_format) or ():
            if entry.is_folder:
                self.take_tree(entry.oid, depth + 1)
            else:
                self.take(entry.oid)
