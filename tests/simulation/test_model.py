"""The model converges from every seed, contains what it should, and notices every broken rule."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from grit.core import events, fold
from grit.core.events import KINDS, Event
from grit.core.issue import Issue, Summary
from tests.simulation import log, view, world
from tests.simulation.log import Commit, Objects
from tests.simulation.model import Failed, Report, run
from tests.simulation.operations import UNKNOWN_KIND
from tests.simulation.replica import POINTS, Backup, Replica, Snapshot

RUNS = 1_000 if os.environ.get("GRIT_HYPOTHESIS_PROFILE") == "long" else 40
SEEDS_TO_FIND = 40
"""A broken rule must show within so many seeds."""


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    """What the runs of CI ended with; a failure prints its seed and steps."""
    return [run(seed) for seed in range(RUNS)]


def test_all_replicas_converge_to_the_same_bytes(reports: list[Report]) -> None:
    """After all have met, every clone shows the same bytes, with every acknowledged event once."""
    assert len({report.state for report in reports}) == RUNS
    assert all(report.head for report in reports)


def test_the_runs_contain_what_they_are_about(reports: list[Report]) -> None:
    """Every kind is written, and every fault happens, in the seeds that CI runs."""
    met = sum((report.met for report in reports), Counter[str]())
    expected = [f"kind {tag}" for tag in (*KINDS, UNKNOWN_KIND)]
    expected += [f"killed: {point}" for point in POINTS]
    expected += [f"message: {fate}" for fate in ("lost", "sent", "doubled")]
    expected += ["joins", "overtaken", "refused", "incomplete fetch", "incomplete push"]
    expected += ["push done", "push rejected", "lost with a disk"]
    expected += ["snapshots used", "snapshots that lie", "partition", "clock"]
    assert [name for name in expected if not met[name]] == []


def test_one_seed_is_one_run() -> None:
    """The same seed gives the same steps, the same state and the same commits."""
    assert run(7) == run(7)
    assert run(7).state != run(8).state


def test_a_failure_names_its_seed_and_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sees a failure can repeat it."""
    monkeypatch.setattr(Replica, "join", lambda self: 0)
    with pytest.raises(Failed, match=r"(?s) writes as actor.*--seed 3 --steps 50"):
        run(3, 50)


# What the simulator must find: each of these breaks one rule.


def _fold_by_arrival(patch: pytest.MonkeyPatch) -> None:
    """The last event to arrive is applied last, whatever its place in the order."""

    def insort(history: list[Event], event: Event, **_: object) -> None:
        history.append(event)

    patch.setattr(view, "insort", insort)


def _advance_always(patch: pytest.MonkeyPatch) -> None:
    """A late event is applied on top instead of folding its issue again."""

    def fold_in(row: Summary | None, history: list[Event], added: list[Event]) -> Summary | None:
        return fold.summarise(history) if row is None else fold.advance(row, added)

    patch.setattr(view, "fold_in", fold_in)


def _count_twice(patch: pytest.MonkeyPatch) -> None:
    """An event that is known already counts again."""

    def apply(self: view.View, news: Iterable[Event], head: str | None) -> None:
        known = list(news)
        for event in known:
            self.events.pop(event.event_id, None)
        original(self, known, head)

    original = view.View.apply
    patch.setattr(view.View, "apply", apply)


def _join_drops(patch: pytest.MonkeyPatch) -> None:
    """A join takes over one of its heads alone."""

    def put(objects: Objects, commit: Commit) -> str:
        return original(objects, commit._replace(parents=commit.parents[:1]))

    original = log.put
    patch.setattr(log, "put", put)


def _join_differs(patch: pytest.MonkeyPatch) -> None:
    """Each clone makes its own commit of the same join, so that joins beget joins."""

    def put(objects: Objects, commit: Commit) -> str:
        noise = (b"GRITCHNK\x01\x00\x07cbor-v1\x80",) * (len(objects) % 7)
        mixed = commit if commit.chunks else commit._replace(chunks=noise)
        return original(objects, mixed)

    original = log.put
    patch.setattr(log, "put", put)


def _swap_blindly(patch: pytest.MonkeyPatch) -> None:
    """The ref is written without comparing."""

    def swap(self: Replica, old: str | None, new: str) -> bool:
        self.head = new
        return True

    patch.setattr(Replica, "swap", swap)


def _fetch_takes_over(patch: pytest.MonkeyPatch) -> None:
    """What was fetched replaces the log, as a forced refspec into refs/grit/ would."""

    def join(self: Replica) -> int:
        for theirs in self.tracking.values():
            self.head = theirs
        return 0

    patch.setattr(Replica, "join", join)


def _clock_of_the_wall(patch: pytest.MonkeyPatch) -> None:
    """Events bear the wall clock, whatever was seen before."""
    patch.setattr("grit.services.write.next_ts", lambda now_ms, seen_ms: now_ms)


def _believe_snapshots(patch: pytest.MonkeyPatch) -> None:
    """A snapshot is used if its head is known, without a look at the log."""

    def usable(self: Replica, snapshot: Snapshot) -> bool:
        return log.is_ancestor(self.objects, snapshot.wal_head, self.head)

    patch.setattr(Replica, "_is_usable", usable)


def _trust_the_view(patch: pytest.MonkeyPatch) -> None:
    """A view of another log is brought up to date instead of being built anew."""

    def restore(self: Replica, backup: Backup) -> None:
        original(self, backup)
        self.view.head = backup.head

    original = Replica.restore
    patch.setattr(Replica, "restore", restore)


def _publish_before_the_objects(patch: pytest.MonkeyPatch) -> None:
    """A fetch moves the tracking ref although objects are missing."""
    patch.setattr(world, "_take", lambda receiver, commits, head: True)


def _tie_by_arrival(patch: pytest.MonkeyPatch) -> None:
    """Events of one millisecond stand in the order of arrival."""
    patch.setattr(Event, "order", property(lambda self: (self.ts_unix_ms, b"", b"")))


def _drop_orphans(patch: pytest.MonkeyPatch) -> None:
    """Events of an issue that is not there yet are forgotten."""

    def apply(self: view.View, news: Iterable[Event], head: str | None) -> None:
        known = list(news)
        born = {event.issue_id for event in known if event.tag == events.ISSUE_CREATED}
        kept = [one for one in known if one.issue_id in born or one.issue_id in self.rows]
        original(self, kept, head)

    original = view.View.apply
    patch.setattr(view.View, "apply", apply)


def _fold_with_memory(patch: pytest.MonkeyPatch) -> None:
    """The whole fold depends on how often it was done."""
    calls = Counter[str]()

    def folded(history: Iterable[Event]) -> Issue | None:
        calls["fold"] += 1
        issue = fold.fold(history)
        return issue and issue._replace(body=issue.body + str(calls["fold"] // 40))

    patch.setattr(view, "fold", folded)


BREAKS: tuple[Callable[[pytest.MonkeyPatch], Any], ...] = (
    _fold_by_arrival, _advance_always, _count_twice, _join_drops, _swap_blindly,
    _fetch_takes_over, _clock_of_the_wall, _believe_snapshots, _trust_the_view,
    _publish_before_the_objects, _tie_by_arrival, _drop_orphans, _fold_with_memory,
    _join_differs,
)  # fmt: skip


@pytest.mark.parametrize("broken", BREAKS, ids=lambda one: one.__name__.strip("_"))
def test_a_broken_rule_is_found(
    broken: Callable[[pytest.MonkeyPatch], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule that is broken on purpose makes some seed fail: the simulator can fail."""
    broken(monkeypatch)
    with pytest.raises(Failed):
        for seed in range(SEEDS_TO_FIND):
            run(seed)
