"""Use cases: claim an issue, which leases and assigns it, and give it back (spec/leases.md)."""

from contextlib import suppress
from typing import NamedTuple

from grit.core.errors import Conflict, GritError
from grit.core.ids import user_name
from grit.core.lease import Holder, Lease, Resource, issue_resource
from grit.git.actors import is_config_ours
from grit.services import issues, leases
from grit.services.actors import current, signer
from grit.services.find import resolve
from grit.services.issues import Change
from grit.services.lease_book import chosen_remote
from grit.services.leases import Wish
from grit.services.refresh import refresh
from grit.services.session import session_nonce
from grit.services.workspace import Workspace
from grit.services.write import Transaction, Written, write


class Claim(NamedTuple):
    """What claiming or giving back did: to the issue, in the log, to the lease."""

    change: Change
    written: Written
    lease: Lease


def claim(workspace: Workspace, issue: str, ttl_ms: int, *, local: bool = False) -> Claim:
    """Lease an issue and assign the current actor; of several who try, one wins.

    Who takes over a claim that has ended also takes off the assignee that it had added. Raises
    Conflict, naming the winner, and for an issue that is closed or deleted; NotFound; what
    `acquire` raises.
    """
    reader = refresh(workspace)
    issue_id = resolve(reader, issue)
    row = reader.summary(issue_id)
    if row is not None and (row.deleted or row.state != "open"):
        state = "deleted" if row.deleted else row.state
        raise Conflict(f"the issue is {state}; there is nothing to claim", id=issue_id.hex())
    author = signer(workspace)
    me = user_name(author.label, author.actor_id)
    who = leases.holder(workspace)
    resource = issue_resource(issue_id)
    mine = None if row is not None and me in row.assignees else me
    wish = Wish(resource, who, ttl_ms, mine)
    taken = leases.acquire(workspace, wish, local=local)
    before = taken.before if taken.before is not None and not taken.before.released else None
    former = before.claimed if before is not None else None

    def work(transaction: Transaction) -> Change:
        remove = [former] if former is not None and former != me else []
        change = issues.assign_users(transaction, issue_id.hex(), add=[me], remove=remove)
        return change._replace(subject=change.subject.replace("assign", "claim", 1))

    try:
        change, written = write(workspace, work, lambda one: one.subject)
    except GritError:
        if before is None or before.holder != who:
            with suppress(GritError):  # what is wrong is said by the first one
                leases.release(workspace, resource, who, local=local)
        raise
    return Claim(change, written, taken.lease)


def own_claim(workspace: Workspace, issue: str) -> Resource | None:
    """Return the issue as a resource if this session has leased it, as far as this clone knows."""
    me = current(workspace)
    if me is None:
        return None
    who = Holder(me.actor_id, session_nonce(workspace.ports.environ))
    try:
        resource = issue_resource(resolve(refresh(workspace), issue))
        lease = leases.held(workspace, resource, who, local=True)
    except GritError:
        return None  # of another, or of nobody; what is wrong with the issue is said elsewhere
    return resource if lease.live(workspace.now_ms()) else None


def end_claim(workspace: Workspace, resource: Resource) -> None:
    """Give the lease of an issue that is closed back; who did it stays assigned.

    The issue is closed already: what goes wrong is told, and the lease ends by itself. A lease
    that came with a copied repository talks to no remote, whose address may run a program.
    """
    try:
        if chosen_remote(workspace) is not None and not is_config_ours(workspace.repository):
            workspace.notice(
                f"the lease on {resource.short} stays until it ends, since this clone is a copy or "
                f"its settings were edited; 'grit lock release {resource.short}' gives it back"
            )
            return
        leases.release(workspace, resource, leases.holder(workspace))
    except GritError as failure:
        workspace.notice(f"the lease on {resource.short} stays until it ends: {failure.message}")
    else:
        workspace.notice(f"gave the lease on {resource.short} back")


def give_back(
    workspace: Workspace, issue: str, *, nonce: str | None = None, local: bool = False
) -> Claim:
    """Give the lease of an issue back, and take the assignee off that the claim had added.

    Raises Conflict when it is another's, NotFound when there is none, what `release` raises.
    """
    issue_id = resolve(refresh(workspace), issue)
    who = leases.holder(workspace, nonce)
    resource = issue_resource(issue_id)
    # While the lease still keeps others away: afterwards the write might be refused for theirs.
    claimed = leases.held(workspace, resource, who, local=local).claimed

    def work(transaction: Transaction) -> Change:
        remove = [claimed] if claimed is not None else []
        change = issues.assign_users(transaction, issue_id.hex(), remove=remove)
        return change._replace(subject=change.subject.replace("unassign", "release", 1))

    change, written = write(workspace, work, lambda one: one.subject)
    return Claim(change, written, leases.release(workspace, resource, who, local=local))
