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


EXAMPLES: dict[int, tuple[object, ...]] = {
    kinds.ISSUE_CREATED: ("Title", "Body", ("bug", "p0")),
    kinds.ISSUE_UPDATED: ("Other", None),
    kinds.COMMENT_ADDED: ("Comment",),
    kinds.LABEL_ADDED: ("bug",),
    kinds.LABEL_REMOVED: ("bug",),
    kinds.STATE_CHANGED: ("closed",),
    kinds.LINK_ADDED: ("https://example.org", "note"),
    kinds.ASSIGNEE_ADDED: ("ann",),
    kinds.ASSIGNEE_REMOVED: ("ann",),
    kinds.ATTACHMENT_ADDED: ("a.txt", b"\x05" * 32, "text/plain"),
    kinds.DEPENDENCY_ADDED: (bytes(OTHER), "blocks"),
    kinds.DEPENDENCY_REMOVED: (bytes(OTHER), "blocks"),
    kinds.CONTEXT_UPDATED: ("a.py", "python", (("f", "function", 1, 2),), "About", b"\x05" * 32),
    kinds.PROJECT_CONTEXT_UPDATED: ("key", "value"),
    kinds.ACTOR_ANNOUNCED: ("laptop", "Ann Example", "ann@example.org", b"\x06" * 32),
    kinds.FIELD_SET: ("priority", "1"),
    kinds.COMMENT_EDITED: (b"\x07" * 32, "Edited"),
    kinds.COMMENT_REDACTED: (b"\x07" * 32, "secret"),
    kinds.ISSUE_DELETED: ("spam",),
    kinds.ISSUE_RESTORED: ("no spam",),
    kinds.TIME_OVERRULED: ((b"\x07" * 32, b"\x08" * 32),),
}
"""One valid payload of every kind."""
