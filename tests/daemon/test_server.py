"""The server of a clone: one, started unasked, gone when it should be, and never in the way."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from grit import launch
from grit.services import server_place
from grit.services.workspace import Ports, open_workspace
from grit.view.reader import ViewReader
from tests.daemon.warm import GRIT, Clone, alive, children_of, clone, kill, wait_for

KILLS = 200 if os.environ.get("GRIT_FAULTS") == "all" else 30
CLIENTS = 8


def titles(warm: Clone) -> list[str]:
    """The titles of all issues, as the log has them."""
    found = json.loads(warm.alone("ls", "--all", "--json=title"))["data"]["issues"]
    return sorted(issue["title"] for issue in found)


def test_the_launcher_imports_nothing(warm: Clone) -> None:
    """A served command costs the launcher two modules of its own and the socket's."""
    warm.up()
    probe = (
        "import sys, os, atexit; before = set(sys.modules)\n"
        "os._exit = lambda status: (print(sorted(set(sys.modules) - before)), sys.exit(status))\n"
        "sys.argv = ['grit', 'ls', '-q']\n"
        "from grit.launch import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=warm.folder, env=warm.environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "['_socket', 'grit', 'grit.launch']", done
    assert launch.SERVER_LINK == server_place.SERVER_LINK


def test_a_warm_process_has_imported_all(git_repository: Path) -> None:
    """The commands that are used most import nothing any more when they are served."""
    commands = [["new", "One"], ["ls"], ["ls", "--json"], ["ready"], ["log"], ["search", "one"]]
    probe = (
        "import os, sys\n"
        "from grit.cli.main import run\n"
        "from grit.daemon.code import warm_up\n"
        "warm_up(); run(['init']); before = set(sys.modules)\n"
        f"for command in {commands}: run(command)\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=git_repository,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]", done


@pytest.mark.parametrize("used", [True, False], ids=["used", "fresh"])
def test_practice_leaves_no_trace(warm: Clone, used: bool) -> None:
    """What a waiting process runs for nobody stores nothing and changes nothing.

    In a clone that was never set up it makes no actor either.
    """
    if used:
        warm.alone("new", "One")
    else:
        shutil.rmtree(warm.place.folder)
        os.makedirs(f"{warm.place.folder}/actors")
    subprocess.run(["git", "-C", str(warm.folder), "pack-refs", "--all"], check=True)
    warm.alone("ls")  # the view knows the packed refs: the worker has nothing to do either

    def everything() -> dict[str, bytes]:
        found = (path for path in warm.folder.rglob("*") if path.is_file())
        own = ("server-", "lock.mdb")  # the second: who reads the view just now
        return {str(path): path.read_bytes() for path in found if not path.name.startswith(own)}

    before = everything()
    sockets = os.path.join(warm.environ["XDG_RUNTIME_DIR"], "grit")
    time.sleep(2.5)  # git's configuration must be that old to be remembered, for the write
    warm.up()
    time.sleep(1)
    wait_for(lambda: os.listdir(sockets) == [os.path.basename(os.readlink(warm.place.link))])
    assert everything() == before
    assert titles(warm) == (["One"] if used else [])


def test_a_served_command_does_the_same(warm: Clone) -> None:
    """What is written by the server is in the log, and its answer is that of the plain command."""
    warm.up()
    made = json.loads(warm.grit("new", "Served", "--json"))["data"]
    assert warm.served() == 1
    assert titles(warm) == ["Served"]
    assert warm.grit("show", made["issue_id"]) == warm.alone("show", made["issue_id"])
    wrong, alone = warm.run("show", "ffff"), warm.run("show", "ffff", GRIT_NO_DAEMON="1")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (3, "", alone.stderr)
    assert "ffff" in wrong.stderr


def test_the_first_command_starts_it(warm: Clone) -> None:
    """A command that finds no server starts one behind itself, and does not wait for it."""
    warm.alone("new", "One")
    assert warm.grit("ls", "--json=title").count("One") == 1
    wait_for(lambda: os.path.islink(warm.place.link))
    assert warm.served() == 0


@pytest.mark.parametrize("reason", ["GRIT_NO_DAEMON", "CI", "autostart", "recent"])
def test_it_is_not_started_where_nobody_wants_it(warm: Clone, reason: str) -> None:
    """GRIT_NO_DAEMON, CI, daemon.autostart=false, or a start some seconds ago: no server."""
    environ = {}
    if reason == "autostart":
        warm.alone("config", "set", "daemon.autostart", "false")
    elif reason == "recent":
        warm.up()
        warm.grit("daemon", "stop")
    else:
        environ[reason] = "true"
    warm.grit("ls", **environ)
    time.sleep(0.5)
    assert warm.pid() is None


def test_reading_creates_nothing(tmp_path: Path) -> None:
    """In a repository that has never seen grit, a list leaves neither folder nor server."""
    with clone(tmp_path / "other") as other:
        bare = tmp_path / "new"
        subprocess.run(["git", "init", "-q", str(bare)], check=True, timeout=30)
        done = subprocess.run(
            [GRIT, "ls"], cwd=bare, env=other.environ, capture_output=True, timeout=60
        )
        assert done.returncode == 0
        time.sleep(0.3)
        assert not (bare / ".git" / "grit").exists()


def test_openssl_is_not_loaded(warm: Clone) -> None:
    """It would take three megabytes; Python's own hashes do."""
    pid = warm.up()
    warm.grit("new", "Hashed")
    for one in (pid, *children_of(pid)):
        with suppress(FileNotFoundError):  # one that has run a command ends
            assert "libcrypto" not in Path(f"/proc/{one}/maps").read_text()


def test_row_29_it_dies_between_two_commands(warm: Clone) -> None:
    """kill -9 between two commands: the next works at once, and nothing was only in its memory."""
    warm.alone("ls")
    for turn in range(3):
        os.kill(warm.up(), signal.SIGKILL)
        started = time.monotonic()
        warm.grit("new", f"After {turn}")
        assert time.monotonic() - started < 5
    assert titles(warm) == ["After 0", "After 1", "After 2"]


def test_row_29_killed_again_and_again_under_load(warm: Clone) -> None:
    """Eight clients write while it is killed: no command fails, each issue is there once."""
    stop = threading.Event()
    wrote: list[str] = []
    failed: list[object] = []

    def client(number: int) -> None:
        count = 0
        while not stop.is_set():
            title = f"{number}-{count}"
            done = warm.run("new", title)
            if done.returncode:
                failed.append(done)
            wrote.append(title)
            count += 1

    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    dice = random.Random(29)
    for _ in range(KILLS):
        pid = warm.up()
        time.sleep(dice.uniform(0, 0.15))
        kill(pid)
    stop.set()
    for one in clients:
        one.join()
    assert failed == []
    assert titles(warm) == sorted(wrote)
    assert len(wrote) > KILLS / 2


def test_row_30_two_starts_make_one(warm: Clone) -> None:
    """Six commands race to start it: one server."""
    for _ in range(3):
        racers = [warm.start("daemon", "start", "--json") for _ in range(6)]
        answers = [json.loads(one.communicate(timeout=60)[0])["data"] for one in racers]
        assert len({answer["pid"] for answer in answers}) == 1
        pid = int(answers[0]["pid"])

        wait_for(lambda pid=pid: _servers(warm.place.folder) <= {pid, *children_of(pid)})
        assert alive(pid)
        warm.grit("daemon", "stop")


def test_row_30_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    """A clone below a path of 200 characters has a server like any other."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with clone(deep / "clone") as warm:
        warm.up()
        warm.grit("new", "Deep")
        assert warm.served() == 1


def test_row_31_stale_files_cost_no_time(warm: Clone) -> None:
    """A lock with the pid of another, a socket nobody listens to: no delay, no confusion."""
    warm.alone("new", "One")
    address = Path(warm.environ["XDG_RUNTIME_DIR"]) / "stale.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(address))
    Path(warm.place.lock).write_text(f"{os.getpid()}\n")  # a pid that is used by another
    os.symlink(address, warm.place.link)
    alone, stale_took = _took(warm, GRIT_NO_DAEMON="1"), _took(warm)
    assert stale_took < alone * 3 + 0.2
    assert warm.run("daemon", "stop").stdout == "no server ran\n"
    assert warm.up()
    assert warm.grit("ls", "--json=title").count("One") == 1


def _took(warm: Clone, **environ: str) -> float:
    started = time.monotonic()
    warm.grit("ls", **environ)
    return time.monotonic() - started


def test_row_31_the_repository_is_deleted(warm: Clone) -> None:
    """The server and all its processes leave when their clone is gone."""
    pid = warm.up()
    family = [pid, *children_of(pid)]
    shutil.rmtree(warm.folder)
    wait_for(lambda: not any(alive(one) for one in family), 30)


def test_row_31_idle_it_leaves(warm: Clone) -> None:
    """After daemon.idle_s without a command the server leaves, and leaves no socket behind."""
    warm.alone("config", "set", "daemon.idle_s", "1")
    pid = warm.up()
    warm.grit("ls")
    wait_for(lambda: not alive(pid))
    assert not os.path.lexists(warm.place.link)
    assert os.listdir(warm.environ["XDG_RUNTIME_DIR"] + "/grit") == []


def test_a_stopped_server_is_not_waited_for_long(warm: Clone) -> None:
    """SIGSTOP of the server and all its processes: commands run on their own after a short time.

    When it goes on, nothing is run a second time.
    """
    pid = warm.up()
    family = [pid, *children_of(pid)]
    for one in family:
        os.kill(one, signal.SIGSTOP)
    try:
        started = time.monotonic()
        warm.grit("new", "Once")
        assert time.monotonic() - started < launch.GREETING_S + 5
    finally:
        for one in family:
            os.kill(one, signal.SIGCONT)
    warm.grit("ls")
    time.sleep(0.3)
    assert titles(warm) == ["Once"]


def _servers(folder: str) -> set[int]:
    """The processes that run a server of the folder, or were forked from one."""
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            pid = int(path.parent.name)
            if b"grit.daemon" in words and folder.encode() in words and alive(pid):
                found.add(pid)
    return found


def test_the_view_follows_the_answer(warm: Clone) -> None:
    """A served write answers when it is in the log; its own process brings it into the view."""
    warm.up()
    wait_for(lambda: warm.state()["worker"])
    worker = warm.state()["worker"]
    assert isinstance(worker, dict)
    os.kill(worker["pid"], signal.SIGSTOP)  # which would do it, too
    workspace = open_workspace(str(warm.folder), Ports(warm.environ, lambda: 0, os.urandom))
    for number in range(140):  # more than LMDB has places for readers
        warm.grit("new", str(number))
    head = workspace.wal.head()
    wait_for(lambda: ViewReader(workspace.database).head() == head, 5)
    workspace.close()
    os.kill(worker["pid"], signal.SIGCONT)
    assert titles(warm) == sorted(map(str, range(140)))


def test_more_commands_than_it_takes(warm: Clone) -> None:
    """Forty commands at once, of which sixteen are served at a time: all are done, once."""
    warm.up()
    running = [warm.start("new", f"{number:02}") for number in range(40)]
    for one in running:
        one.communicate(timeout=120)
        assert one.returncode == 0
    assert titles(warm) == [f"{number:02}" for number in range(40)]


def test_another_version_is_not_asked(warm: Clone, tmp_path: Path) -> None:
    """A server that greets with other words gets no command."""
    warm.alone("new", "One")
    address = str(Path(warm.environ["XDG_RUNTIME_DIR"]) / "other.sock")
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(address)
        other.listen()

        def greet() -> None:
            connection = other.accept()[0]
            connection.sendall(b"grit 1 99.0 /usr /lib 1")
            connection.settimeout(5)
            heard.append(connection.recv(100))

        thread = threading.Thread(target=greet)
        thread.start()
        os.symlink(address, warm.place.link)
        assert "One" in warm.grit("ls")
        thread.join()
    assert heard == [b""]


def test_a_newer_program_on_disk_ends_it(tmp_path: Path) -> None:
    """When the installed code changes, the very next command is run by the new code."""
    package = tmp_path / "site" / "grit"
    shutil.copytree(Path(launch.PACKAGE), package)
    with clone(tmp_path / "clone") as warm:
        warm.environ["PYTHONPATH"] = str(package.parent)
        warm.alone("new", "One")
        pid = warm.up()
        assert "One" in warm.grit("ls") and warm.served() == 1
        init = package / "__init__.py"
        init.with_suffix(".new").write_text(init.read_text().replace("0.1.0", "0.1.1"))
        os.replace(init.with_suffix(".new"), init)
        assert warm.grit("--version") == "grit 0.1.1\n"
        wait_for(lambda: not alive(pid))


def test_python_may_keep_its_bytecode_beside_the_program(tmp_path: Path) -> None:
    """Folders of bytecode that come later, of another caller perhaps, are no newer program."""
    package = tmp_path / "site" / "grit"
    shutil.copytree(Path(launch.PACKAGE), package, ignore=shutil.ignore_patterns("__pycache__"))
    with clone(tmp_path / "clone") as warm:
        warm.environ |= {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        pid = warm.up()
        for room in (package, package / "cli"):
            (room / "__pycache__").mkdir()
            warm.grit("ls")
        time.sleep(1.5)  # then it looks at all files
        warm.grit("ls")
        assert warm.served() == 3
        assert warm.pid() == pid


def test_it_keeps_nothing_of_who_started_it(warm: Clone) -> None:
    """No open file of the caller stays open in the server, nor its session or directory."""
    held = os.open(str(warm.folder / "held"), os.O_CREAT | os.O_RDWR)
    os.set_inheritable(held, True)
    subprocess.run(
        [GRIT, "daemon", "start"], cwd=warm.folder, env=warm.environ, close_fds=False,
        check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(held)
    pid = warm.pid()
    assert pid and os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not [path for path in files if path.endswith("/held")]
    found = os.stat(os.readlink(warm.place.link))
    assert found.st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(os.readlink(warm.place.link))).st_mode & 0o777 == 0o700


def test_the_socket_folder_must_be_ours(warm: Clone) -> None:
    """A folder for sockets that others may write to is not used."""
    folder = Path(warm.environ["XDG_RUNTIME_DIR"]) / "grit"
    folder.mkdir()
    folder.chmod(0o777)
    warm.grit("daemon", "start")
    assert os.path.dirname(os.readlink(warm.place.link)) == f"/tmp/grit-{os.getuid()}"
    assert list(folder.iterdir()) == []


def test_stop_lets_commands_end(warm: Clone) -> None:
    """A command that runs when the server is stopped goes on to its end."""
    warm.up()
    with warm.start("batch", "-") as nothing:
        nothing.communicate(timeout=60)
    reading = subprocess.Popen(
        [GRIT, "batch", "-"], cwd=warm.folder, env=warm.environ,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: warm.state()["running_now"] == 2)
    started = time.monotonic()
    warm.grit("daemon", "stop")
    assert time.monotonic() - started < 3
    out, _ = reading.communicate('{"op": "create", "title": "Late"}\n', timeout=60)
    assert reading.returncode == 0, out
    assert titles(warm) == ["Late"]


def test_status_and_logs(warm: Clone) -> None:
    """Status tells a server that runs from none; the log says when it came and went, and why."""
    assert json.loads(warm.grit("daemon", "status", "--json"))["data"]["running"] is False
    pid = warm.up()
    warm.grit("ls")
    state = warm.state()
    while state["commands"] == 0:  # its process ends after the answer; each look is one more
        state = warm.state()
    assert state["running"] is True and state["pid"] == pid
    assert isinstance(state["memory_bytes"], int) and isinstance(state["p50_us"], int)
    lines = warm.grit("daemon", "status", "--verbose").splitlines()
    assert lines[0].startswith(f"running (pid {pid}, grit ")
    again = warm.grit("daemon", "restart")
    assert again == f"started (pid {warm.pid()})\n" and str(pid) not in again
    said = warm.grit("daemon", "logs")
    assert "started, grit" in said and "leaving: SIGTERM" in said


def test_the_log_is_bounded(warm: Clone) -> None:
    """A log that has grown too long keeps its newer half."""
    from grit.core.limits import SERVER_LOG_BYTES_MAX
    from grit.daemon.server import _bound_log

    path = Path(warm.place.log)
    path.write_bytes(b"old\n" * SERVER_LOG_BYTES_MAX + b"new\n")
    _bound_log(warm.place)
    assert path.stat().st_size == SERVER_LOG_BYTES_MAX // 2
    assert path.read_bytes().endswith(b"old\nnew\n")


def test_foreground_stays_and_logs_to_stderr(warm: Clone) -> None:
    """--foreground: the command is the server; Ctrl-C ends it; a second one says who runs."""
    with warm.start("daemon", "start", "--foreground") as process:
        wait_for(lambda: os.path.islink(warm.place.link))
        assert warm.pid() == process.pid
        second = warm.run("daemon", "start", "--foreground")
        assert second.returncode == 1
        assert f"pid {process.pid}" in warm.grit("daemon", "logs") + second.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_notify_never_fails(warm: Clone) -> None:
    """`daemon notify` prints nothing and exits 0, with a server, without, outside of a clone."""
    for _ in range(2):
        done = warm.run("daemon", "notify")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        warm.up()
    warm.grit("daemon", "notify")
    assert warm.state()["notified"] == 2
    done = subprocess.run(
        [GRIT, "daemon", "notify"], cwd="/", env=warm.environ, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_hook_of_git_may_call_notify(warm: Clone) -> None:
    """As a reference-transaction hook it wakes the server, and git never notices."""
    hook = warm.folder / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\nexec {GRIT} daemon notify\n")
    hook.chmod(0o755)
    warm.up()
    subprocess.run(
        ["git", "commit", "-q", "--allow-empty", "-m", "x"],
        cwd=warm.folder, env=warm.environ, check=True, timeout=60,
    )  # fmt: skip
    notified = warm.state()["notified"]
    assert isinstance(notified, int) and notified > 0
