"""Commands about leases and syncs as people and scripts see them."""

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.machine import git, grit, ok


@pytest.fixture
def folder(git_repository: Path) -> Path:
    """A clone with an issue."""
    ok(git_repository, "new", "first")
    return git_repository


def _issue(folder: Path) -> str:
    return str(ok(folder, "ls", "--json").data["issues"][0]["issue_id"])


def test_a_session_of_another_actor_is_not_this_one(folder: Path) -> None:
    """Who holds a lease is an actor in a session: `*` marks both, not the session alone."""
    session = {"GRIT_SESSION": "shared"}
    ok(folder, "lock", "acquire", "repo:main", environ=session)
    other = ok(folder, "actor", "init", "--label", "other", "--json").data["actor"]["actor_id"]
    for actor, mine in ((None, True), (other, False)):
        environ = {**session, **({"GRIT_ACTOR": actor} if actor else {})}
        (lock,) = ok(folder, "lock", "status", "--json", environ=environ).data["locks"]
        assert lock["this_session"] is mine
        (_, line) = ok(folder, "lock", "status", environ=environ).out.splitlines()
        assert line.startswith("*") is mine


def test_messages_about_leases_name_issues_as_lists_do(folder: Path) -> None:
    """People read seven digits of an issue's id; scripts get them all."""
    issue = _issue(folder)
    short = f"issue:{issue[:7]}"
    taken = ok(folder, "lock", "acquire", short, environ={"GRIT_SESSION": "one"})
    status = ok(folder, "lock", "status", environ={"GRIT_SESSION": "one"})
    refused = grit(folder, "lock", "acquire", short, environ={"GRIT_SESSION": "two"})
    for said in (taken.out, status.out, refused.err):
        assert short in said
        assert issue not in said
    data = ok(folder, "lock", "status", "--json").data
    assert data["locks"][0]["resource"] == f"issue:{issue}"


@pytest.mark.parametrize("words", [("sync",), ("show", "ID"), ("close", "ID"), ("lock", "status")])
def test_jsonl_prints_a_row_for_what_is_no_list(
    folder: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Who asks for JSON lines gets no text for people: the data of --json, without the frame."""
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    git(folder, "remote", "add", "origin", str(tmp_path / "bare.git"))
    words = tuple(_issue(folder) if word == "ID" else word for word in words)
    (line,) = ok(folder, *words, "--jsonl").out.splitlines()
    assert json.loads(line).keys() == ok(folder, *words, "--json").data.keys()


def test_status_asks_the_remote_only_when_told(folder: Path, tmp_path: Path) -> None:
    """By default it is what this clone knows, `--local` or not; what cannot be asked is told."""
    bare, other = tmp_path / "bare.git", tmp_path / "other"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    git(folder, "remote", "add", "origin", str(bare))
    ok(folder, "sync")
    git(tmp_path, "clone", "-q", str(bare), str(other))
    ok(other, "init")
    ok(other, "lock", "acquire", "repo:x")
    assert ok(folder, "lock", "status").out == "Nothing is leased, as far as this clone knows.\n"
    assert "repo:x" in ok(folder, "lock", "status", "--remote").out
    bare.rename(tmp_path / "away.git")
    for option in ((), ("--local",)):
        shown = ok(folder, "lock", "status", *option)
        assert "repo:x" in shown.out and not shown.err
    shown = ok(folder, "lock", "status", "--remote")
    assert "repo:x" in shown.out and "as this clone knew it before" in shown.err
    assert grit(folder, "lock", "status", "--remote", "--local").status == 2


def test_a_remote_given_as_a_word_is_refused_with_the_option_to_use(folder: Path) -> None:
    """`grit sync origin` is what people of git type; it says what to type instead."""
    refused = grit(folder, "sync", "origin")
    assert refused.status == 2
    assert "'grit sync --remote origin'" in refused.err


def test_closing_gives_the_lease_of_this_session_back(folder: Path) -> None:
    """What is done is waited for by nobody; another session's lease is left alone."""
    issue = _issue(folder)
    other = str(ok(folder, "new", "second", "--json").data["issue_id"])
    mine, theirs = {"GRIT_SESSION": "mine"}, {"GRIT_SESSION": "theirs"}
    ok(folder, "issue", "claim", issue, environ=mine)
    ok(folder, "issue", "claim", other, environ=theirs)
    done = ok(folder, "close", issue, other, environ=mine)
    assert f"gave the lease on issue:{issue[:7]} back" in done.err
    (lock,) = ok(folder, "lock", "status", "--json").data["locks"]
    assert lock["resource"] == f"issue:{other}"
    row = ok(folder, "show", issue, "--json").data["issue"]
    assert (row["state"], len(row["assignees"])) == ("closed", 1)


def test_closing_succeeds_when_the_remote_of_the_lease_does_not_answer(
    folder: Path, tmp_path: Path
) -> None:
    """The issue is closed and the lease ends by itself, with a word."""
    bare = tmp_path / "bare.git"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    git(folder, "remote", "add", "origin", str(bare))
    issue, mine = _issue(folder), {"GRIT_SESSION": "mine"}
    ok(folder, "issue", "claim", issue, environ=mine)
    bare.rename(tmp_path / "away.git")
    done = ok(folder, "close", issue, environ=mine)
    assert f"the lease on issue:{issue[:7]} stays until it ends" in done.err
    assert ok(folder, "show", issue, "--json").data["issue"]["state"] == "closed"
    (tmp_path / "away.git").rename(bare)
    (lock,) = ok(folder, "lock", "status", "--json").data["locks"]
    assert lock["state"] == "live"


def test_closing_talks_to_no_remote_because_of_a_lease_that_was_shipped(
    folder: Path, tmp_path: Path
) -> None:
    """The address of a remote may run a program: a copy carries a lease, but not the consent."""
    bare, ran = tmp_path / "bare.git", tmp_path / "ran"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    git(folder, "remote", "add", "origin", str(bare))
    issue, mine = _issue(folder), {"GRIT_SESSION": "mine"}
    ok(folder, "issue", "claim", issue, environ=mine)
    git(folder, "config", "protocol.ext.allow", "always")
    git(folder, "config", "remote.origin.url", f"ext::touch {ran}")
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    done = ok(copy, "close", issue, environ=mine)
    assert f"'grit lock release issue:{issue[:7]}' gives it back" in done.err
    assert not ran.exists()
    assert ok(copy, "show", issue, "--json").data["issue"]["state"] == "closed"
    ok(folder, "close", issue, environ=mine)
    assert ran.exists(), "the planted address runs nothing: the test is wrong"
