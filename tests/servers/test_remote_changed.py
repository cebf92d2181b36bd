"""Remotes that went back, were rewritten, emptied or filled with nonsense: local events stay."""

import json
import time

import pytest

from tests.servers.conftest import FULL_PRODUCT, Serving, kinds
from tests.servers.desk import Desk, Repository
from tests.servers.hosts import KINDS

pytestmark = pytest.mark.slow

LOG = "refs/grit/wal"
TRACKED = "refs/grit-remotes/origin/wal"


def _two(place: Repository) -> tuple[Desk, Desk]:
    """Two clones that have met; the remote has a few commits of the log."""
    place.begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("one", "two")
    ann.sync()
    ben.sync()
    ben.new("three")
    ben.sync()
    ann.sync()
    return ann, ben


def _check(desk: Desk, name: str) -> dict[str, str]:
    """Return one check of doctor."""
    done = desk.grit("doctor", "--remote", "--json")
    checks = {check["id"]: check for check in done.data["checks"]}
    return dict(checks[name])


def _all_there(place: Repository, titles: list[str], *desks: Desk) -> None:
    """After everybody has synced twice all are equal, and the remote holds everything again."""
    for _ in range(2):
        for desk in desks:
            desk.sync()
    assert desks[0].titles() == titles
    for desk in desks:
        assert desk.export() == desks[0].export()
        assert desk.ref() == place.refs()[LOG]
    place.git("fsck", "--strict", "--no-dangling")


@kinds("path", "ssh")
def test_row_20_a_mirror_push_that_removed_the_log_is_named_and_healed(
    kind: str, serving: Serving
) -> None:
    """`git push --mirror` of a clone without grit removed the refs; the next sync restores them."""
    place = serving(kind)
    ann, ben = _two(place)
    careless = place.clone("careless")
    careless.git("push", "-q", "--mirror", "origin")
    assert LOG not in place.refs(), "the mirror left the log alone"
    ann.git("fetch", "-q", "--prune", "origin")
    assert ann.titles() == ["one", "three", "two"]
    found = _check(ann, "remotes")
    assert found["status"] != "ok", found
    assert "grit sync" in (found["plan"] or ""), found
    ann.new("four")
    done = ann.ok("sync")
    assert "origin" in done.err, "nothing was explained"
    assert place.refs()[LOG] == ann.ref()
    _all_there(place, ["four", "one", "three", "two"], ann, ben)
    assert _check(ann, "remotes")["status"] == "ok"


def _rewound(place: Repository, log: str) -> None:
    place.git("update-ref", LOG, f"{log}~1")


def _rewritten(place: Repository, log: str) -> None:
    tree = place.git("rev-parse", f"{log}^{{tree}}")
    other = place.git("commit-tree", tree, "-p", f"{log}~2", "-m", "amended")
    place.git("update-ref", LOG, other)


def _removed(place: Repository, log: str) -> None:
    place.git("update-ref", "-d", LOG)


def _events(desk: Desk) -> object:
    """Return issues and events; the head may differ, when a rewritten log was joined."""
    document = json.loads(desk.export())
    return document["issues"], document["events"]


CHANGES = [(kind, change) for kind in KINDS for change in (_rewound, _rewritten, _removed)]
USUAL_CHANGES = [("path", _rewound), ("http", _rewritten), ("dulwich", _removed)]


@pytest.mark.parametrize(("kind", "change"), CHANGES if FULL_PRODUCT else USUAL_CHANGES)
def test_row_27_a_remote_that_went_back_takes_no_local_event_with_it(
    kind: str, change: object, serving: Serving
) -> None:
    """Rewound, rewritten, removed: plain fetches lose nothing, sync explains and restores."""
    assert callable(change)
    place = serving(kind)
    ann, ben = _two(place)
    before = _events(ann)
    change(place, place.refs()[LOG])
    ann.git("fetch", "-q", "--prune", "origin")
    assert _events(ann) == before
    ann.new("four")
    done = ann.ok("sync")
    assert done.err.strip(), "nothing was explained"
    _all_there(place, ["four", "one", "three", "two"], ann, ben)


@kinds("daemon")
def test_row_27_a_remote_replaced_by_an_unrelated_log_is_joined(
    kind: str, serving: Serving
) -> None:
    """Another log stands there now: both are kept, here and there, and the user is told."""
    place = serving(kind)
    ann, ben = _two(place)
    stranger = place.clone("stranger")
    stranger.new("foreign")
    stranger.git("push", "-q", "--force", "origin", LOG)
    done = ann.ok("sync")
    assert done.err.strip(), "nothing was explained"
    _all_there(place, ["foreign", "one", "three", "two"], ann, ben)


def test_row_27_a_remote_made_anew_and_empty_is_filled_again(serving: Serving) -> None:
    """The bare repository was recreated: the clones bring the log back."""
    place = serving("path")
    ann, ben = _two(place)
    place.bare.rename(place.bare.with_suffix(".old"))
    Desk(place.host.root, {}).git("init", "-q", "--bare", str(place.bare))
    ann.git("fetch", "-q", "--prune", "origin")
    assert ann.titles() == ["one", "three", "two"]
    done = ann.ok("sync")
    assert done.err.strip(), "nothing was explained"
    _all_there(place, ["one", "three", "two"], ann, ben)


def test_row_27_a_repository_that_is_gone_costs_nothing(serving: Serving) -> None:
    """No repository at that address any more: exit non-zero, the address named, nothing lost."""
    place = serving("daemon")
    ann, _ = _two(place)
    place.bare.rename(place.bare.with_suffix(".old"))
    done = ann.refused("sync")
    assert place.bare.name in done.err or "repository" in done.err, done.err
    assert ann.titles() == ["one", "three", "two"]


@kinds("path", "http")
def test_fault_12_a_ref_below_the_log_is_reported_and_not_followed(
    kind: str, serving: Serving
) -> None:
    """`refs/grit/wal/evil` stands in the way of the log: said, nothing lost; gone: all is well."""
    place = serving(kind)
    ann, ben = _two(place)
    log = place.refs()[LOG]
    place.git("update-ref", "-d", LOG)
    place.git("update-ref", f"{LOG}/evil", log)
    ann.try_git("fetch", "-q", "--prune", "origin")
    ann.new("four")
    done = ann.refused("sync")
    assert LOG in done.err, done.err
    assert ann.titles() == ["four", "one", "three", "two"]
    ann.ok("doctor", "--remote")
    place.git("update-ref", "-d", f"{LOG}/evil")
    _all_there(place, ["four", "one", "three", "two"], ann, ben)


def test_fault_12_a_log_at_another_place_of_a_remote_is_not_followed(serving: Serving) -> None:
    """`refs/grit/x/wal` is not the log of origin, and there is no remote named origin/x."""
    place = serving("path")
    ann, _ = _two(place)
    stranger = place.clone("stranger")
    stranger.new("foreign")
    stranger.git("push", "-q", "origin", f"{LOG}:refs/grit/x/wal")
    ann.git("fetch", "-q", "origin")
    assert ann.ref("refs/grit-remotes/origin/x/wal") == stranger.ref()
    assert ann.titles() == ["one", "three", "two"]
    ann.sync()
    assert ann.titles() == ["one", "three", "two"]
    ann.git("remote", "add", "origin/x", place.url)
    ann.new("four")
    ann.sync("--remote", "origin/x")
    assert ann.titles() == ["four", "one", "three", "two"]


@pytest.mark.parametrize("what", ["branch", "tag", "blob", "tree", "symref"])
def test_fault_12_a_log_ref_that_names_no_log_is_reported_and_not_followed(
    what: str, serving: Serving
) -> None:
    """Code, a tag, a blob, a branch by name: neither joined nor overwritten; exit non-zero."""
    place = serving("path")
    ann, ben = _two(place)
    log = place.refs()[LOG]
    blob = place.git("hash-object", "-w", "--stdin", stdin=b"some code\n")
    tree = place.git("mktree", stdin=f"100644 blob {blob}\tcode.py\n".encode())
    main = place.git("commit-tree", tree, "-m", "code")
    place.git("update-ref", "refs/heads/main", main)
    if what == "symref":
        place.git("symbolic-ref", LOG, "refs/heads/main")
    elif what == "tag":
        place.git("tag", "-a", "-m", "marked", "mark", main)
        place.git("update-ref", LOG, place.git("rev-parse", "mark"))
    else:
        place.git("update-ref", LOG, {"branch": main, "blob": blob, "tree": tree}[what])
    stands = place.refs()
    ann.new("four")
    before = ann.export()
    for options in ((), ("--pull",)):
        done = ann.refused("sync", *options)
        assert "log" in done.err, done.err
        assert place.refs() == stands, "the remote was changed"
    assert ann.export() == before
    ann.git("fetch", "-q", "origin")
    assert ann.export() == before
    assert _check(ann, "remotes")["status"] != "ok"
    if what == "symref":
        place.git("symbolic-ref", "--delete", LOG)
    place.git("update-ref", LOG, log)
    _all_there(place, ["four", "one", "three", "two"], ann, ben)


@pytest.mark.parametrize("version", [0, 2])
def test_fault_12_twenty_thousand_refs_slow_nothing_down(version: int, serving: Serving) -> None:
    """A remote with 20,000 refs below refs/grit/ is pulled about as fast as one with a few.

    With protocol 0 git itself is told of all of them, so that git's own time is the yardstick.
    """
    place = serving("path", version)
    ann, ben = _two(place)
    usual = _seconds(lambda: ben.sync())
    usual_git = _seconds(lambda: ben.git("ls-remote", "-q", "origin", LOG))
    log = place.refs()[LOG]
    many = "".join(f"create refs/grit/x/{n:05} {log}\n" for n in range(20_000))
    place.git("update-ref", "--stdin", stdin=many.encode())
    place.git("pack-refs", "--all")
    ann.new("four")
    ann.sync()
    crowded = _seconds(lambda: ben.sync())
    crowded_git = _seconds(lambda: ben.git("ls-remote", "-q", "origin", LOG))
    assert ben.titles() == ["four", "one", "three", "two"]
    assert ben.git("for-each-ref", "refs/grit", "refs/grit-remotes").count("\n") < 5
    allowed = usual + 4 * (crowded_git - usual_git) + 1.0
    assert crowded < allowed, (usual, usual_git, crowded, crowded_git)

    ben.git("fetch", "-q", "origin")
    ben.titles()
    assert _seconds(lambda: ben.titles()) < usual + 1.0, "20,000 tracking refs slow every command"


def _seconds(action: object) -> float:
    """Return the better of two times."""
    assert callable(action)
    times = []
    for _ in range(2):
        started = time.monotonic()
        action()
        times.append(time.monotonic() - started)
    return min(times)
