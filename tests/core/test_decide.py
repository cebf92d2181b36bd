"""Decisions: what a command stores, what it refuses, and when it stores nothing."""

from collections.abc import Callable

import pytest

from grit.core import decide
from grit.core import events as kinds
from grit.core.errors import Conflict, InvalidArgs, NotFound
from grit.core.ids import EventId
from grit.core.issue import Dependency
from tests.core.builders import ISSUE, NOW_MS, OTHER, created, event, fold_of, summary_of

ROW = summary_of(created(labels=("bug",)), event(kinds.ASSIGNEE_ADDED, "ann", ts=NOW_MS + 1))


def test_creation_keeps_order_and_drops_doubles() -> None:
    """Labels and assignees named twice are stored once; fields follow."""
    drafts = decide.create(
        ISSUE, " Title ", labels=["b", "a", "b"], assignees=["ann", "ann"], fields={"type": "bug"}
    )
    assert [draft.tag for draft in drafts] == [
        kinds.ISSUE_CREATED, kinds.ASSIGNEE_ADDED, kinds.FIELD_SET,
    ]  # fmt: skip
    assert drafts[0].payload == ("Title", "", ("b", "a"))


@pytest.mark.parametrize("title", ["", "  ", "a\nb", "a\x1b[31m", "a\x9b", "x" * 5000, "nul\0"])
def test_a_title_is_one_line_within_bounds(title: str) -> None:
    """Empty, long and multi-line titles, and control characters, are refused."""
    with pytest.raises(InvalidArgs):
        decide.create(ISSUE, title)


def test_update_stores_only_what_changes() -> None:
    """Unchanged title, body and fields store nothing; "" removes a field."""
    issue = fold_of(created("old", "body"), event(kinds.FIELD_SET, "type", "bug", ts=NOW_MS + 1))
    assert decide.update(issue, title="old", body="body", fields={"type": "bug"}) == []
    assert decide.update(issue) == []
    assert [d.payload for d in decide.update(issue, title="new")] == [("new", None)]
    assert [d.payload for d in decide.update(issue, body="x", fields={"type": ""})] == [
        (None, "x"), ("type", None),
    ]  # fmt: skip
    with pytest.raises(InvalidArgs):
        decide.update(issue, fields={"type": "two\nlines"})


def test_what_is_so_already_stores_nothing() -> None:
    """Every command that changes nothing decides nothing."""
    issue = fold_of(
        created(labels=("bug",)),
        event(kinds.LINK_ADDED, "https://a.example", None, ts=NOW_MS + 1),
        event(kinds.ATTACHMENT_ADDED, "f", b"\1" * 32, "x", ts=NOW_MS + 2),
    )
    assert decide.set_state(ROW, "open") == []
    assert decide.label(ROW, ["bug"], ["absent"]) == []
    assert decide.assign(ROW, ["ann"], ["bob"]) == []
    assert decide.link(issue, "https://a.example", None) == []
    assert decide.attach(issue, "f", b"\1" * 32, "x") == []
    assert decide.set_deleted(ROW, False, "") == []
    related = Dependency(OTHER, "related_to")
    assert decide.add_dependency(ROW, OTHER, "related_to", True, None) == []
    linked = ROW._replace(dependencies=(related,))
    assert decide.add_dependency(linked, OTHER, "related_to", False, None) == []
    assert decide.remove_dependency(ROW, None, OTHER, "blocks") == []


def test_changes_are_stored() -> None:
    """Each command names its kind."""
    issue = fold_of(created())
    tags: list[tuple[Callable[[], list[kinds.Draft]], list[int]]] = [
        (lambda: decide.set_state(ROW, "closed"), [kinds.STATE_CHANGED]),
        (lambda: decide.comment(ROW, "hi"), [kinds.COMMENT_ADDED]),
        (lambda: decide.label(ROW, ["x"], ["bug"]), [kinds.LABEL_ADDED, kinds.LABEL_REMOVED]),
        (lambda: decide.assign(ROW, ["x"], ["ann"]),
         [kinds.ASSIGNEE_ADDED, kinds.ASSIGNEE_REMOVED]),
        (lambda: decide.link(issue, "https://b.example", "n"), [kinds.LINK_ADDED]),
        (lambda: decide.attach(issue, "f", b"\1" * 32, "x"), [kinds.ATTACHMENT_ADDED]),
        (lambda: decide.add_dependency(ROW, OTHER, "blocks", False, None),
         [kinds.DEPENDENCY_ADDED]),
        (lambda: decide.set_deleted(ROW, True, "r"), [kinds.ISSUE_DELETED]),
        (lambda: decide.set_deleted(ROW._replace(deleted=True), False, "r"),
         [kinds.ISSUE_RESTORED]),
    ]  # fmt: skip
    for decision, expected in tags:
        assert [draft.tag for draft in decision()] == expected


def test_an_edge_is_removed_wherever_it_stands() -> None:
    """`A blocks B` and `B depends_on A` are one edge to remove."""
    here = ROW._replace(dependencies=(Dependency(OTHER, "blocks"),))
    there = ROW._replace(issue_id=OTHER, dependencies=(Dependency(ISSUE, "depends_on"),))
    drafts = decide.remove_dependency(here, there, OTHER, "blocks")
    assert [(d.issue_id, d.payload) for d in drafts] == [
        (ISSUE, (OTHER, "blocks")), (OTHER, (ISSUE, "depends_on")),
    ]  # fmt: skip
    assert len(decide.remove_dependency(here, ROW._replace(issue_id=OTHER), OTHER, "blocks")) == 1


def test_refusals() -> None:
    """An edge to itself, a cycle, a blank comment, a missing or redacted comment."""
    with pytest.raises(InvalidArgs):
        decide.add_dependency(ROW, ISSUE, "blocks", False, None)
    with pytest.raises(Conflict, match="cycle: a -> b"):
        decide.add_dependency(ROW, OTHER, "blocks", False, ["a", "b"])
    with pytest.raises(InvalidArgs):
        decide.comment(ROW, " \n")


def test_comments_are_edited_and_redacted() -> None:
    """An edit replaces, a redaction is final, and both name an existing comment."""
    comment = event(kinds.COMMENT_ADDED, "text", ts=NOW_MS + 1)
    issue = fold_of(created(), comment)
    assert decide.edit_comment(issue, comment.event_id, "text") == []
    assert len(decide.edit_comment(issue, comment.event_id, "new")) == 1
    assert len(decide.redact_comment(issue, comment.event_id, "why")) == 1
    with pytest.raises(InvalidArgs):
        decide.edit_comment(issue, comment.event_id, " ")
    with pytest.raises(NotFound):
        decide.edit_comment(issue, EventId(b"\0" * 32), "new")
    redacted = fold_of(
        created(), comment, event(kinds.COMMENT_REDACTED, comment.event_id, "", ts=NOW_MS + 2)
    )
    assert decide.redact_comment(redacted, comment.event_id, "again") == []
    with pytest.raises(Conflict):
        decide.edit_comment(redacted, comment.event_id, "new")
