"""Ways to name a remote: rewritten addresses, several remotes, bundles, paths, worktrees."""

from pathlib import Path

import pytest

from tests.servers.conftest import Serving
from tests.servers.desk import Desk, Repository

pytestmark = pytest.mark.slow

LOG = "refs/grit/wal"


def _one(place: Repository) -> Desk:
    """A clone that has synced one issue."""
    ann = place.begin().clone("ann")
    ann.new("one")
    ann.sync()
    return ann


def test_insteadof_names_another_place(serving: Serving) -> None:
    """An address that the user's configuration rewrites is rewritten for sync too."""
    place = serving("http")
    ann = place.begin().clone("ann")
    ann.git("remote", "set-url", "origin", "work:" + place.bare.name)
    ann.git("config", f"url.{place.url.removesuffix(place.bare.name)}.insteadOf", "work:")
    ann.new("one")
    ann.sync()
    assert place.refs()[LOG] == ann.ref()


def test_a_push_url_of_its_own_is_where_events_go(serving: Serving) -> None:
    """remote.origin.pushurl, as with a mirror to read from: sent there, received from here."""
    read, write = serving("path"), serving("path")
    ann = _one(read)
    ann.git("config", "remote.origin.pushurl", write.url)
    ann.new("two")
    ann.sync()
    assert write.refs()[LOG] == ann.ref()
    ann.sync()
    ben = write.clone("ben")
    ben.sync()
    assert ben.titles() == ["one", "two"]


def test_several_remotes_each_by_its_name(serving: Serving) -> None:
    """`--remote` chooses; without it the usual one is meant; both have it all in the end."""
    home, work = serving("path"), serving("daemon")
    ann = _one(home)
    ann.git("remote", "add", "work", work.url)
    boss = work.begin().clone("boss")
    boss.new("at work")
    boss.sync()
    assert ann.sync("--remote", "work")["merged"]
    assert work.refs()[LOG] == ann.ref() != home.refs()[LOG]
    ann.sync()
    assert home.refs()[LOG] == ann.ref()
    assert ann.titles() == ["at work", "one"]
    done = ann.refused("sync", "--remote", "nowhere")
    assert "nowhere" in done.err and "origin" in done.err, done.err


def test_push_default_is_respected_or_said(serving: Serving) -> None:
    """remote.pushDefault names a fork: what `grit sync` uses is one remote for both ways."""
    home, fork = serving("path"), serving("path")
    ann = _one(home)
    ann.git("remote", "add", "fork", fork.url)
    ann.git("config", "remote.pushDefault", "fork")
    ann.new("two")
    ann.sync()
    assert ann.ref() in (home.refs().get(LOG), fork.refs().get(LOG))


def test_no_remote_is_said_with_what_to_do(tmp_path: Path) -> None:
    """A repository without remotes cannot sync; the message says how to add one."""
    desk = Desk(tmp_path / "alone", {})
    desk.folder.mkdir()
    desk.git("init", "-q")
    desk.new("one")
    done = desk.refused("sync")
    assert "git remote add" in done.err, done.err


def test_a_bundle_is_a_remote_to_pull_from(serving: Serving, tmp_path: Path) -> None:
    """Events travel in a file; sending into one is refused with the reason, and not tried."""
    place = serving("path")
    ann = _one(place)
    bundle = tmp_path / "log.bundle"
    ann.git("bundle", "create", str(bundle), LOG)
    ben = place.clone("ben")
    ben.git("remote", "add", "stick", str(bundle))
    ben.new("two")
    pulled = ben.sync("--pull", "--remote", "stick")
    assert pulled["pulled"] and pulled["merged"]
    assert ben.titles() == ["one", "two"]
    before = bundle.read_bytes()
    assert not ben.sync("--remote", "stick")["pushed"]
    done = ben.refused("sync", "--push", "--remote", "stick")
    assert "only be pulled from" in done.err, done.err
    assert bundle.read_bytes() == before
    assert ben.titles() == ["one", "two"]


def test_relative_paths_mean_the_same_everywhere(serving: Serving, tmp_path: Path) -> None:
    """`../name.git` is meant from the top of the working tree, wherever grit is called."""
    place = serving("path")
    ann = _one(place)
    near = tmp_path / "near.git"
    near.symlink_to(place.bare)
    ann.git("remote", "set-url", "origin", "../near.git")
    sub = Desk(ann.folder / "deep" / "down", ann.environ)
    sub.folder.mkdir(parents=True)
    sub.new("two")
    sub.sync()
    assert place.refs()[LOG] == ann.ref()
    ann.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    linked = Desk(tmp_path / "linked", ann.environ)
    linked.new("three")
    linked.sync()
    assert place.refs()[LOG] == ann.ref() == linked.ref()
    bare = tmp_path / "bare.git"
    ann.git("clone", "-q", "--bare", str(place.bare), str(bare))
    inside = Desk(bare, ann.environ)
    inside.git("config", "remote.origin.url", "../near.git")
    inside.new("four")
    inside.sync()
    assert place.refs()[LOG] == inside.ref()
    assert inside.titles() == ["four", "one", "three", "two"]


def test_row_20_a_mirror_clone_syncs_and_loses_nothing(serving: Serving) -> None:
    """In a `--mirror` clone every fetch overwrites refs: what was written there comes back."""
    place = serving("path")
    ann = _one(place)
    mirror = place.clone("mirror", "--mirror")
    mirror.new("in the mirror")
    ann.new("two")
    ann.sync()
    mirror.sync()
    assert mirror.titles() == ["in the mirror", "one", "two"]
    ann.sync()
    assert ann.export() == mirror.export()
