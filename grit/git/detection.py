"""Finding out which dialect a log is written in (spec/wal.md, Dialects)."""

from typing import Final

from grit.core.errors import WalDamaged
from grit.git.catfile import CatFile, read_small
from grit.git.dialects import GRIT, MAGIC_GRIT, MAGIC_GRITE, META_NAME, Dialect
from grit.git.log_tree import walk_tree
from grit.git.objects import TreeEntry, commit_links, tree_entries
from grit.git.process import output
from grit.git.refs import GRIT_REF, GRITE_REF, read_ref
from grit.git.repository import Repository

_MAGIC_COMMITS_MAX: Final = 32
"""How far back the magic of the newest chunk is looked for, past merges."""


def choose_log(repository: Repository) -> tuple[str, str]:
    """Return the ref of the log and the one that is not shown, where GRITE_REF is there.

    Raises WalDamaged, IoFailed or GitFailed when it cannot be told.
    """
    head = read_ref(repository, GRIT_REF)
    if head is None or detect_dialect(repository, GRIT_REF, head).shared:
        return GRITE_REF, GRIT_REF
    return GRIT_REF, GRITE_REF


def detect_dialect(repository: Repository, ref: str, head: str) -> Dialect:
    """Return the dialect that the newest commit is written in.

    Raises WalDamaged when that commit or its tree cannot be read: nobody may write on it.
    """
    with CatFile(repository) as objects:
        root = _root_entries(repository, objects, head)
        if ref == GRIT_REF and (not _is_grite(root) or _begun_by_grit(repository, objects, head)):
            return GRIT
        magic = _newest_magic(repository, objects, head)
    usual = MAGIC_GRIT if ref == GRIT_REF else MAGIC_GRITE
    return Dialect("grite", ref, magic or usual)


def _is_grite(root: list[TreeEntry]) -> bool:
    return any(entry.name == META_NAME.encode() for entry in root)


def _begun_by_grit(repository: Repository, objects: CatFile, head: str) -> bool:
    """Return whether the log began in dialect "grit".

    One commit of another tool, or of somebody who wants events to be unsigned, does not change it.
    """
    listed = output(repository.git_dir, "rev-list", "--max-parents=0", head, "--").decode().split()
    return any(not _is_grite(_root_entries(repository, objects, first)) for first in listed)


def _root_entries(repository: Repository, objects: CatFile, head: str) -> list[TreeEntry]:
    commit = _read_object(repository, objects, head, "commit")
    oid = commit_links(commit, repository.object_format)[0]
    tree = _read_object(repository, objects, oid, "tree")
    entries = tree_entries(tree, repository.object_format)
    if entries is None:
        raise _broken("tree", oid)
    return entries


def _newest_magic(repository: Repository, objects: CatFile, head: str) -> bytes | None:
    """Return the magic of the newest chunk on the line of first parents, None when there is none.

    Three eras of one dialect differ in it (spec/wal.md, Dialect "grite").
    """
    oid = head
    for _ in range(_MAGIC_COMMITS_MAX):
        tree, parents = commit_links(
            _read_object(repository, objects, oid, "commit"), repository.object_format
        )
        chunk = _first_chunk(repository, objects, tree)
        if chunk is not None:
            data = _read_object(repository, objects, chunk, "blob")
            return data[: len(MAGIC_GRIT)] if data[:8] in (MAGIC_GRIT, MAGIC_GRITE) else None
        if not parents:
            return None
        oid = parents[0]
    return None


def _first_chunk(repository: Repository, objects: CatFile, tree: str) -> str | None:
    def read(oid: str) -> bytes:
        return _read_object(repository, objects, oid, "tree")

    for entry in walk_tree(read, repository.object_format, tree):
        if entry is None:
            raise _broken("tree", tree)
        return entry.oid
    return None


def _read_object(repository: Repository, objects: CatFile, oid: str, kind: str) -> bytes:
    found = read_small(repository, objects, oid)
    if found is None or found[0] != kind:
        raise _broken(kind, oid)
    return found[1]


def _broken(kind: str, oid: str) -> WalDamaged:
    return WalDamaged(f"{kind} {oid} of the log is missing or broken; head unchanged", object=oid)
