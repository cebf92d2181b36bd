"""Clones without a common remote show the same after one round, and come to one head."""

import pytest

from tests.simulation.mesh import meet


@pytest.mark.parametrize("lazy", [0.0, 0.5, 1.0])
def test_a_mesh_comes_to_one_head(lazy: float) -> None:
    """Joins of joins end: five clones that all fetch from each other need few rounds."""
    done = [meet(5, seed, lazy) for seed in range(10)]
    assert max(one.rounds for one in done) <= 10


def test_two_clones_need_one_round() -> None:
    """Two that join each other at the same moment make the same commit."""
    assert all(meet(2, seed, 1.0) == (1, 2) for seed in range(5))
