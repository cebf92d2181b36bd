"""Import from beads: what is mapped, idempotence, newer exports, hostile lines."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import events as kinds
from grit.core.codec import decode_chunk, encode_chunk, seal
from grit.core.events import Draft, Event
from grit.core.fold import fold
from grit.core.ids import IssueId
from grit.core.issue import Issue
from grit.services.beads_events import Translation, actor_id_of, issue_id_of, translate
from grit.services.beads_record import LINE_BYTES_MAX, parse_ms
from grit.services.import_beads import import_beads
from grit.services.refresh import refresh
from grit.services.workspace import Ports, Workspace, open_workspace

T1, T2, T3 = "2025-01-01T00:00:00Z", "2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z"


def ms(text: str) -> int:
    found = parse_ms(text)
    assert found is not None
    return found


def record(**more: object) -> dict[str, object]:
    return {"id": "bd-1", "title": "T", "created_at": T1, "updated_at": T2, **more}


def run(*records: dict[str, object], log: "Log | None" = None) -> Translation:
    lines = [json.dumps(one).encode() for one in records]
    return translate(lines, log.events_of) if log else translate(lines)


class Log:
    """What imports stored so far."""

    def __init__(self) -> None:
        self.events: dict[bytes, Event] = {}

    def events_of(self, issue_id: IssueId) -> list[Event]:
        found = [event for event in self.events.values() if event.issue_id == issue_id]
        return sorted(found, key=lambda event: event.order)

    def take(self, *records: dict[str, object]) -> Translation:
        told = run(*records, log=self)
        self.events.update((event.event_id, event) for event in told.events)
        return told

    def issue(self, source_id: str = "bd-1") -> Issue:
        found = fold(self.events_of(issue_id_of(source_id)))
        assert found is not None
        return found


def imported(*records: dict[str, object]) -> Issue:
    log = Log()
    log.take(*records)
    return log.issue()


def reasons(told: Translation) -> list[tuple[str, bool]]:
    return [(one.reason, one.dropped) for one in told.findings]


def test_texts_and_sections() -> None:
    """Title and description are kept; design, acceptance criteria and notes are sections."""
    issue = imported(record(description="D", notes="N", design="P", acceptance_criteria="A"))
    assert issue.body == "D\n\n## Design\n\nP\n\n## Acceptance criteria\n\nA\n\n## Notes\n\nN"
    assert issue.summary.title == "T"


def test_fields_labels_people_and_times() -> None:
    """Every fact has its place, and the original times are the event times."""
    issue = imported(
        record(
            status="hooked", priority=0, issue_type="bug", labels=["b", "a"], assignee="ann",
            created_by="bob", owner="o@x.org", external_ref="https://x.org/1", timeout=7,
            ephemeral=True, odd={"k": [1]},
        )
    )  # fmt: skip
    row = issue.summary
    assert (row.state, row.labels, row.assignees) == ("open", ("a", "b"), ("ann",))
    assert dict(row.fields) == {
        "source": "beads:bd-1", "status": "hooked", "priority": "0", "type": "bug",
        "owner": "o@x.org", "external_ref": "https://x.org/1", "beads.timeout": "7",
        "beads.ephemeral": "true", "beads.odd": '{"k": [1]}',
    }  # fmt: skip
    assert (row.author, row.created_ts, row.updated_ts) == (actor_id_of("bob"), ms(T1), ms(T2))
    assert [link.url for link in issue.links] == ["https://x.org/1"]


def test_closed_tombstone_and_comments() -> None:
    """closed_at, close_reason, deletion and comments keep their times and people."""
    comment = {"id": 1, "author": "c", "text": "hello", "created_at": T2}
    issue = imported(
        record(status="closed", closed_at=T2, updated_at=T3, close_reason="R", comments=[comment])
    )
    assert issue.summary.state == "closed" and issue.summary.updated_ts == ms(T3)
    assert [(one.actor, one.body) for one in issue.comments] == [
        (actor_id_of("c"), "hello"),
        (actor_id_of("beads"), "R"),
    ]
    assert [one.ts_unix_ms // 1000 * 1000 for one in issue.comments] == [ms(T2), ms(T2)]
    told = run(record(status="tombstone", deleted_at=T3, deleted_by="d", delete_reason="why"))
    (deletion,) = [one for one in told.events if one.tag == kinds.ISSUE_DELETED]
    assert (deletion.actor_id, deletion.ts_unix_ms, deletion.payload) == (
        actor_id_of("d"), ms(T3), ("why",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "edge", "field"),
    [
        ("blocks", "depends_on", None),
        ("related", "related_to", None),
        ("relates-to", "related_to", None),
        ("parent-child", None, "parent"),
        ("discovered-from", "related_to", "discovered-from"),
        ("supersedes", "related_to", "supersedes"),
        ("waits-for", "related_to", "beads.waits-for"),
    ],
)
def test_every_kind_of_dependency_is_kept(kind: str, edge: str | None, field: str | None) -> None:
    """A dependency becomes an edge, a field or both; an unknown kind is reported."""
    told = run(
        record(dependencies=[{"depends_on_id": "bd-2", "type": kind, "created_at": T2}]),
        record(id="bd-2"),
    )
    issue = fold([one for one in told.events if one.issue_id == issue_id_of("bd-1")])
    assert issue is not None
    target = issue_id_of("bd-2")
    assert [tuple(one) for one in issue.summary.dependencies] == ([(target, edge)] if edge else [])
    if field is not None:
        assert issue.summary.field(field) == target.hex()
    assert len(told.findings) == (kind == "waits-for")


def test_orphans_and_cycles_are_kept_and_reported() -> None:
    """An edge to an issue that is not there, and a cycle, are in the log and in the report."""
    told = run(
        record(dependencies=[{"depends_on_id": "bd-2"}, {"depends_on_id": "bd-9"}]),
        record(id="bd-2", dependencies=[{"depends_on_id": "bd-1"}]),
    )
    assert sum(one.tag == kinds.DEPENDENCY_ADDED for one in told.events) == 3
    found = " / ".join(reason for reason, _ in reasons(told))
    assert "does not hold" in found and "cycle" in found
    assert not any(dropped for _, dropped in reasons(told))


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"7", b'{"title": "no id"}', b'{"id": 3}', b"\xff\xfe", b'{"id": " "}',
        b"[" * 100_000, b'{"id": "x", "n": ' + b"9" * 5_000 + b"}", b"x" * (LINE_BYTES_MAX + 1),
        b'{"id": "x", "y": ' + b'[' * 900 + b']' * 900 + b"}",
    ],
)  # fmt: skip
def test_a_malformed_line_is_reported_and_does_not_stop_the_rest(line: bytes) -> None:
    """The good line behind a bad one is imported; the bad one has its number in the report."""
    told = translate([line, json.dumps(record()).encode()])
    assert issue_id_of("bd-1") in {event.issue_id for event in told.events}
    assert all(one.line == 1 for one in told.findings)
    assert any(one.dropped for one in told.findings) == (b'"y"' not in line or told.issues == 1)


def test_importing_again_adds_nothing() -> None:
    """The same export a second time is no event at all."""
    log = Log()
    one = record(status="closed", closed_at=T2, close_reason="R", labels=["a"], assignee="ann")
    assert log.take(one).events
    assert log.take(one).events == []


COMMENT = st.fixed_dictionaries(
    {
        "author": st.sampled_from(("ann", "bob", "cy")),
        "text": st.sampled_from(("x", "y", "retry")),
        "created_at": st.sampled_from((T1, T2, "2025-01-02T00:00:00.001Z")),
    }
)


@given(st.lists(COMMENT, max_size=6), st.lists(COMMENT, max_size=3), st.booleans())
def test_comments_of_one_time_keep_order_and_number(
    comments: list[dict[str, object]], later: list[dict[str, object]], numbered: bool
) -> None:
    """In the order of the source, those of one second too, and equal ones stay as many."""
    if numbered:
        comments = [{**one, "id": at} for at, one in enumerate(comments)]
    log = Log()
    log.take(record(comments=comments))
    wanted = sorted(comments, key=lambda one: ms(str(one["created_at"])))
    shown = [(one.actor, one.body) for one in log.issue().comments]
    assert shown == [(actor_id_of(str(one["author"])), one["text"]) for one in wanted]
    assert log.take(record(comments=comments)).events == []
    newer = [*comments, *({**one, "created_at": T3} for one in later)]
    log.take(record(comments=newer, updated_at=T3))
    assert [one.body for one in log.issue().comments][len(shown) :] == [o["text"] for o in later]
    assert log.take(record(comments=newer, updated_at=T3)).events == []


def test_one_comment_that_is_there_twice_is_one() -> None:
    """A comment with the same id is the same comment; with another id it is another one."""
    one = {"id": 7, "author": "c", "text": "x", "created_at": T1}
    assert len(imported(record(comments=[one, one])).comments) == 1
    assert len(imported(record(comments=[one, {**one, "id": 8}])).comments) == 2


def test_what_an_earlier_version_imported_is_known() -> None:
    """Events of imports that gave comments of one second one time are not added again."""
    comments = [{"author": "c", "text": text, "created_at": T1} for text in "abcdef"]
    log = Log()
    log.take(record())
    for one in comments:
        draft = Draft(issue_id_of("bd-1"), kinds.COMMENT_ADDED, (one["text"],))
        event = seal(draft, actor_id_of("c"), ms(T1), None)
        log.events[event.event_id] = event
    told = log.take(record(comments=comments))
    assert [event for event in told.events if event.tag == kinds.COMMENT_ADDED] == []
    assert len(log.issue().comments) == 6


def test_a_newer_export_adds_only_what_changed() -> None:
    """Changes of the source become updates at its updated_at, never a second creation."""
    log = Log()
    comment = {"author": "c", "text": "old", "created_at": T1}
    log.take(record(labels=["a"], assignee="ann", comments=[comment], priority=1))
    newer = record(
        title="New", labels=["b"], comments=[{**comment, "text": "new"}], priority=2,
        status="closed", closed_at=T3, updated_at=T3,
        dependencies=[{"depends_on_id": "bd-2", "created_at": T3}],
    )  # fmt: skip
    told = log.take(newer)
    assert kinds.ISSUE_CREATED not in {event.tag for event in told.events}
    issue = log.issue()
    row = issue.summary
    assert (row.title, row.labels, row.assignees, row.state) == ("New", ("b",), (), "closed")
    assert row.field("priority") == "2" and row.updated_ts == ms(T3)
    assert [one.body for one in issue.comments] == ["new"]
    assert log.take(newer).events == []


def test_a_change_that_the_source_did_not_date_still_wins() -> None:
    """With the same updated_at, a difference is stated behind what was told."""
    log = Log()
    late = {"author": "c", "text": "late", "created_at": T3}
    log.take(record(priority=1, comments=[late]))
    for priority in (2, 0):
        newer = record(priority=priority, updated_at=f"2025-01-0{5 - priority}T00:00:00Z")
        log.take({**newer, "comments": [late]})
        assert log.issue().summary.field("priority") == str(priority)
    log.take(record(priority=4, updated_at="2025-01-05T00:00:00Z", comments=[late]))
    (last,) = [e for e in log.events.values() if e.payload == ("priority", "4")]
    assert last.ts_unix_ms == ms("2025-01-05T00:00:00Z") + 1
    assert log.issue().summary.field("priority") == "4"


def test_an_older_export_changes_nothing() -> None:
    """What is older than what was imported is reported and left."""
    log = Log()
    log.take(record(title="New", updated_at=T3))
    told = log.take(record(title="Old"))
    assert told.events == [] and "older" in told.findings[0].reason


def test_deleted_and_restored_by_newer_exports() -> None:
    """A tombstone deletes with its reason; its return restores."""
    log = Log()
    log.take(record())
    log.take(record(status="tombstone", deleted_at=T3, delete_reason="why", updated_at=T3))
    assert log.issue().summary.deleted
    log.take(record(updated_at="2025-01-04T00:00:00Z"))
    assert not log.issue().summary.deleted


TEXT = st.text(max_size=12)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.just(T3))
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
KEYS = (
    "title", "description", "status", "priority", "issue_type", "created_at", "updated_at",
    "closed_at", "labels", "assignee", "comments", "dependencies", "close_reason", "deleted_at",
    "notes", "created_by", "owner", "external_ref", "extra", "estimated_minutes",
)  # fmt: skip
EDGE = st.fixed_dictionaries(
    {"depends_on_id": st.sampled_from(("bd-1", "bd-2", "bd-3"))}, optional={"type": TEXT}
)
RECORD = st.fixed_dictionaries(
    {"id": st.sampled_from(("bd-1", "bd-2"))},
    optional={
        **dict.fromkeys(KEYS, VALUE),
        "labels": st.lists(TEXT, max_size=3) | VALUE,
        "status": st.sampled_from(("open", "closed", "tombstone", "x")) | VALUE,
        "dependencies": st.lists(EDGE, max_size=3) | VALUE,
        "comments": st.lists(st.fixed_dictionaries({"text": TEXT}), max_size=3) | VALUE,
        "updated_at": st.sampled_from((T1, T2, T3)),
    },
)


@given(st.lists(RECORD, max_size=4))
def test_any_records_give_valid_events_once(records: list[dict[str, object]]) -> None:
    """Whatever the source says: no exception, every event valid, a second import adds nothing."""
    log = Log()
    told = log.take(*records)
    assert decode_chunk(encode_chunk(told.events)).problems == []
    last = {one["id"]: one for one in records}
    assert log.take(*last.values()).events == []


@given(RECORD, RECORD)
def test_the_state_is_that_of_the_newest_export(
    old: dict[str, object], new: dict[str, object]
) -> None:
    """After a newer version the issue says what a first import of it says (lists apart)."""
    log = Log()
    log.take({**old, "id": "bd-1", "updated_at": T1})
    told = log.take({**new, "id": "bd-1", "updated_at": "2030-01-01T00:00:00Z"})
    if any("older" in one.reason for one in told.findings):
        return
    fresh = imported({**new, "id": "bd-1", "updated_at": "2030-01-01T00:00:00Z"})
    mine = log.issue()
    assert mine.body == fresh.body
    for name in ("title", "state", "labels", "assignees", "fields", "dependencies", "deleted"):
        assert getattr(mine.summary, name) == getattr(fresh.summary, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.1234567+01:00", 123),
        ("1969-12-31T16:00:00.5-08:00", 500),
        ("1970-01-01T00:00:00.999999999", 999),
        ("1969-12-31T23:59:59Z", None),
        ("2025-13-01T00:00:00Z", None),
        ("2025-01-01", None),
        (None, None),
        (7, None),
    ],
)
def test_times(text: object, expected: int | None) -> None:
    """Offsets and fractions become unix milliseconds, rounded down; the rest is None."""
    assert parse_ms(text) == expected


def opened(folder: Path) -> Workspace:
    import os

    return open_workspace(str(folder), Ports(os.environ, lambda: 2_000_000_000_000, os.urandom))


def test_a_large_export_goes_into_several_appends(
    git_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each append stays within the bound; together they are the whole."""
    import subprocess

    monkeypatch.setattr("grit.services.import_beads.BYTES_MAX", 500)
    text = "\n".join(json.dumps(record(id=f"bd-{n}")) for n in range(9)).encode()
    workspace = opened(git_repository)
    found = import_beads(workspace, io.BytesIO(text))
    assert len(found.written.events) == len(found.translation.events)
    count = ["git", "rev-list", "--count", str(found.written.head)]
    commits = subprocess.run(count, cwd=git_repository, capture_output=True, check=True, timeout=30)
    assert int(commits.stdout) > 2
    assert import_beads(workspace, io.BytesIO(text)).written.events == ()


def test_import_into_a_repository_is_idempotent_and_one_commit(git_repository: Path) -> None:
    """In a real repository: one append, a second import none, edits of people stay."""
    text = "\n".join(json.dumps(record(id=f"bd-{n}", title=f"T{n}")) for n in range(20)).encode()
    workspace = opened(git_repository)
    first = import_beads(workspace, io.BytesIO(text + b"\nnot json\n"))
    assert first.written.events and len(first.dropped) == 1
    again = import_beads(workspace, io.BytesIO(text))
    assert (again.written.events, again.written.head) == ((), first.written.head)
    reader = refresh(workspace)
    row = reader.summary(issue_id_of("bd-3"))
    assert row is not None and row.title == "T3"
    person = reader.actor(actor_id_of("beads"))
    assert person is not None and person.label == "beads"
    workspace.close()
