"""Use cases: diagnose a clone and mend what is derived; check the log, verify its signatures.

Mending never rewrites history and drops no event (spec/doctor.md, Mending).
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from grit.core.errors import GritError, ViewFailed, WalDamaged
from grit.git import actors as files
from grit.services import checks, clone_checks, lost, refresh
from grit.services.checks import Check, LogRef
from grit.services.survey import Facts, survey
from grit.services.workspace import Workspace
from grit.view.database import Database
from grit.view.reader import Stats, ViewReader
from grit.view.trust import ViewDoubt

if TYPE_CHECKING:
    from grit.git.filelock import FileLock


class Diagnosis(NamedTuple):
    """Every check once, in the order of the spec, and what was mended before."""

    checks: list[Check]
    applied: list[str]

    @property
    def failed(self) -> bool:
        """Whether anything is an error."""
        return any(check.status == "error" for check in self.checks)


class Rebuilt(NamedTuple):
    """What a rebuild read."""

    head: str | None
    stats: Stats
    from_snapshot: str | None = None
    """The ref of the snapshot that was read, if any."""


class ViewFacts(NamedTuple):
    """What the view holds, and the size of its file in bytes."""

    stats: Stats
    size_bytes: int


def diagnose(
    workspace: Workspace, *, fix: bool = False, thorough: bool = False, remote: bool = False
) -> Diagnosis:
    """Run all checks; with `fix`, mend what can be mended and run them again.

    `thorough` also builds a second view from the log and compares every row; `remote` asks the
    remotes how their logs stand. Nothing that is wrong with the clone is raised: it is in the
    checks.
    """
    _heal(workspace)
    found = _examine(workspace, thorough=thorough, remote=remote)
    if not fix or all(check.status == "ok" for check in found):
        return Diagnosis(found, [])
    applied = _mend(workspace, {check.id for check in found if check.status != "ok"})
    if applied:
        found = _examine(workspace, thorough=thorough, remote=remote)
    return Diagnosis(found, applied)


def rebuild(workspace: Workspace, *, from_snapshot: bool = False) -> Rebuilt:
    """Build the view anew, whatever it holds: from the whole log, or from the best snapshot."""
    used = None
    try:
        if from_snapshot:
            reader, used = refresh.rebuild_from_snapshot(workspace)
        else:
            reader = refresh.rebuild(workspace)
        stats = reader.stats()
    except ViewDoubt as doubt:
        raise ViewFailed(f"the view cannot be built: {doubt}") from doubt
    return Rebuilt(stats.head, stats, used)


def view_facts(workspace: Workspace) -> ViewFacts:
    """Return what the view holds once it is up to date."""
    stats = refresh.refresh(workspace).stats()
    try:
        size_bytes = workspace.database.size_bytes
    except OSError:
        size_bytes = 0
    return ViewFacts(stats, size_bytes)


def check_log(workspace: Workspace, *, signatures: bool) -> Facts:
    """Read the whole log, with or without verifying its signatures.

    Raises WalDamaged, IoFailed or GitFailed when its ref cannot be read.
    """
    return survey(workspace, workspace.wal.head(), signatures=signatures)


def _heal(workspace: Workspace) -> None:
    """Put back new objects that a collection took: no check is to find what mends itself."""
    try:
        workspace.wal.heal()
    except (GritError, OSError):
        return  # the log's ref cannot be read; a check says so


def _examine(workspace: Workspace, *, thorough: bool, remote: bool) -> list[Check]:
    ref = checks.look_at_ref(workspace)
    view = checks.look_at_view(workspace)
    found = [
        checks.check_repository(workspace),
        checks.check_ref(workspace, ref, view),
        checks.check_ref_lock(workspace, ref),
        checks.check_lost(workspace, ref),
    ]
    facts = None
    if ref.problem is not None:
        found += checks.unread_checks(ref.problem)
    else:
        facts = survey(workspace, ref.head)
        found += checks.log_checks(workspace, ref.head, facts)
    compare = _comparison(workspace) if thorough else None
    found += [
        checks.check_view(ref, view, facts, compare),
        clone_checks.check_snapshots(workspace, ref, view),
        clone_checks.check_growth(workspace),
        clone_checks.check_remotes(workspace, ref, ask=remote),
        clone_checks.check_leases(workspace),
        clone_checks.check_keys(workspace),
        clone_checks.check_settings(workspace),
        clone_checks.check_trust(workspace, view),
    ]
    return found


def _comparison(workspace: Workspace) -> Callable[[], str | None]:
    def compare() -> str | None:
        other = Workspace(workspace.repository, workspace.ports)
        other.use_database(Database.temporary())
        try:
            fresh = refresh.rebuild(other)
            return checks.compare_views(ViewReader(workspace.database), fresh)
        except ViewDoubt as doubt:
            return str(doubt)
        except (GritError, OSError) as failure:
            workspace.notice(f"the view could not be compared: {failure}")
            return None
        finally:
            other.close()

    return compare


def _mend(workspace: Workspace, ids: set[str]) -> list[str]:
    """Mend what the checks named; the view goes last, since it remembers what others need."""
    applied: list[str] = []
    for names, mend in _MENDING:
        if not ids.intersection(names):
            continue
        try:
            applied += mend(workspace)
        except ViewDoubt as doubt:
            workspace.notice(f"could not mend '{names[0]}': {doubt}")
        except (GritError, OSError) as failure:
            workspace.notice(f"could not mend '{names[0]}': {failure}")
    return applied


def _remove_ref_lock(workspace: Workspace) -> Iterator[str]:
    from grit.git.refs import remove_stale

    ref = checks.look_at_ref(workspace)
    with _writers_lock(workspace):
        if checks.is_lock_stale(workspace, ref):
            notices: list[str] = []
            remove_stale(workspace.repository, ref.name, notices)
            yield from notices


def _take_back(workspace: Workspace) -> Iterator[str]:
    with _writers_lock(workspace):
        yield from lost.take_back(workspace)


def _restore_ref(workspace: Workspace) -> Iterator[str]:
    """Point the log's ref at the head that the view remembers, when it holds none."""
    from grit.git.detection import belongs_at
    from grit.git.refs import read_ref, swap_ref

    remembered = ViewReader(workspace.database).head()
    if remembered is None or not checks.has_commit(workspace, remembered):
        return
    repository = workspace.repository
    with _writers_lock(workspace):
        ref = checks.look_at_ref(workspace)
        if ref.head is not None or (ref.problem is not None and not ref.damaged):
            return
        kept = _move_aside(workspace, ref) if ref.damaged else None
        if kept is not None:
            yield f"moved what {ref.name} held to {kept}"
        name = belongs_at(repository, remembered, ref.name if ref.damaged else None)
        old = read_ref(repository, name)
        if old == remembered or (old and not workspace.wal.contains(remembered, old)):
            return  # packed-refs has a head of its own, and it can be read now
        if swap_ref(repository, name, old, remembered):
            workspace.wal.ref = name
            yield f"{name} is at {remembered} again, the head that the view remembers"


def _move_aside(workspace: Workspace, ref: LogRef) -> str | None:
    """Keep the damaged file of the ref under grit's folder; a symref's target stays untouched."""
    from grit.git.refs import lies, set_aside

    repository = workspace.repository
    if repository.ref_storage != "files":
        raise WalDamaged(f"{ref.name} is damaged, and only git can mend it in this storage")
    if not lies(repository, ref.name):
        return None  # the damage is in packed-refs
    return set_aside(repository, ref.name, f"damaged-ref-{workspace.now_ms()}")


def _restore_objects(workspace: Workspace) -> Iterator[str]:
    """Write again what is missing or broken of this clone's last appends, bit for bit."""
    from grit.git.catfile import CatFile
    from grit.git.objects import hash_of

    repository = workspace.repository
    count = 0
    with _writers_lock(workspace), CatFile(repository) as known:
        for entry in ViewReader(workspace.database).journal():
            lost = []
            for kind, content in entry.objects:
                framed = b"%b %d\0%b" % (kind.encode(), len(content), content)
                if known.read(hash_of(repository.object_format, framed)) is None:
                    lost.append((kind, content))
            if lost:
                count += len(workspace.wal.restore(lost))
    if count:
        yield f"wrote {count} missing or broken objects of the log again"


def _rebuild_view(workspace: Workspace) -> Iterator[str]:
    """Build the view again, unless it can be read and the log has holes that it may fill."""
    ref = checks.look_at_ref(workspace)
    if ref.problem is not None:
        return
    if ref.head is not None and checks.look_at_view(workspace).stats is not None:
        _read_through(workspace, ref.head)
    stats = rebuild(workspace).stats
    yield f"built the view again: {stats.issue_count} issues, {stats.event_count} events"


def _read_through(workspace: Workspace, head: str) -> None:
    """Raise WalDamaged when an object of the log is missing: the view may still hold it."""
    missing = workspace.wal.missing_objects(head)
    if missing:
        raise WalDamaged(f"the log lacks {len(missing)} objects; the view is left as it is")


def _add_refspecs(workspace: Workspace) -> Iterator[str]:
    from grit.services.actors import set_refspecs

    for remote in set_refspecs(workspace):
        yield f"'git fetch {remote}' now brings its log"


def _set_locks_aside(workspace: Workspace) -> Iterator[str]:
    from grit.services.lease_book import LeaseBook

    book = LeaseBook(workspace, local=True)
    with book.locked():
        for ref, kept in book.clear_broken():
            yield f"moved what {ref} held to {kept}"


def _tighten_keys(workspace: Workspace) -> Iterator[str]:
    for actor_id in files.list_actor_ids(workspace.repository):
        if clone_checks.is_exposed(workspace, actor_id):
            files.tighten_key(workspace.repository, actor_id)
            yield f"the signing key of {actor_id.hex()[:8]} can be read by its owner alone"


def _writers_lock(workspace: Workspace) -> "FileLock":
    """Return the lock of the log's writers, also while its ref cannot be read."""
    from grit.git.filelock import FileLock

    return FileLock(workspace.repository.private, "wal.lock-file")


_MENDING: Final[tuple[tuple[tuple[str, ...], Callable[[Workspace], Iterator[str]]], ...]] = (
    (("ref_lock",), _remove_ref_lock),
    (("lost",), _take_back),
    (("ref",), _restore_ref),
    (("objects", "ref"), _restore_objects),
    (("remotes",), _add_refspecs),
    (("leases",), _set_locks_aside),
    (("keys",), _tighten_keys),
    (("view",), _rebuild_view),
)
