"""Git's configuration as grit reads it, refspecs of remotes, and the invitation to collect."""

import os

import pytest

from grit.git import upkeep
from grit.git.gitconfig import GitConfig, load_git_config
from grit.git.remotes import add_refspec, fetch_refspec, has_refspec, list_remotes
from grit.git.repository import discover
from grit.git.tracking import tracking_ref
from grit.git.upkeep import count_sampled_objects, invite_gc

REF = "refs/grit/wal"


def _config(**values):
    return GitConfig({key.replace("_", "."): (value,) for key, value in values.items()})


@pytest.mark.parametrize(
    ("spec", "durable", "durable_refs"),
    [
        ("all", True, True),
        ("committed", True, True),
        ("objects,reference", True, True),
        ("added", True, True),
        ("loose-object", True, True),
        # As git 2.39 does, seen with strace: what is added counts more than what is taken away.
        ("committed,-loose-object", True, True),
        ("-loose-object", False, True),
        ("reference", False, True),
        ("-reference", False, False),
        ("all,-reference", True, True),
        ("loose-object,-reference", True, False),
        ("none", False, False),
        ("none, reference", False, True),
        ("index pack", False, True),
        ("", False, True),
    ],
)
def test_durability_follows_core_fsync(spec, durable, durable_refs):
    """What is synced is what core.fsync says; by default the ref and not the objects."""
    assert _config(core_fsync=spec).durable is durable
    assert _config(core_fsync=spec).durable_refs is durable_refs
    assert (_config().durable, _config().durable_refs) == (False, True)
    assert _config(core_fsyncobjectfiles="true").durable is True


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("umask", 0),
        ("false", 0),
        ("group", 0o660),
        ("true", 0o660),
        ("all", 0o664),
        ("0640", 0o640),
    ],
)
def test_shared_modes(word, mode):
    """core.sharedRepository in all its spellings."""
    assert _config(core_sharedrepository=word).shared_mode == mode


def test_gc_auto_and_repeated_keys(git_repository, git):
    """The last value of a key counts; odd values switch collecting off rather than on."""
    git(git_repository, "config", "--add", "gc.auto", "5")
    git(git_repository, "config", "--add", "gc.auto", "7")
    config = load_git_config(discover(str(git_repository), {}))
    assert (config.get("gc.auto"), config.gc_auto) == ("7", 7)
    assert _config().gc_auto == 6700
    assert _config(gc_auto="-1").gc_auto == 0


def test_refspec_is_added_once(git_repository, git, tmp_path):
    """The remote's log is recorded outside refs/grit, for remotes with odd names too."""
    repository = discover(str(git_repository), {})
    for name in ("origin", "my.team/x"):
        git(git_repository, "remote", "add", name, str(tmp_path / "there"))
    assert list_remotes(load_git_config(repository)) == ["origin", "my.team/x"]
    for name in ("origin", "my.team/x"):
        assert add_refspec(repository, load_git_config(repository), name, REF)
        config = load_git_config(repository)
        assert not add_refspec(repository, config, name, REF)
        assert has_refspec(config, name, REF)
        specs = git(git_repository, "config", "--get-all", f"remote.{name}.fetch").splitlines()
        assert specs[1:] == [f"+refs/grit/*:refs/grit-remotes/{name}/*"]
    assert tracking_ref("origin", REF) == "refs/grit-remotes/origin/wal"
    assert fetch_refspec("o", "refs/grite/wal") == "+refs/grite/*:refs/grite-remotes/o/*"


def test_regression_19_plain_git_beside_grit(log, git, tmp_path, open_log):
    """Plain fetch, prune, push and mirror move what they should and never the local log."""
    git(tmp_path, "init", "-q", "--bare", "hub.git")
    hub = str(tmp_path / "hub.git")
    git(log.folder, "remote", "add", "origin", hub)
    add_refspec(log.wal.repository, log.wal.config, "origin", REF)
    head = log.append().head
    git(log.folder, "fetch", "-q", "--prune", "origin")
    assert log.wal.head() == head
    git(log.folder, "push", "-q", "origin", "refs/grit/*")
    git(log.folder, "fetch", "-q", "--prune", "origin")
    assert git(hub, "for-each-ref", "--format=%(refname)") == REF
    assert git(log.folder, "rev-parse", "refs/grit-remotes/origin/wal") == head
    newer = log.append().head
    git(log.folder, "fetch", "-q", "--prune", "origin")
    assert log.wal.head() == newer
    git(hub, "update-ref", "-d", REF)
    git(log.folder, "fetch", "-q", "--prune", "origin")
    assert log.wal.head() == newer


def test_collection_is_invited_late_and_never_against_the_user(log, git, monkeypatch):
    """Only above git's own threshold, never with gc.auto 0, never past a program with a say."""
    started = []
    monkeypatch.setattr(upkeep, "start_detached", lambda *words: started.append(words))
    repository = log.wal.repository
    folder = log.folder / ".git" / "objects" / "17"
    folder.mkdir()
    for n in range(27):
        (folder / f"{n:038x}").touch()
    (folder / "tmp_obj_x").touch()
    assert count_sampled_objects(repository) == 27
    assert not invite_gc(repository, _config())
    (folder / f"{28:038x}").touch()
    assert not invite_gc(repository, _config(gc_auto="0"))
    assert invite_gc(repository, _config())
    for key in ("gc.recentobjectshook", "gc.repackfilterto", "hook.mine.command"):
        config = GitConfig({**_config().values, key: ("true",)})
        assert not invite_gc(repository, config)
    hook = log.folder / ".git" / "hooks" / "pre-auto-gc"
    hook.parent.mkdir(exist_ok=True)
    hook.touch()
    assert not invite_gc(repository, _config())
    assert len(started) == 1
    assert started[0][1:] == ("gc", "--auto", "--quiet")


@pytest.mark.parametrize("is_link", [True, False])
@pytest.mark.parametrize(
    "place",
    [
        "objects/ab", "objects/pack", "objects/info", "objects/info/commit-graphs",
        "objects/info/commit-graph", "worktrees", "worktrees/x", "worktrees/x/logs", "rr-cache",
        "rr-cache/x", "logs", "logs/refs", "logs/refs/heads", "logs/refs/heads/x", "refs/grit",
        "refs/heads/x", "reftable", "info", "packed-refs", "shallow", "gc.pid", "gc.log",
    ],
)  # fmt: skip
def test_collection_is_not_invited_through_a_link(log, tmp_path, monkeypatch, place, is_link):
    """A link or a pipe where git removes or writes: git is not started; without it, it is."""
    started = []
    monkeypatch.setattr(upkeep, "start_detached", lambda *words: started.append(words))
    git_dir = log.folder / ".git"
    (git_dir / "objects" / "17").mkdir()
    for n in range(28):
        (git_dir / "objects" / "17" / f"{n:038x}").touch()
    assert invite_gc(log.wal.repository, _config())
    path = git_dir / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(tmp_path / "before")
    if is_link:
        (tmp_path / "outside").mkdir()
        path.symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(path)
    assert not invite_gc(log.wal.repository, _config())
    assert len(started) == 1
