"""Partial clones: a read that lacks objects refuses, and starts nothing but git."""

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.machine import git, grit, ok
from tests.hostile.shipped import run

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

FILTERS = ("blob:none", "tree:0")


@pytest.fixture(params=FILTERS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A repository with issues, and a partial clone to which `git fetch` brought its log."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    git(tmp_path, "init", "-q", "-b", "main", str(whole))
    (whole / "file").write_text("text")
    git(whole, "add", "file")
    git(whole, "commit", "-q", "-m", "code")
    ok(whole, "init")
    ok(whole, "new", "first")
    issue = str(ok(whole, "new", "second", "--json").data["issue_id"])
    (tmp_path / "picture").write_text("pixels")
    ok(whole, "issue", "attachment", "add", issue, str(tmp_path / "picture"))
    ok(whole, "lock", "acquire", "repo:x")
    for key in ("allowFilter", "allowAnySHA1InWant"):
        git(whole, "config", f"uploadpack.{key}", "true")
    words = ("clone", "-q", f"--filter={request.param}", "--no-checkout")
    git(tmp_path, *words, f"file://{whole}", str(part))
    git(part, "fetch", "-q", "origin", "+refs/grit/*:refs/grit-remotes/origin/*")
    return whole, part


def _run(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command that may start nothing but git, and that may fetch nothing."""
    before = git(folder, "count-objects", "-v")
    done = run(folder, words, dict(os.environ))
    names = {os.path.basename(os.path.realpath(one)) for one in done.programs}
    assert {name for name in names if not name.startswith("python")} <= {"grit", "git"}, names
    talks = [one for one in done.lines if "upload-pack" in one or '"fetch"' in one]
    assert talks == [], words
    assert git(folder, "count-objects", "-v") == before or words[0] in ("init", "new")
    return done.status, done.out


@pytest.mark.parametrize("words", [("ls",), ("export",), ("log",), ("new", "third")], ids=" ".join)
def test_without_a_log_of_its_own_a_partial_clone_refuses(
    pair: tuple[Path, Path], words: tuple[str, ...]
) -> None:
    """An empty list would be a wrong answer; the message names what fetches the rest."""
    _, part = pair
    status, said = _run(part, *words)
    assert status == 5, said
    assert "this partial clone lacks" in said
    assert "'grit sync'" in said


def test_sync_makes_the_log_whole(pair: tuple[Path, Path]) -> None:
    """It fetches what was left out, attachments included, and nothing of the code."""
    _, part = pair
    assert _run(part, "ls")[0] == 5
    code = git(part, "rev-list", "--objects", "--missing=print", "HEAD").count("?")
    assert code
    ok(part, "sync")
    assert git(part, "rev-list", "--objects", "--missing=print", "HEAD").count("?") == code
    wal = git(part, "rev-list", "--objects", "--missing=print", "refs/grit/wal")
    assert "?" not in wal
    status, said = _run(part, "ls")
    assert status == 0
    assert "first" in said and "second" in said
    assert _run(part, "rebuild")[0] == 0
    assert _run(part, "doctor")[0] == 0
    ok(part, "sync")


def test_a_log_of_its_own_is_shown_as_it_is(pair: tuple[Path, Path]) -> None:
    """What a plain `git fetch` then brings in part waits for a sync, and stops no work."""
    whole, part = pair
    ok(part, "sync")
    ok(whole, "new", "third")
    git(part, "fetch", "-q", "origin")
    status, said = _run(part, "ls")
    assert status == 0
    assert "third" not in said
    assert "'grit sync'" in said
    ok(part, "new", "fourth")
    ok(part, "sync")
    assert "third" in ok(part, "ls").out and "fourth" in ok(part, "ls").out


def test_init_adopts_a_whole_log(pair: tuple[Path, Path]) -> None:
    """The first command of a clone talks to its remotes, and fetches what is missing."""
    _, part = pair
    ok(part, "init")
    assert "second" in _run(part, "ls")[1]


def test_a_lease_that_was_left_out_is_not_taken_for_none(pair: tuple[Path, Path]) -> None:
    """To show it needs the remote's word; to take it over its head is refused."""
    _, part = pair
    ok(part, "sync")
    if git(part, "rev-list", "--objects", "--missing=print", "--no-walk", _lock(part)).count("?"):
        status, said = _run(part, "lock", "status")
        assert status == 5, said
        assert "'grit lock status --remote'" in said
    taken = grit(part, "lock", "acquire", "repo:x")
    assert taken.status == 4, taken.err
    assert "repo:x" in ok(part, "lock", "status", "--remote").out
    assert "repo:x" in _run(part, "lock", "status")[1]


def _lock(folder: Path) -> str:
    return git(folder, "for-each-ref", "--format=%(refname)", "refs/grit-remotes/origin/locks/")
