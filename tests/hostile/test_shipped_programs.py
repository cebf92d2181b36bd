"""Nothing that a repository's configuration names is run (spec/threat-model.md).

Every setting of git that names a program is planted, and every command runs below strace: by
itself, on a terminal and by a server. What was started is compared with a short list.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import click
import pytest

from grit.cli.main import PROGRAM
from grit.git.process import GUARD
from tests.hostile.program_settings import (
    PLANTED_APART,
    PROGRAMS,
    Setting,
    names_program,
    planted,
)
from tests.hostile.shipped import (
    EVIL,
    GIT,
    GRIT,
    Traced,
    Trap,
    config_text,
    hooks_folder,
    path_in,
    plant_files,
    run,
    server,
    started,
)

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

ID: Final = "ID"
"""Stands for an issue of the repository."""
OTHER: Final = "OTHER"
"""Another one."""
ACTOR: Final = "ACTOR"
READS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "ls": (("ls",), ("ls", "--json"), ("ls", "--state", "all", "--search", "word")),
    "show": (("show", ID), ("show", ID, "--events")),
    "ready": (("ready",),),
    "blocked": (("blocked",),),
    "search": (("search", "word"),),
    "log": (("log",), ("log", "--all", "--json")),
    "export": (("export",), ("export", "--format", "html"), ("export", "--attachments")),
    "issue list": (("issue", "list"),),
    "issue show": (("issue", "show", ID),),
    "issue history": (("issue", "history", ID),),
    "issue attachment list": (("issue", "attachment", "list", ID),),
    "issue attachment get": (("issue", "attachment", "get", ID, "file.txt", "-o", "/dev/null"),),
    "issue dep list": (("issue", "dep", "list", ID),),
    "issue dep topo": (("issue", "dep", "topo"),),
    "actor list": (("actor", "list"),),
    "actor show": (("actor", "show", ACTOR),),
    "actor current": (("actor", "current"),),
    "config get": (("config", "get", "sync.auto"),),
    "config list": (("config", "list"),),
    "lock status": (("lock", "status"), ("lock", "status", "--local", "--all")),
    "snapshot list": (("snapshot", "list"),),
    "snapshot verify": (("snapshot", "verify"),),
    "doctor": (("doctor",), ("doctor", "--thorough")),
    "db stats": (("db", "stats"),),
    "db check": (("db", "check"),),
    "db verify": (("db", "verify"),),
    "rebuild": (("rebuild",), ("rebuild", "--from-snapshot")),
    "daemon status": (("daemon", "status"),),
    "daemon logs": (("daemon", "logs"),),
    "daemon notify": (("daemon", "notify"),),
    "completion": (("completion", "bash"),),
    "man": (("man",),),
}
WRITES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "new": (("new", "word"),),
    "comment": (("comment", ID, "-b", "word"),),
    "issue create": (("issue", "create", "word"),),
    "issue update": (("issue", "update", ID, "--title", "words"),),
    "issue comment": (("issue", "comment", ID, "-b", "word"),),
    "issue close": (("issue", "close", ID),),
    "issue reopen": (("issue", "reopen", ID),),
    "close": (("close", OTHER),),
    "issue label add": (("issue", "label", "add", ID, "label"),),
    "issue label remove": (("issue", "label", "remove", ID, "label"),),
    "issue assignee add": (("issue", "assignee", "add", ID, "ann"),),
    "issue assignee remove": (("issue", "assignee", "remove", ID, "ann"),),
    "issue link add": (("issue", "link", "add", ID, "https://example.com"),),
    "issue attachment add": (("issue", "attachment", "add", ID, "file.txt"),),
    "issue dep add": (("issue", "dep", "add", ID, "--target", OTHER),),
    "issue dep remove": (("issue", "dep", "remove", ID, "--target", OTHER),),
    "issue comment-edit": (("issue", "comment-edit", ID, "1", "-b", "other"),),
    "issue comment-redact": (("issue", "comment-redact", ID, "1"),),
    "issue delete": (("issue", "delete", OTHER),),
    "issue restore": (("issue", "restore", OTHER),),
    "batch": (("batch", "batch.jsonl"),),
    "import json": (("import", "json", "export.json"),),
    "import log": (("import", "log", "refs/grit/wal"),),
    "import beads": (("import", "beads", "beads.jsonl"),),
    "actor init": (("actor", "init"),),
    "actor use": (("actor", "use", ACTOR),),
    "actor trust": (("actor", "trust", ACTOR),),
    "actor revoke": (("actor", "revoke", ACTOR, "--remove"),),
    "config set": (("config", "set", "daemon.idle_s", "600"),),
    "snapshot create": (("snapshot", "create"),),
    "snapshot gc": (("snapshot", "gc"),),
}
TALKS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "sync": (),
    "init": (),
    "issue claim": (("issue", "claim", ID, "--local"),),
    "issue release": (("issue", "release", ID, "--local"),),
    "lock acquire": (("lock", "acquire", "repo:x", "--local"),),
    "lock renew": (("lock", "renew", "repo:x", "--local"),),
    "lock release": (("lock", "release", "repo:x", "--local"),),
    "lock gc": (("lock", "gc", "--local"),),
    "lock run": (("lock", "run", "repo:y", "--local", "--", "true"),),
}
"""Here what the user's git is told to use may run; what they do with --local is as any write."""
SERVES: Final = frozenset({"daemon start", "daemon stop", "daemon restart"})
"""Every test with a server starts and stops one."""
LAST: Final = (("doctor", "--fix"), ("ls",))
FEW: Final = {name: READS[name] for name in ("ls", "show", "export", "doctor", "lock status")}
STATUS: Final[dict[tuple[str, ...], tuple[int, ...]]] = {}
"""Other statuses than 0 with which a command may end."""


def _leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from _leaves(below, (*path, name))


def test_every_command_is_in_a_table() -> None:
    """Who adds a command says whether it reads, writes here, or talks."""
    tables = [*READS, *WRITES, *TALKS, *SERVES]
    assert sorted(tables) == sorted(_leaves(PROGRAM))


def test_every_setting_of_git_is_known() -> None:
    """A setting of which nobody has said whether it names a program fails here: look, and say."""
    listed = subprocess.run([GIT, "help", "--config"], capture_output=True, text=True, check=True)
    keys = [line for line in listed.stdout.splitlines() if "." in line and " " not in line]
    assert len(keys) > 500
    assert [key for key in keys if names_program(key) is None] == []
    assert not PLANTED_APART & PROGRAMS.keys()


def _exec_path() -> str:
    found = subprocess.run([GIT, "--exec-path"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def _real(*paths: str | None) -> frozenset[str]:
    return frozenset(os.path.realpath(path) for path in paths if path)


PAGER: Final = "tac"
"""The user's own."""
OWN: Final = _real(GRIT, sys.executable, GIT, f"{_exec_path()}/git")
"""What a command starts: itself, and git."""


ASKED_FOR: Final = {("lock",): "true "}
"""Programs that a command line names."""


class Shipped(NamedTuple):
    """A repository of somebody else, and what it has planted."""

    folder: Path
    trap: Trap
    environ: dict[str, str]
    ids: dict[str, str]

    def tries(self, words: tuple[str, ...], *, terminal: bool = False) -> Traced:
        """Run a command; nothing may have been started but what the user chose."""
        arguments = [self.ids.get(word, word) for word in words]
        done = run(self.folder, arguments, self.environ, terminal=terminal)
        what = f"grit {' '.join(words)}: {done.out}"
        more = ASKED_FOR.get(words[:1], "") + (PAGER if terminal else "")
        self.check(done.lines, OWN | _real(*map(shutil.which, more.split())), what)
        assert "Traceback" not in done.out, what
        return done

    def check(self, lines: list[str], allowed: frozenset[str], what: str) -> None:
        """Fail for a mark that a planted script left, and for a program that is not allowed."""
        strange = [line for line in lines if os.path.realpath(path_in(line)) not in allowed]
        assert (self.trap.ran(), strange) == ([], []), what


class Original(NamedTuple):
    """What is shipped: a clone with a bit of everything."""

    folder: Path
    environ: dict[str, str]
    ids: dict[str, str]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    """A clone with packed and loose parts, and a log that was fetched and waits to be joined."""
    top = tmp_path_factory.mktemp("original")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(top),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GRIT_NO_DAEMON": "1",
        "GRIT_SESSION": "test",
        "TERM": "xterm",
        "PAGER": PAGER,
    }
    (top / ".gitconfig").write_text("[user]\nname = Ann\nemail = ann@example.com\n")
    folder = top / "clone"

    def do(*words: str, where: Path = folder) -> str:
        done = subprocess.run(words, cwd=where, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, (words, done)
        return done.stdout

    do(GIT, "init", "-q", "-b", "main", str(folder), where=top)
    (folder / "file.txt").write_text("text\n")
    (folder / "batch.jsonl").write_text('{"op":"create","title":"of a batch"}\n')
    (folder / "beads.jsonl").write_text('{"id":"b-1","title":"of beads","status":"open"}\n')
    do(GIT, "add", ".")
    do(GIT, "commit", "-qm", "code")
    do(GRIT, "init")
    lines = "".join(f'{{"op":"create","title":"word {n}","labels":["bug"]}}\n' for n in range(12))
    (top / "lines").write_text(lines)
    do(GRIT, "batch", str(top / "lines"))
    first, second = (json.loads(line)["issue_id"] for line in do(GRIT, *LISTED).splitlines())
    do(GRIT, "comment", first, "-b", "word")
    do(GRIT, "issue", "attachment", "add", first, "file.txt")
    do(GRIT, "lock", "acquire", "path:src")
    do(GRIT, "snapshot", "create")
    do(GRIT, "export", "--output", str(folder / "export.json"))
    do(GIT, "gc", "-q")
    do(GIT, "clone", "-q", str(folder), "other", where=top)
    do(GRIT, "init", where=top / "other")
    do(GRIT, "new", "from elsewhere", where=top / "other")
    do(GRIT, "new", "loose")
    do(GIT, "remote", "add", "origin", str(top / "other"))
    do(GRIT, "config", "set", "sync.auto", "both")
    do(GIT, "fetch", "-q", "origin", "+refs/grit/*:refs/grit-remotes/origin/*")
    actor = json.loads(do(GRIT, "actor", "current", "--json"))["data"]["actor"]["actor_id"]
    return Original(folder, environ, {ID: first, OTHER: second, ACTOR: actor})


Ship = Callable[..., Shipped]


@pytest.fixture
def ship(original: Original, tmp_path: Path) -> Ship:
    """Return a function that ships the clone with settings planted in it."""

    def make(name: str, settings: list[Setting], *, lacking: bool = False) -> Shipped:
        trap = Trap(tmp_path / name)
        folder = tmp_path / name / "shipped"
        shutil.copytree(original.folder, folder, symlinks=True)
        plant_files(trap, folder)
        place = folder / ".git" / "config"
        if lacking:
            _lose_a_chunk(folder)
            shutil.rmtree(folder / ".git" / "grit" / "kept")  # or it would come back from there
            settings = [*PROMISED, *settings]
        if name == "include":
            (folder / "more").write_text(config_text(trap, settings))
            settings = [("include.path", "../more"), ("includeIf.gitdir:/.path", "../more")]
        if name == "worktree":
            (folder / ".git" / "config.worktree").write_text(config_text(trap, settings))
            settings = [("extensions.worktreeConfig", "true"), PROMISED[0]]
        if "remote.origin.url" in dict(settings):  # the first one counts
            unset = ["config", "--unset-all", "remote.origin.url"]
            subprocess.run([GIT, *unset], cwd=folder, check=True)
        with place.open("a") as file:
            file.write(config_text(trap, settings))
        environ = {**original.environ, "PATH": f"{original.environ['PATH']}:{trap.path}"}
        return Shipped(folder, trap, environ, original.ids)

    return make


LISTED: Final = ("ls", "--jsonl", "--limit", "2")
PROMISED: Final = (
    ("core.repositoryFormatVersion", "1"),
    ("extensions.partialClone", "origin"),
    ("remote.origin.promisor", "true"),
    ("remote.origin.partialclonefilter", "blob:none"),
)
TRANSPORTS: Final[dict[str, list[Setting]]] = {
    "uploadpack": [],
    "ext": [("remote.origin.url", f"ext::{EVIL} %S"), ("remote.origin.pushurl", f"ext::{EVIL}")],
    "instead": [(f"url.ext::{EVIL} %S .insteadOf", "/"), (f"url.ext::{EVIL}.pushInsteadOf", "/")],
    "vcs": [("remote.origin.vcs", "evil")],
    "vcs that is allowed": [("remote.origin.vcs", "/")],
    "ssh": [("remote.origin.url", "ssh://host.invalid/x")],
    "proxy": [("remote.origin.url", "git://host.invalid/x")],
    "http": [("remote.origin.url", "http://127.0.0.1:9/x"), ("http.proxy", "http://127.0.0.1:9")],
}
"""Ways to reach for what a "partial clone" lacks; each but the first takes the place of others."""


def _lose_a_chunk(folder: Path) -> None:
    """Take the newest chunk away, as if a filter had left it out."""
    listed = subprocess.run(
        [GIT, "ls-tree", "-r", "refs/grit/wal"], cwd=folder, capture_output=True, text=True
    )
    oid = next(line.split()[2] for line in listed.stdout.splitlines() if line.endswith(".bin"))
    (folder / ".git" / "objects" / oid[:2] / oid[2:]).unlink()
    shutil.rmtree(folder / ".git" / "grit" / "view", ignore_errors=True)


def _lines(*tables: dict[str, tuple[tuple[str, ...], ...]]) -> list[tuple[str, ...]]:
    return [words for table in tables for lines in table.values() for words in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "terminal"),
    [
        ("plain", False),
        ("plain", True),
        ("hooks-path", False),
        ("include", True),
        ("worktree", False),
    ],
)
def test_no_command_runs_what_is_planted(ship: Ship, name: str, terminal: bool) -> None:
    """All commands do their work, with every program planted that one repository can hold."""
    settings = planted()
    shipped = ship(name, settings)
    if name == "hooks-path":
        with (shipped.folder / ".git" / "config").open("a") as file:
            file.write(f"[core]\n\thooksPath = {hooks_folder(shipped.trap)}\n")
    tables = (READS, WRITES, TALKS) if name == "plain" else (READS,)
    failed = [
        (words, done.out)
        for words in (*_lines(*tables), *LAST)
        if (done := shipped.tries(words, terminal=terminal)).status not in STATUS.get(words, (0,))
    ]
    assert failed == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSPORTS)
def test_nothing_is_fetched_for_a_command(ship: Ship, name: str) -> None:
    """A "partial clone" lacks a chunk of the log: no way of fetching it is tried."""
    shipped = ship("lacking", [*planted(), *TRANSPORTS[name]], lacking=True)
    tables = (READS, WRITES, TALKS) if name == "uploadpack" else (FEW,)
    for words in (*_lines(*tables), *LAST):
        shipped.tries(words)
    assert shipped.tries(("ls",)).status == 5


@pytest.mark.parametrize("name", TRANSPORTS)
def test_an_older_git_fetches_nothing_either(ship: Ship, name: str) -> None:
    """One without GIT_NO_LAZY_FETCH starts a fetch of its own, which starts nothing more."""
    shipped = ship("lacking", [*planted(), *TRANSPORTS[name]], lacking=True)
    guard = {key: value for key, value in GUARD.items() if key != "GIT_NO_LAZY_FETCH"}
    words = ["strace", "-f", "-qq", "-e", "trace=execve", "-s", "4000", "-o", "../trace", GIT]
    off = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    asked = ["rev-list", "--objects", "refs/grit/wal"]
    done = subprocess.run(
        [*words, *off, *asked], cwd=shipped.folder, env={**shipped.environ, **guard},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    lines = started(shipped.folder.parent / "trace")
    assert any('"fetch"' in line for line in lines), "this way of asking tests nothing"
    shipped.check(lines, OWN, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "lacking"])
def test_no_server_and_no_worker_runs_what_is_planted(
    ship: Ship, name: str, tmp_path: Path
) -> None:
    """A server practises, serves every command, and keeps the view up to date meanwhile."""
    shipped = ship(name, planted(), lacking=name == "lacking")
    runtime = tempfile.mkdtemp(prefix="grit-", dir="/tmp")
    shipped.environ.update(XDG_RUNTIME_DIR=runtime, GRIT_NO_DAEMON="")
    trace = tmp_path / "server.trace"
    try:
        with server(shipped.folder, shipped.environ, trace):
            for words in _lines(READS, WRITES, TALKS):
                shipped.tries(words)
            time.sleep(1)
    finally:
        shutil.rmtree(runtime, ignore_errors=True)
    more = " ".join(ASKED_FOR.values())
    shipped.check(started(trace), OWN | _real(*map(shutil.which, more.split())), "the server")
    assert trace.read_text().count("cat-file"), "nothing was served"


@pytest.mark.slow
def test_a_collection_runs_nothing(ship: Ship) -> None:
    """`git gc --auto`, which a write invites, runs no hook of any kind."""
    apart = {"gc.recentObjectsHook", "hook.<name>.command"}
    settings = [one for key, some in PROGRAMS.items() if key not in apart for one in some]
    shipped = ship("collected", [*settings, ("gc.auto", "1"), ("gc.autoDetach", "false")])
    (shipped.folder / ".git" / "hooks" / "pre-auto-gc").unlink()
    store = [GIT, "-C", str(shipped.folder), "hash-object", "-w", "--stdin"]
    for number in range(2000):
        content = f"{number}\n".encode()
        if hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest().startswith("17"):
            subprocess.run(store, input=content, check=True, stdout=subprocess.DEVNULL)
    done = shipped.tries(("new", "word"))
    assert done.status == 0, done.out
    assert any('"repack"' in line for line in done.lines), done.lines


def test_completion_runs_nothing(ship: Ship) -> None:
    """Completing an id looks into the clone as a list does."""
    shipped = ship("plain", planted())
    asked = {"_GRIT_COMPLETE": "bash_complete", "COMP_WORDS": "grit show ", "COMP_CWORD": "2"}
    shipped.environ.update(asked)
    assert shipped.ids[ID][:7] in shipped.tries(()).out
