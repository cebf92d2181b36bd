"""A whole run of the model: steps, quiescence, and what must hold afterwards."""

from collections import Counter
from itertools import permutations
from typing import NamedTuple

from tests.simulation import log
from tests.simulation.replica import Replica
from tests.simulation.view import View, state_bytes
from tests.simulation.world import HUB, World

STEPS = 150
"""Of a run, unless told otherwise."""


class Failed(AssertionError):
    """A rule was broken; the text holds the seed and the steps."""


class Report(NamedTuple):
    """What a run ended with, for comparing runs and for counting what they contain."""

    state: bytes
    head: str | None
    steps: tuple[str, ...]
    met: Counter[str]


def run(seed: int, steps: int = STEPS) -> Report:
    """Run a world to its end; raise Failed with seed and steps when a rule is broken."""
    world = World(seed)
    try:
        for _ in range(steps):
            world.step()
        state = quiesce(world)
    except Exception as error:
        told = "\n".join(world.steps)
        raise Failed(
            f"{told}\n{type(error).__name__}: {error}\n"
            f"seed {seed}: repeat with tools/simulate --seed {seed} --steps {steps}"
        ) from error
    head = next(iter(world.clones.values())).head
    return Report(state, head, tuple(world.steps), world.met)


def quiesce(world: World) -> bytes:
    """Heal the network, deliver or drop what is under way, let all meet; return the state.

    When each has fetched from each, all show the same, though heads may differ by joins of the
    same events. When each has synced twice with the remote, the heads are the same too.
    """
    world.heal(None)
    if world.pick.random() < 0.5:
        world.deliver(everything=True)
    world.under_way.clear()
    met = None
    if world.pick.random() < 0.5:
        _meet(world)
        met = check(world)
    _sync_twice(world)
    heads = {name: place.head for name, place in world.places.items()}
    assert len(set(heads.values())) == 1, f"heads differ: {heads}"
    state = check(world)
    assert met in (None, state), "a sync with nothing new changed the state"
    return state


def _sync_twice(world: World) -> None:
    """Fetch, join and push with the one remote, every clone two times."""
    hub = world.places[HUB]
    for _ in range(2):
        clones = list(world.clones.values())
        world.pick.shuffle(clones)
        for clone in clones:
            _fetch(clone, hub)
            world.met["joins"] += clone.join()
            if clone.head is not None:
                hub.objects.update(clone.commits())
                assert log.is_ancestor(hub.objects, hub.head, clone.head)
                hub.head = clone.head


def _meet(world: World) -> None:
    """Let every place fetch from every other, in any order, and join now or later."""
    for place in world.places.values():
        # A head fetched before may hold what was lost with a disk, and must not turn up half-way.
        place.join()
    pairs = list(permutations(world.places.values(), 2))
    world.pick.shuffle(pairs)
    for place, other in pairs:
        _fetch(place, other)
        if world.pick.random() < 0.7:
            world.met["joins"] += place.join()
    for place in world.places.values():
        world.met["joins"] += place.join()


def _fetch(place: Replica, other: Replica) -> None:
    if other.head is not None:
        place.objects.update(other.commits())
        place.tracking[other.name] = other.head


def check(world: World) -> bytes:
    """Check everything that must hold when all have met; return the state that all show."""
    states: dict[str, bytes] = {}
    for name, clone in world.clones.items():
        clone.refresh()
        states[name] = state_bytes(clone.view)
        scratch = View()
        scratch.apply(reversed(clone.events()), clone.head)
        assert states[name] == state_bytes(scratch), f"{name}: its view is not a rebuild"
        clone.rebuild()
        assert states[name] == state_bytes(clone.view), f"{name}: a snapshot changed the state"
        _check_events(world, clone)
    _check_joins(world)
    assert len(set(states.values())) == 1, "the replicas show different states"
    return states.popitem()[1]


def _check_events(world: World, clone: Replica) -> None:
    """Every acknowledged event is there once, and every command wholly or not at all."""
    stored = Counter(event.event_id for event in clone.events())
    missing = world.acknowledged - stored.keys()
    assert not missing, f"{clone.name}: {len(missing)} acknowledged events are gone"
    invented = stored.keys() - world.acknowledged - world.perhaps
    assert not invented, f"{clone.name}: {len(invented)} events that nobody stored"
    often = [one for one, count in stored.items() if count > world.times_stored[one]]
    assert not often, f"{clone.name}: {len(often)} events are in the log more than once"
    assert set(clone.view.events) == set(stored), f"{clone.name}: the view has other events"
    assert sum(map(len, clone.view.histories.values())) == len(stored)
    for ids in world.commands:
        # What two clones made alike in one millisecond may be there without its companions.
        own = [one in stored for one in ids if world.times_stored[one] == 1]
        assert len(set(own)) < 2, f"{clone.name}: {sum(own)} of {len(own)} events of a command"


def _check_joins(world: World) -> None:
    """Two heads have one join, whoever made it: else joins would have to be joined for ever."""
    joins: dict[frozenset[str], str] = {}
    for place in world.places.values():
        for oid, commit in place.objects.items():
            if len(commit.parents) > 1:
                first = joins.setdefault(frozenset(commit.parents), oid)
                assert first == oid, f"{place.name}: {oid[:7]} joins what {first[:7]} joins"
