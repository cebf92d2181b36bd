"""The command server of one clone: warm, with children that run the commands (spec/daemon.md)."""

import mmap
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import grit
from grit.cli.foreground import RunLocally
from grit.cli.main import program
from grit.core.errors import Busy, GritError
from grit.core.limits import (
    SERVER_CHILDREN_MAX,
    SERVER_IDLE_S,
    SERVER_LOG_BYTES_MAX,
    SERVER_STOP_MS_MAX,
)
from grit.daemon import child, code, door
from grit.daemon.board import Board
from grit.daemon.practice import practices
from grit.git import gitconfig
from grit.git.filelock import FileLock
from grit.git.repository import Repository, discover
from grit.launch import look_around
from grit.services import server_place
from grit.services.server_place import SERVER_LINK, Place, State

TICK_S: Final = 10.0
"""How often the server looks whether the clone, its own lock and its own code are still there."""
LOCK_WAIT_MS: Final = 50
"""Who only looks whether the lock is held has it for an instant."""
TIMES_KEPT: Final = 1_000
BUSY_S: Final = 10.0
"""For so long after a command two processes wait for a caller, not one: the second is there
while the first is being replaced."""
UNUSED_MAX: Final = 20
"""So many of them in a row that end without a caller mean that there is something wrong."""
WORKER_AGAIN_S: Final = 5.0
WORKER_AGAIN_S_MAX: Final = 300.0
"""Between two starts of a worker: doubled each time, until one has lived that long."""
CODE_S: Final = 1.0
"""How often, at most, commands make the server look at all files of its code."""
CHANGED: Final = "the installed code has changed"
_SERVER, _WORKER = 0, 1


class Server:
    """The server's own process: it forks, counts, and knows when to leave; it runs no command."""

    def __init__(
        self, place: Place, lock: FileLock, settings: dict[str, object], umask: int
    ) -> None:
        """Take the clone's place, whose lock is held already, its settings, the starter's umask."""
        self._place = place
        self._umask = umask
        self._lock = lock
        self._held = door.identity(place.lock)
        self._clone = door.identity(place.folder)
        self._repository = _repository(place)
        self._idle_s = _number(settings, "idle_s", SERVER_IDLE_S)
        self._board = Board(2)
        self._code = code.Code()
        self._code_looked = time.monotonic()
        self._started_ms = time.time_ns() // 1_000_000
        self._last_command = self._last_end = time.monotonic()
        self._spares: set[int] = set()
        self._children: set[int] = set()
        self._unused = 0
        self._times_us = memoryview(mmap.mmap(-1, 4 * TIMES_KEPT)).cast("I")
        self._count = {"ended": 0, "notified": 0, "wake_ups": 0}
        self._worker: int | None = None
        self._worker_began = self._worker_due = 0.0
        self._worker_pause_s = WORKER_AGAIN_S
        self._wake = -1
        self._leaving = ""
        # A write end that only this process has: its readers notice when it is gone.
        self._alive, self._life = os.pipe()
        self._reports, self._report = os.pipe()
        self._signals, signals = os.pipe()
        for fd in (self._reports, self._signals, signals):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(signals, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        self._listener, self._address = door.listen(place)

    def serve(self) -> int:
        """Take commands until there is a reason to leave; return the exit status."""
        server_place.state = self.state
        waiting = select.poll()
        waiting.register(self._reports, select.POLLIN)
        waiting.register(self._signals, select.POLLIN)
        self._keep_ready()
        door.link(self._place, self._address)
        tick = time.monotonic()
        while not self._leaving:
            self._board.write(_SERVER, self._own_state())
            due = TICK_S if self._children else min(TICK_S, self._idle_left())
            waiting.poll(max(0.0, due) * 1000)
            self._count["wake_ups"] += 1
            self._read_reports()
            self._reap()
            now = time.monotonic()
            if now - tick >= TICK_S:
                tick = now
                self._look_around()
            if self._idle_left() <= 0 and not self._children:
                self._leaving = self._leaving or "nothing to do"
            if not self._leaving:
                self._keep_ready()
        self._leave()
        return 0

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._leaving = signal.Signals(number).name

    def _idle_left(self) -> float:
        return self._last_command + self._idle_s - time.monotonic()

    def _keep_ready(self) -> None:
        """Have one process wait for the next caller, and one work in the background."""
        if self._repository is not None:
            with suppress(GritError):
                gitconfig.remembered = gitconfig.remember(self._repository, os.environ)
        wanted = 2 if time.monotonic() - self._last_command < BUSY_S else 1
        if len(self._children) >= SERVER_CHILDREN_MAX:
            wanted = 0
        elif self._children and not child.is_called(self._listener):
            wanted = 1  # the next one practises when this command has ended: not beside it
        while len(self._spares) < wanted:
            patience_s = BUSY_S if self._spares else None
            pid = self._fork(lambda: self._serve_one(patience_s))  # noqa: B023  # called at once
            if pid is None:
                break
            self._spares.add(pid)
        if self._worker is None and time.monotonic() >= self._worker_due:
            self._worker_began = time.monotonic()
            self._worker_due = self._worker_began + self._worker_pause_s
            ear, self._wake = os.pipe()
            os.set_blocking(self._wake, False)  # a stopped worker stops nobody else
            self._worker = self._fork(lambda: self._work(ear))
            os.close(ear)

    def _fork(self, become: Callable[[], object]) -> int | None:
        try:
            pid = os.fork()
        except OSError as error:
            say(f"cannot start a process: {error.strerror}")
            time.sleep(1)
            return None
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(self._life)
            if self._wake >= 0:
                os.close(self._wake)
            self._lock.release()
            become()
        finally:
            os._exit(1)

    def _serve_one(self, patience_s: float | None) -> None:
        child.serve_one(
            child.Ends(self._listener, self._alive, self._report),
            self._code.seems_fresh,
            self._run,
            practices(self._repository),
            patience_s,
        )

    def _run(self, args: list[str]) -> int:
        """Run a command of this clone; the link of a copy of it leads here, too."""
        try:
            folder, _ = look_around(args)
        except OSError as error:
            raise RunLocally from error
        if folder is None or door.identity(folder) != self._clone:
            raise RunLocally
        return program(args)

    def _work(self, ear: int) -> None:
        from grit.daemon import worker

        os.setpgid(0, 0)
        os.umask(self._umask)  # it writes to the repository, as a command does
        self._listener.close()
        common = os.path.dirname(self._place.folder)
        os._exit(worker.run(common, os.environ, lambda said: self._board.write(_WORKER, said), ear))

    def _read_reports(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._signals, 4096)
        try:
            text = os.read(self._reports, 1 << 16).decode()
        except BlockingIOError:
            return
        for line in text.split("\n")[:-1]:
            what, pid, spent_us = line.split()
            if what == child.ACCEPTED:
                self._last_command = time.monotonic()
                self._unused = 0
                if int(pid) in self._spares:  # else it has ended already, and was seen to
                    self._spares.remove(int(pid))
                    self._children.add(int(pid))
            elif what == child.AGAIN_READY:
                if int(pid) in self._children:  # else it has ended already
                    self._children.remove(int(pid))
                    self._spares.add(int(pid))
            elif what == child.ENDED:
                self._count["ended"] += 1
                self._last_command = self._last_end = time.monotonic()
                self._times_us[(self._count["ended"] - 1) % TIMES_KEPT] = min(
                    int(spent_us), 2**32 - 1
                )
                self._wake_worker()
            elif what == child.NOTIFIED:
                self._count["notified"] += 1
                self._wake_worker()
            elif what == child.STALE:
                self._leaving = CHANGED
        now = time.monotonic()
        if now - self._code_looked >= CODE_S:
            self._code_looked = now
            if not self._code.is_fresh():
                self._leaving = CHANGED

    def _wake_worker(self) -> None:
        with suppress(OSError):
            os.write(self._wake, b"!")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._children.discard(pid)
            if pid in self._spares:
                self._spares.discard(pid)
                self._unused += status != 0
                if self._unused >= UNUSED_MAX:
                    self._leaving = "processes that wait for a caller end at once"
            if pid == self._worker:
                self._worker = None
                os.close(self._wake)
                self._wake = -1
                lived_s = time.monotonic() - self._worker_began
                again_s = 2 * self._worker_pause_s if lived_s < WORKER_AGAIN_S_MAX else 0.0
                self._worker_pause_s = min(max(again_s, WORKER_AGAIN_S), WORKER_AGAIN_S_MAX)
                if status:
                    say(f"the worker ended with {os.waitstatus_to_exitcode(status)}")

    def _look_around(self) -> None:
        _bound_log(self._place)
        if door.identity(self._place.lock) != self._held:
            self._leaving = "the lock or the repository is gone"
        elif not os.path.exists(self._address) or door.target(self._place) != self._address:
            self._leaving = "the socket is gone"
        elif not self._code.is_fresh():
            self._leaving = CHANGED

    def _leave(self) -> None:
        """Take no more commands; those that run go on, and end by themselves."""
        say(f"leaving: {self._leaving}")
        if door.target(self._place) == self._address:
            door.unlink(self._place)
        with suppress(OSError):
            os.unlink(self._address)
        self._listener.close()
        os.close(self._life)
        if self._worker is not None:
            with suppress(ProcessLookupError):
                os.kill(self._worker, signal.SIGTERM)
        deadline = time.monotonic() + SERVER_STOP_MS_MAX / 2000
        while self._worker is not None and time.monotonic() < deadline:
            time.sleep(0.005)
            self._reap()
        if self._worker is not None:
            os.kill(self._worker, signal.SIGKILL)

    def _own_state(self) -> State:
        return {
            "pid": os.getpid(),
            "version": grit.__version__,
            "started_ts": self._started_ms,
            "commands": self._count["ended"],
            "notified": self._count["notified"],
            "running_now": len(self._children),
            "wake_ups": self._count["wake_ups"],
            "leaves_s": self._last_end + self._idle_s,
            "pids": [os.getpid(), *self._spares, *([self._worker] if self._worker else [])],
        }

    def state(self) -> State:
        """Return what `daemon status` shows; for the processes that this one has forked."""
        said = self._board.read(_SERVER)
        ended = cast(int, said.get("commands", 0))
        ordered = sorted(self._times_us[: min(ended, TIMES_KEPT)])
        left_s = cast(float, said.pop("leaves_s", 0.0)) - time.monotonic()
        return {
            **said,
            "p50_us": ordered[len(ordered) // 2] if ordered else None,
            "p95_us": ordered[len(ordered) * 95 // 100] if ordered else None,
            # As if this command had not come.
            "idle_left_ms": max(0, round(left_s * 1000)),
            "worker": self._board.read(_WORKER),
        }


def main(args: list[str]) -> int:
    """Run the server of the clone whose grit folder is named, if none runs; return its status."""
    foreground = args[:1] == ["--foreground"]
    common_dir, name = os.path.split(args[-1])
    place = Place(os.path.join(os.path.realpath(common_dir), name))
    umask = _leave_the_caller(place, foreground)
    lock = FileLock(place.private, f"{SERVER_LINK}.lock", wait_ms_max=LOCK_WAIT_MS)
    try:
        lock.acquire()
    except Busy as busy:
        if foreground:
            say(f"not started: one runs already (pid {busy.details['pid']})")
        return 1 if foreground else 0
    except GritError as error:
        say(f"not started: {error.message}")
        return 1
    door.unlink(place)  # of one that was killed: nobody is to take it for this one's
    try:
        settings = _settings(place)
        code.warm_up()
        server = Server(place, lock, settings, umask)
    except (OSError, GritError) as error:
        say(f"not started: {error}")
        return 1
    say(f"started, grit {grit.__version__}")
    return server.serve()


def _leave_the_caller(place: Place, foreground: bool) -> int:
    """Keep nothing of who started this: no directory, no open file, and mostly no session.

    Nor the signals that it ignores or has blocked (nohup): each caller has its own. Return its
    umask.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.closerange(3, max(os.sysconf("SC_OPEN_MAX"), 4096))
    os.chdir("/")
    umask = os.umask(0o077)
    if foreground:
        return umask
    with suppress(OSError):
        os.setsid()
    with suppress(OSError):
        log = server_place.open_log(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        os.close(log)
    return umask


def say(text: str) -> None:
    """Write a line to the log."""
    with suppress(OSError):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        os.write(2, f"{stamp} {os.getpid()} {text}\n".encode(errors="backslashreplace"))


def _bound_log(place: Place) -> None:
    """Keep the newer half of a log that has grown too long."""
    with suppress(OSError), open(server_place.open_log(place, os.O_RDWR), "r+b") as log:
        size = log.seek(0, os.SEEK_END)
        if size <= SERVER_LOG_BYTES_MAX:
            return
        log.seek(size - SERVER_LOG_BYTES_MAX // 2)
        tail = log.read()
        log.seek(0)
        log.write(tail)
        log.truncate()


def _settings(place: Place) -> dict[str, object]:
    from grit.git.actors import load_toml

    try:
        found = load_toml(place.private, "config.toml").get("daemon", {})
    except GritError as error:
        say(error.message)
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _repository(place: Place) -> Repository | None:
    """Return the clone as most commands find it: from its top folder; None where it has none."""
    folder, name = os.path.split(os.path.dirname(place.folder))
    try:
        return discover(folder, os.environ) if name == ".git" else None
    except GritError as error:
        say(error.message)
        return None


def _number(settings: dict[str, object], name: str, default: int) -> int:
    value = settings.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    say(f"daemon.{name} is a whole number above 0; {default} is used")
    return default
