"""The worker of a clone: acts on what moves the log, whoever moved it (spec/daemon.md, Worker)."""

import json
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from grit.core.errors import GritError
from grit.core.limits import FLUSH_MS_MAX
from grit.core.pacing import Circuit, Gathered, gather
from grit.daemon.home import find_home, lasting
from grit.daemon.run_process import Done, RunProcess, Task
from grit.daemon.sync_process import Outcome, SyncProcess
from grit.daemon.syncs import Syncs, Timing, noise, now_ms, wall_ms
from grit.daemon.troubles import Troubles, refuse, words
from grit.daemon.warming import Warmed, news_stamp
from grit.git.watch import Watcher
from grit.services.background import Background, load_background
from grit.services.workspace import Ports, Workspace

Publish = Callable[[dict[str, object]], None]

_PATHS_SHOWN: Final = 64
_PATH_CHARS_SHOWN: Final = 8_000
_FLUSH_SHARE: Final = 0.8
"""The part of the time for leaving in which something may still be begun or waited for."""


class _Gone(Exception):
    """The repository is not there any more, or is another one."""


class Worker:
    """One worker; `run` is its life."""

    def __init__(
        self,
        directory: str,
        environ: Mapping[str, str],
        publish: Publish,
        wake_fd: int,
        timing: Timing = Timing(),  # noqa: B008  # frozen
    ) -> None:
        """Open nothing but the repository; raises GitFailed, IoFailed."""
        self._environ = lasting(environ)
        self._repository, self._directory = find_home(directory, self._environ)
        self._publish = publish
        self._wake_fd = wake_fd
        self._timing = timing
        self._settings = Background()
        self._settings_stamp: bytes | None = None
        self._git_stamp = self._stamp_git_config()
        self._watcher = Watcher(self._repository)
        self._gathered: Gathered | None = None
        self._answered = ""
        self._run: RunProcess | None = None
        self._runs_circuit = Circuit()
        self._syncs = Syncs(timing)
        self._health_ms = 0
        self._troubles = Troubles()
        self._head: str | None = None
        self._count = {"runs": 0, "mutations": 0, "wake_ups": 0}
        self._last_event_ts: int | None = None
        self._last_run_ts: int | None = None
        self._published: dict[str, object] = {}
        self._leave_ms: int | None = None

    def run(self) -> int:
        """Work until told to leave, or until the repository is gone; return the exit status."""
        with _signals(self._leave) as told:
            try:
                with self._watcher:
                    self._work(told)
                    self._flush(told)
            except _Gone:
                pass
            finally:
                for process in (self._run, self._syncs.process):
                    if process is not None:
                        process.end()
        return 0

    def _leave(self) -> None:
        if self._leave_ms is None:
            self._leave_ms = now_ms() + int(FLUSH_MS_MAX * _FLUSH_SHARE)

    def _work(self, told: int) -> None:
        self._load_settings()
        now = now_ms()
        self._gathered = gather(None, now)
        self._health_ms = now + self._settings.debounce_ms
        while self._leave_ms is None:
            self._tend_run()
            self._tend_sync()
            self._tell()
            self._wait(told)

    def _wait(self, told: int) -> None:
        """Sleep until something comes or is due, and take note of it."""
        waiting = select.poll()
        for fd in (told, self._wake_fd, self._watcher.fileno()):
            waiting.register(fd, select.POLLIN)
        ready = {fd for fd, _ in waiting.poll(self._left_ms())}
        self._count["wake_ups"] += 1
        _empty(told, ready)
        asked = _empty(self._wake_fd, ready)
        if asked == b"":
            self._leave()
            return
        overdue = self._watcher.timeout_s()
        if asked or self._watcher.fileno() in ready or overdue == 0:
            self._take_events()
        if asked:
            self._load_settings()
            self._published = {}

    def _left_ms(self) -> int:
        """Return how long to sleep, rounded up so that nothing is looked at too early."""
        due = [] if self._run is not None else [self._health_ms, self._run_due_ms()]
        due.append(self._syncs.due_ms(self._settings))
        polled_s = self._watcher.timeout_s()
        now = now_ms()
        left_ms = [at_ms - now for at_ms in due if at_ms is not None]
        if polled_s is not None:
            left_ms.append(math.ceil(polled_s * 1000))
        return max(0, min(left_ms, default=self._timing.health_ms))

    def _run_due_ms(self) -> int | None:
        if self._gathered is None:
            return None
        due_ms = self._gathered.due_ms(self._settings.debounce_ms)
        return max(due_ms, self._runs_circuit.retry_ms or 0)

    def _take_events(self) -> None:
        """Look whether refs moved, by others than this worker."""
        moved = self._watcher.drain()
        if self._watcher.gone:
            raise _Gone
        if moved and news_stamp(self._repository) != self._answered:
            self._gathered = gather(self._gathered, now_ms())
            self._last_event_ts = wall_ms()

    def _tend_run(self) -> None:
        """Take the end of a run, begin one that is due."""
        if self._run is not None and (done := self._run.done()) is not None:
            self._run = None
            self._take_run(done)
        if self._run is None:
            now, due_ms = now_ms(), self._run_due_ms()
            bring_up, health = due_ms is not None and now >= due_ms, now >= self._health_ms
            if bring_up or health:
                self._begin_run(bring_up=bring_up, health=health)

    def _begin_run(self, *, bring_up: bool, health: bool = False) -> None:
        self._load_settings()
        if health:
            self._health_ms = now_ms() + self._timing.health_ms
            self._take_events()
            self._published = {}
        if bring_up:
            self._gathered = None
        syncs = self._settings.auto != "off"
        try:
            self._run = RunProcess(self._repository, self._environ, Task(bring_up, health, syncs))
        except OSError as error:
            self._take_run(Done(error=f"cannot start a process: {words(error)}"))

    def _take_run(self, done: Done) -> None:
        for notice in done.notices:
            self._troubles.hear(notice)
        for check, problem in (done.problems or {}).items():
            self._troubles.note(check, problem)
        if done.error is not None:
            self._take_events()
            now = now_ms()
            self._runs_circuit = self._runs_circuit.failed(now, noise(), self._timing.pace)
            self._gathered = Gathered(now, now)
            self._troubles.note("run", done.error)
        elif done.warmed is not None:
            self._runs_circuit = Circuit()
            self._troubles.note("run", None)
            self._troubles.note("view", None)
            self._take_warmed(done.warmed)

    def _take_warmed(self, warmed: Warmed) -> None:
        self._count["runs"] += 1
        self._last_run_ts = wall_ms()
        self._answered = warmed.answered
        if warmed.head != self._head:
            self._count["mutations"] += self._count["runs"] > 1
            self._head = warmed.head
        self._syncs.note_run(warmed, self._settings)
        if not self._syncs.circuit.failures:
            self._troubles.note("sync", None)
        if news_stamp(self._repository) == self._answered:
            self._gathered = None  # what came meanwhile was its own doing, or is in it
        elif self._gathered is None:
            self._gathered = gather(None, now_ms())

    def _tend_sync(self) -> None:
        """Take the end of a sync, end one that hangs, begin one that is due."""
        syncs, now = self._syncs, now_ms()
        if syncs.process is not None:
            outcome = syncs.process.outcome()
            if outcome is None and now >= syncs.begun_ms + self._timing.sync_ms_max:
                syncs.process.end()
                spent_s = self._timing.sync_ms_max // 1000
                outcome = Outcome(False, f"ended after {spent_s} s: the remote does not answer")
            if outcome is not None:
                self._take_end(outcome)
        due_ms = syncs.due_ms(self._settings)
        leaving = self._leave_ms is not None
        if syncs.process is None and due_ms is not None and now >= due_ms and not leaving:
            self._begin_sync()

    def _begin_sync(self) -> None:
        syncs = self._syncs
        syncs.begun_ms = now_ms()
        syncs.circuit = syncs.circuit.begun()
        try:
            syncs.process = SyncProcess(self._directory, self._environ, self._settings.auto)
        except OSError as error:
            self._take_events()
            self._take_end(Outcome(False, f"cannot start a process: {error.strerror}"))

    def _take_end(self, outcome: Outcome) -> None:
        self._troubles.note("sync", self._syncs.note_end(outcome, self._settings))
        if not outcome.ok:
            # What others did meanwhile may have made another try needless.
            self._gathered = gather(self._gathered, now_ms())

    def _flush(self, told: int) -> None:
        """Do what is left and quickly done."""
        assert self._leave_ms is not None
        self._take_events()
        self._finish_run(told)
        if self._gathered is not None and self._runs_circuit.allows(now_ms()):
            self._begin_run(bring_up=True)
            self._finish_run(told)
        syncs = self._syncs
        hoped_ms = 2 * syncs.took_ms if syncs.took_ms is not None else FLUSH_MS_MAX
        hopeful = not syncs.circuit.failures and now_ms() + hoped_ms < self._leave_ms
        if syncs.process is None and self._settings.pushes and syncs.unsent and hopeful:
            self._begin_sync()
        while syncs.process is not None and self._lasts(told):
            self._tend_sync()
        self._tell()

    def _finish_run(self, told: int) -> None:
        while self._run is not None and self._lasts(told):
            if (done := self._run.done()) is not None:
                self._run = None
                self._take_run(done)

    def _lasts(self, told: int) -> bool:
        """Sleep until a process ends; return whether that was in time."""
        assert self._leave_ms is not None
        left_ms = self._leave_ms - now_ms()
        if left_ms <= 0:
            return False
        select.select([told], [], [], left_ms / 1000)
        _empty(told, {told})
        return True

    def _load_settings(self) -> None:
        """Read the settings if they changed; leave when git's say that this is another repository.

        The next worker sees it as it is now.
        """
        if self._git_stamp != (stamp := self._stamp_git_config()):
            self._git_stamp = stamp
            try:
                home = find_home(self._directory, self._environ)
            except GritError:
                self._take_events()
            else:
                if home.repository != self._repository:
                    raise _Gone
        workspace = Workspace(self._repository, self._ports())
        if self._settings_stamp != (said := workspace.settings_stamp()):
            self._settings_stamp = said
            self._settings = load_background(self._repository)
            self._syncs.forget()
            self._troubles.note("settings", "; ".join(self._settings.problems) or None)
            if self._settings.auto != "off" and self._gathered is None:
                # What is unsent is looked at by a run.
                self._gathered = gather(None, now_ms())

    def _stamp_git_config(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(f"{self._repository.common_dir}/config")
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _ports(self) -> Ports:
        return Ports(self._environ, wall_ms, os.urandom, self._troubles.hear)

    def _tell(self) -> None:
        """Hand the state over when something in it changed."""
        state = self._state()
        if state != self._published:
            self._published = state
            volatile = {"raw_events": self._watcher.raw_events}
            self._publish({**state, **volatile, "wake_ups": self._count["wake_ups"]})

    def _state(self) -> dict[str, object]:
        settings, watcher = self._settings, self._watcher
        return {
            "pid": os.getpid(),
            "mode": watcher.mode,
            "reason": watcher.reason,
            "paths": _shown(watcher.paths, self._repository.common_dir),
            "path_count": len(watcher.paths),
            "runs": self._count["runs"],
            "mutations": self._count["mutations"],
            "last_event_ts": self._last_event_ts,
            "last_run_ts": self._last_run_ts,
            "sync": self._syncs.state(),
            "health": self._troubles.state(),
            "settings": {
                "daemon.debounce_ms": settings.debounce_ms,
                "sync.auto": settings.auto,
                "sync.interval_s": settings.interval_s,
            },
        }


def run(directory: str, environ: Mapping[str, str], publish: Publish, wake_fd: int) -> int:
    """Work for the repository around `directory` until there is a reason to leave; return 0.

    `publish` takes the state (spec/json.md) whenever it changes. `wake_fd`: bytes mean "look now",
    its end that the server is gone. Takes the signals of the process. A repository that cannot be
    opened is told on standard error, and the status is 1.
    """
    try:
        worker = Worker(directory, environ, publish, wake_fd)
    except GritError as error:
        refuse(error)
        return 1
    return worker.run()


@contextmanager
def _signals(leave: Callable[[], None]) -> Iterator[int]:
    """Take the signals; give what becomes readable when one comes."""
    told, tell = os.pipe()
    for fd in (told, tell):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave())
    try:
        yield told
    finally:
        signal.set_wakeup_fd(-1)
        os.close(told)
        os.close(tell)


def _empty(fd: int, ready: set[int]) -> bytes | None:
    """Return what lies in a pipe that is ready, nothing at its end; None when it is not ready."""
    if fd not in ready:
        return None
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return None


def _shown(paths: Sequence[str], top: str) -> list[str]:
    """Return some of the paths, relative to the git directory."""
    found: list[str] = []
    for path in paths[:_PATHS_SHOWN]:
        found.append(os.path.relpath(path, os.path.realpath(top)))
        if sum(map(len, found)) > _PATH_CHARS_SHOWN:
            return found[:-1]
    return found


def _print(state: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(state) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], os.environ, _print, sys.stdin.fileno()))
