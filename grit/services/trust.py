"""Use cases: whose events count. A list of allowed actors, and revoking one (spec/trust.md)."""

from typing import NamedTuple, cast

from grit.core.errors import InvalidArgs
from grit.core.ids import ActorId, EventId
from grit.core.issue import Order
from grit.core.limits import REVOKED_ENDS_MAX
from grit.core.trust import VALID, WARN, Policy, chain_ends
from grit.git import actors as files
from grit.git.actors import Scalar
from grit.services.actors import current
from grit.services.policy import REVOKED, TRUSTED, allowed_actors, revoked_actors
from grit.services.refresh import refresh
from grit.services.who import Known, everybody, is_me, the_one
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader


class Changed(NamedTuple):
    """What became of the list or the table of revoked actors."""

    actor: Known
    changed: bool
    trusted: tuple[ActorId, ...]
    """The list of allowed actors now; empty: everybody."""
    event_count: int = 0
    """Events of a revoked actor that still count."""


def find_actor(workspace: Workspace, reader: ViewReader, text: str) -> Known:
    """Return the actor of this clone or of the log that the text means (spec/trust.md, Names).

    Raises NotFound, or InvalidArgs with the candidates when several may be meant.
    """
    known = everybody(reader, files.list_actors(workspace.repository))
    me = current(workspace) if is_me(text) else None
    nobody = f"nobody called '{text}' is known here: see 'grit actor list'"
    return the_one(text, known, me.actor_id if me else None, nobody)


def trust(workspace: Workspace, text: str, *, remove: bool = False) -> Changed:
    """Put an actor on the list of those whose events count, or take it off."""
    actor = find_actor(workspace, refresh(workspace), text)
    with files.changing_config(workspace.repository) as settings:
        before = allowed_actors(settings)
        after = before - {actor.actor_id} if remove else before | {actor.actor_id}
        settings[TRUSTED] = [one.hex() for one in sorted(after)]
        if not after:
            del settings[TRUSTED]
    return Changed(actor, before != after, tuple(sorted(after)))


def revoke(workspace: Workspace, text: str, *, remove: bool = False) -> Changed:
    """Let nothing more of an actor count than what its chain holds now, or let all count again.

    Whoever is revoked already stays so from the first time on: what came since stays out.
    """
    reader = refresh(workspace)
    actor = find_actor(workspace, reader, text)
    parents = {} if remove else _signed(workspace, reader, actor.actor_id)
    ends = chain_ends(parents)
    if len(ends) > REVOKED_ENDS_MAX:
        raise InvalidArgs(
            f"the chain of '{actor.label}' has {len(ends)} ends, more than {REVOKED_ENDS_MAX} "
            "can be recorded; leave it out of the list instead: 'grit actor trust' the others"
        )
    with files.changing_config(workspace.repository) as settings:
        known = dict(revoked_actors(settings))
        changed = (actor.actor_id in known) == remove
        table = cast(dict[str, Scalar | list[Scalar]], settings.setdefault(REVOKED, {}))
        if changed and remove:
            del table[actor.actor_id.hex()]
        elif changed:
            table[actor.actor_id.hex()] = [end.hex() for end in ends]
        if not table:
            del settings[REVOKED]
        trusted = allowed_actors(settings)
    return Changed(actor, changed, tuple(sorted(trusted)), len(parents))


def chain_end(reader: ViewReader, actor_id: ActorId, latest_ms: int) -> EventId | None:
    """Return the newest of an actor's events that none of them names as its parent.

    For an actor with an event far ahead of `latest_ms`: the chain went on from that long ago. The
    whole view is read.
    """
    parents: dict[EventId, EventId | None] = {}
    orders: dict[EventId, Order] = {}
    for event in reader.all_events():
        if event.actor_id == actor_id:
            parents[event.event_id], orders[event.event_id] = event.parent, event.order
    ends = chain_ends(parents)
    return max(ends, key=lambda end: (orders[end][0] <= latest_ms, orders[end]), default=None)


def _signed(
    workspace: Workspace, reader: ViewReader, actor_id: ActorId
) -> dict[EventId, EventId | None]:
    """Return the events that the actor signed, with their parents.

    What only claims to be of the actor must not end up before an end of its chain.
    """
    from grit.services.signatures import Judge, bare
    from grit.view.standing import Stamp

    events = [bare(event) for event in reader.all_events() if event.actor_id == actor_id]
    judge = Judge(reader, Policy(WARN), Stamp())
    try:
        judge.begin([(event, b"") for event in events])
        return {event.event_id: event.parent for event in events if judge.status(event) == VALID}
    finally:
        judge.close()
