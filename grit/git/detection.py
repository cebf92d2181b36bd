"""Finding out which dialect a log is written in (spec/wal.md, Dialects)."""

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from grit.core.errors import WalDamaged
from grit.git.catfile import CatFile, NotWhole, read_listed, read_small
from grit.git.dialects import GRIT, MAGIC_GRIT, MAGIC_GRITE, META_NAME, Dialect
from grit.git.log_tree import walk_tree
from grit.git.objects import TreeEntry, commit_links, tree_entries
from grit.git.process import output
from grit.git.refs import GRIT_REF, GRITE_REF, read_ref
from grit.git.repository import Repository

if TYPE_CHECKING:
    from grit.git.log_reader import Trees
    from grit.git.wal import Wal

_MAGIC_COMMITS_MAX: Final = 32
"""How far back the magic of the newest chunk is looked for, past merges."""

_FETCHED_MAX: Final = 16
"""Of how many fetched heads it is asked what they are."""


def choose_log(repository: Repository) -> tuple[str, str]:
    """Return the ref of the log and the one that is not shown, where GRITE_REF is there.

    Raises WalDamaged, IoFailed or GitFailed when it cannot be told.
    """
    head = read_ref(repository, GRIT_REF)
    if head is None or detect_dialect(repository, GRIT_REF, head).shared:
        return GRITE_REF, GRIT_REF
    return GRIT_REF, GRITE_REF


def choose_fetched(repository: Repository) -> str:
    """Return the ref that the log of a clone without one belongs at: what was fetched says it.

    A head that is no log says nothing.
    """
    from grit.git.tracking import tracked_heads

    theirs, ours = (
        sorted({*tracked_heads(repository, ref).heads.values()})[:_FETCHED_MAX]
        for ref in (GRITE_REF, GRIT_REF)
    )
    if not any(_may_be_grite(repository, head) for head in theirs):
        return GRIT_REF
    native = any(not is_grite_log(repository, head) for head in ours)
    return GRIT_REF if native else GRITE_REF


def belongs_at(repository: Repository, head: str, stood_at: str | None) -> str:
    """Return the ref that a log with this head belongs at; raises WalDamaged.

    Of the eras before the last it is where a damaged ref says that it stood, else where the
    remotes that were fetched from have theirs.
    """
    from grit.git.tracking import tracked_heads

    dialect = detect_dialect(repository, GRIT_REF, head)
    if not dialect.shared:
        mixed = has_meta(repository, head) and began_in_both(repository, head)
        return GRITE_REF if mixed else GRIT_REF
    fetched = tracked_heads(repository, GRITE_REF).heads
    later = dialect.magic == MAGIC_GRITE or stood_at == GRITE_REF or fetched
    return GRITE_REF if later else GRIT_REF


def is_grite_log(repository: Repository, head: str) -> bool:
    """Return whether the head is one of dialect "grite"; False also where that cannot be read."""
    with suppress(WalDamaged):
        return detect_dialect(repository, GRIT_REF, head).shared
    return False


def _may_be_grite(repository: Repository, head: str) -> bool:
    """Return whether a head fetched from GRITE_REF is one of such a log, as far as can be told."""
    try:
        with CatFile(repository) as objects:
            return _is_grite(_root_entries(repository, objects, head))
    except WalDamaged:
        return True  # what is missing may come back, or be fetched by a sync


def unborn(ref: str) -> Dialect:
    """Return the dialect of a log that has no commit yet."""
    return GRIT if ref == GRIT_REF else Dialect("grite", ref, MAGIC_GRITE)


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


def has_meta(repository: Repository, head: str) -> bool:
    """Return whether a commit is one of dialect "grite"; raises WalDamaged."""
    with CatFile(repository) as objects:
        return _is_grite(_root_entries(repository, objects, head))


def began_in_both(repository: Repository, head: str) -> bool:
    """Return whether first commits of both dialects are behind the head; raises WalDamaged."""
    with CatFile(repository) as objects:
        return len(_beginnings(repository, objects, head)) > 1


def all_have_meta(repository: Repository, trees: "Trees") -> bool:
    """Return whether these are all trees of dialect "grite"; raises WalDamaged."""
    try:
        for _, content in read_listed(repository, trees.to_file(), "tree"):
            if not _is_grite(tree_entries(content, repository.object_format) or []):
                return False
    except NotWhole as error:
        raise WalDamaged("a tree of the log is missing or broken; head unchanged") from error
    return True


def is_readable_by_others(repository: Repository, head: str) -> bool:
    """Return whether every commit of the log is one of dialect "grite"; raises WalDamaged."""
    from grit.git.log_reader import commit_trees

    return all_have_meta(repository, commit_trees(repository, head, None))


def check_parent(wal: "Wal", old: str) -> None:
    """Raise WalDamaged where a commit on `old` would be one that other tools cannot read."""
    if wal.dialect_at(old).shared and not has_meta(wal.repository, old):
        raise WalDamaged(
            f"{wal.ref} is a log that other tools read too, and its newest commit {old[:12]} is "
            "of another dialect: nothing is written on it; 'grit doctor' says more",
            object=old,
        )


def _is_grite(root: list[TreeEntry]) -> bool:
    return any(entry.name == META_NAME.encode() for entry in root)


def _begun_by_grit(repository: Repository, objects: CatFile, head: str) -> bool:
    """Return whether the log began in dialect "grit".

    One commit of another tool, or of somebody who wants events to be unsigned, does not change it.
    """
    return False in _beginnings(repository, objects, head)


def _beginnings(repository: Repository, objects: CatFile, head: str) -> set[bool]:
    """Return whether the first commits behind the head are of dialect "grite"; both may be."""
    listed = output(repository.git_dir, "rev-list", "--max-parents=0", head, "--").decode().split()
    return {_is_grite(_root_entries(repository, objects, first)) for first in listed}


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
