"""Folders and files that are what they should be: owners, bounds, names, links."""

import os
import subprocess
from pathlib import Path

import pytest

from grit.core.limits import KEY_FILE_BYTES_MAX, MARK_BYTES_MAX
from grit.files.private import Folder, NotPrivate, read_plain
from grit.git.repository import discover, private_folder

STRANGER = 54_321
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Grit's folder in something like a git directory."""
    (tmp_path / "grit").mkdir()
    return Folder(str(tmp_path), ("grit",))


def test_a_name_that_is_in_no_table_is_a_bug(folder: Folder) -> None:
    """Nothing can be kept that the tests do not know of."""
    with folder.open() as opened:
        for use in (opened.read, opened.remove, opened.below):
            with pytest.raises(LookupError):
                use("unheard-of")


def test_the_base_is_never_made(tmp_path: Path) -> None:
    """A repository that was moved away does not come back; what is below it is made."""
    with pytest.raises(FileNotFoundError):
        Folder(str(tmp_path / "gone"), ("grit",)).open(make=True)
    Folder(str(tmp_path), ("grit", "view")).open(make=True).close()
    assert (tmp_path / "grit" / "view").is_dir()


def test_a_folder_that_was_opened_is_the_one_that_is_used(folder: Folder, tmp_path: Path) -> None:
    """Who puts a link in its place meanwhile leads nobody away."""
    (tmp_path / "outside").mkdir()
    with folder.open() as opened:
        (tmp_path / "grit").rename(tmp_path / "moved")
        (tmp_path / "grit").symlink_to(tmp_path / "outside")
        opened.replace("remotes", b"x")
    assert os.listdir(tmp_path / "outside") == []
    assert (tmp_path / "moved" / "remotes").read_bytes() == b"x"


def test_a_file_over_its_bound_is_refused_or_cut(folder: Folder, tmp_path: Path) -> None:
    """As the reader asks; at the bound it is read whole."""
    path = tmp_path / "grit" / "verified-mark"
    with folder.open() as opened:
        path.write_bytes(b"x" * MARK_BYTES_MAX)
        assert len(opened.read("verified-mark")) == MARK_BYTES_MAX
        path.write_bytes(b"x" * (MARK_BYTES_MAX + 1))
        assert len(opened.read("verified-mark", cut=True)) == MARK_BYTES_MAX
        with pytest.raises(NotPrivate, match=f"is larger than {MARK_BYTES_MAX} bytes"):
            opened.read("verified-mark")


def test_a_tree_is_removed_through_no_link(folder: Folder, tmp_path: Path) -> None:
    """Neither at its top nor below."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "keep").touch()
    view = folder.below("view").open(make=True)
    build = tmp_path / "grit" / "view" / "build"
    build.mkdir()
    (build / "data.mdb").symlink_to(tmp_path / "outside")
    with view:
        view.remove_tree("build")
        assert not build.exists()
        build.symlink_to(tmp_path / "outside")
        with pytest.raises(NotPrivate, match="is a symbolic link"):
            view.remove_tree("build")
    assert os.listdir(tmp_path / "outside") == ["keep"]


def test_a_replaced_link_leaves_what_it_led_to(folder: Folder, tmp_path: Path) -> None:
    """The name gets a file of its own."""
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "grit" / "remotes").symlink_to(tmp_path / "outside")
    with folder.open() as opened:
        opened.replace("remotes", b"x")
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert not (tmp_path / "grit" / "remotes").is_symlink()


@needs_root
@pytest.mark.parametrize(
    ("value", "group", "taken"),
    [("group", 0, True), ("0660", 0, True), ("all", 0, True), ("umask", 0, False),
     ("false", 0, False), ("0640", 0, False), (None, 0, False), ("group", STRANGER, False)],
)  # fmt: skip
def test_files_of_others_count_where_the_group_shares(
    git_repository: Path, value: str | None, group: int, taken: bool
) -> None:
    """Only with git's own setting, and only in the git directory's group."""
    if value is not None:
        command = ["git", "config", "core.sharedRepository", value]
        subprocess.run(command, cwd=git_repository, check=True, timeout=30)
    private = discover(str(git_repository), {}).private
    private.open(make=True).close()
    path = Path(private.path) / "remotes"
    path.write_bytes(b"x")
    os.chown(path, STRANGER, group)
    with private.open() as folder:
        if taken:
            assert folder.read("remotes") == b"x"
        else:
            with pytest.raises(NotPrivate, match="belongs to another user"):
                folder.read("remotes")


@needs_root
def test_a_key_of_another_user_is_no_key(git_repository: Path) -> None:
    """Not even where the group shares; of the git directory's owner for root alone."""
    command = ["git", "config", "core.sharedRepository", "group"]
    subprocess.run(command, cwd=git_repository, check=True, timeout=30)
    keys = private_folder(f"{git_repository}/.git").below("actors").below("00" * 16).below("keys")
    keys.open(make=True).close()
    path = Path(keys.path) / "signing.key"
    path.write_bytes(b"0" * KEY_FILE_BYTES_MAX)
    os.chown(path, STRANGER, 0)
    with keys.open() as folder:
        with pytest.raises(NotPrivate, match="belongs to another user"):
            folder.read("signing.key")
        os.chown(git_repository / ".git", STRANGER, 0)
        assert folder.read("signing.key")


def test_gits_files_are_read_without_waiting(tmp_path: Path) -> None:
    """A pipe and a folder are told apart from a file, and a link is followed where it may be."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(NotPrivate, match="is a pipe"):
        read_plain(str(tmp_path / "pipe"), 10)
    with pytest.raises(IsADirectoryError):
        read_plain(str(tmp_path), 10)
    assert read_plain(str(tmp_path / "link"), 10) == b"x" * 10
    with pytest.raises(NotPrivate, match="is larger than 9 bytes"):
        read_plain(str(tmp_path / "link"), 9)
    with pytest.raises(NotPrivate, match="is a symbolic link"):
        read_plain(str(tmp_path / "link"), 10, follow=False)
