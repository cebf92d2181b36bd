"""Git's configuration as a warm process remembers it (spec/daemon.md, Git's configuration)."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.git import gitconfig
from grit.git.gitconfig import Remembered, git_number, load_git_config, remember
from grit.git.repository import Repository, discover

OLD = time.time() - 60


@pytest.fixture
def repository(
    tmp_path: Path, git_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Repository]:
    """A repository whose configuration files were written a minute ago; nothing is remembered."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = Ann\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "system"))
    monkeypatch.delenv("GIT_CONFIG_NOSYSTEM")
    monkeypatch.setattr(gitconfig, "remembered", None)
    monkeypatch.setattr(gitconfig, "_SETTLED_NS", -(10**18))
    yield discover(str(git_repository), os.environ)


def kept(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Remembered:
    """Remember the configuration; from then on git is not there to be asked."""
    found = remember(repository, os.environ)
    assert found is not None
    monkeypatch.setattr(gitconfig, "remembered", found)
    return found


def refuse(*_: object) -> bytes:
    """Stand in for git where it must not be asked."""
    raise AssertionError("git was asked")


def test_what_is_remembered_is_what_git_says(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same values, without a git process, as long as nothing changes."""
    fresh = load_git_config(repository, os.environ)
    kept(repository, monkeypatch)
    monkeypatch.setattr(gitconfig, "output", refuse)
    assert load_git_config(repository, os.environ) == fresh
    assert fresh.get("user.name") == "Ann"


def change_user(repository: Repository) -> None:
    Path(os.environ["HOME"], ".gitconfig").write_text("[user]\n\tname = Bob\n")


def change_repository(repository: Repository) -> None:
    subprocess.run(["git", "-C", repository.git_dir, "config", "user.name", "Bob"], check=True)


def make_system(repository: Repository) -> None:
    Path(os.environ["GIT_CONFIG_SYSTEM"]).write_text("[core]\n\tfsync = none\n")


def make_xdg(repository: Repository) -> None:
    folder = Path(os.environ["HOME"], ".config", "git")
    folder.mkdir(parents=True)
    (folder / "config").write_text("[core]\n\tfsync = none\n")


def make_worktree(repository: Repository) -> None:
    change_repository(repository)
    Path(repository.git_dir, "config.worktree").write_text("[user]\n\tname = Cid\n")


@pytest.mark.parametrize(
    "change",
    [change_user, change_repository, make_system, make_xdg, make_worktree],
    ids=lambda change: change.__name__,
)
def test_a_changed_file_is_read_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    """A file of the configuration that is changed, or that appears, is seen at once."""
    before = load_git_config(repository, os.environ)
    kept(repository, monkeypatch)
    assert callable(change)
    change(repository)
    after = load_git_config(repository, os.environ)
    assert after != before
    monkeypatch.setattr(gitconfig, "remembered", None)
    assert load_git_config(repository, os.environ) == after


@pytest.mark.parametrize("name", ["GIT_CONFIG_COUNT", "HOME", "XDG_CONFIG_HOME"])
def test_another_environment_is_asked_anew(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A caller whose environment leads git elsewhere gets what git says there."""
    found = kept(repository, monkeypatch)
    monkeypatch.setenv(name, "0" if name == "GIT_CONFIG_COUNT" else "/nowhere")
    assert not found.holds(repository, os.environ)


@pytest.mark.parametrize(
    "text",
    [
        '[includeIf "onbranch:main"]\n\tpath = x\n',
        '[includeIf "hasconfig:remote.*.url:x"]\n\tpath = x\n',
        "[include]\n\tpath = ~nobody/x\n",
    ],
)
def test_changing_includes_are_not_remembered(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Where it does not depend on files alone what git would say, it is asked each time.

    That is remembered: a warm process does not try again and again.
    """
    with open(f"{repository.git_dir}/config", "a", encoding="utf-8") as file:
        file.write(text)
    found = kept(repository, monkeypatch)
    assert found.config is None
    assert load_git_config(repository, os.environ).get("user.name") == "Ann"
    monkeypatch.setattr(gitconfig, "output", refuse)
    assert remember(repository, os.environ) is found


@pytest.mark.parametrize("there", [True, False], ids=["changed", "made"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[include]\n\tpath = more\n", "more"),
        ('[includeIf "gitdir:/"]\n\tpath = ~/inner/more\n', "inner/more"),
        ('[includeIf "gitdir/i:/"]\n\tpath = inner/next\n', "inner/more"),
    ],
    ids=["always", "by place", "two deep"],
)
def test_an_included_file_is_read_again(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, text: str, place: str, there: bool
) -> None:
    """What includes name counts as the files themselves do, also one that is not there yet."""
    home = Path(os.environ["HOME"])
    (home / "inner").mkdir()
    (home / "inner/next").write_text("[include]\n\tpath = more\n")
    with (home / ".gitconfig").open("a") as file:
        file.write(text)
    if there:
        (home / place).write_text("[user]\n\tname = Bob\n")
    found = kept(repository, monkeypatch)
    assert found.config is not None
    assert found.config == load_git_config(repository)
    assert found.config.get("user.name") == ("Bob" if there else "Ann")
    (home / place).write_text("[user]\n\tname = Cynthia\n")
    assert load_git_config(repository, os.environ).get("user.name") == "Cynthia"


def test_what_was_written_a_moment_ago_is_not_remembered(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written again within the same tick of the clock."""
    monkeypatch.setattr(gitconfig, "_SETTLED_NS", 2_000_000_000)
    change_user(repository)
    assert remember(repository, os.environ) is None


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("10k", 10_240), ("1M", 1_048_576), ("2g", 2 * 1024**3), ("0x10", 16), ("010", 8),
        ("-1", -1), ("+7", 7), (" 7", 7), ("0", 0), ("²", None), ("", None), ("7 ", None),
        ("1.5", None), ("true", None), ("08", None), ("9" * 5_000, None), ("k", None),
    ],
)  # fmt: skip
def test_a_number_is_read_as_git_reads_it(
    git_repository: Path, word: str, number: int | None
) -> None:
    """Suffixes, C's notations and blanks in front count; what git refuses is no number."""
    assert git_number(word) == number
    words = ["git", "config", "--type=int", "--get", "x.y"]
    subprocess.run(["git", "config", "x.y", word], cwd=git_repository, check=True)
    asked = subprocess.run(words, cwd=git_repository, capture_output=True, text=True)
    assert (int(asked.stdout) if asked.returncode == 0 else None) == number
