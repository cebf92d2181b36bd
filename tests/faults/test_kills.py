"""kill -9 before every system call that changes something: whole or absent, nothing to clean up.

CI takes a sample of the points; GRIT_FAULTS=all takes every one.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.machine import Point, changing, events, git, grit, ok, points, sample

WAIT_S_MAX = 8
"""A lock file that a killed process left is waited for once, for less than this."""


class Command(NamedTuple):
    """A command to kill, told apart from all others by a tag."""

    arguments: Callable[[str, str], tuple[str, ...]]
    stdin: Callable[[str, str], bytes]
    samples: int


def _batch(tag: str, issue: str) -> bytes:
    lines = [
        {"op": "create", "title": f"{tag} one", "labels": [tag]},
        {"op": "comment", "issue": issue, "body": tag},
        {"op": "create", "title": f"{tag} two"},
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


COMMANDS = {
    "new": Command(
        lambda tag, _issue: ("new", tag, "-l", tag, "-f", f"team={tag}", "-a", tag),
        lambda _tag, _issue: b"",
        7,
    ),
    "comment": Command(
        lambda tag, issue: ("comment", issue, "-b", tag), lambda _tag, _issue: b"", 4
    ),
    "batch": Command(lambda _tag, _issue: ("batch",), _batch, 4),
}


def _kill(point: Point, folder: Path, *arguments: str, stdin: bytes = b"") -> int:
    """Run a command that is killed before the point, and return its status."""
    inject = f"inject={point.syscall}:signal=KILL:when={point.number}"
    before = ["strace", "-qq", "--seccomp-bpf", "-f", "-o", "/dev/null", "-e", inject]
    # seccomp-bpf needs -f; the git programs that grit starts are killed at the same number.
    return grit(folder, *arguments, stdin=stdin, before=before).status


@pytest.mark.parametrize("name", COMMANDS)
def test_fault_4_a_killed_write_is_whole_or_absent(
    name: str, tracker: Path, tmp_path: Path, traced: None
) -> None:
    """Acknowledged means stored, not acknowledged means all or nothing; what follows just works."""
    command = COMMANDS[name]
    issue = ok(tracker, "ls", "--json").data["issues"][0]["issue_id"]

    def words(tag: str) -> tuple[str, ...]:
        return command.arguments(tag, issue)

    found = changing(
        points(
            tracker, tmp_path / "trace", *words("measured"), stdin=command.stdin("measured", issue)
        )
    )
    whole = sum("measured" in event for event in events(tracker))
    assert whole
    assert len(found) > 20, found
    killed = 0
    for turn, point in enumerate(sample(found, command.samples)):
        tag = f"tag{turn:04}"
        status = _kill(point, tracker, *words(tag), stdin=command.stdin(tag, issue))
        killed += status == -9
        following = f"next{turn:04}"
        listed = ok(tracker, "ls", "--all", "--json")
        assert listed.seconds < WAIT_S_MAX, point
        written = ok(tracker, "new", following)
        assert written.seconds < WAIT_S_MAX, point
        stored = events(tracker)
        assert sum(tag in event for event in stored) in ((whole,) if status == 0 else (0, whole)), (
            point
        )
        assert any(following in event for event in stored), point
        assert "tmp_obj" not in written.err
    assert killed >= command.samples // 2, "the points were missed"


def test_fault_4_a_killed_first_write_leaves_a_repository_that_works(
    tmp_path: Path, traced: None
) -> None:
    """A kill in the command that makes actor, key and log: the next one needs no help."""

    def fresh(name: str) -> Path:
        git(tmp_path, "init", "-q", name)
        return tmp_path / name

    found = changing(points(fresh("measured"), tmp_path / "trace", "new", "first"))
    for turn, point in enumerate(sample(found, 5)):
        folder = fresh(f"turn{turn}")
        status = _kill(point, folder, "new", "first")
        ok(folder, "ls", "--json")
        assert ok(folder, "new", "second").seconds < WAIT_S_MAX, point
        stored = events(folder)
        count = sum("first" in event for event in stored)
        assert count in ((1,) if status == 0 else (0, 1)), point
        assert sum('"second"' in event for event in stored) == 1
        actors = ok(folder, "actor", "list", "--json").data["actors"]
        assert len(actors) == 1, (point, actors)
        assert all('"none"' not in event for event in stored), "unsigned"
        shutil.rmtree(folder)


@pytest.mark.parametrize("verb", ["ls", "rebuild"])
def test_fault_4_a_killed_rebuild_heals(
    verb: str, tracker: Path, tmp_path: Path, traced: None
) -> None:
    """A kill while the view is built, by a first read or by rebuild: the next read is right."""
    for number in range(3):
        ok(tracker, "new", f"issue {number}")
    before = events(tracker)
    view = tracker / ".git/grit/view"

    def prepare() -> None:
        if verb == "ls":
            shutil.rmtree(view, ignore_errors=True)

    prepare()
    found = changing(points(tracker, tmp_path / "trace", verb))
    assert len(found) > 10
    killed = 0
    for point in sample(found, 4):
        prepare()
        killed += _kill(point, tracker, verb) == -9
        listed = ok(tracker, "ls", "--all", "--json")
        assert listed.seconds < WAIT_S_MAX
        assert len(listed.data["issues"]) == 4, point
        assert events(tracker) == before, point
        assert not (view / "build").exists(), point
    assert killed >= 2, "the points were missed"
