"""`grit log --follow` as a process: what it prints, when, and how it ends."""

import json
import os
import pty
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tests.faults.machine import GRIT, environment, git, grit, ok

WAIT_S_MAX = 30
REF = "refs/grit/wal"


class Following:
    """A following process, and the lines that it has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))

    def take(self, count: int, seconds: float = WAIT_S_MAX) -> list[str]:
        """Return the next lines, as many as asked for."""
        end = time.monotonic() + seconds
        found: list[str] = []
        while len(found) < count:
            try:
                found.append(self._queue.get(timeout=max(0.01, end - time.monotonic())))
            except queue.Empty:
                break
        self.lines += found
        assert len(found) == count, f"{len(found)} of {count} lines: {found[-3:]}"
        return found

    def rest(self, seconds: float = 0.5) -> list[str]:
        """Return what else it prints within the time."""
        time.sleep(seconds)
        found = []
        while not self._queue.empty():
            found.append(self._queue.get())
        self.lines += found
        return found

    def ended(self, status: int) -> str:
        """Wait for its end with this status, without any noise; return its notices."""
        assert self.process.wait(timeout=WAIT_S_MAX) == status
        self._reader.join(WAIT_S_MAX)
        assert self.process.stderr is not None
        noise = self.process.stderr.read()
        assert "Traceback" not in noise, noise
        return noise


@contextmanager
def following(folder: Path, *words: str, ready: bool = True) -> Iterator[Following]:
    """Follow a log; it is ready when it has taken its place."""
    with subprocess.Popen(
        [*GRIT, "log", "--follow", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            if ready:
                _wait_idle(process.pid)
            yield Following(process)
        finally:
            if process.poll() is None:
                process.kill()


def _wait_idle(pid: int) -> None:
    """Wait until all threads of the process, and there are some, have slept for a while."""
    deadline = time.monotonic() + WAIT_S_MAX
    before, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = _switches(pid)
        if now != before or len(os.listdir(f"/proc/{pid}/task")) < 3:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 0.3:
            return
        time.sleep(0.02)
    raise AssertionError("it never came to rest")


def _switches(pid: int) -> int:
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            for line in (task / "status").read_text().splitlines():
                if "ctxt_switches" in line:
                    total += int(line.split()[1])
        except OSError:
            continue
    return total


def _titles(lines: list[str]) -> list[str]:
    return [json.loads(line)["kind"]["IssueCreated"]["title"] for line in lines]


@pytest.fixture
def tracker(git_repository: Path) -> Path:
    """A repository with an issue."""
    ok(git_repository, "new", "first")
    return git_repository


def test_lines_for_people(tracker: Path) -> None:
    """A line an event: the time written out, the issue, who, what; nothing of before."""
    with following(tracker) as log:
        ok(tracker, "new", "second")
        [line] = log.take(1)
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  [0-9a-f]{7}  ", line)
        assert 'Ann Example       created "second"' in line
        issue = line.split()[2]
        ok(tracker, "close", issue)
        ok(tracker, "comment", issue, "--body", "a\x1b[31mb")
        closed, comment = log.take(2)
        assert "closed it  second" in closed
        assert "\x1b" not in comment
        assert log.rest() == []
        log.process.send_signal(signal.SIGINT)
        assert log.ended(130).strip() == ""


@pytest.mark.parametrize("words", [["--json"], ["--jsonl"]])
def test_lines_for_programs(tracker: Path, words: list[str]) -> None:
    """A document an event, of the shape that `log --json` has, written at once."""
    with following(tracker, *words, "-n", "1") as log:
        first = json.loads(log.take(1)[0])
        assert first["kind"]["IssueCreated"]["title"] == "first"
        ok(tracker, "new", "second")
        [line] = log.take(1)
        assert json.loads(line) == ok(tracker, "log", "--json").data["events"][0]
    with following(tracker, "--json=actor,kind", "--all") as log:
        assert [sorted(json.loads(line)) for line in log.take(2)] == [["actor", "kind"]] * 2


def test_what_cannot_be_asked_for(tracker: Path) -> None:
    """An unknown field or actor, and no repository, are errors at once."""
    assert grit(tracker, "log", "--follow", "--json=nothing").status == 2
    assert grit(tracker, "log", "--follow", "--actor", "nobody").status == 3
    assert grit("/", "log", "--follow").status == 5


def test_eight_writers_x_50(tracker: Path) -> None:
    """Of 8 processes that write 50 issues each, every one of the 400 is printed, and once."""
    with following(tracker, "--json") as log:
        code = (
            "import sys; from pathlib import Path\n"
            "from tests.services.writers import create, opened\n"
            "one = opened(Path(sys.argv[1]))\n"
            "for n in range(50): create(one, f'{sys.argv[2]}-{n}')\n"
        )
        writers = [
            subprocess.Popen([*GRIT[:-2], "-c", code, str(tracker), f"w{n}"], env=environment())
            for n in range(8)
        ]
        assert [writer.wait(120) for writer in writers] == [0] * 8
        found = _titles(log.take(400))
        assert log.rest() == []
    assert sorted(found) == sorted(f"w{n}-{k}" for n in range(8) for k in range(50))
    for n in range(8):
        own = [title for title in found if title.startswith(f"w{n}-")]
        assert own == [f"w{n}-{k}" for k in range(50)], "an actor's own order was lost"


def test_killed_writers(tracker: Path) -> None:
    """Writers killed at any moment: what is in the log was printed, once, and nothing else."""
    with following(tracker, "--json=event_id,kind") as log:
        for number in range(12):
            process = subprocess.Popen(
                [*GRIT, "new", f"n{number}"],
                cwd=tracker,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(0.05 + number * 0.02)
            process.kill()
            process.wait()
        ok(tracker, "new", "last")
        while "last" not in "".join(log.lines):
            log.take(1)
        assert log.rest() == []
    printed = [json.loads(line)["event_id"] for line in log.lines]
    events = ok(tracker, "log", "--all", "--json").data["events"]
    assert sorted(printed) == sorted(one["event_id"] for one in events[:-1])


def test_a_clone_that_is_synced(tracker: Path, tmp_path: Path) -> None:
    """Followers here and in a clone: a sync, a plain fetch and a plain push are seen by both."""
    git(tmp_path, "init", "-q", "--bare", "origin.git")
    git(tracker, "remote", "add", "origin", str(tmp_path / "origin.git"))
    ok(tracker, "sync")
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "clone")
    clone = tmp_path / "clone"
    ok(clone, "init")
    ok(clone, "sync")
    with (
        following(tracker, "--json") as here,
        following(clone, "--json") as there,
        following(tmp_path / "origin.git", "--json") as middle,
    ):
        ok(tracker, "new", "a")
        ok(tracker, "sync")
        ok(clone, "sync")
        ok(clone, "new", "b")
        git(clone, "push", "-q", "origin", f"{REF}:{REF}")
        assert _titles(there.take(2)) == ["a", "b"]
        git(tracker, "fetch", "-q", "origin")
        assert _titles(here.take(2)) == ["a", "b"]
        assert _titles(middle.take(2)) == ["a", "b"]
        ok(tracker, "new", "c")
        ok(clone, "new", "d")
        ok(tracker, "sync")
        ok(clone, "sync")
        ok(tracker, "sync")
        assert sorted(_titles(there.take(2))) == ["c", "d"]
        assert sorted(_titles(here.take(2))) == ["c", "d"]
        assert sorted(_titles(middle.take(2))) == ["c", "d"]
        assert here.rest() == there.rest() == middle.rest(0) == []


def test_an_import_at_once(tracker: Path, tmp_path: Path) -> None:
    """An import of ten thousand events comes whole."""
    lines = (json.dumps({"op": "create", "title": f"t{n:05}"}) for n in range(10_000))
    with following(tracker, "--json") as log:
        ok(tracker, "batch", "-", stdin="\n".join(lines).encode())
        found = _titles(log.take(10_000))
        assert log.rest() == []
    assert sorted(found) == [f"t{n:05}" for n in range(10_000)]


def test_a_reader_that_goes(tracker: Path) -> None:
    """`| head -1` ends it at once and quietly, though nothing happens any more."""
    command = " ".join(f"'{word}'" for word in [*GRIT, "log", "-f", "-n", "1"])
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"],
        cwd=tracker,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S_MAX,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "first" in done.stdout
    assert time.monotonic() - started < 10


def test_a_terminal_that_goes(tracker: Path) -> None:
    """On a terminal it starts no pager, and ends when the terminal is closed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*GRIT, "log", "-f", "--all"],
        cwd=tracker,
        env=environment({"GRIT_PAGER": "false", "TERM": "xterm"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        shown = b""
        while b"first" not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        assert process.wait(WAIT_S_MAX) == 0
    finally:
        process.kill()


def test_repository_removed(tracker: Path) -> None:
    """A repository that goes is an error that says so, and nothing of it is made again."""
    with following(tracker, "--json") as log:
        shutil.rmtree(tracker)
        [line] = log.take(1)
        error = json.loads(line)["error"]
        assert error["code"] == "git_error" and "was removed or replaced" in error["message"]
        assert log.ended(5) == ""
    assert not tracker.exists()


def test_view_removed_and_log_set_back(tracker: Path) -> None:
    """Without its view, and when the log is set back and taken back: each once, with a notice."""
    with following(tracker, "--json") as log:
        ok(tracker, "new", "a")
        ok(tracker, "new", "b")
        shutil.rmtree(tracker / ".git" / "grit" / "view")
        ok(tracker, "new", "c")
        assert _titles(log.take(3)) == ["a", "b", "c"]
        git(tracker, "update-ref", REF, f"{REF}~2")
        time.sleep(0.5)
        ok(tracker, "new", "d")
        ok(tracker, "doctor", "--fix")
        ok(tracker, "new", "e")
        assert _titles(log.take(2)) == ["d", "e"]
        assert log.rest() == []
        log.process.send_signal(signal.SIGINT)
        assert log.ended(130).count("does not hold the head known before") <= 1


def test_idle(tracker: Path) -> None:
    """While nothing happens: no wake-ups, no lock, no read transaction."""
    with following(tracker) as log:
        ok(tracker, "new", "a")
        log.take(1)
        _wait_idle(log.process.pid)
        before = _switches(log.process.pid)
        time.sleep(5)
        assert _switches(log.process.pid) - before <= 5
        locked = Path("/proc/locks").read_text().splitlines()
        flocks = [line for line in locked if "FLOCK" in line]
        assert [line for line in flocks if line.split()[4] == str(log.process.pid)] == []
        assert _open_transactions(tracker, log.process.pid) == []


def _open_transactions(folder: Path, pid: int) -> list[Any]:
    view = folder / ".git" / "grit" / "view"
    with lmdb.open(str(view), readonly=True) as env:
        slots = [line.split() for line in env.readers().splitlines()]
    return [slot for slot in slots if slot[0] == str(pid) and slot[-1] != "-"]


@pytest.mark.parametrize("lacking", ["max_inotify_instances", "max_inotify_watches"])
def test_row_34_inotify_exhausted(tracker: Path, lacking: str) -> None:
    """A system that has no watches to give: it says so, looks every few seconds, and sees all."""
    command = " ".join(f"'{word}'" for word in [*GRIT, "log", "-f", "--json"])
    shell = f"echo 0 > /proc/sys/user/{lacking} && exec {command}"
    if subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    with subprocess.Popen(
        ["unshare", "-Ur", "sh", "-c", shell],
        cwd=tracker,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        notice = process.stderr.readline()
        assert "changes are looked for every few seconds" in notice and "limit reached" in notice
        time.sleep(0.5)
        ok(tracker, "new", "a")
        ok(tracker, "new", "b")
        assert _titles(Following(process).take(2)) == ["a", "b"]
        process.kill()


def test_slow_reader(tracker: Path) -> None:
    """A reader that is slow holds up nobody, and gets everything."""
    with following(tracker, "--json") as log:
        body = "x" * 20_000
        lines = (json.dumps({"op": "create", "title": f"t{n}", "body": body}) for n in range(50))
        log.process.send_signal(signal.SIGSTOP)
        ok(tracker, "batch", "-", stdin="\n".join(lines).encode())
        ok(tracker, "new", "after")
        log.process.send_signal(signal.SIGCONT)
        assert len(set(_titles(log.take(51)))) == 51
