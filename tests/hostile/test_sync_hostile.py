"""Hostile remotes and records under a sync: told, healed, never followed (spec/sync.md)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.git.repository import discover
from grit.git.transport import WORDS_CHARS_MAX, fetch, remote_refs
from tests.faults.machine import git, grit, ok, titles
from tests.services.test_sync import REF, TRACKING, Team, sync, team

__all__ = ["team"]


@pytest.fixture
def pair(team: Team) -> tuple[Path, Path]:
    """Two clones with one log; each has written something since that the other lacks."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "first")
    sync(one)
    sync(two)
    ok(two, "new", "theirs")
    sync(two)
    ok(one, "new", "ours")
    return one, two


def talkative(folder: Path, words: str) -> Path:
    """Return a program for GIT_SSH that says something, and then does what ssh would."""
    program = folder / "talkative"
    program.write_text(f'#!/bin/sh\n{{ {words}; }} >&2\nshift\nexec sh -c "$*"\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("digits", [5_000, 25])
def test_a_commit_time_beyond_all_bounds_stops_nobody(team: Team, digits: int) -> None:
    """A fetched head whose time has too many digits is joined, by a commit that fsck accepts."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "first")
    sync(one)
    sync(two)
    head = team.head()
    text = f"tree {head}^{{tree}}\nparent {head}\nauthor A <a@b> 1 +0000\n"
    text = text.replace(f"{head}^{{tree}}", git(one, "rev-parse", f"{head}^{{tree}}"))
    text += f"committer A <a@b> {'9' * digits} +0000\n\nx\n"
    made = ("hash-object", "-t", "commit", "-w", "--stdin", "--literally")
    odd = git(one, *made, stdin=text.encode())
    git(one, "push", "-q", "origin", f"{odd}:{REF}")
    ok(two, "new", "ours")
    assert sync(two)["merged"]
    assert titles(two) == ["first", "ours"]
    join = git(two, "rev-parse", REF)
    fsck = subprocess.run(["git", "fsck", "--strict"], cwd=two, capture_output=True, timeout=60)
    assert join not in fsck.stderr.decode()


@pytest.mark.parametrize("target", ["refs/heads/work", REF])
def test_a_record_that_is_a_symbolic_ref_is_not_written_through(
    pair: tuple[Path, Path], target: str
) -> None:
    """A fetch into a symbolic ref would move the branch, or the log, that it names."""
    one, _ = pair
    git(one, "commit", "-q", "--allow-empty", "-m", "work")
    git(one, "update-ref", "refs/heads/work", "HEAD")
    before = git(one, "rev-parse", "refs/heads/work")
    git(one, "symbolic-ref", TRACKING, target)
    done = ok(one, "sync")
    assert "symbolic ref" in done.err
    assert git(one, "rev-parse", "refs/heads/work") == before
    assert titles(one) == ["first", "ours", "theirs"]
    assert "lost" not in git(one, "for-each-ref")


@pytest.mark.parametrize("what", ["garbage", "empty", "folder"])
def test_what_is_in_the_way_of_a_record_is_cleared_away(pair: tuple[Path, Path], what: str) -> None:
    """Garbage in place of a record: told once, and the sync is done."""
    one, _ = pair
    record = one / ".git" / TRACKING
    record.unlink()
    if what == "folder":
        (record / "evil").mkdir(parents=True)
    else:
        record.write_text("garbage\n" if what == "garbage" else "")
    assert titles(one) == ["first", "ours"]
    ok(one, "sync")
    assert titles(one) == ["first", "ours", "theirs"]
    assert ok(one, "sync").err == ""


def test_a_lost_head_that_is_no_log_stops_no_sync(pair: tuple[Path, Path]) -> None:
    """What cannot be taken back is named and stays; everything else travels."""
    one, _ = pair
    git(one, "commit", "-q", "--allow-empty", "-m", "code")
    code = git(one, "rev-parse", "HEAD")
    git(one, "update-ref", f"refs/grit-lost/{code}", code)
    done = ok(one, "sync")
    assert "not one of a log" in done.err
    assert titles(one) == ["first", "ours", "theirs"]


@pytest.mark.parametrize("name", ["locks", "snapshots", "wal", "team/locks", "grün/日本", "a.url"])
def test_a_remote_of_any_name_is_seen_after_a_plain_fetch(team: Team, name: str) -> None:
    """The names of grit's own folders hide no remote, whether its record is packed or not."""
    one, two = team.clone("one"), team.clone("two", "-o", name)
    ok(one, "new", "first")
    sync(one)
    sync(two)
    for number in range(2):
        ok(one, "new", f"more {number}")
        sync(one)
        git(two, "fetch", "-q", name)
        if number:
            git(two, "pack-refs", "--all")
        assert f"more {number}" in titles(two)


def test_a_head_whose_objects_come_back_is_joined(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A store that was borrowed from is away: told, and joined by the first command after that."""
    one, _ = pair
    store = tmp_path / "store.git"
    git(tmp_path, "clone", "-q", "--mirror", str(tmp_path / "origin.git"), str(store))
    git(store, "repack", "-adq")
    (one / ".git/objects/info/alternates").write_text(f"{store}/objects\n")
    git(one, "fetch", "-q")
    store.rename(tmp_path / "away")
    for _ in range(2):
        done = ok(one, "ls", "--json")
        assert "not joined" in done.err
        assert len(done.data["issues"]) == 2
    (tmp_path / "away").rename(store)
    assert titles(one) == ["first", "ours", "theirs"]


def test_a_log_of_other_tools_on_the_remote_is_named(team: Team) -> None:
    """What is not joined with the log here is told, and no second log is begun beside it."""
    bundle = Path(__file__).parents[1] / "compat/rust-grite-gritecnk.bundle"
    one = team.clone("one")
    ok(one, "new", "ours")
    git(team.bare, "fetch", "-q", str(bundle), "refs/*:refs/*")
    done = grit(one, "sync")
    assert "refs/grite/wal" in done.err and "not shown" in done.err
    assert done.status != 0 and "grit import log" in done.err
    assert not git(team.bare, "for-each-ref", REF)


def test_a_long_banner_does_not_hide_that_there_is_no_log_yet(team: Team) -> None:
    """Git's own reason comes behind pages of a server's words: the first sync goes through."""
    one = team.clone("one")
    ok(one, "new", "first")
    git(one, "remote", "set-url", "origin", f"host:{team.bare}")
    ssh = talkative(team.folder, "seq -f 'no unauthorised access %g' 400")
    environ = {"GIT_SSH": str(ssh), "GIT_SSH_VARIANT": "simple"}
    assert ok(one, "sync", "--json", environ=environ).data["events_sent"] >= 1


def test_a_server_that_talks_without_end_costs_little(team: Team) -> None:
    """Of megabytes of words, and of numbers without end, the last lines are kept."""
    one = team.clone("one")
    number = "x: 1% (" + "9" * 5_000 + "/1)"
    words = f"head -c 3000000 /dev/zero | tr '\\0' y; echo; seq 300000; echo '{number}'"
    ssh = talkative(team.folder, words)
    environ = {**os.environ, "GIT_SSH": str(ssh), "GIT_SSH_VARIANT": "simple"}
    done = fetch(discover(str(one), {}), f"host:{team.bare}", [f"{REF}:{TRACKING}"], environ)
    assert done.missing
    assert done.failed is not None and len(done.failed) <= WORDS_CHARS_MAX + 10
    assert "couldn't find remote ref" in done.failed


def test_a_password_in_an_address_is_not_shown(team: Team) -> None:
    """Neither messages nor JSON nor refs repeat what stands before the @ of a URL."""
    one = team.clone("one")
    ok(one, "new", "first")
    for flags in ((), ("--json",)):
        done = grit(one, "sync", *flags, "--remote", "http://bob:hunter2@127.0.0.1:9/x.git")
        assert done.status == 5
        assert "hunter2" not in done.out + done.err
        assert "127.0.0.1" in done.out + done.err
    there = f"file://bob:hunter2@{team.bare}"
    git(one, "config", f"url.{team.bare}.insteadOf", there)
    done = ok(one, "sync", "--json", "--remote", there)
    assert done.data["events_sent"] >= 1
    assert "hunter2" not in done.out + done.err + git(one, "for-each-ref")


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the URL of a server that takes every connection and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.git"


def test_a_silent_server_is_asked_no_longer_than_said(team: Team, silent: str) -> None:
    """The helper that waits for the server ends with the git that started it."""
    one = discover(str(team.clone("one")), {})
    started = time.monotonic()
    said = remote_refs(one, silent, [REF], os.environ, 1.0)
    assert said == "no answer within 1 s"
    assert time.monotonic() - started < 15


def test_ctrl_c_ends_a_sync_with_a_silent_server(team: Team, silent: str) -> None:
    """Ctrl-C ends a sync at once, whatever git has left running; the next one works."""
    one = team.clone("one")
    ok(one, "new", "first")
    program = "from grit.cli.main import main; main()"
    words = [sys.executable, "-c", program, "sync", "--remote", silent]
    asked = subprocess.Popen(words, cwd=one, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(2)
    asked.send_signal(2)
    _, err = asked.communicate(timeout=20)
    assert asked.returncode == 130, err
    assert b"Traceback" not in err
    assert sync(one)["events_sent"] >= 1


def test_ctrl_c_while_a_lease_is_asked_for_leaves_none(team: Team) -> None:
    """`lock run` that is interrupted before it knows that it has the lease gives it back."""
    one = team.clone("one")
    ok(one, "new", "first")
    sync(one)
    seen = team.folder / "seen"
    hook = team.bare / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {seen}\nsleep 3\n")
    hook.chmod(0o755)
    program = "from grit.cli.main import main; main()"
    words = [sys.executable, "-c", program, "lock", "run", "path:x", "--", "true"]
    environ = {name: value for name, value in os.environ.items() if name != "GRIT_SESSION"}
    asked = subprocess.Popen(
        words, cwd=one, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not seen.exists():
        time.sleep(0.05)
    hook.unlink()
    asked.send_signal(2)
    _, err = asked.communicate(timeout=30)
    assert asked.returncode == 130, err
    assert ok(one, "lock", "status", "--remote", "--json").data["locks"] == []


def test_one_commit_of_the_old_kind_does_not_end_signing(team: Team) -> None:
    """A log that began in "grit" is written in it, also after somebody put `meta.json` on top."""
    one = team.clone("one")
    ok(one, "new", "first")
    sync(one)
    head = team.head()
    blob = git(one, "hash-object", "-w", "--stdin", stdin=b"{}")
    tree = git(one, "mktree", stdin=f"100644 blob {blob}\tmeta.json\n".encode())
    made = git(one, "commit-tree", tree, "-p", head, "-m", "WAL: 0 events from 00000000")
    git(one, "push", "-q", "origin", f"{made}:{REF}")
    sync(one)
    issue = ok(one, "new", "second", "--field", "team=core", "--json").data["issue_id"]
    history = ok(one, "issue", "history", issue, "--json").data["events"]
    assert {event["signature"] for event in history} == {"valid"}
    assert "meta.json" not in git(one, "ls-tree", "--name-only", REF)
