"""The checks of `doctor`: each looks at one thing and says what it means and what to do.

No check changes anything, and none trusts that another one passed (spec/doctor.md).
"""

import os
from collections.abc import Callable
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

from grit.core.errors import GitFailed, GritError, IoFailed, WalDamaged
from grit.core.limits import LOCK_STALE_MS
from grit.files.private import NotPrivate
from grit.git.refs import GRIT_REF
from grit.git.wal import Wal
from grit.services import lost
from grit.services.survey import Facts, Tallies, Tally
from grit.services.workspace import Workspace
from grit.view.reader import Stats, ViewReader
from grit.view.trust import ViewDoubt

Status = Literal["ok", "warn", "error"]
_NAMED_MAX: Final = 3
FIX: Final = "run 'grit doctor --fix'"


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
    refused: bool = False
    """Something else lies in its place."""


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
        return ViewState(None, str(doubt), doubt.reason == "absent", doubt.reason == "refused")
    except OSError as error:
        return ViewState(None, f"the view cannot be read: {error.strerror}", False)


def has_commit(workspace: Workspace, oid: str) -> bool:
    """Return whether the commit is in the repository; raises GitFailed where git would wait."""
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
    if odd := _odd_files(workspace):
        named = "; ".join(odd[:_NAMED_MAX]) + ("; ..." if len(odd) > _NAMED_MAX else "")
        return Check(
            "repository", "error", named, "do what is said of each; doctor touches none of them"
        )
    message = f"git repository with {repository.object_format} objects and {repository.ref_storage}"
    if os.path.exists(f"{repository.common_dir}/shallow"):
        return Check(
            "repository",
            "warn",
            f"{message}; a shallow clone, in which old parts of the log may be missing",
            "run 'grit sync' if grit says that the log is cut off",
        )
    if not os.access(repository.common_dir, os.W_OK):
        return Check(
            "repository",
            "warn",
            f"{message}; it cannot be written here, so nothing can be added or mended",
            "use a copy that you may write to",
        )
    return Check("repository", "ok", message)


def _odd_files(workspace: Workspace) -> list[str]:
    """Return what lies at names of grit's and is not grit's, in words."""
    private = workspace.repository.private
    found: list[str] = []
    for folder in (private, private.below("view")):
        try:
            with folder.open() as opened:
                found += opened.odd()
        except NotPrivate as error:
            if str(error) not in found:
                found.append(str(error))
        except OSError:
            continue
    return found


def check_ref(workspace: Workspace, ref: LogRef, view: ViewState) -> Check:
    """Whether the log's ref can be read and names a commit."""
    try:
        return _check_ref(workspace, ref, view)
    except GitFailed as error:
        return Check("ref", "error", error.message, str(error.details.get("way_out", "")))


def _check_ref(workspace: Workspace, ref: LogRef, view: ViewState) -> Check:
    remembered = view.stats.head if view.stats else None
    known = remembered is not None and has_commit(workspace, remembered)
    restore = f"{FIX}: the view remembers the head {remembered}, and it is still there"
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
        return Check("ref", "error", message, f"{FIX}, or {fetch}")
    return _check_dialects(workspace, ref.name, ref.head)


def _check_dialects(workspace: Workspace, ref: str, head: str) -> Check:
    """Whether another log lies beside it, and whether a log of other tools can be read by them."""
    from grit.git.detection import is_readable_by_others
    from grit.services.two_logs import others, ways_out

    stands = f"{ref} is at {head[:12]}"
    try:
        shared = workspace.wal.dialect.shared
        if shared and not is_readable_by_others(workspace.repository, head):
            plan = (
                "nothing is lost, and grit reads all of it; for the other tools, set the ref, here "
                "and at the remotes, to a commit before these, and bring the rest over with "
                f"'grit import log {head[:12]}'"
            )
            message = f"{stands}, a log of other tools with commits that these cannot read"
            return Check("ref", "warn", message, plan)
        beside = others(workspace, fetched=False)
    except GritError:
        return Check("ref", "ok", stands)  # what cannot be read of it, 'objects' says
    if beside:
        message = (
            f"{stands} and is the log that counts here; {beside[0]} is another one, which is not "
            "joined with it, and whose issues are not shown"
        )
        return Check("ref", "warn", message, ways_out(workspace, beside[0]))
    return Check("ref", "ok", stands)


def is_lock_stale(workspace: Workspace, ref: LogRef) -> bool:
    """Return whether the log's ref has a lock that nobody can be holding; raises IoFailed."""
    from grit.git.refs import lock_age_ms

    return lock_age_ms(workspace.repository, ref.name) > LOCK_STALE_MS


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
        f"{FIX} or 'grit sync' joins them with the log; 'git log REF' tells what they hold, and "
        "'grit import log REF' brings over those of another dialect, which are never joined",
    )


def check_ref_lock(workspace: Workspace, ref: LogRef) -> Check:
    """Whether a killed process left the lock of the log's ref behind."""
    try:
        stale = is_lock_stale(workspace, ref)
    except IoFailed as error:
        plan = "look at what lies there, and move it away"
        return Check("ref_lock", "error", error.message, plan)
    if not stale:
        return Check("ref_lock", "ok", "no lock was left behind")
    return Check(
        "ref_lock",
        "warn",
        f"{ref.name}.lock was left behind by a killed process",
        f"{FIX}, or just write: the next write removes it too",
    )


def log_checks(workspace: Workspace, head: str | None, facts: Facts) -> list[Check]:
    """Return the checks that one reading of the log answers."""
    objects = _check_objects(workspace, head, facts)
    if facts.stopped is not None and not facts.records_checked:
        return [objects, *unread_checks("nothing of the log could be read", "see 'objects'")[1:]]
    return [
        objects,
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
            "look at the clocks here and of the writer; the next change of the issue (a comment "
            "will do) makes them count as of then, and wins over them",
        ),
        _check_chain(facts),
    ]


def unread_checks(reason: str, plan: str = "mend 'ref' first") -> list[Check]:
    """Return the checks of the log when it cannot be read."""
    names = (
        "objects", "chunks", "records", "signatures", "kinds", "orphans", "cycles", "clock", "chain"
    )  # fmt: skip
    return [Check(name, "warn", f"not checked: {reason}", plan) for name in names]


def _check_objects(workspace: Workspace, head: str | None, facts: Facts) -> Check:
    plan = (
        f"{FIX}, which writes again what this clone appended itself; for the rest "
        "'git fetch --refetch' from a remote that has the log"
    )
    if workspace.repository.promisor is not None:
        plan = f"'grit sync', which fetches what this partial clone left out; or {plan}"
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
        if view.refused:
            again = "move away what lies there; every command builds a view of its own meanwhile"
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
            return Check("view", "error", wrong, f"{FIX} or 'grit rebuild'")
    counts = f"issues: {stats.issue_count}, events: {stats.event_count}"
    return Check("view", "ok", f"up to date; {counts}")


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
