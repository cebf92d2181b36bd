"""Repositories for fault tests."""

from pathlib import Path

import pytest

from tests.faults.machine import git, need_strace, ok


@pytest.fixture
def traced() -> None:
    """Skip the test where processes cannot be traced."""
    need_strace()


@pytest.fixture
def tracker(tmp_path: Path) -> Path:
    """A repository with an actor, one issue and a commit; the folder."""
    folder = tmp_path / "tracker"
    git(tmp_path, "init", "-q", str(folder))
    (folder / "file").write_text("content\n")
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "begin")
    ok(folder, "init")
    ok(folder, "new", "the first")
    return folder
