"""TimeOverruled: what is far ahead freezes nothing, and nobody gains by it (decision 0032)."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import events as kinds
from grit.core.clock import next_ts
from grit.core.errors import InvalidArgs
from grit.core.events import Event
from grit.core.fold import advance, fold, follows, split_ahead, summarise
from grit.core.ids import ActorId, EventId
from grit.core.issue import Issue
from grit.core.limits import CLOCK_AHEAD_MS_MAX, OVERRULED_MAX, TS_UNIX_MS_MAX
from tests.core.builders import NOW_MS, created, event, fold_of

DAY_MS = 86_400_000
LAST_MS = TS_UNIX_MS_MAX
ANN, BOB, EVE = (ActorId(bytes((n,)) * 16) for n in (1, 2, 3))


def overruled(*named: Event, ts: int, actor: ActorId = ANN) -> Event:
    """Seal a TimeOverruled."""
    ids = tuple(sorted(one.event_id for one in named))
    return event(kinds.TIME_OVERRULED, ids, ts=ts, actor=actor)


def names_of(one: Event) -> tuple[bytes, ...]:
    """Return what a TimeOverruled names."""
    return cast(tuple[bytes, ...], one.payload[0])


def write(
    known: Iterable[Event], now_ms: int, actor: ActorId, tag: int, *payload: object
) -> list[Event]:
    """Do what an honest writer does: overrule what is ahead, then state the change."""
    events = sorted(set(known), key=lambda one: one.order)
    seen, runs = split_ahead(events, now_ms + CLOCK_AHEAD_MS_MAX)
    made: list[Event] = []
    for tag_, values in [*((kinds.TIME_OVERRULED, (run,)) for run in runs), (tag, payload)]:
        seen = next_ts(now_ms, seen)
        made.append(event(tag_, *values, ts=seen, actor=actor))
    return made


def state(issue: Issue) -> tuple[object, ...]:
    """Return everything but times and counts."""
    row = issue.summary
    comments = [(one.event_id, one.body, one.redacted) for one in issue.comments]
    return (
        row.title, issue.body, row.state, row.labels, row.assignees, row.fields, row.author,
        row.deleted, row.dependencies, comments, issue.links, issue.attachments,
    )  # fmt: skip


CHANGES: list[tuple[int, tuple[object, ...]]] = [
    (kinds.ISSUE_UPDATED, ("told", None)),
    (kinds.ISSUE_UPDATED, (None, "told")),
    (kinds.LABEL_ADDED, ("l",)),
    (kinds.LABEL_REMOVED, ("l",)),
    (kinds.STATE_CHANGED, ("closed",)),
    (kinds.STATE_CHANGED, ("open",)),
    (kinds.ASSIGNEE_ADDED, ("a",)),
    (kinds.ASSIGNEE_REMOVED, ("a",)),
    (kinds.FIELD_SET, ("k", "v")),
    (kinds.FIELD_SET, ("k", None)),
    (kinds.ISSUE_DELETED, ("",)),
    (kinds.ISSUE_RESTORED, ("",)),
]
TIMES = st.one_of(
    st.integers(NOW_MS - 3, NOW_MS + 3),
    st.sampled_from((0, 1, NOW_MS + 2 * DAY_MS, NOW_MS + 40 * DAY_MS, LAST_MS - 1, LAST_MS)),
)
NOW = st.sampled_from(
    (NOW_MS, NOW_MS - 40 * DAY_MS, NOW_MS + 40 * DAY_MS, NOW_MS + 36_525 * DAY_MS)
)


@st.composite
def hostile(draw: st.DrawFn, max_size: int = 14) -> list[Event]:
    """Draw what anybody may push: any times, 115s that name anything, 115s too, in chains."""
    events = [created("first", ts=draw(TIMES))]
    for _ in range(draw(st.integers(0, max_size))):
        actor, ts = draw(st.sampled_from((ANN, BOB, EVE))), draw(TIMES)
        what = draw(st.integers(0, 5))
        if what <= 1:
            named = draw(st.lists(st.sampled_from(events), min_size=1, max_size=4, unique=True))
            events.append(overruled(*named, ts=ts, actor=actor))
        elif what == 2:
            text = draw(st.text("xy", max_size=2))
            comments = [one for one in events if one.tag == kinds.COMMENT_ADDED]
            if comments and draw(st.booleans()):
                target = draw(st.sampled_from(comments)).event_id
                tag = draw(st.sampled_from((kinds.COMMENT_EDITED, kinds.COMMENT_REDACTED)))
                events.append(event(tag, target, text, ts=ts, actor=actor))
            else:
                events.append(event(kinds.COMMENT_ADDED, text, ts=ts, actor=actor))
        elif what == 3 and draw(st.booleans()):
            events.append(created("second", labels=("l",), ts=ts))
        else:
            tag, payload = draw(st.sampled_from(CHANGES))
            events.append(event(tag, *payload, ts=ts, actor=actor))
    return list(dict.fromkeys(events))


def model(events: Sequence[Event]) -> list[Event]:
    """Return the events by the rule alone: each at the earliest time that is told of it."""

    def place(one: Event) -> tuple[object, ...]:
        told = [
            other.ts_unix_ms
            for other in events
            if other.tag == kinds.TIME_OVERRULED and one.event_id in names_of(other)
        ]
        return (min([one.ts_unix_ms, *told]), one.order)

    return sorted(events, key=place)


@given(hostile())
def test_every_event_counts_at_the_earliest_time_told_of_it(events: list[Event]) -> None:
    """The fold is that of events which bear those times to begin with; only lists stay."""
    plain = []
    seen = fold_of(*events)
    for at, one in enumerate(model(events)):
        if one.tag != kinds.TIME_OVERRULED:
            plain.append(one._replace(ts_unix_ms=at))
    wanted = fold(plain)
    assert wanted is not None
    for tested, told in ((seen.summary, wanted.summary),):
        assert tested.title == told.title
        assert (tested.state, tested.deleted, tested.labels) == (
            told.state,
            told.deleted,
            told.labels,
        )
        assert (tested.assignees, tested.fields) == (told.assignees, told.fields)
    assert seen.body == wanted.body
    assert {one.event_id: one.body for one in seen.comments} == {
        one.event_id: one.body for one in wanted.comments
    }
    orders = [(one.ts_unix_ms, one.actor, one.event_id) for one in seen.comments]
    assert orders == sorted(orders)


@given(hostile(), st.randoms(use_true_random=False), st.data())
def test_every_order_of_arrival_gives_one_state(
    events: list[Event], random: Random, data: st.DataObject
) -> None:
    """Whatever comes first, and wherever a state was kept, the issue is the same."""
    wanted = summarise(sorted(events, key=lambda one: one.order))
    shuffled = events[:]
    random.shuffle(shuffled)
    known: list[Event] = []
    row = None
    while shuffled:
        count = data.draw(st.integers(1, 4))
        news = sorted(shuffled[:count], key=lambda one: one.order)
        del shuffled[:count]
        known = sorted([*known, *news], key=lambda one: one.order)
        row = advance(row, news) if row is not None and follows(row, news) else summarise(known)
    assert row == wanted


@given(hostile(), NOW, st.sampled_from(CHANGES))
def test_a_change_wins_over_all_that_its_writer_saw(
    events: list[Event], now_ms: int, change: tuple[int, tuple[object, ...]]
) -> None:
    """Whatever is ahead, and whatever the writer's clock says: the change shows, and nothing else.

    Overruling alone changes nothing that is shown but times.
    """
    made = write(events, now_ms, ANN, change[0], *change[1])
    healed = fold_of(*events, *made[:-1])
    assert state(healed) == state(fold_of(*events))
    changed = fold_of(*events, *made)
    naive = event(change[0], *change[1], ts=LAST_MS, actor=ActorId(b"\xff" * 16))
    settled = [one._replace(ts_unix_ms=at) for at, one in enumerate([*model(events), naive])]
    alone = fold([one for one in settled if one.tag != kinds.TIME_OVERRULED])
    assert alone is not None
    for one, other in ((changed, alone),):
        assert one.summary.title == other.summary.title and one.body == other.body
        assert one.summary.state == other.summary.state
        assert one.summary.labels == other.summary.labels
        assert one.summary.assignees == other.summary.assignees
        assert one.summary.fields == other.summary.fields
        assert one.summary.deleted == other.summary.deleted
    assert changed.summary.updated_ts <= now_ms + CLOCK_AHEAD_MS_MAX + len(made)


@given(hostile(), hostile(), st.sampled_from(CHANGES))
def test_who_overrules_gains_nothing(
    events: list[Event], attack: list[Event], change: tuple[int, tuple[object, ...]]
) -> None:
    """Overruling invents no value, brings no redacted text back and wins over no later change.

    Whatever 115s say, of what is shown each part was said by somebody, and an honest change made
    after them shows.
    """
    ids = sorted({one.event_id for one in events})
    both = [*events, *attack, event(kinds.TIME_OVERRULED, tuple(ids), ts=0, actor=EVE)]
    issue = fold_of(*both)
    titles = {one.payload[0] for one in both if one.tag in (1, 2)}
    assert issue.summary.title in titles
    redacted = {one.payload[0] for one in both if one.tag == kinds.COMMENT_REDACTED}
    for comment in issue.comments:
        if comment.event_id in redacted:
            assert (comment.body, comment.redacted is None) == ("", False)
    assert {one.event_id for one in both if one.tag == kinds.COMMENT_ADDED} == {
        one.event_id for one in issue.comments
    }
    made = write(both, NOW_MS, BOB, change[0], *change[1])
    again = fold_of(*both, *made)
    if change[0] == kinds.STATE_CHANGED:
        assert again.summary.state == change[1][0]
    elif change[0] == kinds.LABEL_REMOVED:
        assert "l" not in again.summary.labels
    elif change[0] == kinds.LABEL_ADDED:
        assert "l" in again.summary.labels
    elif change[0] in (kinds.ISSUE_DELETED, kinds.ISSUE_RESTORED):
        assert again.summary.deleted == (change[0] == kinds.ISSUE_DELETED)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((0, 1)), st.sampled_from(CHANGES), st.booleans(), st.integers(0, 5)
        ),
        max_size=10,
    ),
    st.sampled_from((-36_525, -40, 0, 40, 36_525)),
)
def test_two_clones_a_century_apart_agree_and_follow_each_other(
    steps: list[tuple[int, tuple[int, tuple[object, ...]], bool, int]], days: int
) -> None:
    """Two writers whose clocks differ by days or a century: after each exchange both show one
    state, and who has seen the other's changes is not overruled by them."""
    base_ms = NOW_MS + max(0, -days) * DAY_MS
    logs: list[list[Event]] = [[created(ts=NOW_MS)], [created(ts=NOW_MS)]]
    for at, (who, change, exchange, hours) in enumerate(steps):
        now_ms = base_ms + (at * 6 + hours) * 3_600_000 + (days * DAY_MS if who else 0)
        made = write(logs[who], now_ms, (ANN, BOB)[who], change[0], *change[1])
        logs[who] += made
        shown = fold_of(*logs[who])
        if change[0] == kinds.STATE_CHANGED:
            assert shown.summary.state == change[1][0]
        if exchange:
            merged = list(dict.fromkeys([*logs[0], *logs[1]]))
            logs = [merged[:], merged[::-1]]
            assert fold_of(*logs[0]) == fold_of(*logs[1])


def test_a_clock_that_was_behind_loses_nothing_that_it_saw() -> None:
    """A writer 40 days behind overrules honest times; what was closed stays closed, all keep
    their order, and once its clock is right it writes as ever."""
    first = [created(), *write([created()], NOW_MS + 1, ANN, kinds.STATE_CHANGED, "closed")]
    late = write(first, NOW_MS - 40 * DAY_MS, BOB, kinds.LABEL_ADDED, "l")
    issue = fold_of(*first, *late)
    assert (issue.summary.state, issue.summary.labels) == ("closed", ("l",))
    right = write([*first, *late], NOW_MS + 9, BOB, kinds.STATE_CHANGED, "open")
    assert [one.tag for one in right] == [kinds.STATE_CHANGED]
    assert right[0].ts_unix_ms == NOW_MS + 9
    assert fold_of(*first, *late, *right).summary.state == "open"


def test_a_creation_at_the_last_time_can_be_changed() -> None:
    """Title and body start from the creation; one that lies ahead comes before what follows it."""
    frozen = [created("far", ts=LAST_MS)]
    made = write(frozen, NOW_MS, ANN, kinds.ISSUE_UPDATED, "near", "body")
    issue = fold_of(*frozen, *made)
    assert (issue.summary.title, issue.body) == ("near", "body")
    assert issue.summary.created_ts == made[0].ts_unix_ms
    assert issue.summary.updated_ts == made[-1].ts_unix_ms


def test_many_events_ahead_take_several_events() -> None:
    """One event names a bounded number; those that follow keep the order."""
    frozen = [created()] + [
        event(kinds.FIELD_SET, "n", str(n), ts=LAST_MS - 3000 + n) for n in range(OVERRULED_MAX + 1)
    ]
    made = write(frozen, NOW_MS, ANN, kinds.LABEL_ADDED, "l")
    named = [len(names_of(one)) for one in made[:-1]]
    assert named == [OVERRULED_MAX, 1]
    assert fold_of(*frozen, *made).summary.field("n") == str(OVERRULED_MAX)


@pytest.mark.parametrize(
    "names",
    [
        (),
        (b"\x02" * 32, b"\x01" * 32),
        (b"\x01" * 32, b"\x01" * 32),
        (b"\x01" * 31,),
        ("text",),
        tuple(n.to_bytes(32, "big") for n in range(OVERRULED_MAX + 1)),
    ],
    ids=["none", "not in order", "doubled", "short", "text", "too many"],
)
def test_what_names_nothing_or_names_it_twice_is_invalid(names: tuple[object, ...]) -> None:
    """The ids are 1 to OVERRULED_MAX, ascending, each once: one meaning has one encoding."""
    with pytest.raises(InvalidArgs, match="TimeOverruled: bad events"):
        event(kinds.TIME_OVERRULED, names)
    good = tuple(EventId(n.to_bytes(32, "big")) for n in range(OVERRULED_MAX))
    assert event(kinds.TIME_OVERRULED, good).payload == (good,)


def test_what_sorts_before_the_last_does_not_follow() -> None:
    """An event that comes late makes the issue fold again; one that is later still does not."""
    row = summarise([created(ts=NOW_MS), event(kinds.COMMENT_ADDED, "x", ts=NOW_MS + 9)])
    assert row is not None
    assert not follows(row, [event(kinds.COMMENT_ADDED, "early", ts=NOW_MS + 5)])
    assert follows(row, [event(kinds.COMMENT_ADDED, "late", ts=NOW_MS + 10)])
