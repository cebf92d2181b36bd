"""Plain git at work beside grit and without it: everything is seen at once, nothing is lost."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.machine import events
from tests.servers.conftest import FULL_PRODUCT, Serving, kinds
from tests.servers.desk import Desk
from tests.servers.hosts import KINDS

pytestmark = pytest.mark.slow

LOG = "refs/grit/wal"
Pair = tuple[str, int]
ROUNDS = 20 if FULL_PRODUCT else 4


def test_row_19_plain_fetch_and_push_carry_events(pair: Pair, serving: Serving) -> None:
    """`git fetch` brings what the next command shows and joins; `git push` sends it on."""
    place = serving(*pair).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.ok("init")
    ann.new("by ann")
    ann.git("push", "-q", "origin", "refs/grit/*")
    ben.ok("init")
    assert ben.titles() == ["by ann"]
    ben.new("by ben")
    ben.git("push", "-q", "origin", "refs/grit/*")
    ann.new("offline")
    ann.git("fetch", "-q", "origin")
    assert ann.titles() == ["by ann", "by ben", "offline"]
    ann.new("after")
    ann.git("push", "-q", "origin", "refs/grit/*")
    assert set(place.refs("refs/grit/")) == {LOG}, "the mirror of a remote was sent on"
    ben.git("pull", "-q", "--no-rebase")
    assert ben.titles() == ["after", "by ann", "by ben", "offline"]
    assert ann.export() == ben.export()


@kinds("path", full=KINDS)
def test_row_19_git_at_work_beside_syncs_loses_nothing(kind: str, serving: Serving) -> None:
    """fetch --prune, gc, pack-refs and push of both sides while two clones write and sync."""
    place = serving(kind).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    for desk in (ann, ben):
        desk.ok("init")
    written: list[str] = []
    with _running(
        lambda: ann.try_git("fetch", "-q", "--prune", "origin"),
        lambda: ann.try_git("pack-refs", "--all", "--prune"),
        lambda: ben.try_git("gc", "-q"),
        lambda: ben.try_git("push", "-q", "origin", "refs/grit/*"),
        lambda: place.git("pack-refs", "--all", "--prune"),
    ):
        for number in range(ROUNDS):
            for name, desk in (("ann", ann), ("ben", ben)):
                title = f"{name} {number}"
                desk.new(title)
                written.append(title)
                done = desk.grit("sync")
                assert done.status == 0 or done.err.strip(), "failed without a word"
                assert set(desk.titles()) >= {one for one in written if one.startswith(name)}
    for desk in (ann, ben, ann):
        desk.sync()
    assert ann.titles() == ben.titles() == sorted(written)
    assert events(ann.folder) == events(ben.folder)
    assert place.refs()[LOG] == ann.ref() == ben.ref()


@contextmanager
def _running(*actions: object) -> Iterator[None]:
    """Do each of the actions again and again, beside the block."""
    over = threading.Event()
    failed: list[BaseException] = []

    def again(action: object) -> None:
        assert callable(action)
        try:
            while not over.wait(0.05):
                action()
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            failed.append(error)

    threads = [threading.Thread(target=again, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failed, failed


def test_row_19_a_rewound_tracking_ref_rewinds_nothing(serving: Serving) -> None:
    """Tracking refs are the remote's; moving or deleting them by hand changes no answer."""
    place = serving("path").begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("one", "two")
    ann.sync()
    ben.sync()
    before = ben.export()
    tracked = "refs/grit-remotes/origin/wal"
    ben.git("update-ref", tracked, f"{tracked}~1")
    assert ben.export() == before
    ben.git("update-ref", "-d", tracked)
    assert ben.export() == before
    _push_by_hand(ann, "three")
    ben.git("fetch", "-q", "origin")
    assert ben.titles() == ["one", "three", "two"]


def _push_by_hand(desk: Desk, title: str) -> None:
    desk.new(title)
    desk.git("push", "-q", "origin", LOG)
