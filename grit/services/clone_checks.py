"""The checks of `doctor` that look around the log: objects, remotes, leases, keys, settings.

No check changes anything (spec/doctor.md).
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from grit.core.errors import GitFailed, GritError, IoFailed, NotFound, WalDamaged
from grit.core.events import Event
from grit.core.ids import ActorId, parse_hex
from grit.core.limits import ID_BYTES, REMOTE_ASKED_S_MAX
from grit.git import actors as files
from grit.services.checks import FIX, Check, LogRef, ViewState
from grit.services.survey import Tallies, Tally
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

if TYPE_CHECKING:
    from grit.core.trust import Policy
    from grit.git.gitconfig import GitConfig
    from grit.git.leases import LockRef
    from grit.git.remotes import Agreed

_NAMED_MAX: Final = 3
_NONE: Final = "nothing is leased, as far as this clone knows"
_SYNC: Final = "'grit sync' joins the logs and sends what is missing there"


def check_growth(workspace: Workspace) -> Check:
    """Whether loose objects have piled up; the user's gc settings are respected."""
    from grit.git.gitconfig import GC_AUTO_DEFAULT, git_number, load_git_config
    from grit.git.upkeep import count_sampled_objects

    count = count_sampled_objects(workspace.repository) * 256
    try:
        config = load_git_config(workspace.repository)
        said, limit = config.get("gc.auto"), config.gc_auto
    except (GitFailed, IoFailed):
        said, limit = None, GC_AUTO_DEFAULT
    if said is not None and git_number(said) is None:
        shown = said[:40]
        return Check(
            "growth",
            "warn",
            f"gc.auto is '{shown}', which git cannot read: it collects nothing by itself",
            "set it right: 'git config gc.auto NUMBER', or 'git config --unset gc.auto'",
        )
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


def check_remotes(workspace: Workspace, ref: LogRef, *, ask: bool) -> Check:
    """Whether `git fetch` brings the log of every remote, and how the remotes' logs stand.

    To `ask` is the user's word: what is named for that in the configuration runs. One that does
    not answer is named, and no fault. Else their logs are as they were last fetched.
    """
    from grit.git.gitconfig import load_git_config
    from grit.git.remotes import broken_refspecs, list_remotes, load_agreed

    try:
        config = load_git_config(workspace.repository)
        for remote, spec in broken_refspecs(config):
            message = f"git refuses every fetch over the refspec {spec} of remote '{remote}'"
            return Check("remotes", "error", message, f"{FIX} or 'grit init', which replace it")
        lacking = remotes_without_refspec(workspace, ref)
        agreed = load_agreed(workspace.repository)
        names = [] if ref.problem else list_remotes(config)
        find = _ask if ask else _recorded
        stands = [_stand(workspace, ref, name, agreed.get(name), find) for name in names]
        beside = [_beside(workspace, ref, name, find) for name in names]
    except (GitFailed, IoFailed) as error:
        return Check("remotes", "warn", f"not checked: {error.message}", "mend 'repository' first")
    stands += [one for one in beside if one is not None]
    message = "; ".join(text for _, text in stands)
    if message and not ask:
        message += " (as last fetched; 'grit doctor --remote' asks)"
    plans = [plan for plan, _ in stands if plan is not None]
    if plans:
        return Check("remotes", "warn", message, plans[0])
    overwriting = _overwriting(workspace, config, ref)
    if overwriting is not None:
        return overwriting
    if lacking:
        lacks = f"'git fetch' does not bring the log of {', '.join(lacking)}"
        message = f"{lacks}; {message}" if message else lacks
        return Check("remotes", "warn", message, f"{FIX} or 'grit init', which add the refspec")
    return Check("remotes", "ok", message or "there is no remote")


def _overwriting(workspace: Workspace, config: "GitConfig", ref: LogRef) -> Check | None:
    from grit.git.remotes import fetch_refspec, overwriting_refspecs

    for remote, spec in overwriting_refspecs(config, ref.name):
        message = f"'git fetch {remote}' may set the log itself back, by the refspec {spec}"
        plan = f"write {fetch_refspec(remote, ref.name)} in its place; 'grit sync' is safe as it is"
        return Check("remotes", "warn", message, plan)
    return None


def _ask(workspace: Workspace, ref: str, remote: str) -> str | None:
    """Ask a remote for the head of its log; raises GitFailed with its words."""
    from grit.git.transport import remote_refs

    repository, environ = workspace.repository, workspace.ports.environ
    found = remote_refs(repository, remote, [ref], environ, REMOTE_ASKED_S_MAX)
    if isinstance(found, str):
        first = found.partition("\n")[0]
        raise GitFailed(f"{remote} could not be asked: {first}")
    return found.get(ref)


def _recorded(workspace: Workspace, ref: str, remote: str) -> str | None:
    """Return the head of a remote's log as it was last fetched."""
    from grit.git.refs import read_ref
    from grit.git.tracking import tracking_ref

    return read_ref(workspace.repository, tracking_ref(remote, ref))


def _stand(
    workspace: Workspace,
    ref: LogRef,
    remote: str,
    agreed: "Agreed | None",
    find: Callable[[Workspace, str, str], str | None],
) -> tuple[str | None, str]:
    """Find the head of a remote's log; return what to do, if anything, and what it means."""
    from grit.git.catfile import CatFile
    from grit.git.joins import standing, why_not_log
    from grit.git.tracking import tracking_ref
    from grit.services.two_logs import is_other_dialect, ways_out

    repository = workspace.repository
    try:
        theirs = find(workspace, ref.name, remote)
    except GitFailed as error:
        return "try again when it can be reached", error.message
    except WalDamaged as error:
        return None, error.message
    if theirs is None and agreed is not None:
        return _SYNC, (
            f"{remote} has no log any more: removed there, or by a 'git push --mirror' of a clone "
            "without it"
        )
    if theirs is None:
        return None, f"{remote} has no log yet" if find is _ask else f"no log of {remote} yet"
    if theirs == ref.head:
        return None, f"{remote} holds the same log"
    unknown = None, f"{remote} has events that are not here yet"
    with CatFile(repository) as objects:
        known = objects.header(theirs)
    if known is None:
        return unknown
    try:
        wrong = why_not_log(repository, theirs)
        if wrong is not None:
            plan = f"find out who set {ref.name} there; 'grit sync' works again when it is a log"
            return plan, f"what {remote} has as its log is none: {wrong}"
        how = "behind" if ref.head is None else standing(repository, ref.head, theirs)
    except WalDamaged:
        # A fetch that was killed leaves commits without what they stand on.
        return unknown
    if agreed is not None and not workspace.wal.contains(theirs, agreed.head):
        return _SYNC, f"the log of {remote} was set back: it lacks what it once held"
    if how == "apart" and is_other_dialect(workspace, theirs):
        what = f"{remote} has a log of another dialect at {ref.name}, which is not joined with it"
        return ways_out(workspace, tracking_ref(remote, ref.name)), what
    if how == "ahead":
        return None, f"{remote} lacks events that are here"
    return None, f"{remote} has events that were fetched and wait to be joined"


def _beside(
    workspace: Workspace,
    ref: LogRef,
    remote: str,
    find: Callable[[Workspace, str, str], str | None],
) -> tuple[str, str] | None:
    """Say what to do about a remote's log of another dialect, if it has one, and what it is."""
    from grit.git.tracking import tracking_ref
    from grit.services.two_logs import is_held, other_ref, ways_out

    other = other_ref(ref.name)
    try:
        theirs = find(workspace, other, remote)
        if theirs is None or is_held(workspace, theirs):
            return None
        if ref.head is None:
            return "'grit init' takes it over", f"{remote} has a log of other tools at {other}"
        fetched = _recorded(workspace, other, remote) == theirs
    except (GitFailed, WalDamaged):
        return None  # that it could not be asked, or read, is said of its log
    record = tracking_ref(remote, other)
    fetch = "" if fetched else f"'git fetch {remote} {other}:{record}', then "
    what = f"{remote} has another log at {other}, which is not joined with {ref.name}, the log here"
    return f"{fetch}{ways_out(workspace, record)}", what


def check_snapshots(workspace: Workspace, ref: LogRef, view: ViewState) -> Check:
    """Whether each snapshot is what the log holds; none is needed, and a false one is not used."""
    from grit.services import snapshots

    if ref.problem is not None or view.stats is None or view.stats.head != ref.head:
        return Check("snapshots", "ok", "not compared: log and view are looked at first")
    try:
        listed = snapshots.listing(workspace)
        wrong = [
            f"{', '.join(one.snapshot.refs[:_NAMED_MAX])}: {problem}"
            for one in listed
            if (problem := snapshots.problem_of(workspace, one, ViewReader(workspace.database)))
        ]
    except (GritError, ViewDoubt) as error:
        return Check("snapshots", "warn", f"not compared: {error}", "mend what is above first")
    if not wrong:
        good = f"snapshots that hold what the log holds: {len(listed)}" if listed else "none"
        return Check("snapshots", "ok", good)
    named = _named(wrong)
    plan = "nothing to do: they are not used, and the log is whole without them"
    return Check("snapshots", "warn", f"not used: {named}", plan)


def check_leases(workspace: Workspace) -> Check:
    """Whether every lock ref, here and as recorded from remotes, holds a lease to believe."""
    from grit.git.leases import list_locks
    from grit.services.lease_clock import by_own_clock

    try:
        locks = by_own_clock(workspace, list_locks(workspace.wal))
    except GritError as error:
        return Check("leases", "warn", f"not checked: {error.message}", "mend 'ref' first")
    now_ms = workspace.now_ms()
    odd = [
        f"{lock.ref}{f' of {lock.remote}' if lock.remote else ''}: {problem}"
        for lock in locks
        if (problem := lock.problem or ("" if _believable(lock, now_ms) else "it ends too late"))
    ]
    if not odd:
        live = {lock.ref for lock in locks if lock.lease is not None and lock.lease.live(now_ms)}
        return Check("leases", "ok", f"live leases: {len(live)}" if locks else _NONE)
    named = _named(odd)
    broken = any(lock.broken for lock in locks)
    plan = (
        f"{FIX}, which keeps what broken refs hold and moves them out of git's way"
        if broken
        else "they block nobody; who acquires the resource replaces them"
    )
    return Check("leases", "warn", f"no leases: {named}", plan)


def _named(faults: list[str]) -> str:
    """Return the first few, and how many there are beside them."""
    rest = len(faults) - _NAMED_MAX
    return "; ".join(faults[:_NAMED_MAX]) + (f"; and {rest} more" if rest > 0 else "")


def _believable(lock: "LockRef", now_ms: int) -> bool:
    return lock.lease is None or lock.lease.plausible(now_ms)


def is_exposed(workspace: Workspace, actor_id: ActorId) -> bool:
    """Return whether others than the owner may read or write the signing key of an actor."""
    if os.name == "nt":
        return False  # access is not in the mode there
    try:
        with files.key_folder(workspace.repository, actor_id).open() as folder:
            found = folder.look(files.KEY)
    except OSError:
        return False  # what is wrong with it is told as such
    return found is not None and found.st_mode & 0o077 != 0


def check_keys(workspace: Workspace) -> Check:
    """Whether every actor of this clone has the key that its id and public key stand for."""
    try:
        actor_ids = files.list_actor_ids(workspace.repository)
    except IoFailed as error:
        plan = "check the permissions of grit's folder in the git directory"
        return Check("keys", "error", error.message, plan)
    wrong: list[str] = []
    exposed: list[str] = []
    for actor_id in actor_ids:
        wrong += _key_problems(workspace, actor_id)
        if is_exposed(workspace, actor_id):
            exposed.append(f"the signing key of {actor_id.hex()[:8]} can be read by others")
    if wrong:
        plan = "restore these files from a copy, or go on as a new actor: 'grit actor init --use'"
        return Check("keys", "error", "; ".join([*wrong, *exposed]), plan)
    if exposed:
        plan = f"{FIX}, which lets the owner alone read it; then go on as a new actor if in doubt"
        return Check("keys", "warn", "; ".join(exposed), plan)
    return Check("keys", "ok", f"actors of this clone: {len(actor_ids)}")


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


def check_trust(workspace: Workspace, view: ViewState) -> Check:
    """Which events the policy for signatures holds back, or would."""
    from grit.core.trust import OFF, encode_policy
    from grit.services.policy import load_policy
    from grit.services.signatures import WORDS

    try:
        policy = load_policy(workspace)
    except GritError as error:
        return Check("trust", "warn", f"not checked: {error.message}", "mend 'settings' first")
    if policy.verify == OFF:
        return Check("trust", "ok", "verify = off: signatures are shown, and hold nothing back")
    reader = ViewReader(workspace.database)
    try:
        if view.stats is None or reader.meta().policy != encode_policy(policy):
            message = "the view was not yet folded under the policy for signatures"
            return Check("trust", "warn", message, "nothing to do: the next command does it")
        found: Tallies = {}
        for event, reason in _out_of_order(workspace, reader, policy, view.stats.head):
            example = f"event {event.event_id.hex()[:8]} of issue {event.issue_id.hex()[:8]}"
            found.setdefault(reason, Tally()).add(example)
    except ViewDoubt as doubt:
        return Check("trust", "warn", f"not checked: {doubt}", "the next command mends the view")
    if not found:
        return Check("trust", "ok", f"verify = {policy.verify}: every event counts")
    count = sum(tally.count for tally in found.values())
    parts = (f"{tally.count} {WORDS[reason]}: {tally}" for reason, tally in found.items())
    does = "holds back" if policy.requires else "'require' would hold back"
    counted = f"{count:,} event{'s' if count != 1 else ''}"
    return Check(
        "trust",
        "warn",
        f"verify = {policy.verify}: {does} {counted}: {'; '.join(parts)}",
        "nothing to do if these should not count; else fetch the announcement that is missing, "
        "put the actor on the list with 'grit actor trust', or choose another 'verify'",
    )


def _out_of_order(
    workspace: Workspace, reader: ViewReader, policy: "Policy", head: str | None
) -> Iterator[tuple[Event, str]]:
    if policy.requires or head is None:
        yield from reader.held()
        return
    from grit.services.signatures import Judge
    from grit.view.standing import Stamp

    judge = Judge(reader, policy, Stamp())
    try:
        yield from judge.inspect(workspace, head, reader.all_events())
    finally:
        judge.close()


def check_settings(workspace: Workspace) -> Check:
    """Whether the settings can be read, name an actor that exists and a policy that holds."""
    from grit.services.policy import load_policy

    try:
        settings = files.load_config(workspace.repository)
        load_policy(workspace)
        default = settings.get("default_actor")
        if default is None:
            return Check("settings", "ok", "readable; no default actor yet")
        found = parse_hex(default, ID_BYTES)
        if found is None:
            raise NotFound("default_actor is not the id of an actor")
        files.load_actor(workspace.repository, ActorId(found))
    except NotFound as error:
        plan = "choose one of 'grit actor list' with 'grit actor use', or run 'grit init'"
        return Check("settings", "error", f"settings: {error.message}", plan)
    except GritError as error:
        plan = "mend the file by hand; 'grit config list' shows when it can be read again"
        return Check("settings", "error", error.message, plan)
    return Check("settings", "ok", "readable")
