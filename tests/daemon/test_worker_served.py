"""The worker as a child of the server: its state, its settings, its end, what it stores."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, cast

from tests.daemon.hired import REF
from tests.daemon.warm import Clone, alive, wait_for


def _worker(warm: Clone) -> dict[str, Any]:
    return cast(dict[str, Any], warm.state().get("worker", {}))


def _started(warm: Clone) -> int:
    """Start the server and wait for its worker's first run; return the worker's pid."""
    warm.up()
    wait_for(lambda: _worker(warm).get("runs"))
    return int(_worker(warm)["pid"])


def test_status_shows_the_worker(warm: Clone) -> None:
    """`daemon status` has its state; a write of another process is counted in it."""
    _started(warm)
    before = _worker(warm)
    assert (before["mode"], before["health"]) == ("events", [])
    warm.alone("new", "Elsewhere")
    wait_for(lambda: _worker(warm)["mutations"] == before["mutations"] + 1)


def test_a_setting_counts_at_once(warm: Clone) -> None:
    """What `config set` changes through the server is in force with the next look."""
    _started(warm)
    warm.grit("config", "set", "daemon.debounce_ms", "77")
    wait_for(lambda: _worker(warm)["settings"]["daemon.debounce_ms"] == 77)


def test_row_29_the_worker_leaves_with_a_killed_server(warm: Clone) -> None:
    """kill -9 of the server leaves no worker behind; what was to be sent is sent by the next."""
    remote = warm.folder.with_name("remote.git")
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=30)
    subprocess.run(["git", "remote", "add", "origin", str(remote)], cwd=warm.folder, check=True)
    pid = _started(warm)
    warm.grit("new", "Before")
    warm.end()
    wait_for(lambda: not alive(pid))
    warm.alone("config", "set", "sync.auto", "push")
    assert _started(warm) != pid
    wait_for(lambda: _ref(remote) == _ref(warm.folder / ".git"))


def _ref(folder: Path) -> str:
    words = ["git", f"--git-dir={folder}", "rev-parse", "-q", "--verify", REF]
    return subprocess.run(words, capture_output=True, text=True, timeout=30).stdout


def test_a_killed_worker_is_replaced(warm: Clone) -> None:
    """Commands go on meanwhile, and the server starts another one."""
    pid = _started(warm)
    os.kill(pid, signal.SIGKILL)
    warm.grit("new", "Meanwhile")
    wait_for(lambda: _worker(warm).get("pid") not in (None, pid))
    wait_for(lambda: _worker(warm)["runs"])


def test_a_stopped_worker_stops_no_command(warm: Clone) -> None:
    """Commands do not wait for a worker that does not listen."""
    pid = _started(warm)
    os.kill(pid, signal.SIGSTOP)
    for number in range(20):
        warm.grit("new", f"{number}")
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: _worker(warm)["mutations"])


def test_what_the_worker_stores_is_as_readable_as_what_a_command_stores(warm: Clone) -> None:
    """The server's own umask, which hides its socket, does not reach the repository."""
    warm.alone("new", "Here")
    other = warm.folder.with_name("other")
    subprocess.run(["git", "clone", "-q", str(warm.folder), str(other)], check=True, timeout=60)
    words = [f"+{REF}:refs/grit-remotes/away/wal", "--quiet"]
    away = Clone(other, "")
    away.alone("init")
    away.alone("new", "There")
    before = set(_objects(warm))
    old = os.umask(0o022)
    try:
        _started(warm)
    finally:
        os.umask(old)
    warm.alone("new", "Here again")
    git = ["git", "fetch", str(other), *words]
    subprocess.run(git, cwd=warm.folder, check=True, capture_output=True, timeout=60)
    head = _ref(warm.folder / ".git")
    wait_for(lambda: _ref(warm.folder / ".git") != head)
    made = [path for path in _objects(warm) if path not in before]
    assert made
    assert {path.stat().st_mode & 0o777 for path in made} == {0o444}
    view = warm.folder / ".git/grit/view/data.mdb"
    assert view.stat().st_mode & 0o044 == 0o044


def _objects(warm: Clone) -> list[Path]:
    return [path for path in (warm.folder / ".git/objects").rglob("*") if path.is_file()]
