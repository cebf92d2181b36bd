"""Every command that writes, under clocks that are days, decades and centuries wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.every_command import leaves, line

CLOCKS = {
    "-40 days": "-40d", "-8 days": "-8d", "+8 days": "+8d", "+40 days": "+40d",
    "1960": "@1960-01-01 00:00:00", "3000": "@3000-01-01 00:00:00",
}  # fmt: skip
READING = {
    ("actor", "current"), ("actor", "list"), ("actor", "show"), ("blocked",), ("completion",),
    ("config", "get"), ("config", "list"), ("daemon", "logs"), ("daemon", "status"),
    ("db", "check"), ("db", "stats"), ("db", "verify"), ("export",),
    ("issue", "attachment", "get"), ("issue", "attachment", "list"), ("issue", "dep", "list"),
    ("issue", "dep", "topo"), ("issue", "history"), ("issue", "list"), ("issue", "show"),
    ("lock", "status"), ("log",), ("ls",), ("man",), ("ready",), ("search",), ("show",),
    ("snapshot", "list"), ("snapshot", "verify"),
}  # fmt: skip
APART = {("daemon", "start"), ("daemon", "restart"), ("daemon", "stop"), ("daemon", "notify")}
"""These start and end processes."""
FINE = (0, 1, 3, 4)
"""Done, something is wrong with the data, not found, in conflict: whatever the clock says."""


class Done(NamedTuple):
    """How a command ended."""

    words: tuple[str, ...]
    status: int
    said: str


def run(folder: Path, clock: str | None, *words: str) -> Done:
    """Run a command under a clock, or under the right one."""
    command = [sys.executable, "-m", "grit", *words]
    if clock is not None:
        command = ["faketime", "-f", clock, *command]
    environ = {**os.environ, "GRIT_SESSION": "s"}
    done = subprocess.run(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    return Done(words, done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def ok(folder: Path, *words: str) -> str:
    """Run a command under the right clock; it must succeed."""
    done = run(folder, None, *words)
    assert done.status == 0, done
    return done.said


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two clones of one remote, with issues of the first one's, a comment, a lease."""
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime")
    subprocess.run(["git", "init", "-q", "--bare", "origin.git"], cwd=tmp_path, check=True)
    for name in ("a", "b"):
        subprocess.run(["git", "init", "-q", name], cwd=tmp_path, check=True)
        git = ("git", "-C", name)
        subprocess.run([*git, "remote", "add", "origin", "../origin.git"], cwd=tmp_path, check=True)
        (tmp_path / name / "notes.txt").write_text("notes")
    a, b = tmp_path / "a", tmp_path / "b"
    ok(a, "init")
    issue = json.loads(ok(a, "new", "one", "--json"))["data"]["issue_id"]
    ok(a, "comment", issue, "--body", "first")
    ok(a, "sync")
    ok(b, "init")
    ok(b, "sync")
    return a, b


def issue_of(folder: Path) -> str:
    """Return the issue that both clones know."""
    rows = json.loads(ok(folder, "ls", "--state", "all", "--sort", "created", "--json"))
    return str(min(rows["data"]["issues"], key=lambda row: row["created_ts"])["issue_id"])


def test_what_only_reads_is_named() -> None:
    """Every command is swept that is not listed here as one that only reads."""
    known = {words for words, _ in leaves()}
    assert known >= APART | READING
    assert len(known - READING - APART) > 30


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=list(CLOCKS))
def test_every_writing_command_under_a_wrong_clock(pair: tuple[Path, Path], clock: str) -> None:
    """None fails with an internal error; before 1970 nothing is stored and the reason is the
    clock; afterwards the other clone, whose clock is right, changes everything as ever."""
    a, b = pair
    issue = issue_of(a)
    wrong = []
    refused = 0
    for words, command in leaves():
        if words in READING or words in APART:
            continue
        done = run(b, clock, *line(issue, words, command))
        refused += "this machine's clock" in done.said or "before 1970" in done.said
        if "internal" in done.said or "Traceback" in done.said or done.status not in (*FINE, 5, 2):
            wrong.append(done)
    assert wrong == []
    assert (refused > 10) == (clock in (CLOCKS["1960"], CLOCKS["3000"]))
    if clock not in (CLOCKS["1960"], CLOCKS["3000"]):
        assert run(b, clock, "sync").status == 0
    ok(a, "sync")
    ok(a, "issue", "restore", issue)
    for words, state in ((("close", issue), "closed"), (("issue", "reopen", issue), "open")):
        ok(a, *words)
        assert json.loads(ok(a, "show", issue, "--json"))["data"]["issue"]["state"] == state
    ok(a, "issue", "label", "add", issue, "right")
    ok(a, "issue", "update", issue, "--title", "right")
    ok(a, "sync")
    ok(b, "sync")
    shown = [json.loads(ok(one, "show", issue, "--json"))["data"]["issue"] for one in pair]
    assert shown[0] == shown[1]
    assert (shown[0]["title"], "right" in shown[0]["labels"]) == ("right", True)
    checks = json.loads(run(a, None, "doctor", "--json").said.splitlines()[-1])["data"]["checks"]
    assert [one for one in checks if one["status"] == "error"] == []
