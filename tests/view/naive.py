"""A model of the view that keeps nothing but the events: what every answer must equal."""

from collections.abc import Iterable
from random import Random

from hypothesis import strategies as st

from grit.core.codec import encode_record, seal
from grit.core.events import Draft, Event
from grit.core.fold import fold
from grit.core.ids import ActorId, IssueId
from grit.core.issue import Issue, Summary
from grit.core.query import Facts, Query, matches, sort_key

ISSUES = tuple(IssueId(bytes((n % 3 * 16 + n,)) * 16) for n in range(6))
ACTORS = tuple(ActorId(bytes((200 + n,)) * 16) for n in range(3))
WORDS = ("crash", "race", "ready", "parser", "émile", "日本", "cra", "x")
LABELS = ("bug", "wip", "needs triage", "l" * 120, "nul\0label")
USERS = ("ann", "bob")
TIMES = st.integers(min_value=1_000, max_value=1_040)

texts = st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join)
titles = texts.map(lambda text: text or "untitled")
labels = st.sampled_from(LABELS)
issue_ids = st.sampled_from(ISSUES)
field_values = st.one_of(
    st.tuples(st.just("priority"), st.sampled_from(("0", "P1", "high", "4", "odd", None))),
    st.tuples(st.just("type"), st.sampled_from(("bug", "epic", None))),
    st.tuples(st.just("parent"), st.one_of(st.none(), issue_ids.map(bytes.hex))),
    st.tuples(st.just("due"), st.sampled_from(("2025-01-02", "never"))),
    st.tuples(st.sampled_from(("k", "k=v", "long")), st.sampled_from(("v", "v" * 300, ""))),
)
payloads = st.one_of(
    st.tuples(st.just(1), st.tuples(titles, texts, st.lists(labels, max_size=2).map(tuple))),
    st.tuples(st.just(1), st.tuples(titles, texts, st.just(()))),
    st.tuples(st.just(2), st.tuples(st.one_of(st.none(), titles), st.one_of(st.none(), texts))),
    st.tuples(st.just(3), st.tuples(texts)),
    st.tuples(st.sampled_from((4, 5)), st.tuples(labels)),
    st.tuples(st.just(6), st.tuples(st.sampled_from(("open", "closed")))),
    st.tuples(st.sampled_from((8, 9)), st.tuples(st.sampled_from(USERS))),
    st.tuples(
        st.sampled_from((11, 11, 12)),
        st.tuples(issue_ids, st.sampled_from(("blocks", "depends_on", "related_to"))),
    ),
    st.tuples(st.just(101), field_values),
    st.tuples(st.sampled_from((104, 105)), st.tuples(texts)),
    st.tuples(st.just(777), st.tuples(texts)),
)


@st.composite
def logs(draw: st.DrawFn, max_size: int = 40) -> list[Event]:
    """Draw a set of events, some of them about comments that others of them made."""
    events: list[Event] = []
    for issue_id in draw(st.lists(issue_ids, max_size=6, unique=True)):
        draft = Draft(issue_id, 1, (draw(titles), draw(texts), ()))
        events.append(seal(draft, draw(st.sampled_from(ACTORS)), draw(TIMES), None))
    for _ in range(draw(st.integers(0, max_size))):
        issue_id, actor, ts = draw(issue_ids), draw(st.sampled_from(ACTORS)), draw(TIMES)
        comments = [e for e in events if e.tag == 3]
        if events and draw(st.integers(0, 7)) == 0:
            named = draw(st.lists(st.sampled_from(events), min_size=1, max_size=4))
            ids = tuple(sorted({e.event_id for e in named}))
            draft = Draft(draw(st.sampled_from(named)).issue_id, 115, (ids,))
        elif comments and draw(st.integers(0, 4)) == 0:
            comment = draw(st.sampled_from(comments))
            draft = Draft(
                comment.issue_id,
                draw(st.sampled_from((102, 103))),
                (comment.event_id, draw(texts)),
            )
        else:
            draft = Draft(issue_id, *draw(payloads))
        events.append(seal(draft, actor, ts, None))
    return list(dict.fromkeys(events))


def records(events: Iterable[Event]) -> list[tuple[Event, bytes]]:
    """Pair events with their stored form."""
    return [(event, encode_record(event)) for event in events]


class Model:
    """Answers by folding everything and trying every issue."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(set(events), key=lambda event: event.order)
        self.issues: dict[IssueId, Issue] = {}
        for issue_id in {event.issue_id for event in self.events}:
            issue = fold(self.events_of(issue_id))
            if issue is not None:
                self.issues[issue_id] = issue

    def events_of(self, issue_id: IssueId) -> list[Event]:
        return [event for event in self.events if event.issue_id == issue_id]

    def summaries(self) -> list[Summary]:
        return [self.issues[issue_id].summary for issue_id in sorted(self.issues)]

    def is_open(self, issue_id: IssueId) -> bool:
        issue = self.issues.get(issue_id)
        return issue is not None and issue.summary.state == "open" and not issue.summary.deleted

    def blockers(self, issue_id: IssueId) -> set[IssueId]:
        own = self.issues[issue_id].summary.dependencies
        first = {edge.target for edge in own if edge.dep_type == "depends_on"}
        first |= {
            row.issue_id for row in self.summaries() if (issue_id, "blocks") in row.dependencies
        }
        return {other for other in first if self.is_open(other)}

    def facts(self, row: Summary) -> Facts:
        blocked = self.is_open(row.issue_id) and bool(self.blockers(row.issue_id))
        return Facts(
            ready=self.is_open(row.issue_id) and not blocked,
            blocked=blocked,
            has_children=any(
                other.field("parent") == row.issue_id.hex() and not other.deleted
                for other in self.summaries()
            ),
        )

    def texts(self, row: Summary) -> list[str]:
        issue = self.issues[row.issue_id]
        return [issue.summary.title, issue.body, *(one.body for one in issue.comments)]

    def page(self, query: Query) -> list[Summary]:
        found = [
            row
            for row in self.summaries()
            if matches(query, row, facts=self.facts(row), texts=lambda row=row: self.texts(row))
        ]
        name = query.sort or "updated"
        return sorted(found, key=lambda row: sort_key(row, name), reverse=query.reverse)


def shuffled_batches(events: list[Event], seed: int) -> list[list[Event]]:
    """Split the events, in another order and some twice, into batches."""
    random = Random(seed)
    delivered = events + random.sample(events, random.randint(0, len(events)))
    random.shuffle(delivered)
    batches: list[list[Event]] = [[]]
    for event in delivered:
        if random.random() < 0.15:
            batches.append([])
        batches[-1].append(event)
    return batches
