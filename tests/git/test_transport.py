"""Talking to remotes with the git program: forward only, with a lease, and what the other said."""

import os
import subprocess
import threading
from functools import partial
from pathlib import Path

import pytest

from grit.git.remotes import is_written_down
from grit.git.repository import Repository, discover
from grit.git.transport import Update, fetch, push, remote_refs


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def commit(folder: Path, *parents: str) -> str:
    tree = git(folder, "hash-object", "-t", "tree", "-w", os.devnull)
    known = [word for parent in parents for word in ("-p", parent)]
    return git(folder, "commit-tree", tree, *known, "-m", f"after {parents}")


@pytest.fixture
def pair(git_repository: Path, tmp_path: Path) -> tuple[Repository, Path]:
    """A repository and a bare remote of it, named origin."""
    bare = tmp_path / "bare.git"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    git(git_repository, "remote", "add", "origin", "../bare.git")
    return discover(str(git_repository), os.environ), bare


REF = "refs/grit/wal"


def test_a_push_moves_forward_only(pair: tuple[Repository, Path]) -> None:
    """What is not a descendant is refused, as moved, and nothing changes there."""
    here, bare = pair
    first = commit(Path(here.git_dir))
    second, other = commit(Path(here.git_dir), first), commit(Path(here.git_dir))
    assert push(here, "origin", [Update(first, REF)], os.environ)[0].done
    assert push(here, "origin", [Update(second, REF)], os.environ)[0].done
    assert push(here, "origin", [Update(second, REF)], os.environ)[0].done
    (outcome,) = push(here, "origin", [Update(other, REF)], os.environ)
    assert (outcome.done, outcome.moved) == (False, True)
    assert "rejected" in outcome.words
    assert git(bare, "rev-parse", REF) == second


def test_a_lease_is_a_compare_and_swap(pair: tuple[Repository, Path]) -> None:
    """With an expected value a ref is created, replaced and removed exactly from there."""
    here, bare = pair
    one = commit(Path(here.git_dir))
    two = commit(Path(here.git_dir), one)
    assert push(here, "origin", [Update(two, REF, "")], os.environ)[0].done
    assert push(here, "origin", [Update(one, REF, "")], os.environ)[0].moved
    assert push(here, "origin", [Update(one, REF, two)], os.environ)[0].done
    assert push(here, "origin", [Update(None, REF, two)], os.environ)[0].moved
    assert git(bare, "rev-parse", REF) == one
    assert push(here, "origin", [Update(None, REF, one)], os.environ)[0].done
    assert remote_refs(here, "origin", [REF], os.environ) == {}


def test_a_fetch_tells_a_missing_ref_from_a_failure(pair: tuple[Repository, Path]) -> None:
    """No such ref is told apart from a remote that cannot be read, and words come in both cases."""
    here, bare = pair
    spec = [f"+{REF}:refs/grit-remotes/origin/wal"]
    assert fetch(here, "origin", spec, os.environ).missing
    git(bare, "update-ref", REF, commit(bare))
    assert fetch(here, "origin", spec, os.environ).failed is None
    assert git(Path(here.git_dir), "rev-parse", "refs/grit-remotes/origin/wal") == git(
        bare, "rev-parse", REF
    )
    nowhere = fetch(here, "../nowhere.git", spec, os.environ)
    assert nowhere.failed and "nowhere" in nowhere.failed and not nowhere.missing
    assert isinstance(remote_refs(here, "../nowhere.git", [REF], os.environ), str)


def test_the_words_of_a_hook_are_kept(pair: tuple[Repository, Path]) -> None:
    """A refusal is not taken for a race, and says what the server said."""
    here, bare = pair
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'the moon is full' >&2\nexit 1\n")
    hook.chmod(0o755)
    (outcome,) = push(here, "origin", [Update(commit(Path(here.git_dir)), REF)], os.environ)
    assert (outcome.done, outcome.moved) == (False, False)
    assert "the moon is full" in outcome.words


def test_a_mirror_can_be_pushed_to(pair: tuple[Repository, Path]) -> None:
    """A remote set up as a mirror takes a single ref, and loses nothing."""
    here, bare = pair
    git(Path(here.git_dir), "config", "remote.origin.mirror", "true")
    git(bare, "update-ref", "refs/heads/main", commit(bare))
    assert push(here, "origin", [Update(commit(Path(here.git_dir)), REF)], os.environ)[0].done
    assert git(bare, "rev-parse", "refs/heads/main")


def test_what_fails_while_git_fetches_ends_git(pair: tuple[Repository, Path]) -> None:
    """No git is left behind when what is done meanwhile fails; done in time, it costs nothing."""
    here, bare = pair
    git(bare, "update-ref", REF, commit(bare))
    spec = [f"+{REF}:refs/grit-remotes/origin/wal"]

    def fail() -> None:
        raise KeyboardInterrupt

    def children() -> str:
        return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()

    before = children()
    with pytest.raises(KeyboardInterrupt):
        fetch(here, "origin", spec, os.environ, meanwhile=fail)
    assert children() == before
    called: list[int] = []
    assert (
        fetch(here, "origin", spec, os.environ, meanwhile=partial(called.append, 1)).failed is None
    )
    assert called == [1]
    assert fetch(
        here, "../nowhere.git", spec, os.environ, meanwhile=lambda: called.append(2)
    ).failed
    assert called == [1, 2]


PLAIN = '[remote "origin"]\n\turl = ../bare.git\n'


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (PLAIN, True),
        (f"[core]\n\tbare = false\n{PLAIN}[branch]\n", True),
        ("", False),
        (PLAIN.replace("origin", "Origin"), False),
        (PLAIN.replace("url =", "pushurl ="), False),
        (PLAIN.replace("../bare.git", ""), False),
        (PLAIN.replace("../bare.git", "\n"), False),
        ('[remote "origin"]\n[remote "other"]\n\turl = x\n', False),
        (f"{PLAIN}{PLAIN}", False),
        (f"[core]\n\teditor = vi \\\n{PLAIN}", False),
        (PLAIN.replace("\t", "\t;"), False),
        (f"# {PLAIN}", False),
        (PLAIN.replace("\n", "\r\n"), False),
    ],
)
def test_a_remote_that_is_written_down_is_one_for_git_too(
    pair: tuple[Repository, Path], text: str, known: bool
) -> None:
    """What the config file plainly says is what git says; anything else is left to git."""
    here, _ = pair
    config = Path(here.common_dir, "config")
    config.write_text(text)
    assert is_written_down(here, "origin") is known
    if known:
        assert git(Path(here.git_dir), "config", "remote.origin.url") == "../bare.git"
    assert not is_written_down(here, "../bare.git")
    assert not is_written_down(here, "")
    config.unlink()
    assert not is_written_down(here, "origin")
