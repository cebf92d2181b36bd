"""Joining two heads of the log: how they stand, and the commit that holds both (spec/sync.md).

A join in dialect "grit" depends on the two heads alone, so that clones that join the same heads at
the same time make the same commit, and need not join each other's joins.
"""

from typing import TYPE_CHECKING, Final, Literal

from grit.core.errors import WalDamaged
from grit.core.ids import parse_number
from grit.core.limits import TS_UNIX_MS_MAX
from grit.git.catfile import CatFile, read_small
from grit.git.detection import (
    all_have_meta,
    began_in_both,
    detect_dialect,
    is_readable_by_others,
)
from grit.git.dialects import (
    ATTACHMENTS,
    CHUNK_SUFFIX,
    MAGIC_GRITE,
    META_NAME,
    Plan,
    is_chunk,
    plan_grite_join,
)
from grit.git.log_reader import commit_trees, shallow_commits
from grit.git.loose_tail import is_loose_ancestor
from grit.git.objects import ObjectWriter, commit_links, tree_entries
from grit.git.process import run
from grit.git.refs import GRIT_REF, GRITE_REF
from grit.git.repository import Repository

if TYPE_CHECKING:
    from grit.git.wal import Wal

Standing = Literal["same", "ahead", "behind", "apart"]
_PERSON: Final = "grit <grit@grit.invalid>"
_ORDINARY: Final = frozenset({ATTACHMENTS.encode(), META_NAME.encode(), b"events"})
"""What may stand in a log's own trees beside chunks."""
_TIME_S_MAX: Final = TS_UNIX_MS_MAX // 1000
_TIME_DIGITS_MAX: Final = 20


class HeadIncomplete(WalDamaged):
    """Objects of a head are missing or broken here; they may come back (a borrowed store, say)."""


class OtherDialect(WalDamaged):
    """A head of the other dialect, or one that holds both: it is never taken in."""


def standing(repository: Repository, ours: str, theirs: str) -> Standing:
    """Return whether `ours` is ahead of, behind, apart from `theirs`, or the same.

    Raises HeadIncomplete when git cannot tell, since a commit is missing or broken.
    """
    if ours == theirs:
        return "same"
    if is_loose_ancestor(repository, ours, theirs):
        return "ahead"
    if is_loose_ancestor(repository, theirs, ours):
        return "behind"
    span = f"{ours}...{theirs}"
    done = run(repository.git_dir, "rev-list", "--left-right", "--count", span, "--")
    counts = done.stdout.split()
    if done.status != 0 or len(counts) != 2:
        raise HeadIncomplete(
            f"the logs {ours[:12]} and {theirs[:12]} cannot be compared: {done.reason}"
        )
    if counts[1] == b"0":
        return "ahead"
    return "behind" if counts[0] == b"0" else "apart"


def check_is_log(repository: Repository, oid: str) -> bool:
    """Raise WalDamaged unless the object is a commit that looks like one of a log.

    HeadIncomplete where it cannot be read. A ref that names code by mistake would else drag its
    whole history into the log. Return whether it is a commit of dialect "grite".
    """
    with CatFile(repository) as objects:
        wrong, has_meta = _look(repository, objects, oid)
    if wrong is not None:
        raise WalDamaged(wrong, object=oid)
    return has_meta


def check_dialect(wal: "Wal", old: str | None, theirs: str, *, has_meta: bool, apart: bool) -> None:
    """Raise OtherDialect when a log at `old` that took in `theirs` would hold both dialects.

    This is asked before every move of a log to what it does not hold, join or not (spec/sync.md,
    Two dialects). `has_meta`: what `check_is_log` said of `theirs`; `apart`: they are to be joined.
    """
    repository, ref = wal.repository, wal.ref
    if old is None and ref == GRIT_REF and not has_meta:
        return
    log = detect_dialect(repository, ref, theirs) if old is None else wal.dialect_at(old)
    short = theirs[:12]
    way_out = f"'grit import log {short}' brings its events over"
    if not log.shared:
        # One commit of the other kind on top of a log that began here is told apart from a log.
        other = has_meta and (
            (apart and began_in_both(repository, theirs))
            or detect_dialect(repository, GRIT_REF, theirs).shared
        )
        if other:
            raise OtherDialect(
                f"{short} is of a log of other tools, and {ref} is one of grit's own: two dialects "
                f"are never joined; {way_out}",
                object=theirs,
            )
        return
    if old is None and ref == GRIT_REF and log.magic == MAGIC_GRITE:
        raise OtherDialect(
            f"{short} is of a log of other tools that look for it at {GRITE_REF}; "
            f"'git update-ref {GRITE_REF} {theirs}' sets it there",
            object=theirs,
        )
    if not has_meta:
        raise OtherDialect(
            f"{short} is of a log of grit's own, and {ref} is one that other tools read too, and "
            f"could not read any more: two dialects are never joined; {way_out}",
            object=theirs,
        )
    if all_have_meta(repository, commit_trees(repository, theirs, old)):
        return
    if old is None or is_readable_by_others(repository, old):
        raise OtherDialect(
            f"commits of two dialects are joined behind {short}, which other tools cannot read; "
            f"{way_out}",
            object=theirs,
        )


def why_not_log(repository: Repository, oid: str) -> str | None:
    """Return why the object is no commit of a log, None when it looks like one.

    Raises HeadIncomplete when that cannot be told, since something is missing or cannot be read.
    """
    with CatFile(repository) as objects:
        return _look(repository, objects, oid)[0]


def is_cut(repository: Repository) -> bool:
    """Return whether a shallow clone ends inside a log: a part of that is missing then."""
    ends = shallow_commits(repository)
    if not ends:
        return False
    with CatFile(repository) as objects:
        return any(_looks_like_log(repository, objects, oid.decode()) for oid in ends)


def _looks_like_log(repository: Repository, objects: CatFile, oid: str) -> bool:
    try:
        return _look(repository, objects, oid)[0] is None
    except HeadIncomplete:
        return False


def _look(repository: Repository, objects: CatFile, oid: str) -> tuple[str | None, bool]:
    """Return why it is no commit of a log, if it is none, and whether it has META_NAME."""
    found = read_small(repository, objects, oid)
    if found is None:
        raise HeadIncomplete(f"{oid[:12]} is missing or cannot be read", object=oid)
    if found[0] != "commit":
        return f"{oid[:12]} is a {found[0]}, not a log", False
    tree, parents = commit_links(found[1], repository.object_format)
    if not tree:
        return f"the commit {oid[:12]} is malformed", False
    root = read_small(repository, objects, tree)
    if root is None:
        raise HeadIncomplete(f"{tree[:12]} is missing or cannot be read", object=tree)
    entries = tree_entries(root[1], repository.object_format)
    known = entries is not None and all(
        one.name.endswith(CHUNK_SUFFIX.encode()) or one.name in _ORDINARY for one in entries
    )
    if not known or (not entries and len(parents) < 2):
        return f"the commit {oid[:12]} is not one of a log", False
    return None, any(one.name == META_NAME.encode() for one in entries or ())


def write_join(wal: "Wal", ours: str, theirs: str) -> str:
    """Write the commit that holds both heads and return its id; no ref moves.

    Raises IoFailed, WalDamaged or GitFailed; then nothing refers to what was written.
    """
    from grit.git.wal import write_commit

    repository = wal.repository
    writer = ObjectWriter(repository, wal.config.durable, wal.config.shared_mode)
    with CatFile(repository) as objects:
        commits = [read_small(repository, objects, oid) for oid in (ours, theirs)]
        if wal.dialect_at(ours).shared:
            # Other readers follow the first parent, and find in the tree what is only here.
            parents = (theirs, ours)
            plan = plan_grite_join(theirs, _time_s(commits), _only_in(wal, ours, theirs))
        else:
            parents = (min(ours, theirs), max(ours, theirs))
            message = f"join {parents[0][:12]} and {parents[1][:12]}\n"
            plan = Plan({}, message, (_PERSON, _PERSON), _time_s(commits))
    head = write_commit(writer, plan, parents, [])
    writer.sync()
    return head


def _only_in(wal: "Wal", ours: str, theirs: str) -> list[bytes]:
    """Return the chunks that `theirs` lacks, oldest first."""
    blobs = wal.read(ours, theirs)
    return [blob.data for blob in blobs if blob.data is not None and is_chunk(blob.data)]


def _time_s(commits: list[tuple[str, bytes] | None]) -> int:
    """Return the later of the commits' times, unix seconds."""
    times = [0]
    for found in commits:
        for line in (found[1] if found else b"").split(b"\n\n", 1)[0].split(b"\n"):
            words = line.split()
            if line.startswith(b"committer ") and len(words) > 2:
                # What lies beyond all bounds would make a commit that strict servers refuse.
                time_s = parse_number(words[-2], _TIME_DIGITS_MAX) or 0
                times.append(time_s if time_s <= _TIME_S_MAX else 0)
    return max(times)
