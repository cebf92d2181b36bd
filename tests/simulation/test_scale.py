"""Replicas of a larger tracker fold to one state, whatever order its chunks arrive in."""

from tests.simulation.scale import Shape, fold_replica, generate


def test_replicas_of_many_actors_agree() -> None:
    """100 actors on three replicas, 5,000 events, delivered late and twice: one state."""
    shape = Shape(actors=100, events=5_000, replicas=3, seed=1)
    chunks = generate(shape)
    folded = [fold_replica(chunks, seed) for seed in range(3)]
    assert {one.events for one in folded} == {shape.events}
    assert len({one.digest for one in folded}) == 1


def test_a_chunk_that_is_missing_shows() -> None:
    """The state tells when one chunk did not arrive."""
    chunks = generate(Shape(actors=10, events=1_000, replicas=2, seed=2))
    assert fold_replica(chunks, 1).digest != fold_replica(chunks[:-1], 1).digest
