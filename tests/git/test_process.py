"""Git is started in one place, guarded unless it is told to talk (spec/wal.md, Repositories)."""

import ast
import os
from pathlib import Path

import pytest

from grit.core.errors import GitFailed, IoFailed
from grit.git import process
from grit.git.repository import Repository, discover

PACKAGE = Path(process.__file__).parents[1]
STARTERS = {
    "cli/daemon.py": "execv",  # Python itself
    "cli/editor.py": "Popen",  # the user's editor
    "cli/lock_run.py": "Popen",  # the command that the user gives
    "cli/terminal.py": "Popen",  # the user's pager
    "daemon/sync_process.py": "Popen",  # Python itself
    "git/process.py": "Popen",  # git
    "pager.py": "posix_spawnp",  # the user's pager
    "services/server_place.py": "posix_spawn",  # Python itself
}
"""Each place that starts a program, once."""
_STARTS = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "system", "popen"}
_MODULES = {"subprocess", "os", "pty", "asyncio"}


def _starts(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = node.func.value, node.func.attr
        if not isinstance(owner, ast.Name) or owner.id not in _MODULES:
            continue
        if name in _STARTS or name.startswith(("exec", "spawn", "posix_spawn", "create_sub")):
            found.append(name)
    return found


def test_one_function_starts_git() -> None:
    """Whoever adds another place that starts a program says here what it starts."""
    found = {
        str(path.relative_to(PACKAGE)): " ".join(starts)
        for path in sorted(PACKAGE.rglob("*.py"))
        if (starts := _starts(path))
    }
    assert found == STARTERS


def test_nobody_else_names_the_program() -> None:
    """No command line that begins with git is put together elsewhere."""
    named = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.List | ast.Tuple)
        and node.elts
        and isinstance(node.elts[0], ast.Constant)
        and node.elts[0].value == "git"
    ]
    assert named == ["git/process.py"]


@pytest.fixture
def repository(git_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository, and a program on PATH that stands for git and tells how it was started."""
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text('#!/bin/sh\necho "$@"\nenv\n')
    git.chmod(0o755)
    found = discover(str(git_repository), {})
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "ssh")
    monkeypatch.setenv("MINE", "kept")
    return found


def _told(text: bytes) -> tuple[str, dict[str, str]]:
    words, *rest = text.decode().splitlines()
    return words, dict(line.split("=", 1) for line in rest if "=" in line)


def test_guarded_is_the_rule(repository: Repository) -> None:
    """The caller's environment is kept, whoever gives it; the guard is above it."""
    given = {"PATH": os.environ["PATH"], "GIVEN": "kept", "GIT_ALLOW_PROTOCOL": "ssh"}
    for told, name in (
        (process.run(repository.git_dir, "x").stdout, "MINE"),
        (process.run(None, "x", environ=given).stdout, "GIVEN"),
        (process.start(repository.git_dir, "x", stdin=None).communicate()[0], "MINE"),
    ):
        words, environ = _told(told)
        assert "core.hooksPath=/dev/null" in words and "core.fsmonitor=false" in words
        assert environ.items() >= {**process.GUARD, name: "kept"}.items()


def test_who_talks_uses_the_users_git(repository: Repository) -> None:
    """Nothing is set for it, and no hook of the client is run."""
    given = {"PATH": os.environ["PATH"], "GIT_ALLOW_PROTOCOL": "ssh"}
    started = process.start_talking(repository, ("x",), given)
    words, environ = _told(started.communicate()[0])
    assert "core.hooksPath=/dev/null" in words
    assert environ["GIT_ALLOW_PROTOCOL"] == "ssh"
    assert not (process.GUARD.keys() - {"GIT_ALLOW_PROTOCOL"}) & environ.keys()


def test_grafts_are_not_read(git_repository: Path, tmp_path: Path) -> None:
    """A file beside the objects does not give a commit other parents, and causes no words."""
    from tests.faults.machine import git

    ids = []
    for name in ("one", "two"):
        git(git_repository, "commit", "-q", "--allow-empty", "-m", name)
        ids.append(git(git_repository, "rev-parse", "HEAD"))
    (git_repository / ".git" / "info").mkdir(exist_ok=True)
    (git_repository / ".git" / "info" / "grafts").write_text(f"{ids[1]}\n")
    assert git(git_repository, "rev-list", "--count", "HEAD") == "1"
    done = process.run(str(git_repository / ".git"), "rev-list", "--count", "HEAD")
    assert (done.stdout, done.stderr) == (b"2\n", b"")


def test_a_commit_graph_is_not_read(git_repository: Path) -> None:
    """A cache that came with a repository leaves no commit out."""
    from tests.faults.machine import git

    for name in ("one", "two", "three"):
        git(git_repository, "commit", "-q", "--allow-empty", "-m", name)
    git(git_repository, "commit-graph", "write", "--reachable")
    path = git_repository / ".git" / "objects" / "info" / "commit-graph"
    path.write_bytes(_without_parents(path.read_bytes(), git(git_repository, "rev-parse", "HEAD")))
    assert git(git_repository, "rev-list", "--count", "HEAD") == "1"
    done = process.run(str(git_repository / ".git"), "rev-list", "--count", "HEAD")
    assert done.stdout == b"3\n"


def _without_parents(graph: bytes, oid: str) -> bytes:
    """Return a commit-graph in which a commit has none."""
    table = [graph[8 + 12 * n :][:12] for n in range(graph[6])]
    chunks = {entry[:4]: int.from_bytes(entry[4:], "big") for entry in table}
    row = (graph.index(bytes.fromhex(oid), chunks[b"OIDL"]) - chunks[b"OIDL"]) // 20
    at = chunks[b"CDAT"] + 36 * row + 20
    return b"%b\x70\0\0\0%b" % (graph[:at], graph[at + 4 :])


def test_a_git_that_is_missing_is_named(
    git_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback, and the way out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitFailed, match="install git"):
        process.run(str(git_repository / ".git"), "x")
    with pytest.raises(IoFailed, match="could not be started"):
        process.run(None, "x", directory=str(tmp_path / "nowhere"), environ={})
