"""Use case: fetch from a remote, join, push, and again while others are faster (spec/sync.md).

A remote can add to the log and never take from it: what it lost, it gets back.
"""

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from grit.core.errors import Conflict, GitFailed, InvalidArgs, WalDamaged
from grit.core.limits import (
    LOCK_WAIT_MS_MAX,
    SYNC_ATTEMPTS_MAX,
    SYNC_BACKOFF_MS_MAX,
    SYNC_BACKOFF_MS_MIN,
    SYNC_STANDSTILLS_MAX,
)
from grit.git import remotes
from grit.git.remotes import Remote
from grit.git.tracking import clear_record, record, tracking_ref
from grit.git.transport import Fetched, Pushed, Update
from grit.services import places
from grit.services.lost import take_back_all
from grit.services.workspace import Workspace

_DOUBLINGS_MAX: Final = 4


class Synced(NamedTuple):
    """What a sync did; heads are commit ids."""

    remote: str
    pulled: bool
    pushed: bool
    """Whether both directions were asked for and done."""
    events_received: int
    events_sent: int
    merged: bool
    """Whether two logs that both had moved were joined."""
    wal_head: str | None
    remote_wal_head: str | None
    attempts: int
    """How often it was tried to push; more than 1 when others were faster."""


def sync(
    workspace: Workspace,
    remote: str | None = None,
    *,
    pull: bool = True,
    push: bool = True,
    directory: str = ".",
) -> Synced:
    """Bring what the remote has, and send what it lacks; a path is meant from `directory`.

    Without `push` nothing is sent; without `pull` nothing is taken in, and a remote that has more
    raises Conflict. Raises GitFailed with the words of git or of the server, IoFailed, WalDamaged,
    Busy; what was received until then stays.
    """
    session = _Session(workspace, remote, directory)
    try:
        done = session.run(pull=pull, push=push)
    except WalDamaged as error:
        from grit.services.two_logs import explained

        told = explained(workspace, error, session.remote.tracking)
        if told is not None:
            raise told from error
        if not (pull and session.fetch_again()):
            raise
        done = session.run(pull=pull, push=push)
    if done.pushed:
        from grit.services.snapshot_upkeep import upkeep

        upkeep(workspace, session.pushed)
    return done


class _Session:
    """One sync with one remote."""

    def __init__(self, workspace: Workspace, remote: str | None, directory: str) -> None:
        self._workspace = workspace
        self._repository = workspace.repository
        self._asked = remote, directory
        early = places.early(workspace, remote)
        self._settled = early is None
        self.remote = early or places.choose(workspace, remote, directory)
        self._push_places: list[Remote] | None = None
        self._known: int | None = None
        """Events that were here before the first that was received; None: none was."""
        self._untold: list[str] = []
        self._sent = 0
        self._merged = False
        self._second: str | None = None
        """What to say when a push would begin a log there beside one of another dialect."""
        self._agreed = remotes.load_agreed(self._repository).get(self.remote.tracking)

    def _apart(self) -> list[Remote]:
        """Return where pushes go, when that is not where the remote is fetched from."""
        if self._push_places is None:
            self._push_places = places.push_places(self._workspace, self.remote, self._asked[0])
        return self._push_places

    @property
    def pushed(self) -> Remote:
        """The remote that is pushed to."""
        return next(iter(self._apart()), self.remote)

    def run(self, *, pull: bool, push: bool) -> Synced:
        workspace = self._workspace
        if self._settled or not pull:
            self._tell(self._settle(pull=pull))
        self._tell(take_back_all(workspace))
        begun = workspace.wal.head() is not None
        fetched = theirs = self._fetch()
        if not begun:
            self._tell(places.set_refspec(workspace, self.remote))
        remote = self.remote
        push = push and not remote.bundle
        if pull:
            self._complete(theirs)
            self._take_in_recorded()
        attempts = standstills = 0
        for attempt in range(SYNC_ATTEMPTS_MAX):
            begun_s = time.monotonic()
            if pull and theirs is not None:
                self._take_in(theirs)
            ours = workspace.wal.head()
            if not push or ours is None or ours == theirs:
                break
            if not pull and theirs is not None and workspace.wal.contains(theirs, ours):
                break
            if theirs is None and self._second is not None:
                raise Conflict(f"{self._second}\nnothing was sent", remote=remote.name)
            attempts += 1
            outcome = self._push(ours, theirs)
            if outcome.done:
                theirs = ours
                break
            self._check_refusal(outcome, pull=pull)
            self._wait(attempt, time.monotonic() - begun_s)
            before, theirs = theirs, self._look_again(outcome)
            standstills = standstills + 1 if theirs == before else 0
            if standstills >= (1 if outcome.broken else SYNC_STANDSTILLS_MAX):
                raise self._refused(outcome)
            if outcome.broken and theirs is not None and workspace.wal.contains(theirs, ours):
                self._sent = self._count_sent(ours, before)
        else:
            raise Conflict(
                f"{remote.name} was busy: others pushed first {attempts} times; try again"
            )
        ours = workspace.wal.head()
        # What was only pushed to another place is not what this one holds.
        self._remember(ours, fetched if push and self._apart() else theirs)
        if pull:
            places.learn_leases(workspace, remote)
        return Synced(
            remote.name,
            pull,
            push,
            self._count_received(),
            self._sent,
            self._merged,
            ours,
            theirs,
            attempts,
        )

    def _settle(self, *, pull: bool = True) -> list[str]:
        """Ask git for its configuration, and see that a plain `git fetch` brings the log.

        Return what to tell of that.
        """
        workspace = self._workspace
        if not self._settled:
            self.remote, self._settled = places.choose(workspace, *self._asked), True
        remote = self.remote
        if remote.bundle and not pull:
            raise InvalidArgs(f"{remote.name} is a file, which can only be pulled from")
        # Before there is a log, the remote says where it stands.
        return places.set_refspec(workspace, remote) if workspace.wal.head() is not None else []

    def _prepare(self) -> None:
        """Do, while git fetches for the first time, what must be done in any case."""
        # Told when git is through: it may be asking for a password on the same line.
        self._untold = self._settle()
        # To load it takes longer than all that it does when nothing is new.
        from grit.services.snapshot_upkeep import get_ready

        get_ready(self._workspace)

    def _fetch(self) -> str | None:
        """Record the remote's head and return it; None when it has no log."""
        wal, remote = self._workspace.wal, self.remote
        self._second = None
        if wal.head() is not None:
            theirs = self._fetch_head(wal.ref)
            if theirs is None and self._agreed is None:
                self._look_for_other()
        else:
            from grit.services.two_logs import find_log

            found = find_log(self._repository, self._fetch_head)
            wal.ref = found or wal.ref
            theirs = self._fetch_head(wal.ref, again=False) if found else None
        if theirs is not None:
            return theirs
        if self._agreed is not None:
            self._workspace.notice(
                f"{remote.name} has no log any more: removed there, or by a 'git push --mirror' "
                "of a clone without it; nothing is lost here"
            )
            self._agreed = None
        return None

    def _fetch_head(self, ref: str, *, again: bool = True) -> str | None:
        """Return the head of one log of the remote, recorded now or (not `again`) before."""
        from grit.git.refs import read_ref

        if again and self._fetch_ref(ref):
            return None
        return read_ref(self._repository, tracking_ref(self.remote.tracking, ref))

    def _look_for_other(self) -> None:
        """See whether the remote, which has no log like that here, has one of another dialect."""
        from grit.services.two_logs import not_beside, other_ref

        theirs = self._fetch_head(other_ref(self._workspace.wal.ref))
        if theirs is not None:
            self._second = not_beside(self._workspace, self.remote, theirs)

    def _fetch_ref(self, ref: str) -> bool:
        """Fetch one log; return whether the remote has none of that name."""
        from grit.git.refs import refs_below

        remote = self.remote
        tracking = tracking_ref(remote.tracking, ref)
        spec = f"+{ref}:{tracking}"
        self._tell(clear_record(self._repository, tracking))
        fetched = self._talk([spec])
        if fetched.failed and refs_below(self._repository, f"{tracking}/").ids:
            # Records of refs below the log, which are gone there, are in the way of its own.
            fetched = self._talk([spec, f"+{ref}/*:{tracking}/*"], prune=True)
        if fetched.failed and not fetched.missing and self._workspace.wal.heal():
            fetched = self._talk([spec])
        if fetched.failed is None and places.is_cut(self._repository):
            fetched = self._talk([spec], whole=True)
            if fetched.failed is None:
                self._workspace.notice("the log had been cut off; the rest of it came now")
        if fetched.failed is None or fetched.missing:
            return fetched.missing
        known = remotes.list_remotes(self._workspace.wal.config)
        named = "" if remote.configured else f"\nremotes here: {', '.join(known) or 'none'}"
        raise GitFailed(
            f"cannot fetch from {remote.name}: {fetched.failed}{named}\n"
            "nothing is lost here: sync again when it can be reached",
            remote=remote.name,
        )

    def _complete(self, theirs: str | None) -> None:
        """Fetch what a partial clone left out of what is here, and of what will be."""
        ours, agreed = self._workspace.wal.head(), self._agreed
        if self._repository.promisor is None or (agreed and {ours, theirs} == {agreed.head}):
            return
        from grit.git.tracking import tracked_heads
        from grit.services.partial import complete_log

        recorded = tracked_heads(self._repository, self._workspace.wal.ref).heads.values()
        complete_log(self._workspace, self.remote, dict.fromkeys([theirs, ours, *recorded]))

    def fetch_again(self) -> bool:
        """Fetch the whole log, whatever seems to be here; return whether that was possible.

        For objects that a collection of git took between a fetch and the command that wanted them.
        """
        ref = self._workspace.wal.ref
        spec = f"+{ref}:{tracking_ref(self.remote.tracking, ref)}"
        if self._talk([spec], again=True).failed:
            return False
        self._workspace.notice(
            f"parts of the log were missing here; it was fetched again from {self.remote.name}"
        )
        return True

    def _talk(
        self,
        specs: list[str],
        *,
        place: Remote | None = None,
        prune: bool = False,
        whole: bool = False,
        again: bool = False,
    ) -> Fetched:
        from grit.git.transport import fetch

        ports = self._workspace.ports
        place = place or self.remote
        address = place.reads or place.address

        def talk() -> Fetched:
            return fetch(
                *(self._repository, address, specs, ports.environ, ports.progress),
                prune=prune,
                whole=whole,
                again=again,
                meanwhile=None if self._settled else self._prepare,
            )

        fetched = talk()
        if fetched.failed and "invalid refspec" in fetched.failed:
            for name in remotes.mend_refspecs(self._repository, self._workspace.wal.config):
                self._untold.append(f"removed a refspec of remote '{name}' that git refused")
            if self._untold:
                fetched = talk()
        self._tell([*self._untold, *fetched.removed])
        self._untold = []
        return fetched

    def _tell(self, notices: Iterable[str]) -> None:
        for line in notices:
            self._workspace.notice(line)

    def _take_in(self, theirs: str) -> None:
        workspace = self._workspace
        old = workspace.wal.head()
        if old == theirs:
            return
        from grit.services import join

        self._explain(theirs)
        self._count_known(old)
        other = join.Other(f"the log of {self.remote.name}", theirs)
        done = join.take_in(workspace, [other], LOCK_WAIT_MS_MAX)
        if old is None and not self.remote.bundle:
            from grit.services.snapshot_upkeep import fetch_newest

            fetch_newest(workspace, self.remote)
        self._merged |= "joined" in done

    def _take_in_recorded(self) -> None:
        """Take in what was fetched from other remotes before: it is to be sent too."""
        from grit.git.tracking import tracked_heads

        head = self._workspace.wal.head()
        heads = tracked_heads(self._repository, self._workspace.wal.ref).heads
        heads.pop(self.remote.tracking, None)  # that one is at hand, and taken in as asked for
        if {head}.issuperset(heads.values()):
            return
        from grit.services import join
        from grit.view.reader import Place

        news = join.look(self._workspace, head, Place())
        others = [one for one in news.others if one.name in heads] if news is not None else []
        if news is not None and others:
            self._count_known(head)
            join.take_in_news(self._workspace, news._replace(others=others), locked=False)

    def _count_known(self, head: str | None) -> None:
        """Remember how many events are here; those that come are counted after the push.

        Bringing the view up to date takes time, in which others may be faster.
        """
        if self._known is None:
            from grit.services.refresh import refresh

            place = refresh(self._workspace, joining=False).place() if head is not None else None
            self._known = place.event_count if place is not None else 0

    def _count_received(self) -> int:
        """Bring the view up to the log, and return how many events it did not know."""
        if self._known is None:
            return 0
        from grit.services.refresh import refresh

        return refresh(self._workspace).place().event_count - self._known

    def _explain(self, theirs: str) -> None:
        """Tell when the remote went back behind what both sides once held."""
        agreed, wal = self._agreed, self._workspace.wal
        if agreed is None or wal.contains(theirs, agreed.head):
            return
        self._agreed = None
        self._workspace.notice(
            f"the log of {self.remote.name} was set back or replaced: it does not hold "
            f"{agreed.head[:12]} any more; nothing is lost here, and what it lacks is sent again"
        )

    def _push(self, ours: str, theirs: str | None) -> Pushed:
        from grit.git.refs import read_ref

        ref = self._workspace.wal.ref
        tracking = tracking_ref(self.pushed.tracking, ref)
        if self._apart():
            theirs = read_ref(self._repository, tracking) or theirs
        outcome = self._push_once(ours)
        if not (outcome.done or outcome.moved) and self._workspace.wal.heal():
            outcome = self._push_once(ours)
        if outcome.done:
            self._sent = 0 if outcome.same else self._count_sent(ours, theirs)
            self._tell(record(self._repository, tracking, ours))
        return outcome

    def _push_once(self, ours: str) -> Pushed:
        from grit.git.transport import push

        ports, update = self._workspace.ports, Update(ours, self._workspace.wal.ref)
        (outcome,) = push(
            self._repository, self.pushed.address, [update], ports.environ, ports.progress
        )
        self._tell(outcome.removed)
        return outcome

    def _check_refusal(self, outcome: Pushed, *, pull: bool) -> None:
        """Raise unless it is worth while to fetch, join and push again."""
        name = self.pushed.name
        if not (outcome.moved or outcome.broken):
            raise self._refused(outcome)
        if not (pull or outcome.broken):
            raise Conflict(
                f"{name} has events that are not here: run 'grit sync' without --push to join them"
            )

    def _look_again(self, outcome: Pushed) -> str | None:
        """Fetch what came instead of a push, or is the push; return the remote's head."""
        try:
            return self._read_places() if self._apart() else self._fetch()
        except GitFailed:
            if outcome.broken:
                raise self._refused(outcome) from None
            raise

    def _read_places(self) -> str | None:
        """Take in what the places hold that are pushed to; return the head of the last one."""
        from grit.git.refs import read_ref

        wal, head = self._workspace.wal, None
        self._agreed = None  # that is of the place that is fetched from
        for place in self._apart():
            tracking = tracking_ref(place.tracking, wal.ref)
            self._tell(clear_record(self._repository, tracking))
            fetched = self._talk([f"+{wal.ref}:{tracking}"], place=place)
            if fetched.failed and not fetched.missing:
                raise GitFailed(
                    f"cannot read what {place.name} holds, where pushes go: {fetched.failed}",
                    remote=place.name,
                )
            head = None if fetched.missing else read_ref(self._repository, tracking)
            if head is not None:
                self._take_in(head)
        return head

    def _refused(self, outcome: Pushed) -> GitFailed:
        # Some servers do not say what they could not write.
        what = "" if outcome.ref in outcome.words else f" {outcome.ref}"
        return GitFailed(
            f"cannot push{what} to {self.pushed.name}: {outcome.words}\n"
            "nothing is lost here: the events stay, and the next sync sends them",
            remote=self.pushed.name,
        )

    def _wait(self, attempt: int, round_s: float) -> None:
        """Let others go first, for a random time that grows; `round_s`: what the last try took.

        Many that try at once make every try slow: who waits by it lets more of them pass.
        """
        round_ms = max(SYNC_BACKOFF_MS_MIN, round_s * 1000)
        most = min(SYNC_BACKOFF_MS_MAX, round_ms * 2 ** min(attempt, _DOUBLINGS_MAX))
        part = int.from_bytes(self._workspace.ports.entropy(2), "big") / 65_536
        time.sleep(most * part / 1000)

    def _count_sent(self, ours: str, theirs: str | None) -> int:
        """Return how many events the remote's log lacked; the log is read only if it must be."""
        from grit.services.refresh import refresh

        place = refresh(self._workspace, joining=False).place()
        agreed = self._agreed
        if place.head == ours and theirs is None:
            return place.event_count
        if place.head == ours and agreed is not None and agreed.head == theirs:
            return place.event_count - agreed.event_count
        from grit.services.decoding import count_events

        return count_events(self._workspace.wal.read(ours, theirs))

    def _remember(self, ours: str | None, theirs: str | None) -> None:
        """Note what both sides hold now, unless it is what they held before."""
        if theirs is None or ours != theirs or (self._agreed and self._agreed.head == theirs):
            return
        from grit.services.refresh import refresh

        place = refresh(self._workspace, joining=False).place()
        if place.head != theirs:
            return
        agreed = remotes.Agreed(theirs, place.event_count)
        try:
            remotes.save_agreed(self._repository, self.remote.tracking, agreed)
        except OSError as error:
            self._workspace.notice(f"synced, but not noted: {error.strerror}")
