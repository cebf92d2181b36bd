"""Clones that meet over every server: the same bytes everywhere, each event once."""

import os
from pathlib import Path

from tests.faults.machine import events
from tests.servers.conftest import Serving, kinds
from tests.servers.desk import Desk, Repository, finish, wait_for
from tests.servers.hosts import OF_GIT

LOG = "refs/grit/wal"
Pair = tuple[str, int]


def _meet(*desks: Desk) -> None:
    """Everybody syncs twice."""
    for _ in range(2):
        for desk in desks:
            desk.sync()


def _all_equal(place: Repository, *desks: Desk) -> list[str]:
    """Check that all show the same bytes and the server has it all; return the titles."""
    first = desks[0].export()
    for desk in desks[1:]:
        assert desk.export() == first
    assert {desk.ref() for desk in desks} == {place.refs()[LOG]}
    place.git("fsck", "--strict", "--no-dangling")
    return desks[0].titles()


def test_row_15_clones_that_wrote_offline_are_equal_after_two_syncs(
    every_pair: Pair, serving: Serving, tmp_path: Path
) -> None:
    """Clone, sync, list equals; both write offline, both sync twice: equal, nothing lost.

    The clones were made before grit existed, and the server knows nothing of grit at first.
    """
    place = serving(*every_pair).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("first")
    sent = ann.sync()
    assert sent["pushed"] and sent["events_sent"] >= 2, sent
    received = ben.sync()
    assert received["pulled"] and received["events_received"] == sent["events_sent"], received
    assert ben.ok("ls").out == ann.ok("ls").out
    assert _all_equal(place, ann, ben) == ["first"]

    content = os.urandom(200_000)
    (tmp_path / "picture").write_bytes(content)
    issue = ann.ok("ls", "--json").data["issues"][0]["issue_id"]
    ann.new("by ann")
    ann.ok("issue", "comment", issue, "--body", "ann was here")
    ben.new("by ben")
    ben.ok("issue", "attachment", "add", issue, str(tmp_path / "picture"))
    ben.ok("close", issue)
    _meet(ann, ben)
    assert _all_equal(place, ann, ben) == ["by ann", "by ben", "first"]
    ann.ok("issue", "attachment", "get", issue, "picture", "-o", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == content

    late = place.clone("late")
    late.sync()
    assert _all_equal(place, ann, ben, late) == ["by ann", "by ben", "first"]
    again = late.sync()
    assert (again["events_received"], again["events_sent"], again["merged"]) == (0, 0, False)
    assert events(late.folder) == events(ann.folder)


def test_row_16_two_logs_begun_apart_join_into_one(pair: Pair, serving: Serving) -> None:
    """Two clones that each started a log before their first sync have one log after it."""
    place = serving(*pair).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("by ann")
    ben.new("by ben")
    ann.sync()
    joined = ben.sync()
    assert joined["merged"] and joined["events_received"] and joined["events_sent"]
    ann.sync()
    assert _all_equal(place, ann, ben) == ["by ann", "by ben"]


def test_row_15_three_clones_that_push_at_once_all_get_through(
    pair: Pair, serving: Serving
) -> None:
    """A push that lost the race is fetched, joined and pushed again, without anybody's help.

    (dulwich's server calls a lost race done: decision 0018; the next sync notices and sends again.)
    """
    place = serving(*pair).begin()
    desks = [place.clone(name) for name in ("ann", "ben", "cara")]
    for number, desk in enumerate(desks):
        desk.new(f"offline {number}")
    for done in [finish(process) for process in [desk.start("sync") for desk in desks]]:
        assert done.status == 0, done.err
    late = place.clone("late")
    late.sync()
    if place.host.kind in OF_GIT:
        assert late.titles() == ["offline 0", "offline 1", "offline 2"], "sent, and overwritten"
    _meet(*desks)
    assert _all_equal(place, *desks) == ["offline 0", "offline 1", "offline 2"]


@kinds("path", "ssh", full=("path", "file", "ssh"))
def test_row_15_a_push_never_takes_away_what_came_between(kind: str, serving: Serving) -> None:
    """Another push comes after our fetch and before our push: the remote has both at the end."""
    place = serving(kind).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("first")
    ann.sync()
    ben.sync()
    ann.new("slow")
    ben.new("quick")
    late, go = place.bare / "late", place.bare / "go"
    wrapper = place.bare / "receive"
    wrapper.write_text(
        f'#!/bin/sh\ntouch "{late}"\n'
        f'for n in $(seq 200); do [ -e "{go}" ] && break; sleep 0.1; done\n'
        'exec git-receive-pack "$@"\n'
    )
    wrapper.chmod(0o755)
    ann.git("config", "remote.origin.receivepack", str(wrapper))
    slow = ann.start("sync", "--json")
    wait_for(late.exists)
    ben.sync()
    go.touch()
    done = finish(slow)
    assert done.status == 0, done.err
    assert done.data["merged"]
    late_comer = place.clone("late-comer")
    late_comer.sync()
    assert late_comer.titles() == ["first", "quick", "slow"]


@kinds("path", "http", full=OF_GIT)
def test_fault_8_repositories_of_sha256_sync(kind: str, serving: Serving) -> None:
    """Repositories with the longer ids sync too, over each of git's own servers."""
    place = serving(kind, 2, "--object-format=sha256").begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("by ann")
    ben.new("by ben")
    _meet(ann, ben)
    assert _all_equal(place, ann, ben) == ["by ann", "by ben"]
    assert len(place.refs()[LOG]) == 64


def test_pull_and_push_alone_do_one_half(pair: Pair, serving: Serving) -> None:
    """`--pull` sends nothing, `--push` says what it needs when the remote is ahead."""
    place = serving(*pair).begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("by ann")
    ann.sync("--push")
    ben.new("by ben")
    before = place.refs()
    pulled = ben.sync("--pull")
    assert pulled["pulled"] and not pulled["pushed"] and pulled["events_sent"] == 0
    assert place.refs() == before
    assert ben.titles() == ["by ann", "by ben"]
    ben.sync("--push")
    assert ann.titles() == ["by ann"]
    ann.sync("--pull")
    assert _all_equal(place, ann, ben) == ["by ann", "by ben"]


@kinds("daemon", "ssh", full=OF_GIT[1:])
def test_fault_9_a_shallow_clone_has_the_whole_log(kind: str, serving: Serving) -> None:
    """A clone of the newest code alone gets every event, and may write."""
    place = serving(kind).begin()
    place.git("update-ref", "refs/heads/main", _child_of(place, "refs/heads/main"))
    ann = place.clone("ann")
    ann.new("first", "second", "third")
    ann.sync()
    ben = place.clone("ben", "--depth=1")
    assert ben.git("rev-parse", "--is-shallow-repository") == "true"
    ben.sync()
    assert ben.titles() == ["first", "second", "third"]
    assert ben.git("rev-list", "--count", "HEAD") == "1", "the code came too"
    ben.new("fourth")
    _meet(ben, ann)
    assert _all_equal(place, ann, ben) == ["first", "fourth", "second", "third"]


@kinds("file", "http", full=OF_GIT[1:])
def test_fault_9_a_shallow_log_is_never_shown_as_whole(kind: str, serving: Serving) -> None:
    """A log cut off by `git fetch --depth=1` is refused with the way out, and completed by sync.

    (dulwich's server takes no push from a shallow clone, not from plain git either.)
    """
    place = serving(kind).begin()
    place.git("update-ref", "refs/heads/main", _child_of(place, "refs/heads/main"))
    ann = place.clone("ann")
    ann.new("first", "second", "third")
    ann.sync()
    ben = place.clone("ben", "--depth=1")
    ben.git("fetch", "-q", "--depth=1", "origin", "+refs/grit/*:refs/grit-remotes/origin/*")
    for words in (("ls",), ("new", "early"), ("export",)):
        assert "'grit sync'" in ben.refused(*words).err
    done = ben.ok("sync")
    assert "cut off" in done.err
    assert ben.titles() == ["first", "second", "third"]
    assert ben.git("rev-list", "--count", "HEAD") == "1", "the code came too"
    ben.new("fourth")
    ben.git("fetch", "-q", "--depth=1", "origin")
    _meet(ben, ann)
    assert _all_equal(place, ann, ben) == ["first", "fourth", "second", "third"]


@kinds("file", "http", full=OF_GIT[1:])
def test_fault_9_a_partial_clone_has_the_whole_log(
    kind: str, serving: Serving, tmp_path: Path
) -> None:
    """Blobs that a partial clone lacks are fetched by sync; meanwhile the log is as it was."""
    place = serving(kind).begin()
    place.git("config", "uploadpack.allowFilter", "true")
    ann = place.clone("ann")
    ann.new("first")
    (tmp_path / "picture").write_bytes(b"pixels")
    issue = ann.ok("ls", "--json").data["issues"][0]["issue_id"]
    ann.ok("issue", "attachment", "add", issue, str(tmp_path / "picture"))
    ann.sync()
    ben = place.clone("ben", "--filter=blob:none")
    ben.sync()
    assert ben.titles() == ["first"]
    ann.new("second")
    ann.sync()
    ben.git("fetch", "-q", "origin")
    assert "'grit sync'" in ben.ok("ls").err
    assert ben.titles() == ["first"]
    ben.new("third")
    _meet(ben, ann)
    assert _all_equal(place, ann, ben) == ["first", "second", "third"]
    ben.ok("issue", "attachment", "get", issue, "picture", "-o", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"pixels"


def _child_of(place: Repository, ref: str) -> str:
    tree = place.git("mktree")
    return place.git("commit-tree", tree, "-p", place.refs()[ref], "-m", "more code")
