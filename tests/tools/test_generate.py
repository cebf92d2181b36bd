"""The generator of realistic trackers writes logs that are valid, repeatable and as ordered."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.core.codec import decode_chunk
from grit.core.events import ACTOR_ANNOUNCED, COMMENT_ADDED, ISSUE_CREATED, KINDS, Event
from grit.core.signing import signature_status

TOP = Path(__file__).resolve().parents[2]
REF = "refs/grit/wal"
ISSUES = 20
EVENTS = 300


def _git(repository: Path, *arguments: str, given: bytes = b"") -> bytes:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout


def _generate(repository: Path, *flags: str) -> Path:
    command = [sys.executable, str(TOP / "tools" / "generate"), "--repo", str(repository)]
    size = ["--events", str(EVENTS), "--issues", str(ISSUES)]
    subprocess.run([*command, *size, *flags], check=True, timeout=120, stdout=subprocess.DEVNULL)
    return repository


def _events(repository: Path) -> Iterator[Event]:
    listed = _git(repository, "rev-list", "--objects", "--reverse", REF).decode().splitlines()
    for line in listed:
        if line.endswith(".bin"):
            records, problems = decode_chunk(_git(repository, "cat-file", "blob", line[:40]))
            assert problems == []
            yield from (event for event, _ in records)


@pytest.fixture(scope="module")
def chunked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated repository in chunks."""
    return _generate(tmp_path_factory.mktemp("generate") / "chunks", "--chunks", "--sign")


def test_the_log_is_what_was_asked_for(chunked: Path) -> None:
    """As many events and issues as asked, times rising, every event valid, git content."""
    events = list(_events(chunked))
    assert len(events) == EVENTS == len({event.event_id for event in events})
    assert sum(event.tag == ISSUE_CREATED for event in events) == ISSUES
    assert [event.ts_unix_ms for event in events] == sorted({e.ts_unix_ms for e in events})
    assert {event.tag for event in events} <= set(KINDS)
    assert _git(chunked, "rev-list", "--count", REF).strip() == b"1"
    _git(chunked, "fsck", "--strict", "--no-dangling")


def test_signatures_and_chains_hold(chunked: Path) -> None:
    """With --sign every event is signed by an announced actor, and follows the actor's last."""
    keys: dict[bytes, bytes] = {}
    last: dict[bytes, bytes] = {}
    for event in _events(chunked):
        if event.tag == ACTOR_ANNOUNCED and isinstance(event.payload[3], bytes):
            keys[event.actor_id] = event.payload[3]
        assert signature_status(event, keys[event.actor_id]) == "valid"
        assert event.parent == last.get(event.actor_id)
        last[event.actor_id] = event.event_id


def test_single_commits_hold_the_same_events(chunked: Path, tmp_path: Path) -> None:
    """The shape of the log does not change its events; a commit an event, three objects each."""
    single = _generate(tmp_path / "single", "--single", "--sign")
    assert list(_events(single)) == list(_events(chunked))
    objects = _git(single, "rev-list", "--objects", REF).splitlines()
    assert len(objects) == 3 * EVENTS
    _generate(single, "--append", "10", "--sign")
    assert len(list(_events(single))) == EVENTS + 10


def test_a_thread_is_as_long_as_asked(tmp_path: Path) -> None:
    """--thread puts that many comments on the first issue."""
    events = list(_events(_generate(tmp_path / "thread", "--thread", "100", "--chunks")))
    first = next(event.issue_id for event in events if event.tag == ISSUE_CREATED)
    comments = [e for e in events if e.tag == COMMENT_ADDED and e.issue_id == first]
    assert len(comments) >= 100
    assert len(events) == EVENTS
