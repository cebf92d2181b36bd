"""Processes of the server that wait for callers: how many, when made, and what they keep."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grit import launch
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.workspace import Ports, open_workspace
from grit.services.write import write
from tests.daemon.warm import GRIT, Clone, alive, children_of, wait_for

OLD_MS = 1_700_000_000_000


def test_the_second_waiting_process_goes(warm: Clone) -> None:
    """Two processes wait for callers while there are some; when it is quiet, one."""
    pid = warm.up()
    warm.grit("ls")
    wait_for(lambda: len(children_of(pid)) == 3)
    wait_for(lambda: {len(children_of(pid)) for _ in range(100) if not time.sleep(0.01)} == {2}, 30)
    warm.grit("ls")
    wait_for(lambda: len(children_of(pid)) == 3)


def test_the_next_process_is_made_when_a_command_has_ended(warm: Clone) -> None:
    """As long as one still waits: practice beside a command would take from it."""
    time.sleep(2.5)  # then git's configuration is remembered, and no git is among its children
    pid = warm.up()
    warm.grit("new", "One")
    time.sleep(1)
    ready = set(children_of(pid))
    assert len(ready) == 3
    with subprocess.Popen(
        [GRIT, "batch"], cwd=warm.folder, env=warm.environ, stdin=subprocess.PIPE
    ) as batch:
        time.sleep(1)
        assert set(children_of(pid)) == ready
        batch.communicate(b"", timeout=60)
    wait_for(lambda: len(set(children_of(pid)) - ready) == 1)
    assert warm.served() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems wake all of them")
def test_a_caller_wakes_one_process(warm: Clone) -> None:
    """The others sleep on: none of them takes time from the command."""
    pid = warm.up()
    wait_for(lambda: warm.state()["worker"])
    worker = warm.state()["worker"]
    assert isinstance(worker, dict)
    time.sleep(1.5)  # what a command leaves to do is done
    waiting = [one for one in children_of(pid) if one != worker["pid"]]
    before = [_sleeps(one) for one in waiting]
    warm.grit("ls")
    assert len(waiting) >= 2
    undisturbed = [one for one, count in zip(waiting, before, strict=True) if _sleeps(one) == count]
    assert len(undisturbed) == len(waiting) - 1


def _sleeps(pid: int) -> int | None:
    """How often a process went to sleep so far; None when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_process_that_has_read_waits_again(warm: Clone) -> None:
    """Few processes are made for commands that read, but one runs twenty at most; then it goes."""
    time.sleep(2.5)  # then git's configuration is remembered, and no git is among its children
    pid = warm.up()
    seen: set[int] = set()
    for _ in range(20):
        warm.grit("ls")
        warm.grit("ready", "--json")
        seen.update(children_of(pid))
    assert 4 <= len(seen) <= 15, seen  # the worker, two at first, and who follows them
    wait_for(lambda: len(children_of(pid)) == 2, 30)
    assert warm.served() == 40


def test_callers_of_one_process_see_nothing_of_each_other(warm: Clone, tmp_path: Path) -> None:
    """Directory, environment, output and errors are each caller's own, whoever came before."""
    # An old issue: the age of a new one is in seconds, which pass meanwhile.
    ports = Ports(warm.environ, lambda: OLD_MS, os.urandom)
    workspace = open_workspace(str(warm.folder), ports)
    new = IssueId(bytes(16))
    write(workspace, lambda transaction: issues.create(transaction, new, "Inside"), str)
    workspace.close()
    other = tmp_path / "below"
    (warm.folder / "below").mkdir()
    callers: list[tuple[list[str], dict[str, str]]] = [
        (["ls"], {}),
        (["ls", "--color", "always"], {"COLUMNS": "40"}),
        (["ls", "--json"], {"TZ": "Asia/Tokyo"}),
        (["show", "0000"], {"GRIT_DEBUG": "1"}),
        (["-C", "below", "ls"], {}),
        (["ls", "-C", str(other)], {}),
        (["ready"], {"NO_COLOR": "1"}),
        (["ls", "no:such:filter:("], {}),
    ]
    expected = [warm.run(*args, **environ, GRIT_NO_DAEMON="1") for args, environ in callers]
    warm.up()
    for turn in range(3):
        for at in range(len(callers)):
            args, environ = callers[at if turn % 2 else -at]
            told = expected[at if turn % 2 else -at]
            done = warm.run(*args, **environ)
            assert (done.returncode, done.stdout, done.stderr) == (
                told.returncode, told.stdout, told.stderr
            ), args  # fmt: skip


def test_a_temporary_view_is_where_the_caller_wants_it(warm: Clone, tmp_path: Path) -> None:
    """Also when the process has made one for somebody else, whose folder is gone by now."""
    warm.alone("new", "One")
    shutil.rmtree(warm.folder / ".git/grit/view")
    (warm.folder / ".git/grit/view").symlink_to("/proc")
    warm.up()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        assert "One" in warm.grit("ls", TMPDIR=str(tmp_path / name))
        (tmp_path / name).rmdir()


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "goes"])
def test_a_caller_that_stays_keeps_its_process(warm: Clone, stays: bool) -> None:
    """Its signals are meant for its own command: the process takes nobody else before it ended."""
    warm.up()
    with socket.socket(socket.AF_UNIX) as connection, open(os.devnull, "r+b") as nowhere:
        connection.connect(os.readlink(warm.place.link))
        pid = int(connection.recv(4096).rpartition(b" ")[2])
        message = launch.request(["ls"], [])
        name, _, rest = message[8:].partition(b"\0")
        words = rest.split(b"\0")
        words[1] = os.fsencode(warm.folder.resolve())
        body = b"\0".join([name, *words])
        here = os.open(warm.folder, os.O_RDONLY)
        fds = [nowhere.fileno()] * 3 + [here]
        socket.send_fds(connection, [len(body).to_bytes(8, "big") + body], fds)
        os.close(here)
        assert connection.recv(10) == b"0"
        if stays:
            wait_for(lambda: not alive(pid), 1.5)
    if not stays:
        time.sleep(1)
        assert alive(pid)
        wait_for(lambda: not alive(pid))
