"""Real commands, kills, collections, rollbacks: every acknowledged event is everywhere, once."""

import os
from pathlib import Path

import pytest

from tests.simulation.soak import soak

LONG = os.environ.get("GRIT_FAULTS") == "all"
SEEDS = (1, 2, 3, 4) if LONG else (int(os.environ.get("GRIT_TEST_SEED", "1")),)
EVENTS, SECONDS = (8_000, 900.0) if LONG else (600, 12.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_soak_loses_and_doubles_nothing(seed: int, tmp_path: Path) -> None:
    """Four threads act on three clones and two remotes; at the end all exports are equal."""
    done = soak(seed, EVENTS, SECONDS, tmp_path / "world")
    assert done.well, f"seed {seed}: {done._replace(failures=done.failures[:5])}"
    assert done.acknowledged >= (EVENTS // 4 if LONG else 20), done
