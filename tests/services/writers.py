"""Writers in processes of their own: forked loops over the write path, as a daemon's children."""

import contextlib
import os
import signal
import subprocess
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from grit.core.events import ISSUE_CREATED, Event
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.refresh import rebuild, refresh
from grit.services.workspace import Ports, Workspace, open_workspace
from grit.services.write import Written, write

WAIT_S_MAX = 300


def opened(folder: Path, environ: Mapping[str, str] | None = None) -> Workspace:
    """Open a repository as a fresh process would."""
    ports = Ports(
        {**os.environ, **(environ or {})}, lambda: time.time_ns() // 1_000_000, os.urandom
    )
    return open_workspace(str(folder), ports)


def create(workspace: Workspace, title: str) -> Written:
    """Store one issue."""
    issue_id = IssueId(workspace.ports.entropy(16))
    return write(workspace, lambda t: issues.create(t, issue_id, title), lambda c: c.subject)[1]


class Worker(NamedTuple):
    """A forked process, and the file in which it notes what was acknowledged."""

    pid: int
    notes: Path

    def acknowledged(self) -> list[str]:
        """Return what the process was told is stored."""
        if not self.notes.exists():
            return []
        return [line for line in self.notes.read_text().split("\n")[:-1] if line]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return the wait status of the process; 0 is success."""
        return os.waitpid(self.pid, 0)[1]


def fork(notes: Path, work: Callable[[Callable[[str], None]], None]) -> Worker:
    """Run `work` in a child; it is given what notes an acknowledgement."""
    pid = os.fork()
    if pid:
        return Worker(pid, notes)
    status = 1
    try:
        with contextlib.ExitStack() as stack:
            stack.push(lambda *failure: _note(notes, failure))
            fd = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            work(lambda text: os.write(fd, f"{text}\n".encode()) and None)
        status = 0
    finally:
        os._exit(status)


def _note(notes: Path, failure: Any) -> None:
    if failure[0] is not None:
        notes.with_suffix(".error").write_text("".join(traceback.format_exception(*failure)))


def start(
    folder: Path, notes: Path, name: str, count: int, environ: Mapping[str, str] | None = None
) -> Worker:
    """Fork a process that creates `count` issues, one after another."""

    def work(acknowledge: Callable[[str], None]) -> None:
        workspace = opened(folder, environ)
        for number in range(count):
            create(workspace, f"{name}-{number}")
            acknowledge(f"{name}-{number}")
        workspace.close()

    return fork(notes / f"{name}.txt", work)


def finish(*workers: Worker) -> None:
    """Wait for processes that must succeed."""
    for worker in workers:
        status = worker.wait()
        error = worker.notes.with_suffix(".error")
        assert status == 0, error.read_text() if error.exists() else status


def check(folder: Path) -> list[Event]:
    """Return all events after the invariants: git is content, the view is what a rebuild gives."""
    workspace = opened(folder)
    shown = list(refresh(workspace).all_events())
    rows = list(refresh(workspace).all_rows())
    built = rebuild(workspace)
    assert shown == list(built.all_events()), "the view is not what a rebuild gives"
    assert rows == list(built.all_rows())
    workspace.close()
    done = subprocess.run(
        ["git", "-C", str(folder), "fsck", "--strict", "--no-dangling"], capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob(".git/refs/grit/*.lock"))
    return shown


def titles(events: list[Event]) -> list[str]:
    """Return the titles of all creations, sorted."""
    return sorted(str(event.payload[0]) for event in events if event.tag == ISSUE_CREATED)


def chains(events: list[Event]) -> dict[bytes, int]:
    """Return how often each actor's chain of parents forks or begins anew, beyond its one start."""
    followers: dict[bytes, dict[bytes | None, int]] = defaultdict(lambda: defaultdict(int))
    for event in events:
        followers[event.actor_id][event.parent] += 1
    known = {event.event_id for event in events}
    for by_parent in followers.values():
        assert all(parent in known for parent in by_parent if parent is not None)
    return {
        actor: sum(count - 1 for count in by_parent.values())
        for actor, by_parent in followers.items()
    }


def wait_until(ready: Callable[[], bool]) -> None:
    """Wait for what other processes bring about."""
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def commits(folder: Path) -> int:
    """Return how many commits the log has."""
    words = ["git", "-C", str(folder), "rev-list", "--count", "refs/grit/wal"]
    return int(subprocess.run(words, capture_output=True, check=True).stdout)
