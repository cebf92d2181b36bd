"""The checks of `doctor`: each looks at one thing and says what it means and what to do.

No check changes anything, and none trusts that another one passed (spec/doctor.md).
"""

import os
import time
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

from grit.core.errors import GitFailed, GritError, IoFailed, NotFound, WalDamaged
from grit.core.ids import ActorId
from grit.core.limits import ID_BYTES
from grit.git import actors as files
from grit.git.refs import GRIT_REF
from grit.git.wal import Wal
from grit.services import lost
from grit.services.survey import Facts, Tallies, Tally
from grit.services.workspace import Workspace
from grit.view.reader import Stats, ViewReader
from grit.view.trust import ViewDoubt

Status = Literal["ok", "warn", "error"]
STALE_LOCK_S: Final = 3.0
"""Git holds a ref's lock for milliseconds; an older one was left by a killed process."""
_FIX: Final = "run 'grit doctor --fix'"
_HEX: Final = frozenset("0123456789abcdef")


class Check(NamedTuple):
    """One line of the diagnosis; `plan` says what to do, and is None when all is well."""

    id: str
    status: Status
    message: str
    plan: str | None = None


class LogRef(NamedTuple):
    """The log's ref as it can be read."""

    name: str
    head: str | None
    problem: str | None
    damaged: bool
    """It holds something that is no head; False also when it could not be read at all."""


class ViewState(NamedTuple):
    """What the view says of itself."""

    stats: Stats | None
    doubt: str | None
    absent: bool


def look_at_ref(workspace: Workspace) -> LogRef:
    """Read the log's ref; what is wrong with it is part of the answer."""
    try:
        wal = workspace.wal
        return LogRef(wal.ref, wal.head(), None, False)
    except (WalDamaged, IoFailed, GitFailed) as error:
        name = str(error.details.get("ref") or GRIT_REF)
        return LogRef(name, None, error.message, isinstance(error, WalDamaged))


def look_at_view(workspace: Workspace) -> ViewState:
    """Open the view as it is, without bringing it up to date."""
    try:
        return ViewState(ViewReader(workspace.database).stats(), None, False)
    except ViewDoubt as doubt:
        return ViewState(None, str(doubt), doubt.reason == "absent")
    except OSError as error:
        return ViewState(None, f"the view cannot be read: {error.strerror}", False)


def has_commit(workspace: Workspace, oid: str) -> bool:
    """Return whether the commit is in the repository."""
    from grit.git.process import run

    place = workspace.repository.git_dir
    return run(place, "cat-file", "-e", f"{oid}^{{commit}}").status == 0


def check_repository(workspace: Workspace) -> Check:
    """Whether git works here and its configuration can be read."""
    from grit.git.gitconfig import load_git_config

    repository = workspace.repository
    try:
        load_git_config(repository)
    except (GitFailed, IoFailed) as error:
        return Check("repository", "error", error.message, "mend git's configuration, then retry")
    message = f"git repository with {repository.object_format} objects and {repository.ref_storage}"
    if os.path.exists(f"{repository.common_dir}/shallow"):
        return Check(
            "repository",
            "warn",
            f"{message}; a shallow clone, in which old parts of the log may be missing",
            "run 'git fetch --unshallow' if grit asks for it",
        )
    if not os.access(repository.common_dir, os.W_OK):
        return Check(
            "repository",
            "warn",
            f"{message}; it cannot be written here, so nothing can be added or mended",
            "use a copy that you may write to",
        )
    return Check("repository", "ok", message)


def check_ref(workspace: Workspace, ref: LogRef, view: ViewState) -> Check:
    """Whether the log's ref can be read and names a commit."""
    remembered = view.stats.head if view.stats else None
    known = remembered is not None and has_commit(workspace, remembered)
    restore = f"{_FIX}: the view remembers the head {remembered}, and it is still there"
    fetch = f"fetch the log from a remote or a copy and point {ref.name} at it"
    if ref.problem is not None:
        plan = restore if known else fetch
        if not ref.damaged:
            plan = "check the permissions of the ref's file and the disk, then try again"
        return Check("ref", "error", ref.problem, plan)
    if ref.head is None:
        if not known:
            return Check("ref", "ok", "no log yet; the first write makes it")
        message = f"{ref.name} is gone, and with it every issue"
        return Check("ref", "error", message, restore)
    if not has_commit(workspace, ref.head):
        message = f"{ref.name} names the commit {ref.head}, which is missing or broken"
        return Check("ref", "error", message, f"{_FIX}, or {fetch}")
    return Check("ref", "ok", f"{ref.name} is at {ref.head[:12]}")


def stale_lock(workspace: Workspace, ref: LogRef) -> str | None:
    """Return the path of a lock of the log's ref that nobody can be holding, or None."""
    path = f"{workspace.repository.common_dir}/{ref.name}.lock"
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except OSError:
        return None
    return path if age_s > STALE_LOCK_S else None


def check_lost(workspace: Workspace, ref: LogRef) -> Check:
    """Whether the log's ref has left heads behind that it does not hold."""
    if ref.problem is not None:
        return Check("lost", "warn", "not checked: the log's ref cannot be read", "see 'ref'")
    found = lost.heads(workspace)
    if not found:
        return Check("lost", "ok", "the log holds every head that it ever stood at here")
    names = ", ".join(f"{lost.LOST_REFS}{head}" for head in found[:3])
    return Check(
        "lost",
        "warn",
        f"somebody moved the ref of the log; what only these heads hold is not shown: {names}",
        f"{_FIX} takes back those that add to the log; 'git log REF' tells what the others hold",
    )


def check_ref_lock(workspace: Workspace, ref: LogRef) -> Check:
    """Whether a killed process left the lock of the log's ref behind."""
    if stale_lock(workspace, ref) is None:
        return Check("ref_lock", "ok", "no lock was left behind")
    return Check(
        "ref_lock",
        "warn",
        f"{ref.name}.lock was left behind by a killed process",
        f"{_FIX}, or just write: the next write removes it too",
    )


def log_checks(workspace: Workspace, head: str | None, facts: Facts) -> list[Check]:
    """Return the checks that one reading of the log answers."""
    return [
        _check_objects(workspace, head, facts),
        _check_kept(
            "chunks",
            facts.chunks,
            "every chunk can be read",
            "chunk files that cannot be read whole",
            "nothing to do here: all else is shown, and every clone leaves them out alike. "
            "A newer grit may read them",
        ),
        _check_kept(
            "records",
            facts.records,
            f"all {facts.records_checked} records are valid",
            "records set aside",
            "nothing to do here: they stay in the log and change nothing. "
            "Ask their writer which program made them",
        ),
        _check_signatures(facts.signatures),
        _found(
            "kinds",
            facts.unknown,
            "every event is of a known kind",
            "{} of kinds that this version does not know; they are kept and ignored",
            "a newer grit may show what they say",
        ),
        _found(
            "orphans",
            facts.orphans,
            "every issue has its creation",
            "{} whose creation has not arrived; they appear when it does",
            "fetch from the clone where they were made",
            noun="issue",
        ),
        _check_cycles(facts),
        _found(
            "clock",
            facts.future,
            "no event is from the future",
            "{} more than a day ahead of this machine's clock",
            "check the clocks here and of the writer; a later edit wins all the same",
        ),
        _check_chain(facts),
    ]


def unread_checks(reason: str) -> list[Check]:
    """Return the checks of the log when its ref cannot be read."""
    names = (
        "objects", "chunks", "records", "signatures", "kinds", "orphans", "cycles", "clock", "chain"
    )  # fmt: skip
    return [Check(name, "warn", f"not checked: {reason}", "mend 'ref' first") for name in names]


def _check_objects(workspace: Workspace, head: str | None, facts: Facts) -> Check:
    plan = (
        f"{_FIX}, which writes again what this clone appended itself; for the rest "
        "'git fetch --refetch' from a remote that has the log"
    )
    if facts.stopped is not None:
        return Check("objects", "error", facts.stopped, plan)
    bad = facts.damaged
    if head is not None and not bad.count and workspace.repository.promisor is None:
        # The survey reads chunks; contents of attachments can be missing too.
        for oid in _missing(workspace.wal, head):
            bad.add(f"object {oid}")
    if bad.count:
        return Check("objects", "error", f"missing or broken in the log: {bad}", plan)
    return Check("objects", "ok", "every object of the log is there")


def _missing(wal: Wal, head: str) -> list[str]:
    try:
        return wal.missing_objects(head)
    except (WalDamaged, GitFailed, IoFailed) as error:
        return [str(error.details.get("object") or error.message)]


def _check_kept(name: str, tallies: Tallies, good: str, bad: str, plan: str) -> Check:
    if not tallies:
        return Check(name, "ok", good)
    count = sum(tally.count for tally in tallies.values())
    parts = (f"{tally.count} x {reason}: {tally}" for reason, tally in tallies.items())
    return Check(name, "warn", f"{count} {bad}; {'; '.join(parts)}", plan)


def _found(
    name: str, tally: Tally, good: str, bad: str, plan: str, *, noun: str = "event"
) -> Check:
    if not tally.count:
        return Check(name, "ok", good)
    counted = f"{tally.count} {noun}{'' if tally.count == 1 else 's'}"
    return Check(name, "warn", f"{bad.format(counted)}: {tally}", plan)


def _check_signatures(tallies: Tallies) -> Check:
    count = {status: tally.count for status, tally in tallies.items()}
    parts = []
    if count["invalid"]:
        parts.append(f"{count['invalid']} events with a wrong signature: {tallies['invalid']}")
    if count["stripped"]:
        parts.append(
            f"{count['stripped']} unsigned events of actors that have a key: {tallies['stripped']}"
        )
    if count["unknown_key"]:
        parts.append(
            f"{count['unknown_key']} events signed by a key that was not announced: "
            f"{tallies['unknown_key']}"
        )
    if not parts:
        message = f"{count['valid']} signatures are valid; {count['none']} events have none"
        return Check("signatures", "ok", message)
    return Check(
        "signatures",
        "error" if count["invalid"] else "warn",
        "; ".join(parts),
        "do not believe who these events say they are from; 'grit issue history ID' marks them",
    )


def _check_cycles(facts: Facts) -> Check:
    if not facts.cycles:
        return Check("cycles", "ok", "no issue waits for itself")
    shown = [
        " -> ".join(one.hex()[:8] for one in (*cycle[:8], cycle[0])) for cycle in facts.cycles[:3]
    ]
    more = "; ..." if len(facts.cycles) > len(shown) else ""
    return Check(
        "cycles",
        "warn",
        f"issues that wait for each other in a circle: {'; '.join(shown)}{more}",
        "remove one edge of each with 'grit issue dep remove'; nothing is hidden meanwhile",
    )


def _check_chain(facts: Facts) -> Check:
    parts = []
    if facts.missing_parents.count:
        parts.append(
            f"{facts.missing_parents.count} events are missing from the middle of an actor's "
            f"chain: {facts.missing_parents}"
        )
    if facts.forks.count:
        parts.append(
            f"{facts.forks.count} times an actor forked its chain, as two processes or copies of "
            f"one actor do: {facts.forks}"
        )
    if not parts:
        return Check("chain", "ok", "no actor's chain has a gap or a fork")
    plan = "a fork is harmless; look for a gap in another clone's log, where the event may still be"
    return Check("chain", "warn", "; ".join(parts), plan)


def check_view(
    ref: LogRef, view: ViewState, facts: Facts | None, compare: Callable[[], str | None] | None
) -> Check:
    """Whether the view is there, sound and up to date; `compare` looks at every row."""
    if view.stats is None:
        if view.absent and ref.head is None:
            return Check("view", "ok", "no view yet; none is needed")
        again = "nothing to do: the next command builds it again from the log"
        return Check("view", "warn", view.doubt or "", again)
    stats = view.stats
    if ref.problem is not None:
        return Check("view", "ok", f"readable, with {stats.event_count} events")
    if stats.head != ref.head:
        behind = "the view does not stand for the log's head"
        return Check("view", "warn", behind, "nothing to do: the next command brings it up to date")
    if facts is not None and facts.stopped is None and not facts.damaged.count:
        wrong = None
        if stats.event_count != facts.event_count:
            wrong = f"the view holds {stats.event_count} events, the log {facts.event_count}"
        elif compare is not None:
            wrong = compare()
        if wrong is not None:
            return Check("view", "error", wrong, f"{_FIX} or 'grit rebuild'")
    counts = f"{stats.issue_count} issues, {stats.event_count} events"
    return Check("view", "ok", f"up to date: {counts}")


def compare_views(view: ViewReader, fresh: ViewReader) -> str | None:
    """Return the first difference between the view and one just built from the log, or None."""
    rows = zip_longest(view.all_rows(), fresh.all_rows())
    for row, wanted in rows:
        if row != wanted:
            found = wanted or row
            name = found.issue_id.hex()[:8] if found else ""
            return f"issue {name} is not in the view as the log states it"
    left, right = view.stats(), fresh.stats()
    if left._replace(stale_count=0) != right._replace(stale_count=0):
        return "the view's totals are not those of the log"
    return None


def check_growth(workspace: Workspace) -> Check:
    """Whether loose objects have piled up; the user's gc settings are respected."""
    from grit.git.gitconfig import GC_AUTO_DEFAULT, load_git_config
    from grit.git.upkeep import count_sampled_objects

    count = count_sampled_objects(workspace.repository) * 256
    try:
        limit = load_git_config(workspace.repository).gc_auto
    except (GitFailed, IoFailed):
        limit = GC_AUTO_DEFAULT
    about = f"about {count} loose objects" if count else "few loose objects"
    if limit <= 0:
        return Check("growth", "ok", f"{about}; git's own collection is switched off (gc.auto=0)")
    if count <= limit:
        return Check("growth", "ok", about)
    return Check(
        "growth",
        "warn",
        f"{about}, which take more room and time than packed ones",
        "run 'git gc' when nothing else is at work here",
    )


def remotes_without_refspec(workspace: Workspace, ref: LogRef) -> list[str]:
    """Return the remotes whose log `git fetch` does not bring; raises GitFailed, IoFailed."""
    from grit.git.gitconfig import load_git_config
    from grit.git.remotes import has_refspec, list_remotes

    config = load_git_config(workspace.repository)
    return [one for one in list_remotes(config) if not has_refspec(config, one, ref.name)]


def check_remotes(workspace: Workspace, ref: LogRef) -> Check:
    """Whether `git fetch` brings the log of every remote."""
    try:
        lacking = remotes_without_refspec(workspace, ref)
    except (GitFailed, IoFailed) as error:
        return Check("remotes", "warn", f"not checked: {error.message}", "mend 'repository' first")
    if not lacking:
        return Check("remotes", "ok", "'git fetch' brings the log of every remote")
    message = f"'git fetch' does not bring the log of {', '.join(lacking)}"
    return Check("remotes", "warn", message, f"{_FIX} or 'grit init', which add the refspec")


def key_path(workspace: Workspace, actor_id: ActorId) -> str:
    """Return where the signing key of an actor of this clone lies."""
    return f"{workspace.repository.grit_dir}/actors/{actor_id.hex()}/keys/signing.key"


def local_actor_ids(workspace: Workspace) -> list[ActorId]:
    """Return the ids of the actor folders of this clone, readable or not; raises OSError."""
    try:
        names = sorted(os.listdir(f"{workspace.repository.grit_dir}/actors"))
    except FileNotFoundError:
        return []
    return [
        ActorId(bytes.fromhex(name))
        for name in names
        if len(name) == 2 * ID_BYTES and _HEX.issuperset(name)
    ]


def is_exposed(path: str) -> bool:
    """Return whether others than the owner may read or write the file."""
    if os.name == "nt":
        return False  # access is not in the mode there
    try:
        return os.stat(path).st_mode & 0o077 != 0
    except OSError:
        return False


def check_keys(workspace: Workspace) -> Check:
    """Whether every actor of this clone has the key that its id and public key stand for."""
    try:
        actor_ids = local_actor_ids(workspace)
    except OSError as error:
        plan = "check the permissions of grit's folder in the git directory"
        return Check("keys", "error", f"the actors cannot be listed: {error.strerror}", plan)
    wrong: list[str] = []
    exposed: list[str] = []
    for actor_id in actor_ids:
        wrong += _key_problems(workspace, actor_id)
        if is_exposed(key_path(workspace, actor_id)):
            exposed.append(f"the signing key of {actor_id.hex()[:8]} can be read by others")
    if wrong:
        plan = "restore these files from a copy, or go on as a new actor: 'grit actor init --use'"
        return Check("keys", "error", "; ".join([*wrong, *exposed]), plan)
    if exposed:
        plan = f"{_FIX}, which lets the owner alone read it; then go on as a new actor if in doubt"
        return Check("keys", "warn", "; ".join(exposed), plan)
    return Check("keys", "ok", f"{len(actor_ids)} actors in this clone")


def _key_problems(workspace: Workspace, actor_id: ActorId) -> Iterator[str]:
    short = actor_id.hex()[:8]
    try:
        actor = files.load_actor(workspace.repository, actor_id)
        if actor.public_key is None:
            return
        seed = files.read_signing_key(workspace.repository, actor_id)
    except NotFound:
        yield f"actor {short} has no config.toml"
        return
    except IoFailed as error:
        yield error.message
        return
    from grit.core.signing import actor_id_of, public_key

    if actor_id_of(actor.public_key) != actor_id:
        yield f"the public key of actor {short} does not belong to its id"
    if public_key(seed) != actor.public_key:
        yield f"the signing key of actor {short} does not belong to its public key"


def check_settings(workspace: Workspace) -> Check:
    """Whether the settings can be read and name an actor that exists."""
    try:
        settings = files.load_config(workspace.repository)
        default = settings.get("default_actor")
        if default is None:
            return Check("settings", "ok", "readable; no default actor yet")
        text = str(default)
        if len(text) != 2 * ID_BYTES or not _HEX.issuperset(text):
            raise NotFound("default_actor is not the id of an actor")
        files.load_actor(workspace.repository, ActorId(bytes.fromhex(text)))
    except NotFound as error:
        plan = "choose one of 'grit actor list' with 'grit actor use', or run 'grit init'"
        return Check("settings", "error", f"settings: {error.message}", plan)
    except GritError as error:
        plan = "mend the file by hand; 'grit config list' shows when it can be read again"
        return Check("settings", "error", error.message, plan)
    return Check("settings", "ok", "readable")
