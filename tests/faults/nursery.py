"""grit in forked processes: each begins at once, so that a kill finds it at work.

A server process has imported all of grit and opened nothing; every command is a child of it, in a
session of its own, so that what it starts can be found and killed with it. For leases, all
commands in a folder are one session.
"""

import multiprocessing
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import grit
from tests.faults.machine import Done, judge

TIMEOUT_S = 60
Victim = Literal["alone", "all", "child"]
"""Who is killed: the command alone, it with all that it started, or one that it started."""

_FORKING: Any = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        *(
            name
            for _, name, _ in pkgutil.walk_packages(grit.__path__, "grit.")
            if not name.endswith(".__main__")  # to import it is to run it
        ),
        __name__,
    ]
)


def session_environment(folder: Path | str) -> dict[str, str]:
    """Return what makes all commands in a folder one session, for leases."""
    return {"GRIT_SESSION": str(folder)}


def _begin(folder: str, words: tuple[str, ...], base: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(session_environment(folder))
    for number, ending, flags in (
        (0, "in", os.O_RDONLY),
        (1, "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(f"{base}.{ending}", flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = ["grit", *words]
    from grit.cli.main import main

    main()


class Child:
    """A command that runs; `finish` it whatever happens. `base` names the files of its streams."""

    def __init__(
        self, folder: Path, words: tuple[str, ...], base: Path, stdin: bytes = b""
    ) -> None:
        self.words = words
        self._base = base
        self._ending("in").write_bytes(stdin)
        self._started = time.monotonic()
        self._process = _FORKING.Process(target=_begin, args=(str(folder), words, str(base)))
        self._process.start()
        self.pid: int = self._process.pid

    def kill(self, victim: Victim, choice: int = 0) -> None:
        """Kill -9; without children "child" is the command itself."""
        others = [pid for pid in session(self.pid) if pid != self.pid]
        chosen = {"alone": [self.pid], "all": [self.pid, *others]}.get(victim)
        if chosen is None:
            chosen = [others[choice % len(others)]] if others else [self.pid]
        for pid in chosen:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def finish(self) -> Done:
        """Wait for the end of the command; a traceback or a bug fails the test."""
        self._process.join(TIMEOUT_S)
        seconds = time.monotonic() - self._started
        if self._process.exitcode is None:
            self.kill("all")
            raise AssertionError(f"{self.words} did not end")
        out, err = (self._ending(name).read_text() for name in ("out", "err"))
        done = Done(self._process.exitcode, out, err, seconds)
        self._process.close()
        judge(done, str(self.words))
        return done

    def _ending(self, name: str) -> Path:
        path = self._base.with_suffix(f".{name}")
        path.touch()
        return path


def session(leader: int) -> list[int]:
    """Return the processes of the leader's session that live, the leader among them."""
    return [pid for pid, owner, state in _processes() if owner == leader and state not in "ZX"]


def wait_for_orphans(leader: int) -> None:
    """Wait until nothing is left of what a killed command started."""
    deadline = time.monotonic() + TIMEOUT_S
    while session(leader):
        assert time.monotonic() < deadline, f"the orphans of {leader} do not end"
        time.sleep(0.01)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Yield pid, session and state of every process."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(name), int(fields[3]), fields[0]
