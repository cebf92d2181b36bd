"""Discovery of repositories: every layout that git knows, and the ones that git refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grit.core.errors import GitFailed
from grit.git.repository import Repository, discover

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)


def _find(folder: Path, **environ: str) -> Repository:
    return discover(str(folder), environ)


def test_found_from_any_sub_folder(git_repository, git):
    """From a sub-folder the same repository is found as from the top."""
    deep = git_repository / "a" / "b"
    deep.mkdir(parents=True)
    found = _find(deep)
    assert found == _find(git_repository)
    assert found.git_dir == found.common_dir == str(git_repository / ".git")
    assert (found.worktree, found.object_format, found.ref_storage, found.bare) == (
        str(git_repository),
        "sha1",
        "files",
        False,
    )
    assert found.grit_dir == str(git_repository / ".git" / "grit")


def test_no_repository_is_refused(tmp_path):
    """Outside any repository, and in a folder that does not exist, the answer is an error."""
    with pytest.raises(GitFailed, match="git init"):
        _find(tmp_path)
    with pytest.raises(GitFailed, match="no such folder"):
        _find(tmp_path / "none")


def test_worktrees_share_the_common_dir(git_repository, git, tmp_path):
    """A linked worktree has its own git dir and the log of the main repository."""
    git(git_repository, "commit", "-q", "--allow-empty", "-m", "one")
    git(git_repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    found = _find(tmp_path / "linked")
    assert found.common_dir == str(git_repository / ".git")
    assert found.git_dir == str(git_repository / ".git" / "worktrees" / "linked")
    assert found.worktree == str(tmp_path / "linked")


def test_bare_separate_and_inside(tmp_path, git):
    """Bare repositories, separate git dirs and the inside of .git are found."""
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    bare = _find(tmp_path / "bare.git")
    assert (bare.bare, bare.worktree, bare.common_dir) == (True, None, str(tmp_path / "bare.git"))
    git(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "elsewhere"), "work")
    separate = _find(tmp_path / "work")
    assert separate.git_dir == str(tmp_path / "elsewhere")
    assert separate.worktree == str(tmp_path / "work")
    assert _find(tmp_path / "elsewhere").git_dir == str(tmp_path / "elsewhere")


def test_submodule(tmp_path, git):
    """A submodule is a repository of its own; its log lives in the module's git dir."""
    for name in ("inner", "outer"):
        git(tmp_path, "init", "-q", name)
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", "one")
    git(tmp_path / "outer", "submodule", "--quiet", "add", str(tmp_path / "inner"), "sub")
    found = _find(tmp_path / "outer" / "sub")
    assert found.git_dir == str(tmp_path / "outer" / ".git" / "modules" / "sub")
    assert found.worktree == str(tmp_path / "outer" / "sub")


def test_git_variables_are_gits_to_judge(git_repository, tmp_path):
    """GIT_DIR points anywhere; GIT_CEILING_DIRECTORIES stops the search; an odd GIT_DIR fails."""
    other = tmp_path / "other"
    other.mkdir()
    found = _find(other, GIT_DIR=str(git_repository / ".git"), PATH=os.environ["PATH"])
    assert found.git_dir == str(git_repository / ".git")
    deep = git_repository / "a"
    deep.mkdir()
    with pytest.raises(GitFailed):
        _find(deep, GIT_CEILING_DIRECTORIES=str(git_repository), PATH=os.environ["PATH"])
    with pytest.raises(GitFailed):
        _find(git_repository, GIT_DIR=str(other), PATH=os.environ["PATH"])
    with pytest.raises(GitFailed, match="quarantine"):
        _find(git_repository, GIT_QUARANTINE_PATH="x")


def test_states_of_a_repository_do_not_matter(git_repository, git):
    """Unborn, detached and mid-rebase repositories are found alike."""
    first = _find(git_repository)
    for n in (1, 2):
        (git_repository / "file").write_text(f"{n}\n")
        git(git_repository, "add", "file")
        git(git_repository, "commit", "-q", "-m", f"{n}")
    git(git_repository, "checkout", "-q", "--detach")
    assert _find(git_repository) == first
    git(git_repository, "checkout", "-q", "-b", "side", "HEAD~1")
    (git_repository / "file").write_text("3\n")
    git(git_repository, "commit", "-q", "-am", "3")
    subprocess.run(["git", "-C", str(git_repository), "rebase", "main"], capture_output=True)
    assert (git_repository / ".git" / "rebase-merge").exists()
    assert _find(git_repository) == first


def test_formats(tmp_path, git):
    """SHA-256 is told from SHA-1; format 2, unknown extensions and storages are refused."""
    git(tmp_path, "init", "-q", "--object-format=sha256", "new")
    assert _find(tmp_path / "new").object_format == "sha256"
    config = tmp_path / "new" / ".git" / "config"
    usual = config.read_text()
    config.write_text(usual + "[extensions]\n\tfuture = true\n")
    with pytest.raises(GitFailed, match="future"):
        _find(tmp_path / "new")
    config.write_text(usual.replace("repositoryformatversion = 1", "repositoryformatversion = 2"))
    with pytest.raises(GitFailed, match="version 2"):
        _find(tmp_path / "new")
    config.write_text(usual + "[extensions]\n\trefstorage = carvings\n")
    with pytest.raises(GitFailed, match="carvings"):
        _find(tmp_path / "new")


def test_config_syntax_that_only_git_reads(git_repository):
    """Quotes, comments and continued lines in [core] give the same answer as plain ones."""
    config = git_repository / ".git" / "config"
    config.write_text('[core]\n\trepositoryformatversion = "0" ; plain\n\tbare = fal\\\nse\n')
    assert _find(git_repository).bare is False
    config.write_text("[core] bare = false\n# bare = true\n[other]\n\tbare = true\n")
    assert _find(git_repository).bare is False


@needs_root
@pytest.mark.parametrize("what", [".", ".git"])
def test_fault_21_repository_of_somebody_else(git_repository, git, tmp_path, what):
    """Refused as git refuses it, with safe.directory as the way out, and nothing is executed."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(git_repository, "config", "core.fsmonitor", str(trap))
    git(git_repository, "config", "core.hooksPath", str(tmp_path))
    os.chown(git_repository / what, 12345, 12345)
    with pytest.raises(GitFailed, match="safe.directory"):
        discover(str(git_repository), dict(os.environ))
    assert not (tmp_path / "sprung").exists()
    config = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    trusted = {**os.environ, **config, "GIT_CONFIG_VALUE_0": str(git_repository)}
    assert discover(str(git_repository), trusted).git_dir == str(git_repository / ".git")


def test_discovery_starts_nothing():
    """Finding the usual repository loads neither dulwich nor subprocess nor json."""
    code = (
        "import sys; from grit.git.repository import discover; from grit.git.wal import Wal\n"
        "w = Wal(discover('.', {})); w.head()\n"
        "print(sorted({'dulwich','subprocess','json','nacl','tomllib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    if "no git repository" in done.stderr:
        pytest.skip("the sources are not in a repository")
    assert done.stdout == "[]\n", done.stderr
