"""Many writing processes of one clone at once, beside others, and killed."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from grit.services import actors
from grit.services.refresh import refresh
from tests.services.writers import (
    Worker,
    chains,
    check,
    commits,
    create,
    finish,
    opened,
    start,
    titles,
    wait_until,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")
FULL = os.environ.get("GRIT_FAULTS") == "all"


@pytest.fixture
def folder(git_repository: Path) -> Path:
    """A repository with a log of one issue."""
    create(opened(git_repository), "first")
    return git_repository


def _names(prefix: str, processes: int, count: int) -> list[str]:
    return [f"{prefix}{n}-{number}" for n in range(processes) for number in range(count)]


@pytest.mark.parametrize("shared", [True, False], ids=["one actor", "an actor each"])
def test_row_17_eight_processes_x_100_writes(folder: Path, tmp_path: Path, shared: bool) -> None:
    """800 writes of 8 processes are 800 issues, each once; no chain of an actor forks."""
    workspace = opened(folder)
    names = [actors.create(workspace, label=f"actor{n}").label for n in range(8)]
    workers = [
        start(folder, tmp_path, f"p{n}", 100, {} if shared else {"GRIT_ACTOR": names[n]})
        for n in range(8)
    ]
    finish(*workers)
    events = check(folder)
    assert titles(events) == sorted(["first", *_names("p", 8, 100)])
    assert [worker.acknowledged() for worker in workers] == [
        [f"p{n}-{number}" for number in range(100)] for n in range(8)
    ]
    forks = chains(events)
    assert len(forks) == (1 if shared else 9)
    assert set(forks.values()) == {0}
    assert commits(folder) < 700, "nobody's write travelled with another's"


def test_row_17_fifty_writers(folder: Path, tmp_path: Path) -> None:
    """Fifty processes at once: nobody is turned away, nobody's write is lost or doubled."""
    workers = [start(folder, tmp_path, f"w{n}", 8) for n in range(50)]
    finish(*workers)
    events = check(folder)
    assert titles(events) == sorted(["first", *_names("w", 50, 8)])
    assert set(chains(events).values()) == {0}


def test_row_18_writers_killed_again_and_again(folder: Path, tmp_path: Path) -> None:
    """kill -9 of a random one of 8 writers: acknowledged is stored once, the rest go on."""
    seed = int(os.environ.get("GRIT_TEST_SEED", str(random.randrange(10**6))))
    chance = random.Random(seed)
    serial = iter(range(10**6))

    def worker() -> Worker:
        return start(folder, tmp_path, f"k{next(serial)}", 100_000)

    workers = [worker() for _ in range(8)]
    everybody = list(workers)
    turns = 1000 if FULL else 25
    for turn in range(turns):
        wait_until(lambda turn=turn: _acknowledged(everybody) > turn)
        time.sleep(chance.random() * 0.03)
        at = chance.randrange(8)
        workers[at].kill()
        assert workers[at].wait() == 9, f"seed {seed}"
        workers[at] = worker()
        everybody.append(workers[at])
    for one in workers:
        one.kill()
        one.wait()
    started = time.monotonic()
    create(opened(folder), "last")
    assert time.monotonic() - started < 3, "something blocked the next write"
    stored = titles(check(folder))
    assert len(stored) == len(set(stored)), f"seed {seed}"
    acknowledged = {title for one in everybody for title in one.acknowledged()}
    assert len(acknowledged) >= turns
    assert acknowledged <= set(stored), f"seed {seed}"


def _acknowledged(workers: list[Worker]) -> int:
    return sum(len(worker.acknowledged()) for worker in workers)


def test_fault_6_eight_processes_beside_pack_refs(folder: Path, tmp_path: Path) -> None:
    """8 processes with 30 appends each, 500 by flag, beside `pack-refs --prune`: all are there."""
    count = 500 if FULL else 30
    workers = [start(folder, tmp_path, f"p{n}", count) for n in range(8)]
    while sum(len(worker.acknowledged()) for worker in workers) < 8 * count:
        assert not list(tmp_path.glob("*.error"))
        words = ["git", "-C", str(folder), "pack-refs", "--all", "--prune"]
        subprocess.run(words, capture_output=True, timeout=60)
    finish(*workers)
    events = check(folder)
    assert titles(events) == sorted(["first", *_names("p", 8, count)])
    assert set(chains(events).values()) == {0}


def test_row_17_worktrees_and_actors_share_one_queue(folder: Path, tmp_path: Path) -> None:
    """Writers in several worktrees, with several actors and names, one log and one view."""
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    trees = [folder]
    for number in range(2):
        trees.append(tmp_path / f"tree{number}")
        subprocess.run([*git, "worktree", "add", "-q", str(trees[-1])], check=True)
    workspace = opened(folder)
    labels = [actors.create(workspace, label=f"actor{n}").label for n in range(2)]
    workers = [
        start(
            trees[n % 3], tmp_path, f"t{n}", 20,
            {"GRIT_ACTOR": labels[n % 2], "GIT_AUTHOR_NAME": f"Author {n}"},
        )
        for n in range(6)
    ]  # fmt: skip
    finish(*workers)
    events = check(folder)
    assert titles(events) == sorted(["first", *_names("t", 6, 20)])
    assert set(chains(events).values()) == {0}
    log = subprocess.run(
        [*git, "log", "--format=%an%n%b", "refs/grit/wal"], capture_output=True, text=True
    ).stdout
    assert {f"Author {n}" for n in range(6)} <= set(log.replace("<", "\n").replace(
        "Co-authored-by: ", "").replace(" \n", "\n").splitlines())  # fmt: skip


def test_readers_beside_writers_do_not_wait(folder: Path, tmp_path: Path) -> None:
    """While eight processes write, a reader is answered at once and sees what is acknowledged."""
    workers = [start(folder, tmp_path, f"p{n}", 40) for n in range(8)]
    reader = opened(folder)
    spent = []
    for _ in range(30):
        acknowledged = {title for worker in workers for title in worker.acknowledged()}
        started = time.monotonic()
        rows = {row.title for row in refresh(reader).all_rows()}
        spent.append(time.monotonic() - started)
        assert acknowledged <= rows
        time.sleep(0.01)
    finish(*workers)
    assert sorted(spent)[15] < 0.25
    assert max(spent) < 3


def test_writers_beside_plain_git_start_over(folder: Path, tmp_path: Path) -> None:
    """Who moves the log with plain git voids what waits: it is decided again, and never lost."""
    git = ["git", "-C", str(folder)]
    workers = [start(folder, tmp_path, f"g{n}", 25) for n in range(4)]
    tree = subprocess.run([*git, "mktree"], input=b"", capture_output=True).stdout.decode().strip()
    moved = 0
    for _ in range(40):
        head = opened(folder).wal.head()
        commit = subprocess.run(
            [*git, "commit-tree", tree, "-p", str(head), "-m", "by hand"], capture_output=True
        ).stdout.decode().strip()  # fmt: skip
        done = subprocess.run([*git, "update-ref", "refs/grit/wal", commit, str(head)],
                              capture_output=True)  # fmt: skip
        moved += done.returncode == 0
    finish(*workers)
    assert titles(check(folder)) == sorted(["first", *_names("g", 4, 25)])
    assert moved
