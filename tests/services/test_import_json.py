"""Import of grit's own export: what is kept, what is set aside (spec/exchange.md)."""

import hashlib
import io
import json
import os
from base64 import b64encode
from pathlib import Path

import pytest

from grit.core import events as kinds
from grit.core.codec import seal
from grit.core.errors import InvalidArgs
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from grit.services import import_json as module
from grit.services.import_json import import_json
from grit.services.refresh import refresh
from grit.services.shapes import event_json
from grit.services.workspace import Ports, Workspace, open_workspace

ISSUE, ACTOR = IssueId(bytes(16)), ActorId(b"a" * 16)


def opened(folder: Path) -> Workspace:
    return open_workspace(str(folder), Ports(os.environ, lambda: 1_700_000_000_000, os.urandom))


def made(tag: int, *payload: kinds.Value) -> Event:
    return seal(Draft(ISSUE, tag, payload), ACTOR, 1_000, None)


def load(workspace: Workspace, document: object) -> tuple[int, int, list[int]]:
    found = import_json(workspace, io.BytesIO(json.dumps(document).encode()))
    return found.events, found.added, [one.position for one in found.refusals]


GOOD = [made(kinds.ISSUE_CREATED, "T", "", ()), made(kinds.COMMENT_ADDED, "c"), made(777, 1, "x")]


def test_events_are_stored_once_and_unknown_kinds_too(git_repository: Path) -> None:
    """The events are in the log as they were; a second time and doubles add nothing."""
    workspace = opened(git_repository)
    document = {"events": [event_json(one) for one in [*GOOD, GOOD[0]]]}
    assert load(workspace, document) == (4, 3, [])
    assert load(workspace, {"data": document}) == (4, 0, [])
    assert sorted(refresh(workspace).events_of(ISSUE)) == sorted(GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": "00" * 32}, {"ts_unix_ms": -1}, {"ts_unix_ms": True}, {"ts_unix_ms": "1"},
        {"issue_id": "00"}, {"actor": "zz"}, {"parent": "00"}, {"sig": "00"}, {"sig": 7},
        {"kind": {}}, {"kind": {"Nope": {}}}, {"kind": {"CommentAdded": {"body": 7}}},
        {"kind": {"CommentAdded": {}}}, {"kind": {"Unknown": {"tag": -1, "payload": "80"}}},
        {"kind": {"Unknown": {"tag": 9999, "payload": "ff"}}}, {"kind": None},
        {"kind": {"CommentAdded": {"body": "\ud800"}}},
    ],
)  # fmt: skip
def test_a_bad_event_is_set_aside_and_the_rest_stored(
    git_repository: Path, change: dict[str, object]
) -> None:
    """Types, lengths, ids and texts are checked; the position is reported."""
    workspace = opened(git_repository)
    bad = {**event_json(GOOD[1]), **change}
    document = {"events": [event_json(GOOD[0]), bad, None, event_json(GOOD[2])]}
    assert load(workspace, document) == (2, 2, [1, 2])
    assert refresh(workspace).stats().aside_count == 0


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"events": 7}', b"[" * 100_000, b"\xff"])
def test_what_is_no_export_is_refused(git_repository: Path, data: bytes) -> None:
    """The file is refused before anything is stored."""
    workspace = opened(git_repository)
    with pytest.raises(InvalidArgs):
        import_json(workspace, io.BytesIO(data))
    assert workspace.wal.head() is None


def test_a_content_that_comes_after_its_event_is_stored(git_repository: Path) -> None:
    """What an earlier import did not bring comes later; what no event names is reported."""
    workspace = opened(git_repository)
    digest = hashlib.sha256(b"x").hexdigest()
    named = made(kinds.ATTACHMENT_ADDED, "a.txt", bytes.fromhex(digest), "text/plain")
    document: dict[str, object] = {"events": [event_json(GOOD[0]), event_json(named)]}
    assert load(workspace, document) == (2, 2, [])
    content = {"sha256": digest, "content": "eA=="}
    other = {"sha256": hashlib.sha256(b"y").hexdigest(), "content": "eQ=="}
    wrong = {**content, "content": "eQ=="}
    contents = [other, content, wrong]
    assert load(workspace, {**document, "attachments": contents}) == (2, 0, [2, 0])
    assert workspace.wal.attachment(digest) == b"x"
    head = workspace.wal.head()
    assert load(workspace, {**document, "attachments": [content]}) == (2, 0, [])
    assert workspace.wal.head() == head
    assert refresh(workspace).stats().event_count == 2


@pytest.mark.parametrize("known", [0, 1, 15, 30])
def test_contents_of_any_total_size_are_kept(
    git_repository: Path, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    """Each content goes with the event that names it, however many appends that takes."""
    monkeypatch.setattr(module, "BYTES_MAX", 1_000)
    workspace = opened(git_repository)
    contents = [b"%03d" % at * 150 for at in range(30)]
    digests = [hashlib.sha256(one) for one in contents]
    named = [
        made(kinds.ATTACHMENT_ADDED, f"{at}.txt", one.digest(), "text/plain")
        for at, one in enumerate(digests)
    ]
    events = [GOOD[0], *named]
    stored = {"events": [event_json(one) for one in events[:known]]}
    load(workspace, stored)
    lines = [
        json.dumps({"sha256": one.hexdigest(), "content": b64encode(content).decode()})
        for one, content in zip(digests, contents, strict=True)
    ]
    shapes = ",\n".join(json.dumps(event_json(one)) for one in events)
    head_lines = ('{"meta": {},', '"issues": [', "],", '"attachments": [')
    parts = (*head_lines, ",\n".join(lines), "],", '"events": [', shapes, "]}")
    document = "\n".join(parts)
    found = import_json(workspace, io.BytesIO(document.encode()))
    assert (found.events, found.added) == (31, 31 - known)
    assert found.refusals == []
    for digest, content in zip(digests, contents, strict=True):
        assert workspace.wal.attachment(digest.hexdigest()) == content
    head = workspace.wal.head()
    again = import_json(workspace, io.BytesIO(document.encode()))
    assert (again.added, again.refusals) == (0, [])
    assert workspace.wal.head() == head


def test_an_export_that_was_cut_short_is_reported(git_repository: Path) -> None:
    """The end is missing: an error says so."""
    lines = ['{"meta": {},', '"issues": [', "],", '"events": [', json.dumps(event_json(GOOD[0]))]
    with pytest.raises(InvalidArgs, match="ends in the middle"):
        import_json(opened(git_repository), io.BytesIO("\n".join(lines).encode()))
