"""`grit init --agents-md` changes its own section and nothing else (spec/wal.md, Private files)."""

import os
from pathlib import Path

import pytest

from grit.cli.agents import _BEGIN, _END, planned, write
from grit.core.errors import Conflict, IoFailed
from grit.services.workspace import Ports, Workspace, open_workspace

OTHERS = b"# Ours\n\nkeep this\n"


@pytest.fixture
def workspace(git_repository: Path) -> Workspace:
    """A repository with a working tree."""
    return open_workspace(str(git_repository), Ports(dict(os.environ), lambda: 0, os.urandom))


def _file(workspace: Workspace) -> Path:
    return Path(str(workspace.repository.worktree)) / "AGENTS.md"


@pytest.mark.parametrize(
    "old", [b"", b"one line", OTHERS, OTHERS + b"\n\n\n", b"\xff\xfe\n", b"a\r\nb\r\n", b"\n"]
)
def test_what_was_there_stays_byte_for_byte(workspace: Workspace, old: bytes) -> None:
    """The section comes at the end, once, with the line ends of the file."""
    path = _file(workspace)
    path.write_bytes(old)
    assert write(workspace)
    new = path.read_bytes()
    assert new.startswith(old) and new.count(_BEGIN.encode()) == new.count(_END.encode()) == 1
    assert (b"\r\n" in old) == (b"\r\n" in new[len(old) :])
    assert not write(workspace)
    assert path.read_bytes() == new


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_section_is_replaced_in_its_place(workspace: Workspace, newline: bytes) -> None:
    """What stands before and after it stays, blank lines and a missing last newline too."""
    before, after = newline.join([b"# A", b"", b""]), newline.join([b"", b"", b"# B", b"last"])
    marks = newline.join([_BEGIN.encode(), b"old words", _END.encode(), b""])
    path = _file(workspace)
    path.write_bytes(before + marks + after)
    assert write(workspace)
    new = path.read_bytes()
    assert new.startswith(before + _BEGIN.encode()) and new.endswith(after)
    assert b"old words" not in new
    assert not write(workspace)


@pytest.mark.parametrize(
    "marks",
    [(_BEGIN,), (_END,), (_END, _BEGIN), (_BEGIN, _BEGIN, _END), (_BEGIN, _END, _END)],
    ids=["no end", "no begin", "wrong order", "two begins", "two ends"],
)
def test_markers_that_do_not_fit_are_refused(workspace: Workspace, marks: tuple[str, ...]) -> None:
    """Nobody knows what lies between: nothing is changed."""
    path = _file(workspace)
    old = OTHERS + "".join(f"{mark}\nwords\n" for mark in marks).encode() + OTHERS
    path.write_bytes(old)
    with pytest.raises(Conflict, match="nothing was changed"):
        planned(workspace)
    assert path.read_bytes() == old


def test_the_mode_stays(workspace: Workspace) -> None:
    """Whatever the umask says, and no temporary file is left."""
    path = _file(workspace)
    path.write_bytes(OTHERS)
    path.chmod(0o664)
    before = os.umask(0o077)
    try:
        assert write(workspace)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o664
    assert sorted(os.listdir(path.parent)) == [".git", "AGENTS.md"]


def test_a_link_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    """The file of another name is its author's to change."""
    (tmp_path / "CLAUDE.md").write_bytes(OTHERS)
    _file(workspace).symlink_to(tmp_path / "CLAUDE.md")
    with pytest.raises(IoFailed, match=r"AGENTS.md is a symbolic link"):
        write(workspace)
    assert (tmp_path / "CLAUDE.md").read_bytes() == OTHERS
