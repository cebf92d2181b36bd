"""A repository, or a folder, of somebody else: the server that a command starts harms nobody."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.daemon.child import GREETING
from tests.daemon.warm import Clone, alive, clone, wait_for

PRECIOUS = "x" * 400_000
"""Longer than a log may get."""


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Clone]:
    """A clone without a server yet; one that is started is ended with the test."""
    with clone(tmp_path / "clone") as made:
        yield made


def test_modules_in_the_working_tree_are_not_imported(warm: Clone, tmp_path: Path) -> None:
    """A command starts the server from wherever it is: what lies there is never run."""
    evil = f"open({str(tmp_path / 'run')!r}, 'w')"
    for name in ("cbor2", "json", "signal", "select", "tomllib"):
        (warm.folder / f"{name}.py").write_text(evil)
    package = warm.folder / "grit" / "daemon"
    package.mkdir(parents=True)
    for path in (package.parent / "__init__.py", package / "__init__.py", package / "__main__.py"):
        path.write_text(evil)
    warm.grit("ls")
    wait_for(warm.pid)
    warm.grit("daemon", "restart")
    assert not (tmp_path / "run").exists()


def test_no_log_and_no_lock_through_a_link(warm: Clone, tmp_path: Path) -> None:
    """Neither is written through a link: it could name any file of this user."""
    there = tmp_path / "precious"
    there.write_text(PRECIOUS)
    os.symlink(there, warm.place.log)
    warm.up()
    assert warm.run("daemon", "logs").returncode == 5
    warm.grit("daemon", "stop")
    os.unlink(warm.place.lock)
    os.symlink(there, warm.place.lock)
    warm.grit("ls")
    assert warm.run("daemon", "start").returncode == 5
    os.unlink(warm.place.lock)
    os.symlink(there, f"{warm.place.folder}/config.lock-file.new")
    os.replace(f"{warm.place.folder}/config.lock-file.new", f"{warm.place.folder}/config.lock-file")
    assert warm.run("config", "set", "sync.auto", "off").returncode == 5
    assert there.read_text() == PRECIOUS


def test_a_pipe_stops_nobody(warm: Clone, tmp_path: Path) -> None:
    """A named pipe in the place of the log, or of a `.git` file, is not waited for."""
    os.mkfifo(warm.place.log)
    warm.up()
    os.mkfifo(tmp_path / ".git")
    outside = Clone(tmp_path, warm.environ["XDG_RUNTIME_DIR"])
    assert outside.run("ls").returncode == 5


def test_a_folder_named_grit_is_no_clone(warm: Clone, tmp_path: Path) -> None:
    """Where there is no git directory nothing is started, and nothing stored."""
    (tmp_path / "grit").mkdir()
    outside = Clone(tmp_path, warm.environ["XDG_RUNTIME_DIR"])
    assert outside.run("ls").returncode == 5
    time.sleep(0.5)
    assert not [*(tmp_path / "grit").iterdir()]


def test_not_started_beside_a_lock_of_somebody_else(warm: Clone) -> None:
    """A lock file that another user put there is no sign that this one ever asked."""
    if os.getuid() != 0:
        pytest.skip("only the superuser can give a file away")
    Path(warm.place.lock).write_text("")
    os.utime(warm.place.lock, (0, 0))
    os.chown(warm.place.lock, 65_534, 65_534)
    warm.grit("ls")
    time.sleep(0.5)
    assert not os.path.lexists(warm.place.log)
    os.unlink(warm.place.lock)


def test_a_lock_of_the_future_speaks_against_nothing(warm: Clone) -> None:
    """A clock that was set back must not keep the server away for as long."""
    Path(warm.place.lock).write_text("")
    os.utime(warm.place.lock, (time.time() + 1e6,) * 2)
    warm.grit("ls")
    wait_for(warm.pid)


def test_a_repository_that_goes_away_is_no_traceback(warm: Clone) -> None:
    """A command that outlives its repository ends as any other does."""
    with warm.start("log", "--follow") as process:
        time.sleep(1)
        subprocess.run(["rm", "-rf", str(warm.folder / ".git")], check=True, timeout=60)
        _, error = process.communicate(timeout=60)
    assert "Traceback" not in error, error


def test_a_copy_gets_a_server_of_its_own(warm: Clone, tmp_path: Path) -> None:
    """The link of a copy names the server of the original, which sends its commands back."""
    pid = warm.up()
    os.utime(warm.place.lock, (0, 0))
    subprocess.run(["cp", "-a", warm.folder, tmp_path / "copy"], check=True, timeout=60)
    copy = Clone(tmp_path / "copy", warm.environ["XDG_RUNTIME_DIR"])
    try:
        assert not json.loads(copy.grit("daemon", "status", "--json"))["data"]["running"]
        copy.grit("ls")
        wait_for(copy.pid)
        wait_for(lambda: os.path.islink(copy.place.link))
        copy.grit("new", "Here")
        assert copy.state()["pid"] == copy.pid() != pid
        assert "Here" not in warm.grit("ls")
        assert warm.state()["pid"] == pid
    finally:
        copy.end()


def test_a_repository_that_was_moved_away_does_not_come_back(warm: Clone) -> None:
    """A process that still has its old path makes no folder there: a move back would go below."""
    from grit.core.errors import IoFailed
    from grit.git.filelock import FileLock
    from grit.view.database import Database

    warm.folder.rename(warm.folder.with_name("moved"))
    with pytest.raises(IoFailed), FileLock(warm.place.private, "wal.lock-file"):
        pass
    with pytest.raises(FileNotFoundError), Database(warm.place.private.below("view")).replacing():
        pass
    assert not warm.folder.exists()


def test_callers_that_hang_up_leave_no_trace(warm: Clone) -> None:
    """Launchers of another version hang up at once: none of them counts as running for ever."""
    pid = warm.up()
    address = os.readlink(warm.place.link)
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(20)
            caller.connect(address)
            assert caller.recv(4096).startswith(GREETING)
    wait_for(lambda: warm.state()["running_now"] in (0, 1))
    assert alive(pid)
