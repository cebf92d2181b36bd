"""What the suites of tools/bench share: processes timed alternately, figures, repositories."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parent.parent
PYTHON = str(next((p for p in [TOP / ".venv/bin/python"] if p.exists()), sys.executable))
SCRIPT = Path(PYTHON).with_name("grit")
CALL = "import sys; from grit.cli.main import main; sys.exit(main())"
GRIT = [str(SCRIPT)] if SCRIPT.exists() else [PYTHON, "-c", CALL]
PASS = [PYTHON, "-c", "pass"]
REF = "refs/grit/wal"
RAW_READ = f"git rev-list --objects --no-object-names {REF} | git cat-file --batch"
KB = 1024
MB = 1024 * 1024


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    peak_bytes: int


class Figure(NamedTuple):
    """One row of the table; a target of None is information only."""

    name: str
    value: float
    unit: str
    ratio: float | None
    against: str
    target: float | None
    measured: float
    spread: str

    @property
    def verdict(self) -> str:
        """Return ok, short, or nothing for information."""
        if self.target is None:
            return ""
        return "ok" if self.measured <= self.target else "short"


class Failed(Exception):
    """A process of the benchmark did not do its work."""


def spawn(command: Sequence[str], directory: Path) -> Run:
    """Run a command with its output thrown away; return wall time and peak memory."""
    complaints = os.path.join(tempfile.gettempdir(), f"grit-bench-{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, complaints, flags, 0o600),
    ]
    program = shutil.which(command[0]) or command[0]
    os.chdir(directory)
    started = time.perf_counter()
    pid = os.posix_spawn(program, list(command), os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    said = Path(complaints).read_text(errors="replace").strip()
    os.unlink(complaints)
    if status:
        raise Failed(f"{' '.join(command)} failed in {directory}: {said}")
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else KB))


def quiet(*command: str, directory: Path | None = None) -> str:
    """Run a command for what it does or says; raise Failed when it fails."""
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Failed(f"{' '.join(command)}: {ran.stderr.strip()}")
    return ran.stdout


def milliseconds(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs) * 1000


def spread(runs: Sequence[Run]) -> str:
    times = sorted(run.seconds * 1000 for run in runs)
    return f"{times[0]:.3g}..{times[-1]:.3g}"


def ratio_figure(
    name: str, runs: Sequence[Run], base: Sequence[Run], against: str, target: float | None
) -> Figure:
    """Return a figure whose measure is the ratio of two medians."""
    value = milliseconds(runs)
    ratio = value / milliseconds(base)
    return Figure(name, value, "ms", ratio, against, target, ratio, spread(runs))


def paired_figure(
    name: str, runs: Sequence[Run], base: Sequence[Run], against: str, target: float | None
) -> Figure:
    """Return a figure whose measure is the median of the ratios of each round.

    For long runs: what else the machine does changes from round to round, and less within one.
    """
    figure = ratio_figure(name, runs, base, against, target)
    ratio = statistics.median(
        one.seconds / other.seconds for one, other in zip(runs, base, strict=True)
    )
    return figure._replace(ratio=ratio, measured=ratio)


def plain_figure(name: str, value: float, unit: str, target: float | None) -> Figure:
    return Figure(name, value, unit, None, "", target, value, "")


Command = tuple[Sequence[str], Path]


def interleaved(
    commands: dict[str, Command], rounds: int, before: Callable[[str, int], None] | None = None
) -> dict[str, list[Run]]:
    """Run every command once a round; a first round warms the caches and does not count."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, (command, directory) in commands.items():
            if before:
                before(name, number)
            run = spawn(command, directory)
            if number:
                runs[name].append(run)
    return runs


class Bench:
    """The options of a run, and the repositories that it made."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.folder = folder
        self.quick: bool = options.quick
        self.sizes = [int(size) for size in options.sizes.split(",")]
        self.beads: str | None = options.beads
        self.rounds = 5 if self.quick else 15

    def tracker(self, name: str, *flags: str, gc: bool = False) -> Path:
        """Return a repository with a generated log and an actor, made when it is missing."""
        repository = self.folder / name
        if (repository / ".git" / "bench-ready").exists():
            return repository
        shutil.rmtree(repository, ignore_errors=True)
        self.say(f"generating {name}")
        quiet(PYTHON, str(TOP / "tools" / "generate"), "--repo", str(repository), *flags)
        return self.ready(repository, gc)

    def empty(self, name: str) -> Path:
        """Return a fresh repository with an actor."""
        repository = self.folder / name
        shutil.rmtree(repository, ignore_errors=True)
        quiet("git", "init", "-q", str(repository))
        return self.ready(repository, gc=False)

    def ready(self, repository: Path, gc: bool) -> Path:
        for key, value in (
            ("user.name", "Bench"),
            ("user.email", "bench@example.org"),
            ("gc.auto", "0"),
        ):
            quiet("git", "config", key, value, directory=repository)
        if gc:
            quiet("git", "gc", "-q", directory=repository)
        quiet(*GRIT, "init", directory=repository)
        quiet(*GRIT, "ls", directory=repository)
        (repository / ".git" / "bench-ready").touch()
        return repository

    def sized(self, issues: int) -> Path:
        """Return a tracker of that many issues, three events an issue."""
        flags = ("--issues", str(issues), "--events", str(issues * 3), "--chunks")
        return self.tracker(f"issues-{issues}", *flags)

    def events(self, count: int) -> Path:
        """Return a tracker of that many events in chunks, ten events an issue."""
        flags = ("--events", str(count), "--issues", str(count // 10), "--chunks")
        return self.tracker(f"events-{count}", *flags)

    def say(self, text: str) -> None:
        print(f"  {text} ...", file=sys.stderr, flush=True)

    def probe(self, name: str, *arguments: str) -> dict[str, list[float]]:
        """Measure inside another process (tools/bench_probe); return its samples by name."""
        program = str(TOP / "tools" / "bench_probe")
        found: dict[str, list[float]] = json.loads(quiet(PYTHON, program, name, *arguments))
        return found
