"""The figures of the warm server: commands with it and without, idle, starting (spec/daemon.md)."""

import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from measuring import (
    GRIT,
    MB,
    PASS,
    PYTHON,
    Bench,
    Command,
    Failed,
    Figure,
    Run,
    interleaved,
    plain_figure,
    quiet,
    ratio_figure,
)

ALONE = "GRIT_NO_DAEMON"
DIRECT = [PYTHON, "-c", "from grit.cli.main import main; main()"]
ROUNDS = 31


@contextmanager
def served(*repositories: Path) -> Iterator[None]:
    """Let commands be served, by a server for each repository."""
    os.environ.pop(ALONE, None)
    try:
        for repository in repositories:
            quiet(*GRIT, "daemon", "start", directory=repository)
        time.sleep(0.5)
        yield
    finally:
        for repository in repositories:
            quiet(*GRIT, "daemon", "stop", directory=repository)
        os.environ[ALONE] = "1"


def server(bench: Bench) -> list[Figure]:
    """Time commands with a server, beside bare Python and beside the same without a server."""
    large = 10_000 if bench.quick else 100_000
    repositories = {size: bench.sized(size) for size in (10_000, large)}
    commands: dict[str, Command] = {"pass": (PASS, bench.folder)}
    for size, repository in repositories.items():
        answer = json.loads(quiet(*GRIT, "ls", "--limit", "1", "--json", directory=repository))
        issue = str(answer["data"]["issues"][0]["issue_id"])
        commands[f"list {size:,}"] = ([*GRIT, "ls"], repository)
        commands[f"show {size:,}"] = ([*GRIT, "show", issue], repository)
        commands[f"ready {size:,}"] = ([*GRIT, "ready"], repository)
        create = [*GRIT, "new", "--title", "Measured", "--body", "A body."]
        commands[f"create {size:,}"] = (create, repository)
    with served(*repositories.values()):
        # What a command leaves to do after its answer takes nothing from the next one.
        runs = interleaved(commands, ROUNDS, lambda _name, _number: time.sleep(0.05))
        figures = [
            ratio_figure(
                f"{name} with a server", timed, runs["pass"], "pass",
                1.7 if name.startswith("create") else 1.4,
            )
            for name, timed in runs.items()
            if name != "pass"
        ]  # fmt: skip
        figures.append(crowd(repositories[10_000], runs["list 10,000"]))
    figures += launcher(repositories[10_000])
    figures += start(repositories[10_000])
    figures.append(writers(bench))
    return figures + idle(bench, repositories[10_000])


def crowd(repository: Path, single: list[Run]) -> Figure:
    """Time fifty lists that are started at once against fifty that share the cores ideally."""
    times, nowhere = [], subprocess.DEVNULL
    for _ in range(7):
        os.chdir(repository)
        started = time.perf_counter()
        lists = [subprocess.Popen([*GRIT, "ls"], stdout=nowhere, stderr=nowhere) for _ in range(50)]
        for one in lists:
            one.wait()
        times.append(Run(time.perf_counter() - started, 0))
    share = 50 / (os.cpu_count() or 1)
    ideal = [Run(run.seconds * share, 0) for run in single]
    return ratio_figure("50 lists at once", times, ideal, "50/cores of one", 1.2)


def launcher(repository: Path) -> list[Figure]:
    """Time a list without a server, through the launcher and past it."""

    def alone(name: str, _number: int) -> None:
        os.environ[ALONE] = "1" if name != "looked" else ""
        os.environ["CI"] = "1"

    commands: dict[str, Command] = {
        "past": ([*DIRECT, "ls"], repository),
        "launched": ([*GRIT, "ls"], repository),
        "looked": ([*GRIT, "ls"], repository),
    }
    runs = interleaved(commands, ROUNDS, alone)
    del os.environ["CI"]
    os.environ[ALONE] = "1"
    past = statistics.median(run.seconds for run in runs["past"]) * 1000
    return [
        plain_figure(f"the launcher adds to a list, {words}", added - past, "ms", 1)
        for words, added in (
            ("told to be alone", statistics.median(r.seconds for r in runs["launched"]) * 1000),
            ("no server there", statistics.median(r.seconds for r in runs["looked"]) * 1000),
        )
    ]


def start(repository: Path) -> list[Figure]:
    """Time the start of a server, and the command that starts one without being asked."""
    folder = repository / ".git" / "grit"
    link, lock = folder / f"server-{os.getuid()}", folder / f"server-{os.getuid()}.lock"
    times = []
    for _ in range(11):
        started = time.perf_counter()
        process = subprocess.Popen([PYTHON, "-m", "grit.daemon", str(folder)])
        while not link.is_symlink():
            time.sleep(0.001)
        times.append(time.perf_counter() - started)
        process.send_signal(signal.SIGTERM)
        process.wait()
    pids: list[int] = []

    def before(name: str, _number: int) -> None:
        os.environ[ALONE] = "1" if name == "alone" else ""
        with suppress(FileNotFoundError):
            pids.append(int(lock.read_text()))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pids.clear()
        time.sleep(0.05)
        with suppress(FileNotFoundError):
            os.utime(lock, (0, 0))

    commands: dict[str, Command] = {
        "alone": ([*GRIT, "ls"], repository),
        "starting": ([*GRIT, "ls"], repository),
    }
    runs = interleaved(commands, ROUNDS, before)
    before("alone", 0)
    added = [statistics.median(run.seconds for run in runs[n]) * 1000 for n in commands]
    return [
        plain_figure("start of a server", statistics.median(times) * 1000, "ms", 300),
        plain_figure("the command that starts one, later by", added[1] - added[0], "ms", 5),
    ]


def writers(bench: Bench) -> Figure:
    """Time eight writers that create 100 issues each by commands, with a server and without."""
    series: dict[str, list[Run]] = {"alone": [], "served": []}
    for _ in range(1 if bench.quick else 3):
        for name, runs in series.items():
            repository = bench.empty(f"writers-{name}")
            with served(*([repository] if name == "served" else [])):
                os.environ[ALONE] = "1" if name == "alone" else ""
                started = time.perf_counter()
                threads = [Thread(target=create, args=(repository, n, 100)) for n in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                runs.append(Run(time.perf_counter() - started, 0))
            stored = json.loads(quiet(*GRIT, "ls", "-n1", "--json", directory=repository))
            if stored["data"]["total"] != 800:
                raise Failed(f"{stored['data']['total']} of 800 stored")
    return ratio_figure(
        "8 writers x 100 with a server", series["served"], series["alone"], "without", 1
    )


def create(repository: Path, number: int, count: int) -> None:
    for turn in range(count):
        quiet(*GRIT, "new", "--title", f"{number} {turn}", directory=repository)


def idle(bench: Bench, repository: Path) -> list[Figure]:
    """Look at a server with nothing to do: time on the processor, wake-ups, memory."""
    seconds = 20 if bench.quick else 60
    with served(repository):
        quiet(*GRIT, "ls", directory=repository)
        time.sleep(25)  # the second process that waits has gone by then
        pids = family(repository)
        before = [counted(pid) for pid in pids]
        time.sleep(seconds)
        after = [counted(pid) for pid in pids]
        memory = sum(share(pid) for pid in pids)
    ticks = sum(b[0] - a[0] for a, b in zip(before, after, strict=True))
    switches = sum(b[1] - a[1] for a, b in zip(before, after, strict=True))
    percent = ticks / os.sysconf("SC_CLK_TCK") / seconds * 100
    return [
        plain_figure(f"idle server, CPU over {seconds} s", percent, "%", 0.1),
        plain_figure("idle server, wake-ups", switches / seconds, "1/s", 1),
        plain_figure(f"idle server, memory of {len(pids)} processes", memory / MB, "MB", 40),
    ]


def family(repository: Path) -> list[int]:
    """Return the server's pid and those below it."""
    lock = repository / ".git" / "grit" / f"server-{os.getuid()}.lock"
    found = [int(lock.read_text())]
    for pid in found:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += map(int, below)
    return found


def counted(pid: int) -> tuple[int, int]:
    """Return clock ticks on the processor, and how often any thread of a process woke up."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        switches += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return int(fields[11]) + int(fields[12]), switches


def share(pid: int) -> int:
    """Return the proportional share of memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
