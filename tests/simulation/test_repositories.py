"""Real repositories converge from every seed, and the check of them notices what is broken."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grit.core.errors import NotFound
from grit.services.sync import sync
from tests.simulation import repositories
from tests.simulation.clone import REF, killed_after
from tests.simulation.repositories import Repositories, run

RUNS = 100 if os.environ.get("GRIT_HYPOTHESIS_PROFILE") == "long" else 6


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """What the runs of CI contained; a failure prints its seed and steps."""
    folder = tmp_path_factory.mktemp("worlds")
    return sum((run(seed, folder=folder / str(seed)) for seed in range(RUNS)), Counter[str]())


def test_real_clones_converge_to_the_same_bytes(met: Counter[str]) -> None:
    """After two syncs each, all export the same, with every acknowledged event once."""
    assert met["write"] > 10 * RUNS


def test_the_runs_contain_what_they_are_about(met: Counter[str]) -> None:
    """Kills before and after publishing, rushes, joins, plain git, lost views: all happen."""
    expected = ["joins", "write killed", "write killed after publishing", "sync killed"]
    expected += ["fetch", "fetch from a peer", "push done", "push rejected", "gc or pack-refs"]
    expected += ["view deleted", "rebuild killed", "restore", "remote set back", "ref moved back"]
    expected += ["rush", "snapshots used", "race for a lease"]
    assert [name for name in expected if not met[name]] == []


def test_a_fuse_kills_before_publishing_or_after() -> None:
    """A child is killed at the boundary that was asked for, ends when there is none, or refuses."""

    def refuse() -> None:
        raise NotFound("no such thing")

    assert killed_after(lambda: os.mkdir("/"), 1) == "killed"
    assert killed_after(lambda: None, 1) == "done"
    assert killed_after(refuse, 1) == "refused"


def _lose_an_event(world: Repositories) -> None:
    """All go back a commit, with everything by which grit would notice and mend it."""
    for clone in world.clones:
        clone.drop_view()
        clone.git("update-ref", REF, f"{REF}~1")
        listed = clone.git("for-each-ref", "--format=%(refname)", "refs/grit-remotes")
        for line in listed.stdout.splitlines():
            clone.git("update-ref", "-d", line)


def _double_a_chunk(world: Repositories) -> None:
    """The events of the log are stored again, in another chunk."""
    from grit.core.codec import encode_chunk
    from grit.services.refresh import refresh

    with world.clones[0].opened() as workspace:
        events = list(refresh(workspace).all_events())
        workspace.wal.append(
            [encode_chunk(events[::-1])],
            old=workspace.wal.head(),
            message="again",
            trailers=(),
            ts_unix_ms=world.now_ms,
            actor_id=events[0].actor_id,
            event_count=len(events),
        )


def _damage_an_object(world: Repositories) -> None:
    """A loose object of one clone is empty."""
    objects = world.clones[0].folder / ".git/objects"
    loose = next(path for path in sorted(objects.glob("[0-9a-f][0-9a-f]/*")) if path.is_file())
    loose.chmod(0o644)
    loose.write_bytes(b"")


def _acknowledge_too_much(world: Repositories) -> None:
    """An event was acknowledged and is nowhere."""
    from grit.core.ids import EventId

    world.acknowledged.add(EventId(b"\x01" * 32))


BREAKS = (_lose_an_event, _double_a_chunk, _damage_an_object, _acknowledge_too_much)


@pytest.mark.parametrize("broken", BREAKS, ids=lambda one: one.__name__.strip("_"))
def test_the_check_notices(
    broken: Callable[[Repositories], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is broken after the last sync makes the run fail, with its seed in the message."""
    original = repositories.quiesce

    def quiesce(world: Repositories) -> None:
        original(world)
        broken(world)

    monkeypatch.setattr(repositories, "quiesce", quiesce)
    with pytest.raises(AssertionError, match=r"(?s) write.*--seed 1 --steps 12"):
        run(1, 12, tmp_path / "world")


def test_a_sync_that_forgets_to_push_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clones that never send do not converge."""
    monkeypatch.setattr(repositories, "sync", lambda workspace: sync(workspace, push=False))
    with pytest.raises(AssertionError, match=r"(events are gone|show different things)"):
        run(2, 25, tmp_path / "world")
