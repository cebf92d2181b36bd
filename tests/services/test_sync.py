"""Sync over a path: nothing lost, one truth, whatever a remote does (spec/sync.md)."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults.machine import Done, git, grit, ok, titles

REF = "refs/grit/wal"
TRACKING = "refs/grit-remotes/origin/wal"


class Team:
    """A bare remote and clones of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bare = folder / "origin.git"
        git(folder, "init", "-q", "--bare", str(self.bare))

    def clone(self, name: str, *arguments: str) -> Path:
        """Return a fresh clone; the bare repository may be empty."""
        git(self.folder, "clone", "-q", *arguments, str(self.bare), name)
        return self.folder / name

    def head(self) -> str:
        """Return the remote's head of the log."""
        return git(self.bare, "rev-parse", REF)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def sync(folder: Path, *arguments: str) -> Any:
    return ok(folder, "sync", *arguments, "--json").data


def exported(folder: Path) -> Any:
    """Return the export without the time of its making."""
    document = json.loads(ok(folder, "export", "--format", "json").out)
    del document["meta"]["generated_ts"]
    return document


def assert_equal(*folders: Path) -> None:
    """Fail unless all clones show the same bytes, also after their views are built anew."""
    first = exported(folders[0])
    for folder in folders:
        assert exported(folder) == first
        shutil.rmtree(folder / ".git/grit/view")
        assert exported(folder) == first
        git(folder, "fsck", "--strict", "--no-dangling")


def test_row_15_clone_sync_list_equals_the_origins(team: Team) -> None:
    """What one clone wrote, another shows after a sync; a sync with nothing to do does nothing."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "first", "-l", "bug")
    done = sync(one)
    assert (done["events_received"], done["merged"]) == (0, False)
    assert done["events_sent"] >= 1
    assert done["wal_head"] == done["remote_wal_head"] == team.head()
    received = sync(two)
    assert received["events_received"] == done["events_sent"]
    assert titles(two) == ["first"]
    assert_equal(one, two)
    again = sync(two)
    assert (again["events_sent"], again["events_received"], again["merged"]) == (0, 0, False)


def test_row_15_both_write_offline_and_sync_twice(team: Team) -> None:
    """Two clones that both moved are equal after two syncs each, with every event once."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "shared")
    sync(one)
    sync(two)
    (issue,) = (row["issue_id"] for row in ok(one, "ls", "--json").data["issues"])
    for folder, name in ((one, "one"), (two, "two")):
        for number in range(5):
            ok(folder, "new", f"{name} {number}")
        ok(folder, "comment", issue, "-b", f"from {name}")
    assert not sync(one)["merged"]
    assert sync(two)["merged"]
    sync(one)
    assert not sync(two)["merged"]
    assert_equal(one, two)
    assert len(titles(one)) == 11
    assert ok(one, "show", issue, "--json").data["issue"]["comment_count"] == 2


def test_row_16_two_logs_begun_apart_become_one(team: Team) -> None:
    """Clones that each started a log before their first sync join into one."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "mine")
    ok(two, "new", "yours")
    sync(one)
    assert sync(two)["merged"]
    sync(one)
    assert titles(one) == titles(two) == ["mine", "yours"]
    assert_equal(one, two)


def test_row_19_a_plain_fetch_is_seen_and_joined_by_the_next_command(team: Team) -> None:
    """After `git fetch`, a read shows what came, joined with what is only here."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "init")
    ok(two, "init")
    ok(one, "new", "theirs")
    ok(two, "new", "ours")
    git(one, "push", "-q", "origin", "refs/grit/*")
    git(two, "fetch", "-q")
    assert titles(two) == ["ours", "theirs"]
    git(two, "push", "-q", "origin", "refs/grit/*")
    git(one, "fetch", "-q")
    git(one, "pack-refs", "--all", "--prune")
    git(one, "gc", "-q", "--prune=now")
    ok(one, "comment", ok(one, "ls", "--json").data["issues"][0]["issue_id"], "-b", "seen")
    assert titles(one) == ["ours", "theirs"]
    assert sync(one)["events_sent"] == 1
    git(two, "fetch", "-q", "--prune")
    assert_equal(one, two)


def test_the_next_command_compares_fetched_heads_once(team: Team) -> None:
    """A head that was compared is remembered: the commands after it start no git for it."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "theirs")
    sync(one)
    sync(two)
    ok(two, "new", "ours")
    head = git(two, "rev-parse", REF)
    ok(two, "ls")
    trace = team.folder / "trace"
    ok(two, "ls", before=["strace", "-f", "-qq", "-e", "trace=execve", "-o", str(trace)])
    assert "git" not in [
        line.partition('"')[2].partition('"')[0].rpartition("/")[2]
        for line in trace.read_text().splitlines()
    ]
    assert git(two, "rev-parse", REF) == head


def test_joins_depend_on_the_heads_alone(team: Team) -> None:
    """Two clones that fetch from each other make the same join, and are done."""
    one, two = team.clone("one"), team.clone("two")
    for folder, other in ((one, two), (two, one)):
        git(folder, "remote", "add", "peer", str(other))
        ok(folder, "init")
        ok(folder, "new", folder.name)
    git(one, "fetch", "-q", "peer")
    git(two, "fetch", "-q", "peer")
    assert titles(one) == titles(two) == ["one", "two"]
    assert git(one, "rev-parse", REF) == git(two, "rev-parse", REF)


def test_row_26_a_refused_push_says_why_and_loses_nothing(team: Team) -> None:
    """A hook's refusal is exit 5 with the server's words, escaped; later the events go through."""
    one = team.clone("one")
    ok(one, "new", "kept")
    hook = team.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nprintf 'frozen \\033]52;c;x\\007 today\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    done = grit(one, "sync")
    assert done.status == 5
    assert "frozen" in done.err and "\x1b" not in done.err and "\x07" not in done.err
    assert titles(one) == ["kept"]
    hook.unlink()
    assert sync(one)["events_sent"] >= 1


def test_a_remote_that_cannot_be_reached_is_refused(team: Team) -> None:
    """No such path, no remote, an option for an address: refused with the reason."""
    one = team.clone("one")
    ok(one, "new", "kept")
    git(one, "remote", "set-url", "origin", str(team.folder / "nowhere.git"))
    done = grit(one, "sync")
    assert done.status == 5 and "nowhere" in done.err
    assert grit(one, "sync", "--remote=--upload-pack=touch x").status == 2
    git(one, "remote", "remove", "origin")
    assert "git remote add" in grit(one, "sync").err


def test_row_27_a_remote_that_was_set_back_gets_everything_again(team: Team) -> None:
    """Rewound, replaced by another log or removed: said, nothing local lost, all sent again."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "first")
    sync(one)
    early = team.head()
    ok(one, "new", "second")
    sync(one)
    git(team.bare, "update-ref", REF, early)
    done = ok(one, "sync")
    assert "set back" in done.err
    sync(two)
    assert titles(one) == titles(two) == ["first", "second"]

    other = team.folder / "other"
    git(team.folder, "init", "-q", str(other))
    ok(other, "new", "foreign")
    git(team.bare, "fetch", "-q", str(other), f"+{REF}:{REF}")
    assert "set back" in ok(one, "sync").err
    assert titles(one) == ["first", "foreign", "second"]

    git(team.bare, "update-ref", "-d", REF)
    git(one, "fetch", "-q", "--prune")
    assert titles(one) == ["first", "foreign", "second"]
    done = ok(one, "sync")
    assert "no log any more" in done.err
    sync(two)
    assert_equal(one, two)


def test_row_20_a_mirror_push_that_removed_the_log_is_named_and_healed(team: Team) -> None:
    """A `git push --mirror` of a clone without grit removes the log: doctor says so, sync heals."""
    one = team.clone("one")
    (one / "file").write_text("x")
    git(one, "add", "file")
    git(one, "commit", "-q", "-m", "begin")
    git(one, "push", "-q", "origin", "HEAD")
    ok(one, "new", "kept")
    sync(one)
    ordinary = team.clone("ordinary")
    git(ordinary, "push", "-q", "--mirror", "origin")
    assert "refs/grit" not in git(team.bare, "for-each-ref")
    found = checks(one, "--remote")
    assert found["remotes"]["status"] == "warn"
    assert "--mirror" in found["remotes"]["message"] and "grit sync" in found["remotes"]["plan"]
    assert sync(one)["events_sent"] >= 1
    assert titles(one) == ["kept"]
    found = checks(one, "--remote")
    assert found["remotes"]["status"] == "ok"


def checks(folder: Path, *options: str) -> dict[str, dict[str, str]]:
    """Return the checks of doctor by id."""
    data = json.loads(grit(folder, "doctor", *options, "--json").out)["data"]
    return {check["id"]: check for check in data["checks"]}


def test_doctor_asks_a_remote_only_when_told(team: Team) -> None:
    """By default it says how a remote's log was when it was last fetched, and that it is so."""
    one = team.clone("one")
    ok(one, "new", "first")
    assert "no log of origin yet (as last fetched" in checks(one)["remotes"]["message"]
    sync(one)
    git(team.bare, "update-ref", "-d", REF)
    found = checks(one)["remotes"]
    assert found["status"] == "ok"
    assert "the same log (as last fetched; 'grit doctor --remote' asks)" in found["message"]
    ok(one, "new", "second")
    assert "lacks events that are here (as last" in checks(one)["remotes"]["message"]
    assert "no log any more" in checks(one, "--remote")["remotes"]["message"]
    team.bare.rename(team.bare.with_name("away"))
    assert "could not be asked" in checks(one, "--remote")["remotes"]["message"]


@pytest.mark.parametrize("what", ["branch", "tag", "blob", "below"])
def test_fault_12_what_is_no_log_is_not_followed(team: Team, what: str) -> None:
    """A remote ref that names code, a tag or a blob, or lies below the log, is not joined."""
    one = team.clone("one")
    (one / "file").write_text("x")
    git(one, "add", "file")
    git(one, "commit", "-q", "-m", "begin")
    git(one, "push", "-q", "origin", "HEAD")
    ok(one, "new", "kept")
    head = git(one, "rev-parse", REF)
    git(one, "tag", "-a", "v1", "-m", "tag")
    git(one, "push", "-q", "origin", "v1")
    target = {"branch": "main", "tag": "v1", "blob": "main:file", "below": "main"}[what]
    name = f"{REF}/evil" if what == "below" else REF
    git(team.bare, "update-ref", name, git(team.bare, "rev-parse", target))
    done = grit(one, "sync")
    assert done.status in (1, 5), done
    assert git(one, "rev-parse", REF) == head
    assert titles(one) == ["kept"]


def test_a_bundle_and_a_path_are_remotes_too(team: Team) -> None:
    """A file is pulled from and never pushed to; a path is meant from where the user stands."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "kept")
    git(one, "bundle", "create", "-q", "../log.bundle", REF)
    (two / "deep").mkdir()
    done = sync(two / "deep", "--remote", "../../log.bundle")
    assert (done["pushed"], titles(two)) == (False, ["kept"])
    assert grit(two, "sync", "--push", "--remote", "../log.bundle").status == 2
    three = team.clone("three")
    ok(three, "new", "more")
    assert sync(two / "deep", "--remote", "../../three")["merged"]
    assert titles(three) == ["kept", "more"]


def test_only_pull_and_only_push(team: Team) -> None:
    """--pull sends nothing; --push takes nothing in, and is refused where the remote has more."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "one")
    ok(two, "new", "two")
    assert sync(one, "--push")["events_sent"] >= 1
    assert grit(two, "sync", "--push").status == 4
    assert titles(two) == ["two"] or titles(two) == ["one", "two"]
    before = team.head()
    done = sync(two, "--pull")
    assert (done["events_sent"], team.head()) == (0, before)
    assert titles(two) == ["one", "two"]


def test_a_lost_head_comes_back_with_the_next_sync(team: Team) -> None:
    """A ref that was set back by hand is joined with what it lost, and sent."""
    one = team.clone("one")
    ok(one, "new", "first")
    early = git(one, "rev-parse", REF)
    ok(one, "new", "second")
    git(one, "update-ref", REF, early)
    assert titles(one) == ["first"]
    sync(one)
    assert titles(one) == ["first", "second"]


def test_several_remotes(team: Team) -> None:
    """Without `origin` one must be named or chosen; each gets what the others brought."""
    one = team.clone("one")
    for name in ("east", "west"):
        git(team.folder, "init", "-q", "--bare", f"{name}.git")
        git(one, "remote", "add", name, f"../{name}.git")
    git(one, "remote", "remove", "origin")
    ok(one, "new", "kept")
    done: Done = grit(one, "sync")
    assert done.status == 5 and "east, west" in done.err
    ok(one, "config", "set", "sync.remote", "west")
    assert sync(one)["remote"] == "west"
    (one / "deep").mkdir()
    assert sync(one / "deep", "--remote", "east")["events_sent"] >= 1
    heads = {git(team.folder / f"{name}.git", "rev-parse", REF) for name in ("east", "west")}
    assert len(heads) == 1


def test_a_clone_from_before_grit_syncs(team: Team) -> None:
    """A clone that knows nothing of grit gets log and refspec by its first sync."""
    old = team.clone("old")
    one = team.clone("one")
    ok(one, "new", "kept")
    sync(one)
    assert sync(old)["events_received"] >= 1
    assert "refs/grit-remotes/origin" in git(old, "config", "--get-all", "remote.origin.fetch")
    assert titles(old) == ["kept"]
    assert not (old / ".git/grit/actors").exists()


def test_doctor_names_a_refspec_that_can_set_the_log_back(team: Team) -> None:
    """A mirror's refspec writes to the log's own ref; a sync there is safe all the same."""
    one = team.clone("one")
    ok(one, "new", "kept")
    sync(one)
    git(one, "config", "--replace-all", "remote.origin.fetch", "+refs/*:refs/*")
    found = checks(one, "--remote")
    assert found["remotes"]["status"] == "warn" and "+refs/*:refs/*" in found["remotes"]["message"]
    ok(one, "new", "only here")
    sync(one)
    assert titles(one) == ["kept", "only here"]


def test_a_fetched_head_that_could_not_be_read_is_taken_in_later(team: Team) -> None:
    """What was fetched and cannot be read is told, and looked at again until it can."""
    one, two = team.clone("one"), team.clone("two")
    for folder in (one, two):
        ok(folder, "init")
        ok(folder, "new", f"by {folder.name}")
    git(one, "push", "-q", "origin", "refs/grit/*")
    git(two, "fetch", "-q")
    head = git(two, "rev-parse", TRACKING)
    place = two / ".git/objects" / head[:2] / head[2:]
    place.rename(team.folder / "aside")
    for _ in range(2):
        done = ok(two, "ls")
        assert "not joined" in done.err, done.err
        assert "by one" not in done.out
    (team.folder / "aside").rename(place)
    assert titles(two) == ["by one", "by two"]


def test_a_sync_with_nothing_to_do_runs_git_twice(team: Team, tmp_path: Path) -> None:
    """The fetch comes first, so that the configuration is read while it runs."""
    one = team.clone("one")
    ok(one, "new", "first")
    sync(one)
    notes, real = tmp_path / "notes", shutil.which("git")
    program = tmp_path / "bin/git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{notes}\nexec {real} "$@"\n')
    program.chmod(0o755)
    environ = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    assert grit(one, "sync", environ=environ).status == 0
    words = [set(line.split()) for line in notes.read_text().splitlines()]
    assert len(words) == 2
    assert {"fetch", "config"} <= words[0] | words[1]


@pytest.mark.parametrize("words", [(), ("--remote", "origin")])
def test_a_folder_that_is_named_like_a_remote_is_none(team: Team, words: tuple[str, ...]) -> None:
    """Without a remote "origin" nothing is taken from a folder of that name unless it is asked."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "first")
    sync(one)
    git(team.folder, "clone", "-q", "--mirror", str(team.bare), str(two / "origin"))
    git(two, "remote", "remove", "origin")
    done = grit(two, "sync", *words)
    assert (done.status == 0) is bool(words)
    tracked = git(two, "for-each-ref", "--format=%(refname)", "refs/grit-remotes/")
    assert "/origin/" not in tracked
    if not words:
        assert "there is no remote" in done.err
        assert tracked == ""
