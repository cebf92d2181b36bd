"""Many writers of one clone: every acknowledged write is stored once, whoever commits it."""

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grit.core.codec import encode_chunk
from grit.core.errors import Busy, GritError, IoFailed, NotFound
from grit.git.filelock import FileLock
from grit.git.spool import Entry, Spool, place_of
from grit.services import actors, append, issues, queue
from grit.services import write as write_path
from grit.services.refresh import refresh
from grit.services.write import write
from tests.services.writers import (
    Worker,
    chains,
    check,
    create,
    finish,
    fork,
    opened,
    start,
    titles,
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


def _commits(folder: Path) -> int:
    words = ["git", "-C", str(folder), "rev-list", "--count", "refs/grit/wal"]
    return int(subprocess.run(words, capture_output=True, check=True).stdout)


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
    assert _commits(folder) < 700, "nobody's write travelled with another's"


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
        _wait_until(lambda turn=turn: _acknowledged(everybody) > turn)
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


def _wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


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


def _queue_up(folder: Path, notes: Path, name: str) -> Worker:
    """Start a writer that finds the log busy, and return when it has queued its write."""
    queue_file = folder / ".git/grit/queue"
    before = queue_file.stat().st_size if queue_file.exists() else 0
    worker = start(folder, notes, name, 1)
    _wait_until(lambda: queue_file.exists() and queue_file.stat().st_size > before)
    return worker


def test_waiting_writers_travel_in_one_commit(folder: Path, tmp_path: Path) -> None:
    """What waits while the log is busy is one commit, whose message names every write."""
    before = _commits(folder)
    with opened(folder).wal.lock():
        workers = [_queue_up(folder, tmp_path, f"q{n}") for n in range(4)]
    finish(*workers)
    assert _commits(folder) == before + 1
    message = subprocess.run(
        ["git", "-C", str(folder), "log", "-1", "--format=%B", "refs/grit/wal"],
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert message.startswith("4 writes: create ")
    assert [line.split()[-1] for line in message.splitlines()[2:6]] == [
        "q0-0",
        "q1-0",
        "q2-0",
        "q3-0",
    ]
    events = check(folder)
    assert set(chains(events).values()) == {0}
    assert not list((folder / ".git/grit").glob("queue*[!e]"))


def test_a_killed_waiter_leaves_nothing_that_blocks(folder: Path, tmp_path: Path) -> None:
    """A writer killed while it waits: its write comes with the next one, whole, and once."""
    with opened(folder).wal.lock():
        worker = _queue_up(folder, tmp_path, "k")
        worker.kill()
        worker.wait()
    assert titles([event for event, _ in refresh(opened(folder)).all_events()]) == ["first"]
    create(opened(folder), "next")
    assert titles(check(folder)) == ["first", "k-0", "next"]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (write_path.Spool, "append"),
        (write_path.Spool, "take"),
        (queue, "_acceptable"),
        (append, "show_append"),
        (append, "_invite_gc"),
        (write_path.Spool, "finish"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_row_18_leader_killed_at_any_step(
    folder: Path, tmp_path: Path, place: Any, name: str, after: bool
) -> None:
    """Wherever the one that commits for others is killed, theirs are stored once, and its own
    wholly or not at all; nothing that it left stops anybody."""

    def work(_: Callable[[str], None]) -> None:
        real = getattr(place, name)

        def deadly(*arguments: Any, **more: Any) -> None:
            if after:
                real(*arguments, **more)
            os.kill(os.getpid(), 9)

        setattr(place, name, deadly)
        create(opened(folder), "leader")

    lock = opened(folder).wal.lock()
    lock.acquire()
    waiting = [_queue_up(folder, tmp_path, f"f{n}") for n in range(2)]
    for worker in waiting:
        os.kill(worker.pid, 19)  # they sleep while the lock is free
    lock.release()
    assert fork(tmp_path / "leader.txt", work).wait() == 9
    for worker in waiting:
        os.kill(worker.pid, 18)
    finish(*waiting)
    create(opened(folder), "next")
    events = check(folder)
    stored = titles(events)
    assert [title for title in stored if title != "leader"] == ["f0-0", "f1-0", "first", "next"]
    assert stored.count("leader") <= 1
    assert set(chains(events).values()) == {0}


def test_row_18_leader_that_fails_takes_nobody_along(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an append fails, who asked for it is refused for good; the others try themselves."""

    def failing(*_: Any, **__: Any) -> None:
        raise IoFailed("no space; head unchanged")

    lock = opened(folder).wal.lock()
    lock.acquire()
    waiting = [_queue_up(folder, tmp_path, f"f{n}") for n in range(2)]
    for worker in waiting:
        os.kill(worker.pid, 19)
    lock.release()
    monkeypatch.setattr(queue, "append_events", failing)
    with pytest.raises(IoFailed, match="no space"):
        create(opened(folder), "refused")
    monkeypatch.undo()
    for worker in waiting:
        os.kill(worker.pid, 18)
    finish(*waiting)
    assert titles(check(folder)) == ["f0-0", "f1-0", "first"]


@pytest.mark.parametrize("name", ["queue", "queue-taken"])
@pytest.mark.parametrize("damage", ["garbage", "torn", "flipped", "foreign", "empty"])
def test_a_damaged_queue_stops_nobody(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    """What is torn, garbled or of another version in the queue is left out; the rest goes on."""
    with opened(folder).wal.lock():
        worker = _queue_up(folder, tmp_path, "k")
        worker.kill()
        worker.wait()
    path = folder / ".git/grit/queue"
    whole = path.read_bytes()
    path.unlink()
    data = {
        "garbage": os.urandom(3000),
        "torn": whole + whole[:-5],
        "flipped": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
        "foreign": b"\0\0\0\1\xd2\x02\xef\x8d\0",
        "empty": b"",
    }[damage]
    (folder / ".git/grit" / name).write_bytes(data)
    with opened(folder).wal.lock():
        waiting = [] if name == "queue-taken" else [start(folder, tmp_path, "w", 1)]
        time.sleep(0.2)
    finish(*waiting)
    create(opened(folder), "next")
    expected = ["first", "next", *(["w-0"] if waiting else [])]
    stored = titles(check(folder))
    assert stored == sorted([*expected, *(["k-0"] if damage == "torn" else [])])


@pytest.mark.parametrize(
    ("more", "after", "stored"),
    [(0, b"", True), (1, b"", False), (-1, b"", False), (0, bytes(72), False)],
    ids=["as decided", "behind", "ahead", "after nothing known"],
)
def test_an_entry_of_another_state_is_dropped(
    folder: Path, tmp_path: Path, more: int, after: bytes, stored: bool
) -> None:
    """What was decided on a log that has moved since is not committed, however sound it is."""
    elsewhere = tmp_path / "elsewhere"
    subprocess.run(["git", "init", "-q", str(elsewhere)], check=True)
    events = create(opened(elsewhere), "from elsewhere").events
    spool = Spool(opened(folder).repository)
    entry = Entry(
        len(check(folder)) + more,
        len(events),
        1,
        after,
        place_of(events[-1]),
        b"".join(event.issue_id for event in events),
        b"create",
        b"A <a@x>",
        encode_chunk(events),
    )
    with spool.lock():
        spool.append(entry, spool.read()).close()
    create(opened(folder), "next")
    expected = ["first", "from elsewhere", "next"] if stored else ["first", "next"]
    assert titles(check(folder)) == expected


def test_who_gives_up_takes_his_write_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the bound a waiting write ends in busy, naming the holder, and is not stored later;
    who waited behind it starts over."""
    lock = opened(folder).wal.lock()
    lock.acquire()
    first = fork(tmp_path / "first.txt", lambda _: _refused(folder, monkeypatch, "one"))
    _wait_until((folder / ".git/grit/queue").exists)
    second = start(folder, tmp_path, "two", 1)
    finish(first)
    lock.release()
    finish(second)
    assert titles(check(folder)) == ["first", "two-0"]


def _refused(folder: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    monkeypatch.setattr(queue, "LOCK_WAIT_MS_MAX", 300)
    with pytest.raises(Busy, match=f"pid {os.getppid()}"):
        create(opened(folder), title)


def test_what_is_refused_on_a_waiting_write_is_decided_when_that_is_stored(
    folder: Path, tmp_path: Path
) -> None:
    """ "Already closed" is only said of a close that is stored; the one that waits may fail."""
    issue = check(folder)[-1].issue_id.hex()

    def close(acknowledge: Callable[[str], None]) -> None:
        workspace = opened(folder)
        done = write(
            workspace, lambda t: issues.set_state(t, issue, "closed"), lambda c: c.subject
        )[1]
        acknowledge(str(len(done.events)))

    lock = opened(folder).wal.lock()
    lock.acquire()
    one = fork(tmp_path / "one.txt", close)
    _wait_until((folder / ".git/grit/queue").exists)
    two = fork(tmp_path / "two.txt", close)
    time.sleep(0.2)
    one.kill()
    one.wait()
    (folder / ".git/grit/queue").unlink()
    lock.release()
    finish(two)
    assert two.acknowledged() == ["1"]
    row = refresh(opened(folder)).summary(check(folder)[-1].issue_id)
    assert row is not None
    assert row.state == "closed"


def test_decisions_see_what_waits(folder: Path, tmp_path: Path) -> None:
    """A writer that queues behind others decides on their changes too: order, labels, edges."""
    row = next(iter(refresh(opened(folder)).all_rows()))
    name = row.issue_id.hex()

    def labelled(label: str) -> Callable[[Callable[[str], None]], None]:
        def work(_: Callable[[str], None]) -> None:
            write(
                opened(folder),
                lambda t: issues.label(t, name, add=[label]),
                lambda change: change.subject,
            )

        return work

    lock = opened(folder).wal.lock()
    lock.acquire()
    workers = []
    for label in ("a", "b", "a"):
        size = (folder / ".git/grit/queue").stat().st_size if workers else 0
        workers.append(fork(tmp_path / f"{len(workers)}.txt", labelled(label)))
        deadline = time.monotonic() + (10 if len(workers) < 3 else 0.3)
        while time.monotonic() < deadline:
            path = folder / ".git/grit/queue"
            if path.exists() and path.stat().st_size > size:
                break
            time.sleep(0.005)
    lock.release()
    finish(*workers)
    events = check(folder)
    added = [event for event in events if event.tag == 4]
    assert sorted(str(event.payload[0]) for event in added) == ["a", "b"]
    assert len({event.ts_unix_ms for event in events}) == len(events)
    assert set(chains(events).values()) == {0}


def test_large_writes_and_attachments_go_alone(folder: Path, tmp_path: Path) -> None:
    """Who brings much waits for the log and commits what waits before its own."""
    name = next(iter(refresh(opened(folder)).all_rows())).issue_id.hex()

    def attach(_: Callable[[str], None]) -> None:
        write(
            opened(folder),
            lambda t: issues.attach(t, name, "a.bin", bytes(100_000), "x/y"),
            lambda change: change.subject,
        )

    def talk(_: Callable[[str], None]) -> None:
        text = "word " * 20_000
        write(opened(folder), lambda t: issues.comment(t, name, text), lambda c: c.subject)

    with opened(folder).wal.lock():
        waiting = _queue_up(folder, tmp_path, "w")
        alone = [fork(tmp_path / "a.txt", attach), fork(tmp_path / "t.txt", talk)]
        time.sleep(0.3)
    finish(waiting, *alone)
    events = check(folder)
    assert {event.tag for event in events} >= {3, 10}
    assert titles(events) == ["first", "w-0"]
    assert set(chains(events).values()) == {0}


def test_an_uncontended_write_is_one_commit_under_its_own_line(folder: Path) -> None:
    """Nobody waits: the log reads as ever, and nothing stays in the queue."""
    create(opened(folder), "alone")
    shown = subprocess.run(
        ["git", "-C", str(folder), "log", "-1", "--format=%B|%an", "refs/grit/wal"],
        capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    assert shown.startswith("create ")
    assert shown.endswith("alone\n|Ann Example")
    assert sorted(path.name for path in (folder / ".git/grit").glob("queue*")) == [
        "queue.lock-file"
    ]


def test_a_refused_write_leaves_no_queue(folder: Path) -> None:
    """What is refused before anything is sealed is queued nowhere."""
    with pytest.raises(NotFound):
        write(
            opened(folder),
            lambda t: issues.comment(t, "f" * 32, "x"),
            lambda change: change.subject,
        )
    assert not (folder / ".git/grit/queue").exists()


def test_the_order_of_locks_has_no_circle(folder: Path) -> None:
    """Who holds the short lock never waits for the log's lock: it queues, or lets go first."""
    workspace = opened(folder)
    with FileLock(f"{workspace.repository.grit_dir}/wal.lock-file"):
        spool = Spool(workspace.repository)
        with spool.lock():
            assert spool.read().entries == ()
    with pytest.raises(GritError), spool.lock(50), spool.lock(50):
        pass
