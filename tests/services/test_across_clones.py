"""Clones with clocks that differ, and clones of different versions, agree after a sync."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grit.core import codec
from grit.services import issues
from grit.services.refresh import refresh
from grit.services.sync import sync
from grit.services.workspace import Ports, Workspace, open_workspace
from grit.services.write import Transaction, write
from tests.core.builders import created, event
from tests.faults.machine import git
from tests.services.clinic import Patient

HOUR_MS = 3_600_000
UNKNOWN_KIND = 4711


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three empty clones of one bare remote."""
    bare = tmp_path / "origin.git"
    git(tmp_path, "init", "-q", "--bare", str(bare))
    for name in ("one", "two", "three"):
        git(tmp_path, "clone", "-q", str(bare), name)
    return tmp_path / "one", tmp_path / "two", tmp_path / "three"


def _at(folder: Path, ahead_ms: int, work: Callable[[Workspace], object]) -> None:
    """Work in a clone whose clock is ahead by so much."""
    ports = Ports(dict(os.environ), lambda: time.time_ns() // 1_000_000 + ahead_ms, os.urandom)
    workspace = open_workspace(str(folder), ports)
    try:
        work(workspace)
    finally:
        workspace.close()


def test_row_21_an_issue_closed_by_a_clock_one_hour_behind_is_closed_everywhere(
    clones: tuple[Path, Path, Path],
) -> None:
    """Who closes what it has read wins over it, though its clock says that it was earlier."""
    one, two, _ = clones

    issue = created().issue_id

    def reopen(transaction: Transaction) -> None:
        issues.create(transaction, issue, "read, then closed")
        for state in ("closed", "open"):
            issues.set_state(transaction, issue.hex(), state)

    _at(one, 0, lambda workspace: write(workspace, reopen, lambda _: "reopen"))
    _at(one, 0, sync)
    _at(two, -HOUR_MS, sync)

    def close(transaction: Transaction) -> None:
        issues.set_state(transaction, issue.hex(), "closed")

    _at(two, -HOUR_MS, lambda workspace: write(workspace, close, lambda _: "close"))
    _at(two, -HOUR_MS, sync)
    _at(one, 0, sync)
    for folder in (one, two):
        clone = Patient(folder)
        assert clone.data("show", issue.hex())["issue"]["state"] == "closed"
        clone.data("rebuild")
        assert clone.data("show", issue.hex())["issue"]["state"] == "closed"


def test_row_28_an_older_grit_passes_on_what_it_does_not_know(
    clones: tuple[Path, Path, Path],
) -> None:
    """A kind of a newer version goes through an older clone, which writes and joins beside it."""
    one, two, three = (Patient(folder) for folder in clones)
    strange = event(UNKNOWN_KIND, "x", 1, b"\xff", (None, ("deep",)))
    one.append(created(), strange)
    one.data("sync")
    two.data("new", "made by the older one")
    two.data("sync")
    assert "kind 4711" in two.check("kinds").message
    two.data("comment", created().issue_id.hex(), "--body", "more")
    two.data("sync")
    three.data("sync")
    one.data("sync")
    for clone in (one, two, three):
        assert clone.data("ls")["total"] == 2
        workspace = clone.workspace()
        records = {found.event_id: record for found, record in refresh(workspace).all_events()}
        workspace.close()
        assert records[strange.event_id] == codec.encode_record(strange)
