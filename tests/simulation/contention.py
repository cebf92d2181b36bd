"""Many clones that push to one remote at once, and raw git doing the like, counted and timed."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from grit.core.errors import Busy, Conflict
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.sync import sync
from grit.services.workspace import Workspace
from grit.services.write import Transaction, write
from tests.simulation.clone import Clone, environment, git_ok, make_keys
from tests.simulation.scale import join_child, start_child

START_MS = 1_700_000_000_000
ISSUE = IssueId(b"\x01" * 16)
_CONFIG = """[user]
    name = Sim Example
    email = sim@example.org
[gc]
    auto = 0
[receive]
    autogc = false
"""


class Pushing(NamedTuple):
    """What some pushers did together in some seconds."""

    how: str
    pushers: int
    seconds: float
    pushes: int
    """Pushes that were taken."""
    rejected: int
    """Pushes that came too late and were tried again."""
    gave_up: int
    """Tries that ended without success, with everything kept for the next one."""

    @property
    def rate(self) -> float:
        """Successful pushes a second, all together."""
        return self.pushes / self.seconds


def prepare(folder: Path, count: int) -> list[Clone]:
    """Make a bare remote with a log of one issue, and clones of it."""
    (folder / "home").mkdir(parents=True)
    (folder / "home/.gitconfig").write_text(_CONFIG)
    environ = environment(folder / "home")
    hub = folder / "hub.git"
    git_ok(folder, environ, "init", "-q", "--bare", str(hub))
    clones = [Clone(folder / f"clone{n}", environ, str(n)) for n in range(count)]
    for number, clone in enumerate(clones):
        clone.now_ms = START_MS + number
        clone.set_up(hub, make_keys(number, 1))
        with clone.opened() as workspace:
            if number == 0:
                write(workspace, lambda t: issues.create(t, ISSUE, "Meeting point"), _subject)
            sync(workspace)
    return clones


def _subject(_: object) -> str:
    return "simulated"


def comment(workspace: Workspace, text: str) -> None:
    """Write one small event."""

    def work(transaction: Transaction) -> object:
        return issues.comment(transaction, ISSUE.hex(), text)

    write(workspace, work, _subject)


Tally = tuple[int, int, int]
"""Pushes taken, rejected, given up."""


def push_events(clone: Clone, text: str) -> Tally:
    """Write an event and sync it."""
    with clone.opened() as workspace:
        comment(workspace, text)
        try:
            done = sync(workspace)
        except (Conflict, Busy):
            return (0, 0, 1)
    return (1, max(0, done.attempts - 1), 0)


def push_branch(clone: Clone, text: str) -> Tally:
    """Commit to a branch of its own with raw git and push it."""
    _commit(clone, text, "refs/heads/own")
    done = clone.git("push", "-q", "origin", f"refs/heads/own:refs/heads/{clone.name}")
    return (1, 0, 0) if done.returncode == 0 else (0, 0, 1)


def push_shared(clone: Clone, text: str) -> Tally:
    """Commit to one branch that all push to; on rejection fetch, merge and push again at once."""
    _commit(clone, text, "refs/heads/all")
    for rejected in range(200):
        clone.git("fetch", "-q", "origin", "+refs/heads/all:refs/remotes/origin/all")
        _merge(clone)
        if clone.git("push", "-q", "origin", "refs/heads/all").returncode == 0:
            return (1, rejected, 0)
    return (0, 0, 1)


def _commit(clone: Clone, text: str, ref: str, *parents: str) -> None:
    old = clone.git("rev-parse", "-q", "--verify", ref).stdout.strip()
    known = [word for one in (old, *parents) if one for word in ("-p", one)]
    tree = clone.git("mktree").stdout.strip()
    made = git_ok(clone.folder, clone.environ, "commit-tree", *known, "-m", text, tree)
    git_ok(clone.folder, clone.environ, "update-ref", ref, made)


def _merge(clone: Clone) -> None:
    theirs = clone.git("rev-parse", "-q", "--verify", "refs/remotes/origin/all").stdout.strip()
    if not theirs:
        return
    if clone.git("merge-base", "--is-ancestor", theirs, "refs/heads/all").returncode:
        _commit(clone, "merge", "refs/heads/all", theirs)


WAYS: dict[str, Callable[[Clone, str], Tally]] = {
    "grit sync": push_events,
    "git push, own branches": push_branch,
    "git push, one branch": push_shared,
}


def contend(how: str, clones: list[Clone], seconds: float) -> Pushing:
    """Let the clones push at once, each in a process of its own, for about so many seconds."""
    act = WAYS[how]
    begin = time.monotonic() + 0.2

    def pusher(clone: Clone) -> list[int]:
        time.sleep(max(0.0, begin - time.monotonic()))
        totals = [0, 0, 0]
        number = 0
        while time.monotonic() < begin + seconds:
            clone.now_ms += 1_000
            number += 1
            for at, count in enumerate(act(clone, f"{how} {clone.name} {number}")):
                totals[at] += count
        return totals

    children = [start_child(partial(pusher, clone)) for clone in clones]
    tallies = [join_child(child) for child in children]
    took = time.monotonic() - begin
    for clone in clones:
        # What the child did to its clock is not known here.
        clone.now_ms += 1_000_000
    pushes, rejected, gave_up = (sum(tally[at] for tally in tallies) for at in range(3))
    return Pushing(how, len(clones), took, pushes, rejected, gave_up)


class Converged(NamedTuple):
    """How clones that were offline came together."""

    clones: int
    events: int
    rejected: tuple[int, int]
    """Rejected pushes of the first and of the second syncs."""
    failed: int
    """Syncs that ended without success."""
    seconds: float
    heads: int
    """Different heads after the second syncs; 1 is right."""
    missing: int
    """Events that some clone lacks in the end."""


def converge(folder: Path, count: int, offline: int, at_once: int) -> Converged:
    """Let `count` clones write `offline` events each, then sync twice, `at_once` at a time."""
    clones = prepare(folder, count)
    pick = Random(count)
    for clone in clones:
        clone.now_ms += pick.randint(-7_200_000, 7_200_000)
        with clone.opened() as workspace:
            for number in range(offline):
                comment(workspace, f"{clone.name} {number}")
    started = time.monotonic()
    rejected: list[int] = []
    failed = 0
    for _ in range(2):
        pick.shuffle(clones)
        tallies = [
            join_child(child)
            for start in range(0, count, at_once)
            for child in [
                start_child(partial(_sync_once, clone)) for clone in clones[start : start + at_once]
            ]
        ]
        rejected.append(sum(tally[0] for tally in tallies))
        failed += sum(tally[1] for tally in tallies)
    seconds = time.monotonic() - started
    stored = [clone.events() for clone in clones]
    everything = set().union(*stored)
    missing = sum(len(everything) - len(one) for one in stored)
    assert all(max(one.values()) == 1 for one in stored), "an event is in a log twice"
    texts = {clone.exported()[1] for clone in clones[:: max(1, count // 8)]}
    heads = {clone.head() for clone in clones}
    assert len(texts) == 1 or len(heads) > 1, "equal heads show different things"
    total = count * offline
    assert len(everything) >= total, f"{len(everything)} events of {total} are there"
    return Converged(count, total, (rejected[0], rejected[1]), failed, seconds, len(heads), missing)


def _sync_once(clone: Clone) -> Any:
    with clone.opened() as workspace:
        try:
            return (max(0, sync(workspace).attempts - 1), 0)
        except (Conflict, Busy):
            return (0, 1)
