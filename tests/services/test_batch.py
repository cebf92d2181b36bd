"""Batch: names, one append, all or nothing (spec/exchange.md, Batch)."""

import json
import os
from pathlib import Path

import pytest

from grit.core.errors import GritError, InvalidArgs, NotFound
from grit.services.batch import parse_commands, run_batch
from grit.services.listing import whole_issue
from grit.services.workspace import Ports, Workspace, open_workspace


def opened(folder: Path) -> Workspace:
    return open_workspace(str(folder), Ports(os.environ, lambda: 1_700_000_000_000, os.urandom))


def lines(*commands: dict[str, object]) -> list[bytes]:
    return [json.dumps(one).encode() for one in commands]


def test_every_operation_in_one_append(git_repository: Path) -> None:
    """Later lines name what earlier ones made; the whole is one commit."""
    workspace = opened(git_repository)
    outcomes, written = run_batch(
        workspace,
        lines(
            {"op": "create", "title": "E", "as": "e", "labels": ["a"], "assignees": ["@me"]},
            {"op": "create", "title": "T", "as": "t", "fields": {"parent": "$e"}},
            {"op": "dep", "issue": "$e", "target": "$t", "type": "depends_on"},
            {"op": "dep", "issue": "$t", "target": "$e", "type": "related_to"},
            {"op": "dep-remove", "issue": "$t", "target": "$e", "type": "related_to"},
            {"op": "update", "issue": "$t", "title": "T2", "body": "b", "fields": {"k": "v"}},
            {"op": "comment", "issue": "$t", "body": "one", "as": "c"},
            {"op": "comment-edit", "issue": "$t", "comment": "$c", "body": "two"},
            {"op": "comment", "issue": "$t", "body": "bad", "as": "d"},
            {"op": "comment-redact", "issue": "$t", "comment": "$d", "reason": "r"},
            {"op": "label", "issue": "$e", "add": ["b"], "remove": ["a"]},
            {"op": "assign", "issue": "$e", "add": ["bob"]},
            {"op": "link", "issue": "$e", "url": "https://x.org", "note": "n"},
            {"op": "close", "issue": "$t", "body": "done"},
            {"op": "reopen", "issue": "$t"},
            {"op": "delete", "issue": "$e", "reason": "r"},
            {"op": "restore", "issue": "$e"},
            {"op": "restore", "issue": "$e"},
        ),
    )
    assert [one.change.event_id is None for one in outcomes] == [False] * 17 + [True]
    assert workspace.wal.head() == written.head
    epic = whole_issue(workspace, outcomes[0].change.issue_id.hex())
    task = whole_issue(workspace, outcomes[1].change.issue_id.hex())
    assert (epic.summary.labels, len(epic.summary.assignees)) == (("b",), 2)
    assert [edge.dep_type for edge in epic.summary.dependencies] == ["depends_on"]
    assert (task.summary.title, task.summary.field("k")) == ("T2", "v")
    assert task.summary.field("parent") == epic.summary.issue_id.hex()
    assert [one.body for one in task.comments] == ["two", "", "done"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"op": "close", "issue": "dead"}, NotFound),
        ({"op": "close", "issue": "$nobody"}, InvalidArgs),
        ({"op": "create", "title": " "}, InvalidArgs),
    ],
)
def test_an_error_names_the_line_and_stores_nothing(
    git_repository: Path, bad: dict[str, object], error: type[GritError]
) -> None:
    """All or nothing; the error keeps its kind, and details its line."""
    workspace = opened(git_repository)
    with pytest.raises(error, match=r"line 2: ") as caught:
        run_batch(workspace, lines({"op": "create", "title": "A"}, bad))
    assert caught.value.details["line"] == 2
    assert workspace.wal.head() is None


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[]", b"\xff", b"{}", b'{"op": 7}', b'{"op": "nope"}', b'{"op": "create"}',
        b'{"op": "create", "title": 7}', b'{"op": "create", "title": "x", "titel": "y"}',
        b'{"op": "close", "issue": "x", "as": "y"}', b'{"op": "create", "title": "x", "as": 7}',
        b'{"op": "label", "issue": "x", "add": "y"}', b"[" * 100_000,
        b'{"op": "update", "issue": "x", "fields": {"k": 7}}',
    ],
)  # fmt: skip
def test_a_malformed_line_is_refused_before_anything_runs(line: bytes) -> None:
    """Unknown operations, arguments and types are refused with the line's number."""
    with pytest.raises(InvalidArgs, match=r"^line 3: "):
        parse_commands([b'{"op": "create", "title": "A"}', b"\n", line])


def test_a_name_is_given_once() -> None:
    """Two lines with one name would make later ones ambiguous."""
    line = b'{"op": "create", "title": "A", "as": "x"}'
    with pytest.raises(InvalidArgs, match="twice"):
        parse_commands([line, line])
