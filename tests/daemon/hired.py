"""A worker in a process of its own, as the server has one, with short times."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grit.core.errors import GritError
from grit.core.events import ISSUE_CREATED
from grit.core.ids import IssueId
from grit.git.wal import Appended
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt
from tests.core.builders import event
from tests.services.clinic import REF, Patient

State = dict[str, Any]

DEBOUNCE_MS = 50
WAIT_S = 30.0
_SCRIPT = """
import json, os, sys
from grit.core.pacing import Pace
from grit.daemon import health, syncs, warming, worker
from grit.git import watch
{before}
timing = syncs.Timing(Pace({pace}), {sync_ms_max}, {health_ms})
def show(state):
    sys.stdout.write(json.dumps(state) + chr(10))
    sys.stdout.flush()
sys.exit(worker.Worker({directory!r}, os.environ, show, 0, timing).run())
"""
POLLS = """
from functools import partial
worker.Watcher = partial(watch.Watcher, poll_ms=200, check_ms=300, doubt_ms=100)
"""
"""Code for `hired(before=...)`: the paces of watching are short too."""


class Hired:
    """A running worker, what it published, and what it wrote to the log."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        """Listen to it."""
        self.process = process
        self.states: list[State] = []
        self._log = log
        self._news: queue.SimpleQueue[State] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._news.put(json.loads(line))

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text()

    @property
    def state(self) -> State:
        """The newest state; waits for the first."""
        while not self._news.empty() or not self.states:
            self.states.append(self._news.get(timeout=WAIT_S))
        return self.states[-1]

    def until(self, fits: Callable[[State], object], wait_s: float = WAIT_S) -> State:
        """Return the first state from the newest on that fits; fail when none does in time."""
        deadline = time.monotonic() + wait_s
        state = self.state
        while not fits(state):
            try:
                state = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"still {state}\n{self.said}") from None
            self.states.append(state)
        return state

    def rested(self) -> State:
        """Wait until the worker has done what it had to do, and return its state then."""
        self.until(lambda state: state["runs"])
        while True:
            before = self.asked()
            time.sleep(10 * DEBOUNCE_MS / 1000)
            after = self.asked()
            if before["runs"] == after["runs"] and not after["sync"]["running"]:
                return after

    def asked(self) -> State:
        """Tell the worker to look now, and return what it says to that."""
        wakes = self.state["wake_ups"]
        self.look()
        return self.until(lambda state: state["wake_ups"] > wakes)

    def look(self) -> None:
        """Tell the worker to look now."""
        assert self.process.stdin is not None
        self.process.stdin.write("!")
        self.process.stdin.flush()

    def abandon(self) -> None:
        """Let it believe that the server is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def dismiss(self) -> float:
        """Tell it to leave; return the seconds until it was gone."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WAIT_S) == 0, self.said
        return time.monotonic() - begun


@contextmanager
def hired(
    folder: Path,
    *,
    pace: str = "100, 3, 2000, 4000",
    sync_ms_max: int = 60_000,
    health_ms: int = 60_000,
    before: str = "",
    environ: Mapping[str, str] | None = None,
    debounce_ms: int = DEBOUNCE_MS,
) -> Iterator[Hired]:
    """Run a worker for the repository in `folder`; it is killed at the end if it is still there."""
    log = folder.parent / f"worker-{time.monotonic_ns()}.log"
    set_up(folder, "daemon.debounce_ms", debounce_ms)
    script = _SCRIPT.format(
        directory=str(folder / ".git" if (folder / ".git").exists() else folder),
        pace=pace, sync_ms_max=sync_ms_max, health_ms=health_ms, before=before,
    )  # fmt: skip
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environ or {})},
        )
    try:
        one = Hired(process, log)
        yield one
        assert "Traceback" not in one.said, one.said
    finally:
        process.kill()
        process.wait()


def set_up(folder: Path, key: str, value: object) -> None:
    """Change a setting without starting a command."""
    from grit.git.actors import set_config
    from grit.git.repository import discover

    set_config(discover(str(folder), {}), key, value)  # type: ignore[arg-type]


def patient(folder: Path) -> Patient:
    """Return a repository with an actor, whose log has one issue."""
    one = Patient(folder, now_ms=time.time_ns() // 1_000_000)
    one.data("init")
    one.data("new", "First")
    return one


def append(one: Patient) -> Appended:
    """Put an issue into the log as another tool does, without any view."""
    return one.append(event(ISSUE_CREATED, "One", "", (), issue=IssueId(os.urandom(16))))


def view_head(one: Patient) -> str | None:
    """Return the head that the view stands for, without bringing it up to the log."""
    workspace = one.workspace()
    try:
        return ViewReader(workspace.database).head()
    except (ViewDoubt, GritError):
        return None
    finally:
        workspace.close()


def log_head(one: Patient) -> str:
    """Return the log's head."""
    return one.git("rev-parse", REF)
