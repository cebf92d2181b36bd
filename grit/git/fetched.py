"""What a fetch left as loose objects: they get second names like those that grit writes itself.

Git unpacks a small fetch, and a `git prune` that is at work takes what it did not see (spec/wal.md,
Kept objects).
"""

from typing import Final

from grit.core.limits import TREE_DEPTH_MAX
from grit.files.names import OBJECTS
from grit.files.private import Folder
from grit.git.kept import Keeper, absent
from grit.git.objects import commit_links, read_loose, tree_entries
from grit.git.repository import Repository

_OBJECTS_MAX: Final = 10_000
"""Git unpacks 100 objects at most, unless it was told otherwise."""


def keep_fetched(repository: Repository, theirs: str, old: str | None, shared_mode: int) -> bool:
    """Keep what is loose of the newest commits of `theirs`; return whether all of it is there.

    It ends at `old`, and where the objects are packed. Call it before a ref of ours names it.
    """
    keeper = Keeper(repository, shared_mode)
    seen, elsewhere = {old}, []
    waiting: list[tuple[str, int | None]] = [(theirs, None)]
    """Objects, and how deep a tree lies; None for a commit, TREE_DEPTH_MAX for what is a leaf."""
    while waiting and len(seen) < _OBJECTS_MAX:
        oid, depth = waiting.pop()
        if oid in seen:
            continue
        seen.add(oid)
        if not _keep(repository, keeper, oid):
            elsewhere.append(oid)
            continue
        if depth == TREE_DEPTH_MAX:
            continue
        found = read_loose(repository, oid)
        if found is None:
            continue
        if depth is None:
            tree, parents = commit_links(found[1], repository.object_format)
            waiting += [*((parent, None) for parent in parents), (tree, 0)]
            continue
        for entry in tree_entries(found[1], repository.object_format) or ():
            if entry.is_file or entry.is_folder:
                waiting.append((entry.oid, depth + 1 if entry.is_folder else TREE_DEPTH_MAX))
    return not absent(repository, elsewhere)


def _keep(repository: Repository, keeper: Keeper, oid: str) -> bool:
    """Keep one object; return whether it is loose."""
    try:
        with Folder(repository.objects_dir, (oid[:2],), OBJECTS).open() as folder:
            return folder.lies(oid[2:]) and keeper.keep(folder, oid[2:], oid)
    except OSError:
        return False
