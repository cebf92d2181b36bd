"""Reading a damaged log object by object: everything readable, and a report of the rest."""

from collections.abc import Iterator
from typing import Final

from grit.core.errors import WalDamaged
from grit.core.limits import CHUNK_BYTES_MAX
from grit.git.blob import Blob, checked, too_large, unreadable
from grit.git.catfile import CatFile
from grit.git.dialects import CHUNK_SUFFIX
from grit.git.objects import commit_links, tree_entries
from grit.git.repository import Repository

_TREE_DEPTH_MAX: Final = 8


def salvage(repository: Repository, head: str, old: str | None) -> Iterator[Blob]:
    """Yield every chunk reachable from `head` and not through `old`, parents first.

    What is missing or broken is yielded with its problem. Raises WalDamaged, naming the object,
    when a commit is: nobody can tell what lies behind it.
    """
    with CatFile(repository) as objects:
        seen: set[str] = set()
        for tree in _trees(objects, head, old):
            yield from _chunks(objects, repository.object_format, tree, "", seen)


def _trees(objects: CatFile, head: str, old: str | None) -> list[str]:
    """Return the trees of all commits, every parent before its children."""
    trees = []
    done: set[str] = set() if old is None else {old}
    stack: list[tuple[str, str | None]] = [(head, None)]
    while stack:
        oid, tree = stack.pop()
        if tree is not None:
            trees.append(tree)
            continue
        if oid in done:
            continue
        done.add(oid)
        found = objects.read(oid)
        if found is None or found[0] != "commit":
            raise WalDamaged(
                f"commit {oid} of the log is missing or broken; head unchanged", object=oid
            )
        tree, parents = commit_links(found[1])
        stack.append((oid, tree))
        stack.extend((parent, None) for parent in reversed(parents))
    return trees


def _chunks(
    objects: CatFile, object_format: str, tree: str, path: str, seen: set[str]
) -> Iterator[Blob]:
    if tree in seen or path.count("/") > _TREE_DEPTH_MAX:
        return
    seen.add(tree)
    header = objects.header(tree)
    fits = header is not None and header.kind == "tree" and header.size <= CHUNK_BYTES_MAX
    found = objects.read(tree) if fits else None
    if found is None:
        yield unreadable(tree, path, "tree")
        return
    for entry in tree_entries(found[1], object_format):
        name = f"{path}{entry.name}"
        if entry.is_tree:
            yield from _chunks(objects, object_format, entry.oid, f"{name}/", seen)
        elif entry.name.endswith(CHUNK_SUFFIX) and entry.oid not in seen:
            seen.add(entry.oid)
            yield read_chunk(objects, entry.oid, name)


def read_chunk(objects: CatFile, oid: str, name: str) -> Blob:
    """Return one chunk file, its size checked before it is read."""
    header = objects.header(oid)
    if header is None or header.kind != "blob":
        return unreadable(oid, name)
    if header.size > CHUNK_BYTES_MAX:
        return too_large(oid, name)
    found = objects.read(oid)
    return unreadable(oid, name) if found is None else checked(oid, name, found[1])
