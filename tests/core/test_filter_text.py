"""The filter language, read and written (spec/query.md, Grammar and Terms)."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grit.core.errors import InvalidArgs
from grit.core.filter_terms import BUILDERS
from grit.core.filter_text import parse, to_text
from grit.core.limits import FILTER_CHARS_MAX, FILTER_TERMS_MAX, TS_UNIX_MS_MAX
from grit.core.query import Query, Term
from grit.core.times import DAY_MS, parse_span

NOW = 1_750_000_000_000
HOUR = 3_600_000


def terms(text: str) -> tuple[Term, ...]:
    return parse(text, now_ms=NOW).terms


def day(text: str) -> tuple[int, int]:
    span = parse_span(text)
    assert span is not None
    return span


FIRST, LAST = day("2025-01-31")


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("crash", Term("text", ("crash",))),
        ("CRASH!", Term("text", ("crash",))),
        ("-wip", Term("text", ("wip",), negated=True)),
        ("--wip", Term("text", ("wip",), negated=True)),
        ("wal-append", Term("phrase", ("wal", "append"))),
        ("日本", Term("phrase", ("日", "本"))),
        ('"Exact  phrase"', Term("phrase", ("exact", "phrase"))),
        ('-"one"', Term("phrase", ("one",), negated=True)),
        ('"label:bug"', Term("phrase", ("label", "bug"))),
        ("https://a.example/x", Term("phrase", ("https", "a", "example", "x"))),
        ("std::vector", Term("phrase", ("std", "vector"))),
        ("10:30", Term("phrase", ("10", "30"))),
        ("label:bug", Term("label", ("bug",))),
        ("LABEL:Bug", Term("label", ("Bug",))),
        ("-label:a,b,a", Term("label", ("a", "b"), negated=True)),
        ('label:"needs triage",b', Term("label", ("needs triage", "b"))),
        (r'label:"a\"b\\c\d"', Term("label", ('a"b\\c\\d',))),
        (r"label:a\b", Term("label", (r"a\b",))),
        ("label:a:b", Term("label", ("a:b",))),
        ("assignee:@me,ann", Term("assignee", ("@me", "ann"))),
        ("author:bob", Term("author", ("bob",))),
        ("state:open", Term("state", ("open",))),
        ("state:all", Term("state", ("open", "closed"))),
        ("state:closed,open", Term("state", ("closed", "open"))),
        ("is:closed", Term("state", ("closed",))),
        ("is:ready,epic", Term("is", ("ready", "epic"))),
        ("-is:blocked", Term("is", ("blocked",), negated=True)),
        ("is:deleted", Term("is", ("deleted",))),
        ("no:assignee,label", Term("no", ("assignee", "label"))),
        ("no:field.type,type", Term("no", ("type",))),
        ("no:field.label", Term("no", ("field.label",))),
        ("no:field.points", Term("no", ("field.points",))),
        ("type:bug", Term("field", ("bug",), key="type")),
        ("milestone:v1,v2", Term("field", ("v1", "v2"), key="milestone")),
        ("status:doing", Term("field", ("doing",), key="status")),
        ("field.Team:red", Term("field", ("red",), key="Team")),
        ('FIELD."my \\"key\\"":"a b"', Term("field", ("a b",), key='my "key"')),
        ('field.x:""', Term("field", ("",), key="x")),
        ("priority:1", Term("field", ("1",), key="priority")),
        ("priority:P1,high,someday", Term("field", ("1", "someday"), key="priority")),
        ("field.priority:urgent", Term("field", ("0",), key="priority")),
        ('field.priority:">1"', Term("field", (">1",), key="priority")),
        ("priority:<2", Term("priority", high=1)),
        ("priority:>=high", Term("priority", low=1)),
        ("priority:p1..p3", Term("priority", low=1, high=3)),
        ("estimate:3", Term("estimate", low=3, high=3)),
        ("estimate:>3", Term("estimate", low=4)),
        ("estimate:<=3", Term("estimate", high=3)),
        ("estimate:>999999999999999", Term("estimate", low=999_999_999_999_999)),
        ("parent:#4F2A", Term("parent", ("4f2a",))),
        ("id:4f2a,4F2A,00000", Term("id", ("4f2a", "00000"))),
        ("created:2025-01-31", Term("created", low=FIRST, high=LAST)),
        ("created:<2025-01-31", Term("created", high=FIRST - 1)),
        ("created:<=2025-01-31", Term("created", high=LAST)),
        ("created:>2025-01-31", Term("created", low=LAST + 1)),
        ("created:>=2025-01-31", Term("created", low=FIRST)),
        ('created:">=2025-01-31 00:00"', Term("created", low=FIRST)),
        ("created:2025-01-31..2025-02-01", Term("created", low=FIRST, high=LAST + DAY_MS)),
        ("created:2025-01-31..", Term("created", low=FIRST)),
        ("created:..2025-01-31", Term("created", high=LAST)),
        ("created:<1970-01-01", Term("created", high=-1)),
        ("created:>9999-12-31", Term("created", low=TS_UNIX_MS_MAX)),
        ("created:12h", Term("created", low=NOW - 12 * HOUR)),
        ("updated:7d", Term("updated", low=NOW - 7 * DAY_MS)),
        ("updated:>7d", Term("updated", low=NOW - 7 * DAY_MS + 1)),
        ("updated:<12h", Term("updated", high=NOW - 12 * HOUR - 1)),
        ("updated:14d..7d", Term("updated", low=NOW - 14 * DAY_MS, high=NOW - 7 * DAY_MS)),
        ("updated:>999y", Term("updated", low=-1)),
        ("due:7d", Term("due", low=NOW, high=NOW + 7 * DAY_MS)),
        ("due:<7d", Term("due", high=NOW + 7 * DAY_MS - 1)),
        ("due:2025-01-31", Term("due", low=FIRST, high=LAST)),
        ("-due:>999999999y", Term("due", low=TS_UNIX_MS_MAX, negated=True)),
    ],
)
def test_a_term_means(text: str, term: Term) -> None:
    """Each form of the language has one meaning, and its own text gives it back."""
    assert terms(text) == (term,)
    assert terms(to_text(Query((term,)))) == (term,)


def test_terms_stand_in_their_order() -> None:
    """Blanks of any kind separate terms, also a quote after a word; none are dropped."""
    query = parse(
        '  label:bug\t-label:wip\nassignee:ann updated:>7d\u3000crash"a b"c sort:-created ',
        now_ms=NOW,
    )
    assert [term.kind for term in query.terms] == [
        "label",
        "label",
        "assignee",
        "updated",
        "text",
        "phrase",
        "text",
    ]
    assert (query.sort, query.reverse) == ("created", True)
    assert parse("", now_ms=NOW) == parse(" \n", now_ms=NOW) == Query()


@pytest.mark.parametrize("name", ["updated", "created", "priority", "title", "id"])
def test_a_sort_is_named_once(name: str) -> None:
    """`sort:` takes each order, with `-` before its name to reverse it."""
    assert parse(f"sort:{name}", now_ms=NOW) == Query((), name, False)
    assert parse(f"sort:-{name} x", now_ms=NOW).reverse
    assert to_text(parse(f"sort:-{name}", now_ms=NOW)) == f"sort:-{name}"


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("a lable:bug", 2, "did you mean 'label'"),
        ("-asignee:x", 1, "did you mean 'assignee'"),
        ("field:x", 0, "field.KEY"),
        ("field.:x", 0, "unknown filter key 'field.'"),
        ("label:", 6, "'label:' needs a value"),
        ("label:a, b", 8, "'label:' needs a value"),
        ("label:,a", 6, "'label:' needs a value"),
        ('label:"a"b', 9, "put the whole value in quotes"),
        ('label:a"b"', 7, "put the whole value in quotes"),
        ('label:"a', 6, "never closed"),
        ('x "a\\"', 2, "never closed"),
        ('field."x:y', 6, "never closed"),
        ("a - b", 3, "needs a term"),
        ("a -", 2, "nothing to search for"),
        ("a !! b", 2, "nothing to search for"),
        ('""', 0, "nothing to search for"),
        ("state:done", 6, "open, closed or all"),
        ("state:all,open", 6, "open, closed or all"),
        ("is:open,ready", 3, "ready, blocked, epic, deleted"),
        ("no:author", 3, "assignee, label, type"),
        ("id:xyz", 3, "expected hex digits"),
        ("id:4f2", 3, "too short"),
        ("parent:" + "0" * 33, 7, "too long"),
        ("estimate:many", 9, "not a whole number"),
        ("priority:<soon", 9, "not a whole number"),
        ("priority:1,>2", 9, "one value or one range"),
        ("created:soon", 8, "is no time"),
        ("created:2025-02-30", 8, "is no time"),
        ("created:>", 8, "is no time"),
        ("created:..", 8, "nothing lies in this range"),
        ("created:2025-02-01..2025-01-01", 8, "nothing lies in this range"),
        ("created:a..b..c", 8, "is no time"),
        ("updated:7d,8d", 8, "one value or one range"),
        ("sort:name", 5, "sort by one of updated"),
        ("sort:id,title", 5, "sort by one of updated"),
        ("sort:id sort:title", 13, "stands once"),
        ("-sort:id", 6, "stands once"),
        ("ok \udc80", 3, "not valid text"),
    ],
)
def test_a_fault_is_named_and_shown(text: str, position: int, message: str) -> None:
    """What is refused says why, and a caret stands under the place."""
    with pytest.raises(InvalidArgs) as caught:
        terms(text)
    assert message in caught.value.message
    assert caught.value.details == {"filter": text, "position": position}
    _, line, caret = caught.value.message.split("\n")
    assert len(line) >= len(caret) - 1
    assert caret == " " * (2 + position) + "^"


def test_an_unknown_key_names_all_known_ones() -> None:
    """The message lists every key, and how to search for the text instead."""
    with pytest.raises(InvalidArgs) as caught:
        terms("zzz:1")
    for key in (*BUILDERS, "sort"):
        assert key in caught.value.message
    assert "in quotes" in caught.value.message


def test_the_caret_line_is_one_short_line() -> None:
    """Control characters and long filters do not break the picture."""
    with pytest.raises(InvalidArgs) as caught:
        terms("\n" * 100 + "\x1b[2J id:\u202eno " + "x" * 100)
    _, line, caret = caught.value.message.split("\n")
    assert line.isprintable()
    assert len(line) <= 82
    assert line[caret.index("^") + 1 :].startswith("no")


def test_a_filter_has_bounds() -> None:
    """Characters and terms are limited; at the limit all is well."""
    assert len(terms("x " * FILTER_TERMS_MAX)) == FILTER_TERMS_MAX
    with pytest.raises(InvalidArgs, match=f"more than {FILTER_TERMS_MAX} terms"):
        terms("x " * (FILTER_TERMS_MAX + 1))
    assert terms("x" * FILTER_CHARS_MAX)
    with pytest.raises(InvalidArgs, match="too long"):
        terms("x" * (FILTER_CHARS_MAX + 1))


KEYS = st.sampled_from([*filter(None, BUILDERS), "sort", "field.x", 'field."a:b"', "nonsense"])
OPERATORS = st.sampled_from(["", ">", "<", ">=", "<=", "..", '"', "-"])
VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        "open closed all ready deleted assignee label field.z 4f2a p1 high 3 7d 3mo 2025-01-31 "
        "2025-01-31T10:00 0001-01-01 9999-12-31 created title @me a,b ..5 1..3".split()
    ),
)
PART = st.builds(
    lambda minus, key, operator, value, end: f"{minus}{key}:{operator}{value}{end}",
    st.sampled_from(["", "-"]),
    KEYS,
    OPERATORS,
    VALUES,
    OPERATORS,
)
FILTERS = st.lists(st.one_of(PART, st.text(max_size=10)), max_size=4).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(FILTERS, st.integers(0, TS_UNIX_MS_MAX))
@example('field."":x', 0)
@example("field.a\u3000b:x label:/x,:y", 0)
def test_any_text_is_a_query_that_reads_back_or_is_refused(text: str, now_ms: int) -> None:
    """No input raises anything but InvalidArgs, and parse(to_text(q)) == q at any later time."""
    try:
        query = parse(text, now_ms=now_ms)
    except InvalidArgs as error:
        assert error.message
        return
    assert parse(to_text(query), now_ms=0) == query
