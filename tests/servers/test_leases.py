"""Leases over every server: one holder at a time, one winner of a race."""

import pytest

from tests.servers.conftest import Serving, kinds
from tests.servers.desk import finish

pytestmark = pytest.mark.slow

Pair = tuple[str, int]
RACERS = ("ann", "ben", "cara", "dan")


def test_row_23_a_lease_goes_from_clone_to_clone(pair: Pair, serving: Serving) -> None:
    """Acquired here, refused there, given back, taken there; the log goes on syncing."""
    place = serving(*pair).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("one")
    ann.sync()
    ben.sync()
    ann.ok("lock", "acquire", "path:src")
    refused = ben.refused("lock", "acquire", "path:src/deep")
    assert refused.status == 4, refused.err
    ann.ok("lock", "release", "path:src")
    taken = ben.ok("lock", "acquire", "path:src", "--json").data["lock"]
    assert taken["fence"] == 2, taken
    assert ann.refused("lock", "acquire", "path:src").status == 4
    ann.new("two")
    for desk in (ann, ben, ann):
        desk.sync()
    assert ann.export() == ben.export()
    assert ann.refused("lock", "acquire", "path:src").status == 4


@kinds("http", "dulwich")
def test_row_24_of_racing_clones_exactly_one_gets_the_lease(kind: str, serving: Serving) -> None:
    """The server's compare-and-swap decides: one exit 0, the others 4 and the winner's name.

    (dulwich's server hangs up on who comes while its ref is locked: exit 5, with git's words.)
    """
    place = serving(kind).begin()
    desks = [place.clone(name) for name in RACERS]
    for desk in desks:
        desk.ok("init")
    racing = [desk.start("lock", "acquire", "repo:release") for desk in desks]
    done = [finish(process) for process in racing]
    won = [one for one in done if one.status == 0]
    lost = [one for one in done if one.status == 4 or (kind == "dulwich" and one.status == 5)]
    assert (len(won), len(lost)) == (1, 3), [(one.status, one.err) for one in done]
    assert all(one.err.strip() for one in lost)
    assert len(place.refs("refs/grit/locks/")) == 1
