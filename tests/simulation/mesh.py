"""Clones that fetch from each other, without a remote in common: rounds and joins to one head."""

from itertools import permutations
from random import Random
from typing import NamedTuple

from tests.simulation import log
from tests.simulation.log import Commit
from tests.simulation.replica import Replica

ROUNDS_MAX = 100


class Meshed(NamedTuple):
    """How long it took."""

    rounds: int
    """In a round everybody fetches from everybody; all show the same after the first."""
    joins: int
    """Joins that were made in all, by whomever."""


def meet(count: int, seed: int, lazy: float) -> Meshed:
    """Let clones with a log each meet until all have one head.

    `lazy` is the share of fetches after which no command runs: their heads are joined at the end
    of the round, together, each clone going through them in the order of their names as grit does.
    """
    pick = Random(seed)
    clones = [Replica(f"clone{number}") for number in range(count)]
    for clone in clones:
        clone.head = log.put(clone.objects, Commit((), (clone.name.encode(),)))
    joins = 0
    for rounds in range(1, ROUNDS_MAX):
        pairs = list(permutations(clones, 2))
        pick.shuffle(pairs)
        for clone, other in pairs:
            assert other.head is not None
            clone.objects.update(other.commits())
            clone.tracking[other.name] = other.head
            if pick.random() >= lazy:
                joins += clone.join()
        joins += sum(clone.join() for clone in clones)
        chunks = [{c for one in clone.commits().values() for c in one.chunks} for clone in clones]
        assert all(len(one) == count for one in chunks), "a chunk is missing after a round"
        if len({clone.head for clone in clones}) == 1:
            return Meshed(rounds, joins)
    raise AssertionError(f"no common head after {ROUNDS_MAX} rounds: seed {seed}")
