"""The view is a function of the set of events, whatever way they came."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import events as kinds
from grit.core.events import Event
from grit.core.ids import IssueId
from grit.core.query import SORT_NAMES, Query, Term
from grit.files.private import Folder
from grit.view import indexing, keys
from grit.view import writer as writer_module
from grit.view.database import Database, Txn
from grit.view.reader import ViewReader
from grit.view.rows import IssueEvents, get_row, scan
from grit.view.writer import rebuilding, writing
from tests.core.builders import NOW_MS, created, event
from tests.view import naive


@contextmanager
def view_of(
    batches: list[list[Event]], built: int = 1, *, more: bool = False
) -> Iterator[tuple[Database, ViewReader]]:
    """Give a view that was built from the first batches, and was brought the others later.

    With `more` the rows of late events are left to the end of the first and of the others.
    """
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Folder(folder, ("view",), "grit"))
        with rebuilding(database) as writer:
            for number, batch in enumerate(batches[:built], 1):
                wait = more and number < min(built, len(batches))
                writer.apply(naive.records(batch), "head-0", more=wait)
        for number, batch in enumerate(batches[built:], built + 1):
            with writing(database) as writer:
                wait = more and number < len(batches)
                writer.apply(naive.records(batch), f"head-{number}", more=wait)
        yield database, ViewReader(database)
        database.close()


@pytest.mark.parametrize("memory", ["enough", "little"])
@given(naive.logs(), st.integers(0, 2**32), st.integers(0, 4), st.booleans())
def test_any_way_of_delivery_gives_the_same_rows(
    memory: str, events: list[Event], seed: int, built: int, more: bool
) -> None:
    """Split, reordered and doubled, the events give the rows of their fold.

    Also where rows must be written whenever a summary or two are held.
    """
    model = naive.Model(events)
    with pytest.MonkeyPatch.context() as patch:
        if memory == "little":
            patch.setattr(writer_module, "_UNWRITTEN_MAX", 1)
            patch.setattr(indexing, "BATCH_BYTES_MAX", seed % 300)
            patch.setattr(indexing, "_ROWS_MAX", 0)
        _check_delivery(model, naive.shuffled_batches(events, seed), built, more)


def _check_delivery(model: naive.Model, batches: list[list[Event]], built: int, more: bool) -> None:
    with view_of(batches, built, more=more) as (database, reader):
        assert list(reader.all_rows()) == model.summaries()
        assert list(reader.all_events()) == model.events
        for issue_id in naive.ISSUES:
            assert reader.events_of(issue_id) == model.events_of(issue_id)
        _check_indexes(database, model)
        stats = reader.stats()
        assert stats.event_count == len(model.events)
        assert stats.issue_count == len(model.issues)
        assert stats.unknown_count == sum(event.tag == 777 for event in model.events)


def test_a_long_issue_is_read_once_however_many_batches_bring_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each batch holds earlier events than the one before: its row is folded with the last one."""
    events = [event(kinds.COMMENT_ADDED, f"comment {at}", ts=NOW_MS + at) for at in range(1, 40)]
    batches = [[created()], *([one] for one in reversed(events))]
    reads: list[IssueId] = []
    real = writer_module.IssueEvents

    def counted(txn: Txn, issue_id: IssueId) -> IssueEvents:
        reads.append(issue_id)
        return real(txn, issue_id)

    monkeypatch.setattr(writer_module, "IssueEvents", counted)
    for built in (len(batches), 1):
        reads.clear()
        with view_of(batches, built, more=True) as (database, reader):
            assert [row.comment_count for row in reader.all_rows()] == [len(events)]
            with database.reading() as txn:
                assert not list(scan(txn, keys.REFOLD))
        assert len(reads) == 1


def test_what_a_killed_process_left_to_fold_is_folded_by_the_next_one() -> None:
    """The events are known to it already; that their issue's row is not done stands in the view."""
    events = [event(kinds.COMMENT_ADDED, f"comment {at}", ts=NOW_MS + at) for at in range(1, 4)]
    with view_of([[created(), events[2]]]) as (database, reader):
        with writing(database) as writer:
            writer.apply(naive.records([events[0]]), "head-0", more=True)
        assert [row.comment_count for row in reader.all_rows()] == [1]
        with writing(database) as writer:
            writer.apply(naive.records(events[:1]), "head-1")
        assert [row.comment_count for row in reader.all_rows()] == [2]


def _check_indexes(database: Database, model: naive.Model) -> None:
    expected: set[bytes] = set()
    edges: set[bytes] = set()
    counts: dict[bytes, int] = {}
    for row in model.summaries():
        blocked = model.facts(row).blocked
        with database.reading() as txn:
            stored = get_row(txn, row.issue_id)
        assert stored is not None and stored.blocked == blocked
        for key in keys.index_keys(row, blocked=blocked):
            expected.add(key)
            count_key = keys.count_key(key[: -keys.SUFFIX_BYTES])
            counts[count_key] = counts.get(count_key, 0) + 1
        edges |= {keys.dependent_key(d.target, row.issue_id, d.dep_type) for d in row.dependencies}
    with database.reading() as txn:
        assert {key for key, _ in scan(txn, keys.INDEX)} == expected
        assert {key for key, _ in scan(txn, keys.DEPENDENT)} == edges
        assert {key: keys.number(value) for key, value in scan(txn, keys.COUNT)} == counts


@given(naive.logs(), st.integers(0, 2**32))
def test_latest_events_are_the_log_backwards(events: list[Event], seed: int) -> None:
    """The activity of issues that are there and not deleted comes newest first.

    None comes as newer than its issue's last update: that is when an overruled event counts.
    """
    model = naive.Model(events)
    rows = [row for row in model.summaries() if not row.deleted]
    waiting = [(row.updated_ts, model.events_of(row.issue_id)) for row in rows]
    expected: list[Event] = []
    while waiting:
        _, own = max(waiting, key=lambda one: (min(one[0], one[1][-1][3]), one[1][-1].order[1:]))
        expected.append(own.pop())
        waiting = [one for one in waiting if one[1]]
    with view_of(naive.shuffled_batches(events, seed)) as (_, reader):
        assert list(reader.latest_events()) == expected


@given(naive.logs(), st.integers(0, 2**32))
def test_ids_and_blockers_are_those_of_the_model(events: list[Event], seed: int) -> None:
    """Prefixes name exactly the issues that are there; blockers are open and come first."""
    model = naive.Model(events)
    with view_of(naive.shuffled_batches(events, seed)) as (_, reader):
        hexes = sorted(issue_id.hex() for issue_id in model.issues)
        for issue_id in model.issues:
            digits = issue_id.hex()
            for length in (1, 2, 3, 32):
                found = [one.hex() for one in reader.resolve(digits[:length])]
                assert found == [one for one in hexes if one.startswith(digits[:length])]
            unique = reader.unique_chars(issue_id)
            assert [one for one in hexes if one.startswith(digits[:unique])] == [digits]
            assert unique == 1 or len(reader.resolve(digits[: unique - 1])) > 1
            assert set(reader.blockers_of(issue_id)) == model.blockers(issue_id)


term_values = {
    "state": ("open", "closed"),
    "label": naive.LABELS,
    "assignee": naive.USERS,
    "no": ("assignee", "label", "priority"),
    "is": ("ready", "blocked", "epic", "deleted"),
    "id": ("0", "1", "11", "abcd"),
    "parent": ("1", "11" * 16, naive.ISSUES[0].hex()),
}


@st.composite
def terms(draw: st.DrawFn) -> Term:
    negated = draw(st.booleans())
    kind = draw(
        st.sampled_from((*term_values, "author", "field", "text", "phrase", "range", "priority"))
    )
    if kind == "author":
        actors = draw(st.lists(st.sampled_from(naive.ACTORS), max_size=2, unique=True))
        return Term("author", ("somebody",), negated=negated, actors=tuple(actors))
    if kind == "field":
        key = draw(st.sampled_from(("priority", "type", "k", "k=v", "long")))
        values = st.sampled_from(("1", "high", "0", "odd", "epic", "v", "v" * 300, ""))
        return Term("field", (draw(values),), key=key, negated=negated)
    if kind == "text":
        return Term(
            "text", (draw(st.sampled_from(("cra", "ready", "日", "e", "emile"))),), negated=negated
        )
    if kind == "phrase":
        words = draw(
            st.lists(st.sampled_from(("crash", "race", "日", "本")), min_size=1, max_size=2)
        )
        return Term("phrase", tuple(words), negated=negated)
    if kind in ("range", "priority"):
        name = draw(st.sampled_from(("updated", "created"))) if kind == "range" else "priority"
        top = 1_040 if kind == "range" else 5
        bounds = st.one_of(st.none(), st.integers(0 if top == 5 else 1_000, top))
        return Term(name, (), draw(bounds), draw(bounds), negated)
    values = draw(st.lists(st.sampled_from(term_values[kind]), min_size=1, max_size=2))
    return Term(kind, tuple(values), negated=negated)  # type: ignore[arg-type]


queries = st.builds(
    Query,
    st.lists(terms(), max_size=4).map(tuple),
    st.one_of(st.none(), st.sampled_from(SORT_NAMES)),
    st.booleans(),
)


@given(naive.logs(), st.lists(queries, min_size=5, max_size=12), st.integers(0, 2**32))
def test_pages_equal_the_reference(events: list[Event], asked: list[Query], seed: int) -> None:
    """Whatever the plan, a page holds the issues that `matches` names, in their order."""
    model = naive.Model(events)
    with view_of(naive.shuffled_batches(events, seed)) as (_, reader):
        for query in asked:
            expected = model.page(query)
            page = reader.page(query, limit=None)
            assert list(page.rows) == expected, query
            assert page.total == len(expected)
            page = reader.page(query, limit=2, offset=1)
            assert (list(page.rows), page.total) == (expected[1:3], len(expected)), query


@given(naive.logs(), naive.logs(max_size=10), st.integers(0, 2**32))
def test_search_is_exact_before_and_after_indexing(
    first: list[Event], second: list[Event], seed: int
) -> None:
    """Words that were edited away are not found, and stale issues answer by their texts."""
    with view_of(naive.shuffled_batches(first, seed)) as (database, reader):
        list(reader.page(Query((Term("text", ("cra",)),)), limit=None).rows)
        with writing(database) as writer:
            writer.apply(naive.records(second), "next")
        model = naive.Model(first + second)
        for values in (("cra",), ("ready",), ("x",)):
            query = Query((Term("text", values),))
            expected = model.page(query)
            with database.reading() as txn:
                from grit.view.pages import select

                assert select(txn, query, None, 0)[0] == [row.issue_id for row in expected]
            assert list(reader.page(query, limit=None).rows) == expected
        assert reader.stats().stale_count == 0
