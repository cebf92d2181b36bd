"""The policy of leases: whether a write may touch an issue that somebody else has leased."""

from collections.abc import Sequence

from grit.core.errors import Conflict
from grit.core.events import ACTOR_ANNOUNCED, Event
from grit.core.lease import Holder, Lease, blocker, issue_resource
from grit.git.leases import list_locks, newest
from grit.services.actors import Signer
from grit.services.lease_clock import by_own_clock
from grit.services.leases import details_of, held_by
from grit.services.session import session_nonce
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader


def check_leases(workspace: Workspace, events: Sequence[Event], author: Signer) -> None:
    """Judge events that are about to be stored by the leases that this clone knows.

    Under the policy `require` raises Conflict, naming the holder; under `warn` tells the user
    once. No remote is asked (spec/leases.md, Policy).
    """
    locks = newest(workspace.wal, by_own_clock(workspace, list_locks(workspace.wal)))
    now_ms = workspace.now_ms()
    # Only leases on issues and on everything can stand against a write.
    live = {
        lock.lease: lock
        for lock in locks
        if lock.lease and lock.lease.live(now_ms) and lock.lease.resource.space != "path"
    }
    if not live:
        return
    reader = ViewReader(workspace.database)
    who = Holder(author.actor_id, session_nonce(workspace.ports.environ))
    told: set[Lease] = set()
    for issue_id in dict.fromkeys(one.issue_id for one in events if one.tag != ACTOR_ANNOUNCED):
        found = blocker(issue_resource(issue_id), who, live, now_ms)
        if found is None or found in told:
            continue
        words = f"{found.resource.short} {held_by(workspace, reader, live[found], who)}"
        if author.lock_policy == "require":
            raise Conflict(f"refused: {words}", **details_of(found))
        told.add(found)
        workspace.notice(words)
