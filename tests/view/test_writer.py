"""What a write keeps beside the issues: copies, actors, what was set aside, and the journal."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.core.codec import Problem, seal
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from grit.core.query import Query, Term
from grit.files.private import Folder
from grit.view import keys
from grit.view import writer as writers
from grit.view.database import Database
from grit.view.reader import ViewReader
from grit.view.standing import Stamp
from grit.view.writer import Writer, rebuilding, writing
from tests.view.naive import records

ISSUE = IssueId(b"\x01" * 16)
ACTOR = ActorId(b"\x02" * 16)
CREATED = seal(Draft(ISSUE, 1, ("title", "body", ())), ACTOR, 1_000, None)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(Folder(str(tmp_path), ("view",), "grit"))
    with rebuilding(database) as writer:
        writer.apply((), None)
    yield database
    database.close()


class Judge:
    """Knows a valid signature when it sees one, and holds nothing back."""

    stamp = Stamp()
    looks = False
    keyed: frozenset[ActorId] = frozenset()

    def valid(self, event: Event) -> bool:
        return event.sig == b"v" * 64

    def unknown(self, actor_id: ActorId) -> bool:
        return False

    def status(self, event: Event) -> str:
        raise AssertionError(event)

    def held(self, event: Event, status: str) -> str | None:
        raise AssertionError(event)


def apply(database: Database, *batches: list[Event]) -> None:
    for batch in batches:
        with writing(database, Judge()) as writer:
            writer.apply(records(batch), "head")


def comment(ts_unix_ms: int, text: str = "text") -> Event:
    return seal(Draft(ISSUE, 3, (text,)), ACTOR, ts_unix_ms, None)


def test_fault_15_the_best_copy_of_an_event_stays(database: Database) -> None:
    """Signed beats unsigned and valid beats invalid, in any order, in one batch or in many."""
    bare, bad, good = (CREATED._replace(sig=sig) for sig in (None, b"a" * 64, b"v" * 64))
    for batches in (
        [[bare], [bad], [good]],
        [[good], [bad], [bare]],
        [[bad, good, bare]],
        [[bare, good], [bad]],
    ):
        with rebuilding(database, force=True) as writer:
            writer.apply((), None)
        apply(database, *batches)
        found = list(ViewReader(database).all_events())
        assert found == [good]


def test_regression_3_the_same_event_twice_is_one(database: Database) -> None:
    """A second delivery changes neither rows nor counts."""
    apply(database, [CREATED, comment(1_001)])
    with writing(database) as writer:
        assert writer.apply(records([comment(1_001), CREATED]), "head").event_count == 0
    row = ViewReader(database).summary(ISSUE)
    assert row is not None and (row.comment_count, row.event_count) == (1, 2)


def test_regression_4_a_comment_before_the_creation_and_edges_to_nowhere(
    database: Database,
) -> None:
    """Orphans wait for their creation; an edge to an issue that never was blocks nothing."""
    edge = seal(Draft(ISSUE, 11, (IssueId(b"\x09" * 16), "depends_on")), ACTOR, 1_002, None)
    reader = ViewReader(database)
    apply(database, [comment(999), edge])
    assert reader.summary(ISSUE) is None
    assert reader.stats().event_count == 2
    apply(database, [CREATED])
    row = reader.summary(ISSUE)
    assert row is not None and (row.comment_count, row.event_count) == (1, 3)
    ready = reader.page(Query((Term("is", ("ready",)),), "priority"), limit=5)
    assert list(ready.rows) == [row]


def test_regression_9_one_more_comment_decodes_no_event(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many comments there are, the next one reads none of them, nor does a list."""
    apply(database, [CREATED, *map(comment, range(1_001, 1_300))])

    def refuse(*_: object) -> None:
        raise AssertionError("an event was decoded")

    monkeypatch.setattr("grit.view.rows.decode_record", refuse)
    apply(database, [comment(2_000)])
    page = ViewReader(database).page(Query(), limit=50)
    assert [row.comment_count for row in page.rows] == [300]
    with pytest.raises(AssertionError):
        apply(database, [comment(1_500)])


def test_actors_know_their_last_event_and_announcement(database: Database) -> None:
    """The latest announcement counts, whenever it arrives; one about another actor does not."""
    about = IssueId(ACTOR)
    new = seal(Draft(about, 100, ("ann", "Ann", "a@x", b"k" * 32)), ACTOR, 1_005, None)
    old = seal(Draft(about, 100, ("old", "Old", "o@x", None)), ACTOR, 1_001, None)
    forged = seal(Draft(about, 100, ("eve", "", "", None)), ActorId(b"\x03" * 16), 2_000, None)
    apply(database, [new], [old], [CREATED, forged])
    reader = ViewReader(database)
    person = reader.actor(ACTOR)
    assert person is not None
    assert (person.label, person.name, person.email) == ("ann", "Ann", "a@x")
    assert (person.public_key, person.announced_ts) == (b"k" * 32, 1_005)
    assert (person.last_event_id, person.last_ts) == (new.event_id, 1_005)
    assert [one.label for one in reader.actors()] == ["ann", ""]


def test_problems_are_kept_once(database: Database) -> None:
    """What was set aside is listed, however often it is read."""
    problems = [("b" * 40, Problem(3, "bad", None)), ("c" * 40, Problem(None, "worse", b"e" * 32))]
    for _ in range(2):
        with writing(database) as writer:
            writer.apply((), "head", problems)
    found = ViewReader(database).asides()
    assert [tuple(one) for one in found] == [
        ("b" * 40, 3, "bad", None, 1),
        ("c" * 40, None, "worse", b"e" * 32, 1),
    ]


def test_the_journal_keeps_the_last_appends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects come back byte for byte, the newest append first, and the oldest go."""
    monkeypatch.setattr(writers, "JOURNAL_ENTRIES_MAX", 3)
    for number in range(5):
        with writing(database) as writer:
            objects = (("commit", b"c%d" % number), ("blob", bytes(range(256))))
            writer.apply((), f"head{number}", journal=(f"head{number}", objects))
    found = list(ViewReader(database).journal())
    assert [entry.commit for entry in found] == ["head4", "head3", "head2"]
    assert found[0].objects == (("commit", b"c4"), ("blob", bytes(range(256))))


def test_an_apply_is_one_transaction(database: Database) -> None:
    """Rows and head move together."""
    with writing(database) as writer:
        assert isinstance(writer, Writer)
        before = database.transactions
        writer.apply(records([CREATED, comment(1_001)]), "head")
        assert database.transactions == before + 1


def test_terms_are_counted_without_deleted_issues(database: Database) -> None:
    """Names for completion come with the issues that have them."""
    labels = [seal(Draft(ISSUE, 4, (name,)), ACTOR, 1_001, None) for name in ("bug", "wip")]
    apply(database, [CREATED, *labels])
    reader = ViewReader(database)
    assert reader.terms(keys.LABEL) == [("bug", 1), ("wip", 1)]
    apply(database, [seal(Draft(ISSUE, 104, ("",)), ACTOR, 1_002, None)])
    assert reader.terms(keys.LABEL) == []
