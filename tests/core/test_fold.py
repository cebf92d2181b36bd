"""The fold: order, registers, sets, lists, orphans, idempotence (spec/projection.md)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import events as kinds
from grit.core.events import Event
from grit.core.fold import advance, fold, summarise
from grit.core.ids import ActorId
from grit.core.issue import Dependency
from tests.core.builders import ISSUE, NOW_MS, OTHER, created, event, fold_of, summary_of


def test_regression_2_one_state_in_every_arrival_order() -> None:
    """Adds and removes of one label give one state, whatever order they arrive in."""
    events = [
        created(),
        event(kinds.LABEL_ADDED, "bug", ts=NOW_MS + 1),
        event(kinds.LABEL_REMOVED, "bug", ts=NOW_MS + 2),
        event(kinds.LABEL_ADDED, "bug", ts=NOW_MS + 3),
    ]
    states = {summary_of(*order) for order in itertools.permutations(events)}
    assert len(states) == 1
    assert states.pop().labels == ("bug",)


def test_regression_4_a_comment_before_the_creation() -> None:
    """A comment one millisecond older than its issue's creation is shown."""
    issue = fold_of(created(), event(kinds.COMMENT_ADDED, "early", ts=NOW_MS - 1))
    assert [comment.body for comment in issue.comments] == ["early"]
    assert issue.summary.comment_count == 1


def test_regression_5_identical_comments_in_one_millisecond_are_two() -> None:
    """Two comments with one text and one time differ by their parent, and both count."""
    first = event(kinds.COMMENT_ADDED, "same", ts=NOW_MS + 1)
    second = event(kinds.COMMENT_ADDED, "same", ts=NOW_MS + 1, parent=first.event_id)
    assert fold_of(created(), first, second).summary.comment_count == 2


def test_registers_take_the_last_in_the_order() -> None:
    """Title, body, state and fields are decided by the last event, ties by actor then id."""
    issue = fold_of(
        created("first", "one"),
        event(kinds.ISSUE_UPDATED, "second", None, ts=NOW_MS + 1),
        event(kinds.ISSUE_UPDATED, None, "two", ts=NOW_MS + 2),
        event(kinds.STATE_CHANGED, "closed", ts=NOW_MS + 3),
        event(kinds.FIELD_SET, "type", "bug", ts=NOW_MS + 4),
        event(kinds.FIELD_SET, "due", "2025-01-01", ts=NOW_MS + 5),
        event(kinds.FIELD_SET, "due", None, ts=NOW_MS + 6),
        event(kinds.FIELD_SET, "never", None, ts=NOW_MS + 6),
    )
    assert (issue.summary.title, issue.body, issue.summary.state) == ("second", "two", "closed")
    assert issue.summary.fields == (("type", "bug"),)
    assert issue.summary.field("type") == "bug"
    assert issue.summary.field("due") is None
    late, early = ActorId(b"\xff" * 16), ActorId(b"\x00" * 16)
    tie = summary_of(
        created(),
        event(kinds.STATE_CHANGED, "closed", ts=NOW_MS + 1, actor=late),
        event(kinds.STATE_CHANGED, "open", ts=NOW_MS + 1, actor=early),
    )
    assert tie.state == "closed"


def test_sets_assignees_and_dependencies() -> None:
    """Per element the last add or remove wins."""
    row = summary_of(
        created(labels=("b", "a")),
        event(kinds.ASSIGNEE_ADDED, "ann", ts=NOW_MS + 1),
        event(kinds.ASSIGNEE_ADDED, "bob", ts=NOW_MS + 1),
        event(kinds.ASSIGNEE_REMOVED, "ann", ts=NOW_MS + 2),
        event(kinds.LABEL_REMOVED, "never there", ts=NOW_MS + 2),
        event(kinds.DEPENDENCY_ADDED, OTHER, "blocks", ts=NOW_MS + 1),
        event(kinds.DEPENDENCY_ADDED, OTHER, "related_to", ts=NOW_MS + 1),
        event(kinds.DEPENDENCY_REMOVED, OTHER, "blocks", ts=NOW_MS + 2),
    )
    assert row.labels == ("a", "b")
    assert row.assignees == ("bob",)
    assert row.dependencies == (Dependency(OTHER, "related_to"),)


def test_an_edit_applies_wherever_it_sorts_and_a_redaction_hides() -> None:
    """An edit older than its comment applies; a redacted comment shows no text, edited or not."""
    first = event(kinds.COMMENT_ADDED, "first", ts=NOW_MS + 5)
    second = event(kinds.COMMENT_ADDED, "second", ts=NOW_MS + 6)
    issue = fold_of(
        created(),
        first,
        second,
        event(kinds.COMMENT_EDITED, first.event_id, "edited", ts=NOW_MS + 1),
        event(kinds.COMMENT_EDITED, second.event_id, "secret", ts=NOW_MS + 7),
        event(kinds.COMMENT_REDACTED, second.event_id, "private", ts=NOW_MS + 8),
    )
    assert [c.body for c in issue.comments] == ["edited", ""]
    assert issue.comments[0].edited_ts == NOW_MS + 1
    assert issue.comments[1].redacted == "private"


def test_lists_links_attachments_deletion() -> None:
    """Links and attachments are kept in order; deletion and restoration are a register."""
    sha = b"\x07" * 32
    issue = fold_of(
        created(),
        event(kinds.LINK_ADDED, "https://example.org", None, ts=NOW_MS + 1),
        event(kinds.ATTACHMENT_ADDED, "a.txt", sha, "text/plain", ts=NOW_MS + 2),
        event(kinds.ISSUE_DELETED, "oops", ts=NOW_MS + 3),
    )
    assert [link.url for link in issue.links] == ["https://example.org"]
    assert [(a.name, a.sha256) for a in issue.attachments] == [("a.txt", sha)]
    assert issue.summary.deleted
    restored = event(kinds.ISSUE_RESTORED, "", ts=NOW_MS + 4)
    assert not advance(issue.summary, [restored]).deleted


def test_orphans_have_no_issue_and_a_second_creation_changes_nothing() -> None:
    """Without a creation there is no issue; of two creations the first in the order counts."""
    lonely = event(kinds.COMMENT_ADDED, "where is it?")
    assert fold([lonely]) is None
    assert summarise([lonely]) is None
    assert summarise([]) is None
    row = summary_of(created("first"), created("second", ts=NOW_MS + 1))
    assert row.title == "first"
    assert row.event_count == 2


def test_unknown_kinds_and_contexts_change_nothing_but_the_counts() -> None:
    """What this version does not know is counted and ignored."""
    row = summary_of(created(), event(999, "future", ts=NOW_MS + 9))
    assert (row.title, row.event_count, row.updated_ts) == ("Title", 2, NOW_MS + 9)


STEPS = st.one_of(
    st.tuples(st.just(kinds.LABEL_ADDED), st.sampled_from("ab")),
    st.tuples(st.just(kinds.LABEL_REMOVED), st.sampled_from("ab")),
    st.tuples(st.just(kinds.STATE_CHANGED), st.sampled_from(["open", "closed"])),
    st.tuples(st.just(kinds.COMMENT_ADDED), st.text(max_size=5)),
    st.tuples(st.just(kinds.FIELD_SET), st.just("k"), st.one_of(st.none(), st.just("v"))),
    st.tuples(st.just(kinds.ISSUE_UPDATED), st.just("new"), st.none()),
    st.tuples(st.just(kinds.ISSUE_DELETED), st.just("")),
    st.tuples(st.just(kinds.ISSUE_RESTORED), st.just("")),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw a creation and steps with times that often tie."""
    steps = draw(st.lists(st.tuples(STEPS, st.integers(0, 4)), max_size=12))
    return [created(ts=NOW_MS + 1)] + [event(*step, ts=NOW_MS + offset) for step, offset in steps]


@given(histories(), st.randoms(use_true_random=False))
def test_the_state_is_a_function_of_the_set(history: list[Event], random: object) -> None:
    """Order of arrival and repetition do not matter (regression 2 and 3)."""
    shuffled = sorted(set(history), key=lambda one: one.order)
    once = fold(shuffled)
    random.shuffle(history)  # type: ignore[attr-defined]
    assert fold(sorted(set(history), key=lambda one: one.order)) == once


@given(histories(), st.integers(0, 12))
def test_advancing_equals_folding_everything(history: list[Event], cut: int) -> None:
    """A summary advanced by the events that sort after it is the summary of all."""
    ordered = sorted(set(history), key=lambda one: one.order)
    head = summarise(ordered[:cut])
    if head is None:
        return
    assert advance(head, ordered[cut:]) == summarise(ordered)


def test_advancing_by_nothing_changes_nothing() -> None:
    """No new event, no new state."""
    row = summary_of(created())
    assert advance(row, []) == row


@pytest.mark.parametrize("tag", sorted(kinds.KINDS))
def test_every_known_kind_folds(tag: int) -> None:
    """No kind, however odd its payload within the bounds, stops a fold."""
    payloads: dict[int, tuple[object, ...]] = {
        kinds.ISSUE_CREATED: ("t", "b", ()),
        kinds.ISSUE_UPDATED: (None, None),
        kinds.STATE_CHANGED: ("open",),
        kinds.LINK_ADDED: ("u", None),
        kinds.ATTACHMENT_ADDED: ("n", b"\0" * 32, ""),
        kinds.DEPENDENCY_ADDED: (ISSUE, "blocks"),
        kinds.DEPENDENCY_REMOVED: (ISSUE, "blocks"),
        kinds.CONTEXT_UPDATED: ("p", "l", (("n", "k", 1, 2),), "s", b"\0" * 32),
        kinds.PROJECT_CONTEXT_UPDATED: ("k", "v"),
        kinds.ACTOR_ANNOUNCED: ("l", "n", "e", None),
        kinds.FIELD_SET: ("k", None),
        kinds.TIME_OVERRULED: ((b"\0" * 32,),),
        kinds.COMMENT_EDITED: (b"\0" * 32, "b"),
        kinds.COMMENT_REDACTED: (b"\0" * 32, "r"),
    }
    payload = payloads.get(tag, ("x",))
    assert fold_of(created(ts=NOW_MS - 1), event(tag, *payload)).summary.event_count == 2
