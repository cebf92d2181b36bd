"""Whether an issue is blocked follows every change that can matter, each in a write of its own."""

from pathlib import Path

import pytest

from grit.core.codec import seal
from grit.core.events import Draft, Event, Payload
from grit.core.ids import ActorId, IssueId
from grit.core.query import Query, Term
from grit.files.private import Folder
from grit.view.database import Database
from grit.view.reader import ViewReader
from grit.view.rows import get_row
from grit.view.writer import rebuilding, writing
from tests.view.naive import Model, records

FIRST = IssueId(b"\x01" * 16)
SECOND = IssueId(b"\x02" * 16)
ACTOR = ActorId(b"\x0a" * 16)
BLOCKED = Query((Term("is", ("blocked",)),), "priority")
READY = Query((Term("is", ("ready",)),), "priority")


def event(ts_unix_ms: int, issue_id: IssueId, tag: int, *payload: object) -> Event:
    fields: Payload = payload  # type: ignore[assignment]
    return seal(Draft(issue_id, tag, fields), ACTOR, ts_unix_ms, None)


def created(ts_unix_ms: int, issue_id: IssueId) -> Event:
    return event(ts_unix_ms, issue_id, 1, "title", "", ())


EDGES = {
    "depends_on": event(30, SECOND, 11, FIRST, "depends_on"),
    "blocks": event(30, FIRST, 11, SECOND, "blocks"),
}
UNDONE = {
    "depends_on": event(90, SECOND, 12, FIRST, "depends_on"),
    "blocks": event(90, FIRST, 12, SECOND, "blocks"),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("late", ["nothing", "first", "second", "both"])
def test_readiness_follows_each_change(tmp_path: Path, edge: str, late: str) -> None:
    """Closing, reopening, deleting, restoring or removing the edge, and arrivals in any order."""
    births = [created(10, FIRST), created(20, SECOND), EDGES[edge]]
    if late == "both":
        births.reverse()
    elif late == "first":
        births = [births[1], births[2], births[0]]
    elif late == "second":
        births = [births[0], births[2], births[1]]
    steps = [
        *births,
        event(40, FIRST, 6, "closed"),
        event(41, FIRST, 6, "open"),
        event(42, FIRST, 104, "gone"),
        event(43, FIRST, 105, "back"),
        event(44, SECOND, 6, "closed"),
        event(45, SECOND, 6, "open"),
        event(46, SECOND, 104, "gone"),
        event(47, SECOND, 105, "back"),
        event(48, SECOND, 101, "priority", "1"),
        event(49, SECOND, 3, "a comment"),
        UNDONE[edge],
    ]
    database = Database(Folder(str(tmp_path), ("view",), "grit"))
    with rebuilding(database) as writer:
        writer.apply((), None)
    reader = ViewReader(database)
    seen: set[int] = set()
    for number, step in enumerate(steps):
        with writing(database) as writer:
            writer.apply(records([step]), "head")
        model = Model(steps[: number + 1])
        for query in (BLOCKED, READY):
            page = reader.page(query, limit=10)
            assert (list(page.rows), page.total) == (model.page(query), len(model.page(query)))
        seen.add(reader.page(BLOCKED, limit=10).total)
    assert seen == {0, 1}
    database.close()


@pytest.mark.parametrize("built", [True, False])
def test_a_closed_issue_is_not_blocked_however_it_came(tmp_path: Path, built: bool) -> None:
    """Only open issues are blocked, in a rebuild as in a write."""
    first, second = IssueId(b"\x01" * 16), IssueId(b"\x02" * 16)
    drafts = [
        Draft(first, 1, ("first", "", ())),
        Draft(second, 1, ("second", "", ())),
        Draft(second, 11, (first, "depends_on")),
        Draft(second, 6, ("closed",)),
    ]
    actor = ActorId(b"\x0a" * 16)
    events = [seal(draft, actor, 1_000 + at, None) for at, draft in enumerate(drafts)]
    database = Database(Folder(str(tmp_path), ("view",), "grit"))
    with rebuilding(database) as writer:
        writer.apply(records(events if built else []), "head")
    if not built:
        with writing(database) as writer:
            writer.apply(records(events), "head")
    with database.reading() as txn:
        row = get_row(txn, second)
    assert row is not None and not row.blocked
    database.close()
