"""What a query matches, and how results are ordered (spec/query.md, Terms and Order)."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.errors import InvalidArgs
from grit.core.filter_text import parse, to_text
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.issue import Summary
from grit.core.limits import TITLE_SORTED_CHARS
from grit.core.query import (
    PRIORITY_RANK_UNSET,
    SORT_NAMES,
    Facts,
    Query,
    Term,
    estimate_number,
    field_value,
    matches,
    priority_rank,
    resolve,
    sort_key,
    wants_deleted,
    with_default_state,
)
from grit.core.times import DAY_MS

NOW = 1_750_000_000_000
ANN, BOB = ActorId(b"a" * 16), ActorId(b"b" * 16)
NO_FACTS = Facts()
PEOPLE = {"ann": (ANN,), "bob": (BOB,), "both": (BOB, ANN), "@me": (ANN,)}


def a_summary(number: int = 1, updated_ts: int = NOW, **changes) -> Summary:
    issue_id = IssueId(bytes.fromhex("4f2a") + number.to_bytes(14, "big"))
    default = Summary(
        issue_id=issue_id,
        title="Race in WAL append",
        state="open",
        labels=(),
        assignees=(),
        fields=(),
        author=ANN,
        created_ts=NOW,
        comment_count=0,
        deleted=False,
        dependencies=(),
        event_count=1,
        last=(updated_ts, ANN, EventId(b"e" * 32)),
    )
    return default._replace(**changes)


def found(text: str, summary: Summary, facts: Facts = NO_FACTS, texts: Iterable[str] = ()) -> bool:
    query = resolve(parse(text, now_ms=NOW), lambda name: PEOPLE.get(name, ()), ("ann", "Ann"))
    return matches(query, summary, facts=facts, texts=lambda: texts)


def fields(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


RICH = a_summary(
    labels=("bug", "needs triage"),
    assignees=("Ann", "carl"),
    fields=fields(
        type="bug",
        priority="P1",
        milestone="v1",
        due="2025-01-31",
        status="doing",
        parent="4F2A" + "0" * 28,
        estimate="5",
        team="red",
    ),
    created_ts=NOW - 10 * DAY_MS,
    updated_ts=NOW - DAY_MS,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "state:open",
        "state:all",
        "label:bug",
        "label:wip,bug",
        'label:bug label:"needs triage"',
        "assignee:carl",
        "assignee:@me",
        "author:ann",
        "author:both",
        "author:@me",
        "type:bug",
        "priority:1",
        "priority:high",
        "field.priority:p1",
        "priority:<2",
        "priority:0..1",
        "milestone:v1",
        "status:doing",
        "field.team:red,blue",
        "parent:4f2a",
        "parent:4f2a" + "0" * 28,
        "id:4f2a",
        "id:00000,4f2a00",
        "no:field.other",
        "estimate:5",
        "estimate:>4",
        "estimate:..5",
        "due:2025-01-31",
        "due:<2025-02-01",
        "created:<9d",
        "created:11d..9d",
        "updated:>2d",
        "updated:7d",
    ],
)
def test_a_term_holds_for_what_it_names(text: str) -> None:
    """A term holds for the issue that has it; its negation, and a bare issue, do not."""
    bare = a_summary(number=2, state="closed", author=BOB, updated_ts=0)._replace(
        issue_id=IssueId(b"\xff" * 16), created_ts=0
    )
    assert found(text, RICH)
    if text not in ("", "state:all", "author:both", "no:field.other", "created:<9d"):
        assert not found(text, bare)
        assert not found(f"-{text}", RICH) or " " in text
        assert found(f"-{text}", bare) or " " in text


@pytest.mark.parametrize(
    "text",
    [
        "state:closed",
        "label:Bug",
        "label:bug label:wip",
        "assignee:dora",
        "author:bob",
        "author:nobody",
        "type:Bug",
        "priority:2",
        "priority:>1",
        "milestone:v2",
        "field.other:red",
        "parent:4f2b",
        "id:4f2b",
        "no:label",
        "no:assignee",
        "no:type",
        "no:field.team",
        "no:due,label",
        "estimate:<5",
        "estimate:6..",
        "due:>2025-01-31",
        "due:2025-02-01..2025-02-02",
        "created:>9d",
        "updated:<2d",
        "is:ready",
        "is:blocked",
        "is:epic",
        "is:deleted",
    ],
)
def test_a_term_fails_for_the_rest(text: str) -> None:
    """A near miss is a miss: values are exact, bounds inclusive only where said."""
    assert not found(text, RICH)
    assert found(f"-{text}", RICH) or " " in text


def test_what_is_missing_is_found_by_no() -> None:
    """`no:` holds when any of the named things is missing."""
    for name in ("assignee", "label", "milestone", "field.team", "field.label", "type,label"):
        assert found(f"no:{name}", a_summary())
    assert found("no:due,field.other", RICH)
    assert not found("no:field.label", a_summary(fields=fields(label="x")))


@pytest.mark.parametrize("text", ["priority:>=0", "estimate:>=0", "due:>1970-01-01", "parent:0000"])
def test_a_field_that_cannot_be_compared_never_matches(text: str) -> None:
    """A missing value, or one that is no rank, number or date, is outside every range."""
    assert not found(text, a_summary())
    junk = fields(priority="soon", estimate="a lot", due="later", parent="none")
    assert not found(text, a_summary(fields=junk))


def test_facts_of_other_issues_decide_is() -> None:
    """Ready and blocked come from the graph; an epic has children or says so by its type."""
    assert found("is:ready", RICH, Facts(ready=True))
    assert found("is:blocked", RICH, Facts(blocked=True))
    assert not found("is:ready", RICH, Facts(blocked=True, has_children=True))
    assert found("is:ready,blocked", RICH, Facts(blocked=True))
    assert found("is:epic", RICH, Facts(has_children=True))
    assert found("is:epic", a_summary(fields=fields(type="epic")))
    assert found("-is:ready", RICH)


def test_deleted_issues_match_only_when_asked_for() -> None:
    """No other term shows a deleted issue, and the default state does not hide one asked for."""
    gone = RICH._replace(deleted=True)
    for text in ("", "label:bug", "state:all", "-is:deleted", "-label:wip"):
        assert not found(text, gone)
    assert found("is:deleted", gone)
    assert found("is:deleted label:bug", gone)
    assert found("is:ready,deleted", gone)
    assert not found("is:deleted -label:bug", gone)
    assert wants_deleted(parse("is:epic,deleted", now_ms=NOW))
    assert not wants_deleted(parse("-is:deleted", now_ms=NOW))


def test_the_default_state_gives_way() -> None:
    """`with_default_state` adds a state unless one is named or deleted issues are wanted."""
    added = Term("state", ("open",))
    for text in ("", "label:bug", "-is:deleted is:ready"):
        query = parse(text, now_ms=NOW)
        assert with_default_state(query).terms == (*query.terms, added)
    for text in ("state:closed", "-state:closed", "is:open", "is:deleted"):
        query = parse(text, now_ms=NOW)
        assert with_default_state(query) == query
    assert with_default_state(Query(), "closed").terms == (Term("state", ("closed",)),)


TEXTS = ("Race in WAL append", "Two writers\ncrash at once.", "see src/wal.py")


@pytest.mark.parametrize(
    "text",
    ["race", "RAC", "race writers", '"two writers crash"', "src/wal.py", "-lost", '-"crash race"',
     '"at once" see'],
)  # fmt: skip
def test_text_is_found_by_words_and_phrases(text: str) -> None:
    """Words match by their start over all texts; a phrase stands whole within one text."""
    assert found(text, RICH, texts=TEXTS)


@pytest.mark.parametrize(
    "text",
    ["lost", "ace", "race lost", '"append two"', '"two writer"', '"writers two"', "-race",
     '-"two writers"', "label:wip race", '"append"  "two" "lost"'],
)  # fmt: skip
def test_text_is_not_found_by_less(text: str) -> None:
    """Not inside a word, not across texts, not in another order, not against another term."""
    assert not found(text, RICH, texts=TEXTS)


def test_texts_are_read_only_when_needed() -> None:
    """A query without words, or one that the summary already fails, asks for no text."""

    def texts() -> Iterable[str]:
        raise AssertionError("asked for texts")

    for text, expected in (("label:bug", True), ("crash label:wip", False)):
        query = parse(text, now_ms=NOW)
        assert matches(query, RICH, facts=Facts(), texts=texts) is expected
    with pytest.raises(AssertionError, match="asked for texts"):
        matches(parse("crash label:bug", now_ms=NOW), RICH, facts=Facts(), texts=texts)


def test_an_iterator_of_texts_is_enough() -> None:
    """Texts are gone through once, so that a generator serves."""
    query = parse('race "two writers" "crash at"', now_ms=NOW)
    assert matches(query, RICH, facts=Facts(), texts=lambda: iter(TEXTS))


def test_people_are_resolved_before_matching() -> None:
    """Names become actors and `@me` the user's names; the query still reads as it was asked."""
    query = parse("author:both,@me -assignee:@me,carl label:@me", now_ms=NOW)
    resolved = resolve(query, lambda name: PEOPLE.get(name, ()), ("ann", "carl"))
    assert resolved.terms[0].actors == (ANN, BOB)
    assert resolved.terms[1].values == ("ann", "carl")
    assert resolved.terms[2] == query.terms[2]
    named = resolve(query, lambda name: (), ("ann",), lambda value: (value, f"{value}'s id"))
    assert named.terms[1].values == ("ann", "carl", "carl's id")
    assert to_text(resolved).startswith("author:both,@me ")
    with pytest.raises(AssertionError, match="resolved"):
        matches(query, RICH, facts=Facts(), texts=tuple)
    with pytest.raises(InvalidArgs, match="nobody yet"):
        resolve(query, lambda name: ())


@pytest.mark.parametrize(
    ("value", "rank"),
    [
        (None, PRIORITY_RANK_UNSET),
        ("", PRIORITY_RANK_UNSET),
        ("5", PRIORITY_RANK_UNSET),
        ("someday", PRIORITY_RANK_UNSET),
        ("0", 0),
        ("P0", 0),
        ("critical", 0),
        ("urgent", 0),
        ("1", 1),
        (" High ", 1),
        ("p2", 2),
        ("medium", 2),
        ("normal", 2),
        ("low", 3),
        ("lowest", 4),
        ("backlog", 4),
        ("4", 4),
    ],
)
def test_a_priority_has_one_rank(value: str | None, rank: int) -> None:
    """Digits, p-digits and words agree; everything else ranks after them."""
    assert priority_rank(value) == rank
    if value is not None:
        expected = value if rank == PRIORITY_RANK_UNSET else str(rank)
        assert field_value("priority", value) == expected


def test_field_values_have_one_form() -> None:
    """Only priorities and parents have more than one spelling of a value."""
    assert field_value("parent", "4F2A") == "4f2a"
    assert field_value("type", "High") == "High"


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("12", 12), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("", None), ("-1", None),
     ("1.5", None), ("٣", None), ("²", None)],
)  # fmt: skip
def test_an_estimate_is_a_whole_number(value: str, number: int | None) -> None:
    """An estimate is up to 18 ASCII digits; anything else has no number."""
    assert estimate_number(value) == number


def test_results_are_ordered_as_people_expect() -> None:
    """Newest first, most urgent and then oldest first, titles without case, ids last of all."""
    rows = [
        a_summary(1, updated_ts=NOW, created_ts=1, title="b", fields=fields(priority="low")),
        a_summary(2, updated_ts=NOW + 5, created_ts=3, title="B", fields=fields(priority="P1")),
        a_summary(3, updated_ts=NOW, created_ts=3, title="a"),
        a_summary(4, updated_ts=NOW - 1, created_ts=2, title="ß", fields=fields(priority="high")),
    ]
    rows.reverse()
    expected = {
        "updated": [2, 1, 3, 4],
        "created": [2, 3, 4, 1],
        "priority": [4, 2, 1, 3],
        "title": [3, 2, 1, 4],
        "id": [1, 2, 3, 4],
    }
    for name in SORT_NAMES:
        ordered = sorted(rows, key=lambda row, name=name: sort_key(row, name))
        assert [row.issue_id[-1] for row in ordered] == expected[name], name


@given(st.permutations([a_summary(number) for number in range(5)]), st.sampled_from(SORT_NAMES))
def test_the_issue_id_breaks_every_tie(rows: list[Summary], name) -> None:
    """Equal rows come in the order of their ids, however they arrived."""
    ordered = sorted(rows, key=lambda row: sort_key(row, name))
    assert [row.issue_id[-1] for row in ordered] == [0, 1, 2, 3, 4]


def test_long_titles_are_sorted_by_their_beginnings() -> None:
    """A key holds no more of a title than this, and the id breaks the tie."""
    start = "b" * TITLE_SORTED_CHARS
    rows = [a_summary(2, title=f"{start}a"), a_summary(1, title=f"{start}z"), a_summary(3)]
    rows.append(a_summary(4, title=start[1:]))
    ordered = sorted(rows, key=lambda row: sort_key(row, "title"))
    assert [row.issue_id[-1] for row in ordered[:3]] == [4, 1, 2]
