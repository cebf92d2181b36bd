"""Builders of events and issues that default everything a test is not about."""

from grit.core import codec
from grit.core import events as kinds
from grit.core.events import Draft, Event, Payload
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Issue, Summary

ISSUE = IssueId(b"\x01" * 16)
OTHER = IssueId(b"\x02" * 16)
ACTOR = ActorId(b"\xaa" * 16)
NOW_MS = 1_700_000_000_000


def event(
    tag: int,
    *payload: object,
    ts: int = NOW_MS,
    issue: IssueId = ISSUE,
    actor: ActorId = ACTOR,
    parent: EventId | None = None,
) -> Event:
    """Seal an event of any kind."""
    values: Payload = payload  # type: ignore[assignment]
    return codec.seal(Draft(issue, tag, values), actor, ts, parent)


def created(
    title: str = "Title", body: str = "Body", labels: tuple[str, ...] = (), ts: int = NOW_MS
) -> Event:
    """Seal a creation."""
    return event(kinds.ISSUE_CREATED, title, body, labels, ts=ts)


def fold_of(*events: Event) -> Issue:
    """Fold events given in any order; there must be a creation."""
    from grit.core.fold import fold

    issue = fold(sorted(events, key=lambda one: one.order))
    assert issue is not None
    return issue


def summary_of(*events: Event) -> Summary:
    """Summarise events given in any order; there must be a creation."""
    return fold_of(*events).summary
