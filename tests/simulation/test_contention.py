"""Many clones meet at one remote at once: nothing is lost, and all are equal after two syncs."""

from pathlib import Path

import pytest

from tests.simulation.contention import WAYS, contend, converge, prepare


def test_offline_clones_are_equal_after_two_syncs(tmp_path: Path) -> None:
    """8 clones with 3 offline events each, all syncing at once: one head, nothing missing."""
    done = converge(tmp_path / "world", 8, 3, 8)
    assert (done.heads, done.missing, done.failed) == (1, 0, 0)


@pytest.mark.slow
def test_fifty_offline_clones_are_equal_after_two_syncs(tmp_path: Path) -> None:
    """50 clones with 20 offline events each, 8 syncing at once: one head, nothing missing."""
    done = converge(tmp_path / "world", 50, 20, 8)
    assert (done.heads, done.missing, done.failed) == (1, 0, 0)


def test_pushes_at_once_are_counted(tmp_path: Path) -> None:
    """Every way of pushing gets through with several pushers, and each taken push is stored."""
    clones = prepare(tmp_path / "world", 3)
    for how in WAYS:
        done = contend(how, clones, 0.5)
        assert done.pushes >= 3 and not done.gave_up, done
        if how == "grit sync":
            taken = done.pushes
    look = clones[0]
    look.git("fetch", "-q", "origin")
    with look.opened() as workspace:
        from grit.services.refresh import refresh

        comments = [event for event in refresh(workspace).all_events() if event.tag == 3]
    assert len(comments) == taken
