"""Fetched from one place, pushed to another; and remotes whose name no ref can have."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from grit.git.tracking import tracking_name
from tests.faults.machine import git, grit, ok, titles
from tests.services.test_sync import REF, Team, assert_equal, sync, team

__all__ = ["team"]


def _pushurl(folder: Path, mirror: Path, primary: Path) -> None:
    git(folder, "remote", "set-url", "origin", str(mirror))
    git(folder, "config", "remote.origin.pushurl", str(primary))


def _push_instead_of(folder: Path, mirror: Path, primary: Path) -> None:
    git(folder, "remote", "set-url", "origin", "place:x")
    git(folder, "config", f"url.{mirror}.insteadOf", "place:x")
    git(folder, "config", f"url.{primary}.pushInsteadOf", "place:x")


def _push_default(folder: Path, mirror: Path, primary: Path) -> None:
    git(folder, "remote", "set-url", "origin", str(mirror))
    git(folder, "remote", "add", "primary", str(primary))
    git(folder, "config", "remote.pushDefault", "primary")


def _push_default_elsewhere(folder: Path, mirror: Path, primary: Path) -> None:
    _push_default(folder, mirror, mirror)
    git(folder, "config", "remote.primary.pushurl", str(primary))


WAYS = (_pushurl, _push_instead_of, _push_default, _push_default_elsewhere)


@pytest.fixture
def mirror(team: Team) -> Path:
    """A mirror that follows only when it is told to."""
    folder = team.folder / "mirror.git"
    git(team.folder, "init", "-q", "--bare", str(folder))
    return folder


def follow(team: Team, mirror: Path) -> None:
    git(mirror, "fetch", "-q", str(team.bare), "+refs/*:refs/*")


@pytest.mark.parametrize("way", WAYS)
def test_a_lagging_mirror_is_no_disaster(
    team: Team, mirror: Path, way: Callable[[Path, Path, Path], None]
) -> None:
    """What was pushed and is not in the mirror yet was not lost; others' pushes are joined."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "a")
    sync(one)
    follow(team, mirror)
    way(two, mirror, team.bare)
    sync(two)
    ok(two, "new", "b")
    assert sync(two)["events_sent"] >= 1
    for _ in range(2):
        done = ok(two, "sync")
        assert "set back" not in done.err + done.out
        assert "removed there" not in done.err + done.out
        assert sync(two)["events_sent"] == 0, "the primary had them"
    checks = {row["id"]: row for row in ok(two, "doctor", "--json").data["checks"]}
    assert "set back" not in checks["remotes"]["message"]
    for title in ("c", "d"):
        ok(one, "new", title)
        sync(one)
        ok(two, "new", f"{title} too")
        done = sync(two)
        assert done["merged"] or done["attempts"] > 1
    assert titles(two) == sorted(titles(two), key=titles(two).index)
    assert set(titles(two)) == {"a", "b", "c", "c too", "d", "d too"}
    sync(one)
    assert_equal(one, two)
    follow(team, mirror)
    assert sync(two)["events_received"] == 0


def test_a_mirror_that_was_set_back_is_named(team: Team, mirror: Path) -> None:
    """What the mirror itself once held and lost is told, as for any remote."""
    one = team.clone("one")
    _pushurl(one, mirror, team.bare)
    ok(one, "new", "a")
    sync(one)
    follow(team, mirror)
    sync(one)
    ok(one, "new", "b")
    sync(one)
    follow(team, mirror)
    sync(one)
    git(mirror, "update-ref", REF, f"{REF}~1")
    assert "set back" in ok(one, "sync").err


def test_a_place_that_cannot_be_read_is_named(team: Team, mirror: Path, tmp_path: Path) -> None:
    """Where a push is refused, and what is there cannot be looked at, nothing is lost."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "a")
    sync(one)
    ok(two, "new", "b")
    _pushurl(two, mirror, team.bare)
    git(two, "config", "protocol.file.allow", "always")
    git(two, "config", f"url.{tmp_path}/gone.insteadOf", str(team.bare))
    git(two, "config", f"url.{team.bare}.pushInsteadOf", str(team.bare))
    done = grit(two, "sync")
    assert done.status == 5
    assert "nothing is lost" in done.err
    assert titles(two) == ["b"]


def test_an_explicit_remote_is_pushed_to(team: Team, mirror: Path) -> None:
    """Who names a remote, or chose one in the settings, means it in both directions."""
    one = team.clone("one")
    _push_default(one, mirror, team.bare)
    ok(one, "new", "a")
    sync(one, "--remote", "origin")
    assert git(mirror, "rev-parse", REF)
    ok(one, "new", "b")
    ok(one, "config", "set", "sync.remote", "origin")
    sync(one)
    assert git(mirror, "rev-parse", REF) == git(one, "rev-parse", REF)
    assert git(team.bare, "for-each-ref", REF) == ""


ODD = (
    "my fork", "a..b", "x~1", "@{", "a@{1}", "-dash", "--upload-pack=x", "tab\tx", "x\x01y",
    "x.lock", "a/x.lock/b", ".hidden", "a/.b", "end.", "star*", "quest?ion", "brack[et",
    "back\\slash", "co:lon", "car^et", "/lead", "trail/", "dou//ble", "@", "x" * 300, "a=b",
    "\N{CRAB}", "f\udcff", 'quo"te', "\x7f", "wal", "Origin", "a.b.c",
)  # fmt: skip


def test_remotes_of_any_name_are_synced_with(team: Team) -> None:
    """`init` and `sync` leave a configuration with which git works, and the events come."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "a")
    sync(one)
    with (two / ".git/config").open("ab") as file:
        for name in ODD:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            section = f'[remote "{quoted}"]\n\turl = {team.bare}\n'
            file.write(section.encode(errors="surrogateescape"))
    ok(two, "init")
    git(two, "fetch", "origin")
    assert titles(two) == ["a"]
    for name in ("my fork", "x.lock", "back\\slash"):
        ok(two, "new", name)
        sync(two, "--remote", name)
    sync(one)
    assert titles(one) == sorted(["a", "my fork", "x.lock", "back\\slash"])
    checks = {row["id"]: row for row in ok(two, "doctor", "--json").data["checks"]}
    assert checks["remotes"]["status"] == "ok", checks["remotes"]


@pytest.mark.parametrize("name", ODD)
def test_names_are_those_that_git_takes(name: str) -> None:
    """A name stands for itself exactly where git can have it in a ref, and else for one it can."""
    for text in (name, tracking_name(name)):
        asked = subprocess.run(["git", "check-ref-format", f"refs/grit-remotes/{text}/wal"])
        fits = asked.returncode == 0 and len(text.encode(errors="surrogateescape")) < 200
        assert fits == (tracking_name(text) == text)


@pytest.mark.parametrize("mend", [("init",), ("doctor", "--fix"), ("sync",)], ids=" ".join)
def test_what_an_earlier_version_wrote_is_mended(team: Team, mend: tuple[str, ...]) -> None:
    """A refspec that git refuses, and with it every fetch, is found, told and replaced."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "a")
    sync(one)
    ok(two, "init")
    for name in ("my fork", "x~1"):
        git(two, "config", f"remote.{name}.url", str(team.bare))
        git(two, "config", f"remote.{name}.fetch", "+refs/heads/*:refs/remotes/x/*")
        git(
            two,
            "config",
            "--add",
            f"remote.{name}.fetch",
            f"+refs/grit/*:refs/grit-remotes/{name}/*",
        )
    assert subprocess.run(["git", "fetch", "-q"], cwd=two, capture_output=True).returncode == 128
    checks = {row["id"]: row for row in grit(two, "doctor", "--json").data["checks"]}
    assert checks["remotes"]["status"] == "error"
    assert "my fork" in checks["remotes"]["message"]
    ok(two, *mend)
    git(two, "fetch", "-q")
    ok(two, "init")
    specs = git(two, "config", "--get-all", "remote.my fork.fetch").split("\n")
    assert specs == [
        "+refs/heads/*:refs/remotes/x/*",
        f"+refs/grit/*:refs/grit-remotes/{tracking_name('my fork')}/*",
    ]
    assert titles(two) == ["a"]
