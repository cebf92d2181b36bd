"""Clocks that are wrong: what is far ahead freezes nothing in a real log (decision 0032)."""

import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core.codec import seal
from grit.core.errors import InvalidArgs
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from grit.core.limits import CLOCK_AHEAD_MS_MAX, TS_UNIX_MS_MAX
from grit.services import batch, checks, issues
from grit.services.actors import signer
from grit.services.import_beads import import_beads
from grit.services.import_json import import_json
from grit.services.refresh import rebuild, refresh
from grit.services.shapes import event_json
from grit.services.survey import survey
from grit.services.workspace import Ports, open_workspace
from grit.services.write import Transaction, store, write

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ISSUE, OTHER = IssueId(b"\x01" * 16), IssueId(b"\x02" * 16)
EVE = ActorId(b"\xee" * 16)


class Clone:
    """A workspace whose clock a test sets."""

    def __init__(self, folder: Path) -> None:
        self.now_ms = NOW_MS
        self.notices: list[str] = []
        ports = Ports(os.environ, lambda: self.now_ms, os.urandom, self.notices.append)
        self.workspace = open_workspace(str(folder), ports)

    def write(self, work: Callable[[Transaction], issues.Change]) -> list[Event]:
        return list(write(self.workspace, work, lambda one: one.subject)[1].events)

    def store(self, *events: Event) -> None:
        store(self.workspace, events, "import", signer(self.workspace))


def pushed(
    tag: int, *payload: kinds.Value, ts: int = TS_UNIX_MS_MAX, issue: IssueId = ISSUE
) -> Event:
    return seal(Draft(issue, tag, payload), EVE, ts, None)


@pytest.fixture
def clone(git_repository: Path) -> Clone:
    """Two issues; every register and set of the first is at the last time, and so is a comment."""
    made = Clone(git_repository)
    sha = b"\x05" * 32
    made.store(
        pushed(kinds.ISSUE_CREATED, "one", "", (), ts=NOW_MS - 9),
        pushed(kinds.ISSUE_CREATED, "two", "", (), ts=NOW_MS - 9, issue=OTHER),
        pushed(kinds.ISSUE_UPDATED, "frozen", "frozen"),
        pushed(kinds.COMMENT_ADDED, "frozen"),
        pushed(kinds.LABEL_ADDED, "frozen"),
        pushed(kinds.ASSIGNEE_ADDED, "frozen"),
        pushed(kinds.FIELD_SET, "priority", "4"),
        pushed(kinds.LINK_ADDED, "https://example.org", None),
        pushed(kinds.ATTACHMENT_ADDED, "a", sha, ""),
        pushed(kinds.DEPENDENCY_ADDED, bytes(OTHER), "related_to"),
    )
    return made


ARGUMENTS: dict[str, dict[str, object]] = {
    "update": {"title": "new", "body": "new", "fields": {"priority": "1"}},
    "comment": {"body": "new"},
    "close": {"body": "done"},
    "reopen": {},
    "label": {"add": ["new"], "remove": ["frozen"]},
    "assign": {"add": ["new"], "remove": ["frozen"]},
    "link": {"url": "https://example.com"},
    "dep": {"target": OTHER.hex(), "type": "blocks"},
    "dep-remove": {"target": OTHER.hex(), "type": "related_to"},
    "comment-edit": {"comment": "1", "body": "new"},
    "comment-redact": {"comment": "1"},
    "delete": {},
    "restore": {},
}
PRECEDED: dict[str, Event] = {
    "reopen": pushed(kinds.STATE_CHANGED, "closed"),
    "restore": pushed(kinds.ISSUE_DELETED, ""),
}


@pytest.mark.parametrize("op", [op for op in batch._OPERATIONS if op != "create"])
def test_every_change_heals_a_frozen_issue(clone: Clone, op: str) -> None:
    """Each operation that there is takes effect on an issue whose last event has the last time;
    nothing else is lost, the next one is plain, and a view built anew shows the same."""
    if op in PRECEDED:
        clone.store(PRECEDED[op])
    before = refresh(clone.workspace).issue(ISSUE)
    run = batch._OPERATIONS[op][2]
    events = clone.write(
        lambda transaction: run(transaction, {"issue": ISSUE.hex(), **ARGUMENTS[op]})
    )
    assert [event.tag for event in events].count(kinds.TIME_OVERRULED) == 1
    assert all(event.ts_unix_ms < NOW_MS + 99 for event in events)
    after = refresh(clone.workspace).issue(ISSUE)
    assert before is not None and after is not None
    assert _shown(after) != _shown(before)
    assert after.summary.updated_ts == events[-1].ts_unix_ms
    again = clone.write(
        lambda transaction: run(transaction, {"issue": ISSUE.hex(), **ARGUMENTS[op]})
    )
    assert kinds.TIME_OVERRULED not in [event.tag for event in again]
    healed = refresh(clone.workspace).issue(ISSUE)
    assert rebuild(clone.workspace).issue(ISSUE) == healed


def _shown(issue: issues.Issue) -> object:
    row = issue.summary._replace(event_count=0, settled_ts=None, last=issue.summary.last)
    return row, issue.body, issue.comments, issue.links


@pytest.mark.parametrize("days", [-40, -8, 8, 40, 36_525, 365_000])
def test_a_second_clock_is_followed_and_followed_again(clone: Clone, days: int) -> None:
    """Whoever changes last, seeing the other's change, is shown, whatever the two clocks say."""
    for at, state in enumerate(("closed", "open") * 3):
        clone.now_ms = NOW_MS + at * 1_000 + (days * DAY_MS if at % 2 else 0)
        clone.write(
            lambda transaction, state=state: issues.set_state(transaction, ISSUE.hex(), state)
        )
        row = refresh(clone.workspace).summary(ISSUE)
        assert row is not None and row.state == state
        assert row.updated_ts <= clone.now_ms + CLOCK_AHEAD_MS_MAX + 99


def test_who_overrules_says_so(clone: Clone) -> None:
    """A write that overrules a time tells the clock's time: it may be this one that is wrong."""
    clone.write(lambda one: issues.comment(one, ISSUE.hex(), "x"))
    (line,) = [line for line in clone.notices if "ahead" in line]
    assert "8 events were over a day ahead" in line and "2023-11-14T22:13:20.000Z" in line


def test_doctor_names_what_is_ahead_until_it_is_overruled(clone: Clone) -> None:
    """The check warns with the way out, and is content once somebody has changed the issue."""

    def check() -> checks.Check:
        head = clone.workspace.wal.head()
        facts = survey(clone.workspace, head)
        return next(c for c in checks.log_checks(clone.workspace, head, facts) if c.id == "clock")

    found = check()
    assert (found.status, found.message[:8]) == ("warn", "8 events")
    assert "the next change of the issue" in (found.plan or "")
    clone.write(lambda transaction: issues.comment(transaction, ISSUE.hex(), "x"))
    assert check().status == "ok"


def test_an_actor_id_that_names_a_frozen_issue_stops_nobody(git_repository: Path) -> None:
    """Whoever writes an issue under an actor's id cannot keep the actor from its first write."""
    clone = Clone(git_repository)
    me = IssueId(signer(clone.workspace).actor_id)
    clone.store(
        pushed(kinds.ISSUE_CREATED, "x", "", (), issue=me),
        pushed(kinds.COMMENT_ADDED, "y", issue=me),
    )
    events = clone.write(lambda one: issues.create(one, ISSUE, "mine"))
    assert [event.tag for event in events] == [kinds.ACTOR_ANNOUNCED, kinds.ISSUE_CREATED]


def test_a_time_before_1970_is_refused(clone: Clone) -> None:
    """A clock that stands before 1970 writes nothing, and is told what is wrong."""
    clone.now_ms = -315_619_200_000
    head = clone.workspace.wal.head()
    with pytest.raises(Exception, match="before 1970"):
        clone.write(lambda one: issues.create(one, IssueId(b"\x03" * 16), "x"))
    assert clone.workspace.wal.head() == head


def test_a_json_import_sets_the_future_aside_unless_it_is_overruled(
    clone: Clone, tmp_path: Path
) -> None:
    """Of a log that is not healed the events ahead are set aside with the reason; of one that is
    healed all come, and the issue is the same."""

    def load(name: str) -> tuple[list[int], object]:
        subprocess.run(["git", "init", "-q", str(tmp_path / name)], check=True, timeout=30)
        other = Clone(tmp_path / name)
        shapes = [event_json(e) for e in refresh(clone.workspace).all_events()]
        found = import_json(other.workspace, io.BytesIO(json.dumps({"events": shapes}).encode()))
        assert all("ahead of this machine's clock" in one.reason for one in found.refusals)
        again = import_json(clone.workspace, io.BytesIO(json.dumps({"events": shapes}).encode()))
        assert again.refusals == [] and again.added == 0
        return [one.position for one in found.refusals], refresh(other.workspace).issue(ISSUE)

    assert len(load("frozen")[0]) == 8
    clone.write(lambda one: issues.set_state(one, ISSUE.hex(), "closed"))
    refused, issue = load("healed")
    assert (refused, issue) == ([], refresh(clone.workspace).issue(ISSUE))


def test_an_event_far_ahead_does_not_fork_its_actors_chain(git_repository: Path) -> None:
    """The next events go on from the last one, not from that with the latest time."""
    clone = Clone(git_repository)
    for days in (0, 40, 0, 0, 0):
        clone.now_ms = NOW_MS + days * DAY_MS
        clone.write(lambda one: issues.create(one, IssueId(os.urandom(16)), "more"))
    own = list(refresh(clone.workspace).all_events())
    parents = [event.parent for event in own]
    assert len({*parents}) == len(parents) == 6, "the announcement, and five issues"


def test_a_beads_import_takes_no_time_from_the_future(git_repository: Path) -> None:
    """A time that no clock has is not used; one ahead of this clock ends the import."""
    clone = Clone(git_repository)
    line = {"id": "b", "title": "t", "created_at": "2020-01-01T00:00:00Z", "assignee": "x"}
    line["updated_at"] = "9999-12-31T23:59:59.999Z"
    found = import_beads(clone.workspace, io.BytesIO(json.dumps(line).encode()))
    assert [one.reason for one in found.translation.findings] == [
        "updated_at lies beyond the year 2099, and is not used"
    ]
    assert max(event.ts_unix_ms for event in found.written.events) < NOW_MS


def test_a_beads_import_by_a_clock_that_is_behind_stores_nothing(git_repository: Path) -> None:
    """Else it would take other times than the other clones, and double what it imports."""
    clone = Clone(git_repository)
    comments = [{"id": 1, "author": "x", "text": "one", "created_at": "2023-11-10T00:00:00Z"}]
    line = {"id": "b", "title": "t", "created_at": "2023-11-01T00:00:00Z", "comments": comments}
    data = json.dumps(line).encode()
    clone.now_ms = NOW_MS - 40 * 24 * 60 * 60 * 1000
    with pytest.raises(InvalidArgs, match="set the clock right"):
        import_beads(clone.workspace, io.BytesIO(data))
    assert clone.workspace.wal.head() is None
    clone.now_ms = NOW_MS
    assert import_beads(clone.workspace, io.BytesIO(data)).written.events


def test_a_beads_issue_that_was_frozen_by_an_older_import_is_imported_again(
    git_repository: Path,
) -> None:
    """What an earlier version stored at the last time is no longer the newest once overruled."""
    clone = Clone(git_repository)
    clone.now_ms = TS_UNIX_MS_MAX
    line = {"id": "b", "title": "t", "created_at": "2020-01-01T00:00:00Z", "assignee": "x"}
    line["updated_at"] = "9999-12-31T23:59:59.998Z"
    import_beads(clone.workspace, io.BytesIO(json.dumps(line).encode()))
    clone.now_ms = NOW_MS
    (row,) = refresh(clone.workspace).all_rows()
    clone.write(lambda one: issues.comment(one, row.issue_id.hex(), "heal"))
    line.update(title="newer", updated_at="2023-11-15T00:00:00Z")
    import_beads(clone.workspace, io.BytesIO(json.dumps(line).encode()))
    assert [one.title for one in refresh(clone.workspace).all_rows()] == ["newer"]


def test_the_json_of_what_overrules_names_the_events(clone: Clone) -> None:
    """The events of a healed issue carry the TimeOverruled by its name, ids in hex."""
    clone.write(lambda one: issues.comment(one, ISSUE.hex(), "x"))
    shapes = [event_json(e) for e in refresh(clone.workspace).all_events()]
    named = [str(shape["kind"]) for shape in shapes if "TimeOverruled" in str(shape["kind"])]
    (told,) = [re.findall(r"'([0-9a-f]{64})'", one) for one in named]
    assert len(told) == 8 and told == sorted(told)
