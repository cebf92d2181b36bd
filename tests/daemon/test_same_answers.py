"""The answer of the server and the plain answer of a command are the same, byte for byte (row 35).

A line of shell is compared with itself: its commands run by processes of their own, then by the
server of the clone, from a launcher that cannot run them itself. What a command
reads and writes is also held against the transcripts, run again with a server in every clone.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from grit.cli.main import PROGRAM
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.workspace import Ports, open_workspace
from grit.services.write import Transaction, write
from tests.console import ALONE, check_file
from tests.daemon.pairs import (
    TRIES,
    Answer,
    Runtime,
    answer,
    children_of,
    runtime,
    whole,
    without_ids,
)
from tests.daemon.warm import wait_for
from tests.faults.machine import need_root
from tests.test_transcripts import TRANSCRIPTS

README = Path(__file__).resolve().parents[2] / "README.md"
SERVED_SHARE = 0.5
"""Of the commands of a session; the others are meant for the launcher's own process."""
OLD_MS = 40 * 86_400_000


class Pair:
    """A clone with issues and a server, and its commands run in both ways."""

    def __init__(self, folder: Path, made: Runtime) -> None:
        self.folder = folder
        self.environ = made.environ
        self._served_only = made.served_only
        assert answer("grit daemon start", folder, made.environ).status == 0

    def state(self) -> dict[str, int]:
        """Return what `daemon status` says."""
        found = answer("grit daemon status --json", self.folder, self._served_only)
        state: dict[str, int] = json.loads(found.out)["data"]
        return state

    def titles(self) -> list[str]:
        """Return the titles of all issues, read without a server."""
        found = answer("grit ls --all --state all --json=title", self.folder, ALONE)
        return [row["title"] for row in json.loads(found.out)["data"]["issues"]]

    def served(self, line: str, **environ: str) -> Answer:
        """Run a line; a command that the server does not run fails."""
        return answer(line, self.folder, {**self._served_only, **environ})

    def same(self, *lines: str, ids: bool = True, **environ: str) -> None:
        """Fail unless the server answers these lines, as a plain process does."""
        for line in lines:
            alone = answer(line, self.folder, {**self.environ, **environ, **ALONE})
            served = self.served(line, **environ)
            if ids:
                assert served == alone, line
            else:
                assert without_ids(served) == without_ids(alone), line

    def left_alone(self, *lines: str, **environ: str) -> None:
        """Fail unless the answers are the same, and none is the server's."""
        for line in lines:
            alone = answer(line, self.folder, {**self.environ, **environ, **ALONE})
            assert answer(line, self.folder, {**self.environ, **environ}) == alone, line
            assert self.served(line, **environ) != alone, line


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A clone with a server and four issues, so old that no time in words changes meanwhile."""
    folder = tmp_path_factory.mktemp("same")
    with runtime(folder) as made:
        clone = folder / "clone"
        subprocess.run(["git", "init", "-q", str(clone)], check=True, timeout=30)
        assert answer("grit init", clone, ALONE).status == 0
        old_ms = time.time_ns() // 1_000_000 - OLD_MS
        ports = Ports(dict(os.environ), lambda: old_ms, os.urandom, lambda _text: None)
        workspace = open_workspace(str(clone), ports)
        write(workspace, _four_issues, lambda _: "four issues")
        workspace.close()
        yield Pair(clone, made)


def _four_issues(transaction: Transaction) -> None:
    for number in range(4):
        issue_id, title = IssueId(bytes([number]) * 16), f"Issue {number} äöü 漢字"
        issues.create(transaction, issue_id, title, body="# Body\n\ntext", labels=["red"])
    issues.set_state(transaction, "03" * 16, "closed")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Runtime]:
    """A folder for the sockets of a test's own servers."""
    with runtime(tmp_path / "runtime") as one:
        yield one


def _served(folder: Path, made: Runtime) -> int:
    """How many commands a server has run; one that does not answer in a second is asked again."""
    for _ in range(TRIES):
        data = json.loads(answer("grit daemon status --json", folder, made.environ).out)["data"]
        if "commands" in data:
            return int(data["commands"])
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("path", [*TRANSCRIPTS, README], ids=lambda path: path.stem)
def test_row_35_transcripts_with_a_server(path: Path, tmp_path: Path, made: Runtime) -> None:
    """Every session of the transcripts goes the same where a server runs the commands."""
    check_file(path, tmp_path / "shell", made.warming)
    calls = len(made.calls.read_text().split())
    links = [link for link in (tmp_path / "shell").rglob("grit/server-*") if link.is_symlink()]
    served = sum(_served(link.parents[1], made) for link in links)
    assert served >= SERVED_SHARE * calls, f"{served} of {calls} commands were served"


READING = [
    "grit ls", "grit ls --json", "grit ls --jsonl", "grit ls --json=title,state", "grit ls -q",
    "grit ls --all --state all --color=always", "grit ls --label red", "grit ready", "grit blocked",
    "grit search body", "grit log", "grit log --json", "grit issue list", "grit config list",
    "grit actor list", "grit actor current --json", "grit lock status", "grit snapshot list",
    "grit export | sed 's/generated_ts.: [0-9]*//'", "grit export -f csv", "grit show 0000",
    "grit show 01 --json",
    "grit issue dep topo", "grit doctor",
    "grit completion bash", "grit completion zsh", "grit completion fish", "grit man", "grit",
    "grit --version", "grit -h", "git grit ls", "git -C . grit ls", "grit -C . ls",
    "cd / && grit -C \"$OLDPWD\" ls",
    "mkdir -p sub/dir && cd sub/dir && grit ls",
    "GIT_DIR=$PWD/.git && export GIT_DIR && cd / && grit ls",
]  # fmt: skip


def test_row_35_reading(pair: Pair) -> None:
    """Lists, documents, helps and completions."""
    pair.same(*READING)


@pytest.mark.slow
def test_row_35_help_of_every_command(pair: Pair) -> None:
    """`--help` of every command, as wide as it is asked to be."""

    def below(command: click.Command, words: str) -> Iterator[str]:
        yield words
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(found, f"{words} {name}")

    lines = list(below(PROGRAM, "grit"))
    assert len(lines) > 80
    kept = [line for line in lines if not line.startswith("grit daemon")]
    for columns in ("50", "100"):
        halves = "; ".join(f"{line} --help; echo $?" for line in kept)
        pair.same(halves, COLUMNS=columns)
    pair.left_alone("grit daemon --help", "grit daemon start --help")


def test_row_35_errors(pair: Pair) -> None:
    """What is refused, and how: message, stream and status."""
    lines = [
        "grit nonsense", "grit shwo", "grit ls --nonsense", "grit show", "grit show ffffffff",
        "grit show ''", "grit ls --json=nonsense", "grit ls --limit x", "grit new ''", "grit new",
        "grit close ffffffff --json", "grit show ffffffff --json", "grit ls --label $'a\\xff'",
        "grit new $'a\\xff' --json", "grit search $'\\x1b[31m'", "grit comment ffffffff -b x",
        "grit import json /nonexistent", "grit import json .",
        "grit new T --body-file /nonexistent",
        "grit config get nonsense", "grit config set nonsense 1", "grit batch </dev/null",
        "echo nonsense | grit batch", "echo '{' | grit batch --json", "grit export nonsense",
        "grit -C /nonexistent ls", "grit -C '' ls", "cd / && grit ls",
        "GIT_DIR=/nonexistent grit ls",
        "GIT_DIR= grit ls", "grit lock release nothing", "grit issue reopen ffff", "grit -x",
        "grit ''",
    ]  # fmt: skip
    elsewhere = [line for line in lines if any(x in line for x in ("/none", "cd /", "GIT_DIR"))]
    inside = [
        line for line in lines if line not in elsewhere or "import" in line or "-file" in line
    ]
    pair.same(*inside)
    pair.same(*inside[:3], GRIT_DEBUG="1")
    pair.left_alone(*(line for line in elsewhere if line not in inside))
    for line in lines:
        found = answer(line, pair.folder, pair.environ)
        assert found.status in (0, 2, 3, 4, 5), (line, found)
        assert b"Traceback" not in found.err, (line, found)


def test_row_35_streams(pair: Pair, tmp_path: Path) -> None:
    """Standard streams of every kind: pipe, file, full, closed, without a reader."""
    (tmp_path / "in").write_text('{"op":"nonsense"}\n')
    pair.same(
        "echo nonsense | grit batch", f"grit batch <{tmp_path}/in", "grit ls </dev/null",
        "grit ls >/dev/full", "grit ls --json >/dev/full", "grit show ffff 2>/dev/full",
        "grit show ffff --json >/dev/full", "grit --help >/dev/full",
        "grit completion bash >/dev/full",
        "grit ls | head -1; echo ${PIPESTATUS[0]}",
        "grit export json | head -c 10; echo ${PIPESTATUS[0]}",
        "grit man | true; echo ${PIPESTATUS[0]}", f"grit ls >{tmp_path}/out; cat {tmp_path}/out",
        f"echo before >{tmp_path}/both; grit ls >>{tmp_path}/both 2>&1; cat {tmp_path}/both",
        "grit show ffff 2>&1 | cat", "grit ls 0</dev/full",
        "grit ls >/dev/null", "grit ls 3>&- 4>&1",
    )  # fmt: skip
    pair.left_alone(
        "grit ls <&-", "grit ls >&-", "grit ls 2>&-", "grit show ffff 2>&-", "grit ls >&- 2>&-",
        "grit batch <&-", "grit ls <&- >&- 2>&-", "grit show ffff --json >&-",
    )  # fmt: skip


def test_row_35_environments(pair: Pair) -> None:
    """Width, colours, zone, words of the shell's completion, and variables out of the ordinary."""
    pair.same(
        "COLUMNS=30 grit ls", "COLUMNS=30 grit --help", "COLUMNS=x grit ls", "NO_COLOR= grit ls",
        "NO_COLOR= CLICOLOR_FORCE=1 grit ls", "TERM=dumb grit ls", "TZ=Asia/Tokyo grit log",
        "TZ=nonsense grit log", "env -u TZ grit log", "env '=x' grit ls", "env 'a b=c d' grit ls",
        "env $'X=\\xff\\n' grit ls", "X= grit ls", "GIT_PAGER=false grit ls",
        "HOME=/nonexistent grit ls",
        "env -i $(env | grep ^PYTHON) LC_ALL=C.UTF-8 PATH=\"$PATH\" grit ls",
        "env -u LC_ALL LANG=C grit ls",
        "_GRIT_COMPLETE=bash_complete COMP_WORDS='grit sh' COMP_CWORD=1 grit",
        "_GRIT_COMPLETE=bash_complete COMP_WORDS='grit show ' COMP_CWORD=2 grit",
        "_GRIT_COMPLETE=zsh_complete COMP_WORDS='grit show ' COMP_CWORD=2 grit",
        "_GRIT_COMPLETE=bash_source grit", "_GRIT_COMPLETE=nonsense grit",
        "PATH=/nonexistent:$PATH grit ls", "GIT_CONFIG_COUNT=nonsense grit ls",
        "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=Eve grit actor current",
    )  # fmt: skip
    other = [f"LC_ALL={name} grit ls" for name in ("C", "POSIX", "en_US.ISO-8859-1", "nonsense")]
    pair.left_alone(
        *other, "PYTHONIOENCODING=latin-1 grit ls",
        "PYTHONIOENCODING=ascii:strict grit show ffff", "PYTHONUTF8=0 LC_ALL=C grit ls",
        "PYTHONWARNINGS=error grit ls",
        "PYTHONUNBUFFERED=1 grit --help >/dev/full", "LC_ALL=C grit new $'a\\xff'",
        "LC_ALL=C grit search ä",
    )  # fmt: skip


def test_row_35_places(pair: Pair, tmp_path: Path) -> None:
    """Working directories that are links or gone; worktrees, bare clones, submodules."""
    (tmp_path / "link").symlink_to(pair.folder)
    pair.same(
        f"cd {tmp_path}/link && grit ls", f"cd -P {tmp_path}/link && grit ls",
        f"grit -C {tmp_path}/link ls", f"cd {tmp_path} && grit -C link ls",
        f"cd {tmp_path}/link && PWD=/nonsense grit ls",
        "mkdir -p a/b && cd a/b && grit -C ../.. ls",
        "cd .git && grit ls", "mkdir -p -m 0 shut; cd shut && grit ls",
    )  # fmt: skip
    pair.left_alone("mkdir gone && cd gone && rmdir ../gone && grit ls")
    pair.same(
        "git -c user.name=A -c user.email=a@b commit -q --allow-empty -m x; "
        f"git worktree add -q {tmp_path}/tree 2>/dev/null; cd {tmp_path}/tree && grit ls",
        f"git clone -q --bare --mirror . {tmp_path}/bare.git 2>/dev/null; grit ls",
    )


def test_row_35_clones_of_other_kinds(tmp_path: Path, made: Runtime) -> None:
    """A bare repository and a submodule have servers as well."""
    script = (
        "git init -q --bare bare.git && git init -q inner && "
        "git -C inner commit -q --allow-empty -m x && "
        "git init -q outer && git -C outer submodule --quiet add ../inner inner"
    )
    assert answer(script, tmp_path, ALONE).status == 0
    for name in ("bare.git", "outer/inner"):
        folder = tmp_path / name
        assert answer("grit init -q", folder, ALONE).status == 0
        Pair(folder, made).same("grit ls", "git grit ls", "grit show ffff")


def test_row_35_unbuffered(tmp_path: Path, made: Runtime) -> None:
    """PYTHONUNBUFFERED, which lets a write fail where it is made, means the same to a server."""
    assert answer("git init -q .; grit init -q", tmp_path, ALONE).status == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(made.environ, "PYTHONUNBUFFERED", "1")
        pair = Pair(tmp_path, made)
        pair.same("grit ls", "grit --help >/dev/full", "grit ls >/dev/full", "grit show ffff")
        pair.same("grit man | head -1; echo ${PIPESTATUS[0]}", PYTHONUNBUFFERED="1")


def test_row_35_arguments(pair: Pair) -> None:
    """Very many, very long, and of any bytes."""
    pair.same(
        "grit search $(printf 'x%.0s' {1..100000})", "grit show $(printf 'ffff %.0s' {1..20000})",
        "grit ls -- $'\\xff\\xfe'", "grit search $'\\n'", "grit search ''", "grit search ' '",
        "for n in {1..2000}; do export V$n=$n; done; grit ls", "exec -a other grit ls",
    )  # fmt: skip


def test_row_35_what_only_the_caller_has(pair: Pair) -> None:
    """Open descriptors beyond the streams: <(command) of a shell is one."""
    pair.left_alone(
        "grit import json <(echo nonsense)", "grit import json /dev/fd/5 5<<<nonsense",
        "grit import json /proc/self/fd/5 5<<<nonsense", "grit import json /dev/tty",
        "GIT_CONFIG_GLOBAL=<(printf '[user]\\nname=Bo\\n') grit actor current",
    )  # fmt: skip
    pair.same("echo nonsense | grit import json /dev/stdin", "grit ls >/dev/stdout")


def test_row_35_limits_and_priority(pair: Pair) -> None:
    """Resource limits, priority and ignored signals are those of the caller."""
    pair.same(
        "ulimit -n 64; grit ls", "ulimit -t 60; grit log",
        "trap '' HUP INT; grit ls", "nohup grit ls", "nice grit ls", "ulimit -c 0; grit ls",
    )  # fmt: skip
    pair.left_alone("ulimit -n 12; grit ls")
    limits = pair.served("ulimit -f 1; grit export -o big; echo $?")
    assert limits == answer("ulimit -f 1; grit export -o big; echo $?", pair.folder, ALONE)
    assert limits.out != b"0\n"


def test_row_35_another_system(pair: Pair) -> None:
    """A command of a sandbox, or with other groups, is not run outside of it."""
    need_root()
    for before in ("unshare -n", "unshare -m", "unshare -fp", "setpriv --groups 4242"):
        if answer(f"{before} true", pair.folder, {}).status == 0:
            pair.left_alone(f"{before} grit ls", f"{before} grit show ffff")
    pair.same("unshare -u grit ls", "setsid -w grit ls")


def test_row_35_writing(pair: Pair, tmp_path: Path) -> None:
    """What is written, and what is said of it, ids apart; the files have the caller's umask."""
    pair.same(
        "grit new Title -b Body", "grit new Title --json -b ''", "echo Text | grit new Piped -F -",
        "grit new $(printf 'x%.0s' {1..300})",
        "head -c 100000 /dev/zero | tr '\\0' x | grit new Long -F -",
        ids=False,
    )  # fmt: skip
    for umask in ("077", "002"):
        modes = []
        for environ in (ALONE, {}):
            name = tmp_path / f"{umask}{len(environ)}"
            done = answer(
                f"umask {umask}; grit export json -o {name}; stat -c %a {name}",
                pair.folder,
                {**pair.environ, **environ},
            )
            modes.append(done.out)
        assert modes[0] == modes[1], umask


def test_row_35_the_session_is_that_of_the_caller(pair: Pair) -> None:
    """A lease belongs to the shell's session, whoever runs the command; another is another."""
    claim = "grit lock acquire repo:{0} --ttl 5m >/dev/null; echo $?"
    lines = [claim, "GRIT_NO_DAEMON=1 " + claim, claim]
    found = answer(
        "; ".join(lines).format("a") + "; setsid -w " + claim.format("a"),
        pair.folder,
        pair.environ,
    )
    assert found.out.split()[:3] == [b"0", b"0", b"0"], found
    assert found.out.split()[3] != b"0", found


def test_row_36_a_slow_command_is_never_sent_twice(pair: Pair) -> None:
    """A command that takes longer than any time limit of the launcher is run once."""
    line = "(sleep 7; echo Slow) | grit new Slowly -F - >/dev/null"
    began = time.monotonic()
    assert answer(line, pair.folder, pair.environ) == Answer(0, b"", b"")
    assert time.monotonic() - began > 7
    assert pair.titles().count("Slowly") == 1


def test_row_36_a_server_that_wakes_up_runs_nothing_again(pair: Pair) -> None:
    """A stopped server is not waited for; when it goes on, what the launcher has run is done."""
    pids = [pair.state()["pid"]]
    os.kill(pids[0], signal.SIGSTOP)
    try:
        pids += children_of(pids[0])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        done = answer("grit new Awake -b x >/dev/null", pair.folder, pair.environ)
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
    assert done == Answer(0, b"", b"")
    time.sleep(1)
    assert pair.titles().count("Awake") == 1


def test_row_36_a_killed_command_is_not_run_again(pair: Pair) -> None:
    """Who dies halfway has perhaps stored something: it is said, and not tried again."""
    with subprocess.Popen(
        ["grit", "new", "Killed", "-F", "-"],
        cwd=pair.folder, env=whole(pair.environ), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        server = pair.state()["pid"]
        wait_for(lambda: _reading(server, process.pid))
        os.kill(_reading(server, process.pid)[0], signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (137, "")
    assert err == "grit: the process that ran this command was killed\n"
    assert pair.titles().count("Killed") == 0


def test_row_36_a_broken_server_is_not_waited_for(pair: Pair) -> None:
    """A command that is running goes on when its server is killed, and is not run again."""
    with subprocess.Popen(
        ["grit", "new", "Orphan", "-F", "-"],
        cwd=pair.folder, env=whole(pair.environ), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        server = pair.state()["pid"]
        wait_for(lambda: _reading(server, process.pid))
        os.kill(server, signal.SIGKILL)
        _, err = process.communicate("Text", timeout=60)
    assert (process.returncode, err) == (0, "")
    assert pair.titles().count("Orphan") == 1
    assert answer("grit daemon start", pair.folder, pair.environ).status == 0


def _reading(server: int, other: int) -> list[int]:
    """Return the server's children that have the same standard input as another process."""
    return [pid for pid in children_of(server) if _input(pid) == _input(other)]


def _input(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/0")
    except OSError:
        return f"none of {pid}"


def test_nothing_is_left_behind(tmp_path: Path, made: Runtime) -> None:
    """A view in a private folder, for a list where there is no log yet, goes with its command."""
    clone = tmp_path / "clone"
    assert answer(f"git init -q {clone} && mkdir {clone}/.git/grit", tmp_path, ALONE).status == 0
    (tmp_path / "tmp").mkdir()
    pair = Pair(clone, made)
    pair.same("grit ls", TMPDIR=str(tmp_path / "tmp"))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_server_writes_nothing_by_itself(tmp_path: Path, made: Runtime) -> None:
    """Where nobody has written yet, a server makes no actor, and changes no setting."""
    assert answer("git init -q . && mkdir .git/grit", tmp_path, ALONE).status == 0
    before = (tmp_path / ".git/config").read_bytes()
    pair = Pair(tmp_path, made)
    for _ in range(3):
        assert pair.served("grit ls").status == 0
    time.sleep(1)
    found = {path.name for path in (tmp_path / ".git/grit").iterdir()}
    assert {name for name in found if not name.startswith("server-")} <= {"view", "worker"}
    assert (tmp_path / ".git/config").read_bytes() == before
    first = pair.served("grit new First -b x")
    assert b"first write here: made the actor" in first.err
