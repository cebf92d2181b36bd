"""Many writers of one clone: every acknowledged write is stored once, whoever commits it."""

import builtins
import errno
import os
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grit.core.codec import encode_chunk, pack
from grit.core.errors import Busy, GritError, IoFailed, NotFound, WalDamaged
from grit.git.filelock import FileLock
from grit.git.spool import Content, Entry, Spool, place_of
from grit.git.wal import Wal
from grit.services import actors, append, issues, queue
from grit.services import write as write_path
from grit.services.refresh import refresh
from grit.services.write import write
from tests.services.writers import (
    Worker,
    chains,
    check,
    commits,
    create,
    finish,
    fork,
    opened,
    start,
    titles,
    wait_until,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")


@pytest.fixture
def folder(git_repository: Path) -> Path:
    """A repository with a log of one issue."""
    create(opened(git_repository), "first")
    return git_repository


def _queue_up(folder: Path, notes: Path, name: str) -> Worker:
    """Start a writer that finds the log busy, and return when it has queued its write."""
    queue_file = folder / ".git/grit/queue"
    before = queue_file.stat().st_size if queue_file.exists() else 0
    worker = start(folder, notes, name, 1)
    wait_until(lambda: queue_file.exists() and queue_file.stat().st_size > before)
    with Spool(opened(folder).repository).lock():
        return worker  # which has let the short lock go: a test may stop it now


def test_waiting_writers_travel_in_one_commit(folder: Path, tmp_path: Path) -> None:
    """What waits while the log is busy is one commit, whose message names every write."""
    before = commits(folder)
    with opened(folder).wal.lock():
        workers = [_queue_up(folder, tmp_path, f"q{n}") for n in range(4)]
    finish(*workers)
    assert commits(folder) == before + 1
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


def test_the_first_writes_of_a_clone_wait_for_each_other(
    git_repository: Path, tmp_path: Path
) -> None:
    """Who waits looks meanwhile who writes; that there is no view yet stops nobody."""
    workspace = opened(git_repository)
    actors.init(workspace)
    with Spool(workspace.repository).lock():
        workers = [start(git_repository, tmp_path, f"w{n}", 1) for n in range(3)]
        time.sleep(0.3)
    finish(*workers)
    assert titles(check(git_repository)) == ["w0-0", "w1-0", "w2-0"]


def test_a_killed_waiter_leaves_nothing_that_blocks(folder: Path, tmp_path: Path) -> None:
    """A writer killed while it waits: its write comes with the next one, whole, and once."""
    with opened(folder).wal.lock():
        worker = _queue_up(folder, tmp_path, "k")
        worker.kill()
        worker.wait()
    assert titles(list(refresh(opened(folder)).all_events())) == ["first"]
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
@pytest.mark.parametrize("damage", ["garbage", "torn", "flipped", "foreign", "empty", "endless"])
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
        "endless": b"",
    }[damage]
    (folder / ".git/grit" / name).write_bytes(data)
    if damage == "endless":
        os.truncate(folder / ".git/grit" / name, 2**40)
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
        True,
        after,
        place_of(events[-1]),
        pack(
            Content(
                b"".join(event.issue_id for event in events),
                b"create",
                b"A <a@x>",
                encode_chunk(events),
            )
        ),
    )
    with spool.lock():
        spool.append(entry, spool.read()).close()
    create(opened(folder), "next")
    expected = ["first", "from elsewhere", "next"] if stored else ["first", "next"]
    assert titles(check(folder)) == expected


@pytest.mark.parametrize("damage", ["older", "foreign", "of another shape"])
def test_a_sound_entry_with_foreign_content_stops_nobody(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    """Whole by its checksum, but of another version or with a content that is not grit's."""
    with opened(folder).wal.lock():
        worker = _queue_up(folder, tmp_path, "k")
        worker.kill()
        worker.wait()
    path = folder / ".git/grit/queue"
    body = path.read_bytes()[8:]
    head = len(body) - len(Spool(opened(folder).repository).read().waiting[0].packed)
    body = {
        "older": b"\x01" + body[1:],
        "foreign": body[:head] + b"\xff" * 40,
        "of another shape": body[:head] + pack((1, 2, b"", "")),
    }[damage]
    path.write_bytes(len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body)
    create(opened(folder), "next")
    assert titles(check(folder)) == ["first", "next"]


def test_who_gives_up_takes_his_write_back(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the bound a waiting write ends in busy, naming the holder, and is not stored later;
    who waited behind it starts over."""
    lock = opened(folder).wal.lock()
    lock.acquire()
    first = fork(tmp_path / "first.txt", lambda _: _refused(folder, monkeypatch, "one"))
    wait_until((folder / ".git/grit/queue").exists)
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
    wait_until((folder / ".git/grit/queue").exists)
    two = fork(tmp_path / "two.txt", close)
    time.sleep(0.2)
    one.kill()
    one.wait()
    (folder / ".git/grit/queue").unlink()
    lock.release()
    finish(two)
    assert two.acknowledged() == ["1"]
    last = check(folder)[-1].issue_id
    row = refresh(opened(folder)).summary(last)
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
    with FileLock(workspace.repository.private, "wal.lock-file"):
        spool = Spool(workspace.repository)
        with spool.lock():
            assert spool.read().entries == ()
    with pytest.raises(GritError), spool.lock(50), spool.lock(50):
        pass


@pytest.mark.parametrize("error", [IoFailed("no space"), WalDamaged("garbage")])
def test_a_stored_write_is_no_failure_when_the_head_cannot_be_read_after_it(
    folder: Path, error: GritError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the log is reported as stored, with the head that the view knows."""
    workspace = opened(folder)
    create(workspace, "before")
    heard: list[str] = []
    monkeypatch.setattr(workspace, "notice", heard.append)
    finish = Spool.finish

    def lose_the_ref(spool: Spool) -> None:
        finish(spool)

        def fail(_wal: Wal) -> str | None:
            raise error

        monkeypatch.setattr(Wal, "head", fail)

    monkeypatch.setattr(Spool, "finish", lose_the_ref)
    written = create(workspace, "after")
    monkeypatch.undo()
    assert written.head == workspace.wal.head()
    workspace.close()
    assert titles(check(folder)) == ["after", "before", "first"]
    assert heard == [f"stored; the log's head cannot be told ({error.message})"]


def test_a_stored_write_is_no_failure_when_grit_itself_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of grit that is loaded after the append, from a disk that fails, is done without."""
    workspace = opened(folder)
    heard: list[str] = []
    monkeypatch.setattr(workspace, "notice", heard.append)
    load = builtins.__import__

    def fail(name: str, *others: Any) -> Any:
        if name in ("grit.git.upkeep", "grit.view.writer"):
            raise OSError(errno.EIO, "Input/output error")
        return load(name, *others)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", fail)
        create(workspace, "second")
    workspace.close()
    assert titles(check(folder)) == ["first", "second"]
    assert [line.partition(";")[0] for line in heard] == ["stored", "stored"]
