"""Servers that delay, refuse, die and vanish: sync says why, loses nothing, and goes on later."""

import os
from pathlib import Path

import pytest

from tests.faults.machine import Done
from tests.servers.conftest import FULL_PRODUCT, Serving, kinds
from tests.servers.desk import Desk, Repository, finish, wait_for
from tests.servers.hosts import OF_GIT, WITH_PORTS
from tests.servers.proxy import proxy_before

pytestmark = pytest.mark.slow

LOG = "refs/grit/wal"
NOISE_BYTES = 300_000
MOMENTS = ("pre-receive", "reference-transaction", "post-receive")
DEATHS = [(kind, moment) for kind in OF_GIT for moment in MOMENTS]


def _two(place: Repository) -> tuple[Desk, Desk]:
    """Two clones with one issue in common."""
    place.begin()
    ann, ben = place.clone("ann"), place.clone("ben")
    ann.new("common")
    ann.sync()
    ben.sync()
    return ann, ben


def _attach_noise(desk: Desk, folder: Path) -> None:
    """Attach what does not compress, so that a transfer has a middle."""
    (folder / "noise").write_bytes(os.urandom(NOISE_BYTES))
    issue = desk.ok("ls", "--json").data["issues"][0]["issue_id"]
    desk.ok("issue", "attachment", "add", issue, str(folder / "noise"))


def _loses_nothing(desk: Desk, titles: list[str]) -> None:
    """Everything that was acknowledged is there, and git finds nothing wrong."""
    assert desk.titles() == titles
    desk.git("fsck", "--strict", "--no-dangling")


def _heals(place: Repository, ann: Desk, ben: Desk, titles: list[str]) -> None:
    """The next syncs work as if nothing had been."""
    ann.sync()
    ben.sync()
    ann.sync()
    assert ann.titles() == titles
    assert ann.export() == ben.export()
    assert place.refs()[LOG] == ann.ref() == ben.ref()
    place.git("fsck", "--strict", "--no-dangling")


def _overtake(ann: Desk, ben: Desk, flag: Path, go: Path) -> Done:
    """Let ben sync while a hook, which tells by `flag` and waits for `go`, holds ann's push."""
    ann.new("slow")
    ben.new("quick")
    slow = ann.start("sync", "--json")
    wait_for(flag.exists)
    ben.sync()
    go.touch()
    done = finish(slow)
    assert done.status == 0, done.err
    return done


@kinds("path", "http", "ssh", full=OF_GIT)
def test_row_15_a_push_overtaken_while_a_hook_delays_is_done_again(
    kind: str, serving: Serving
) -> None:
    """While a hook holds one push for a second or more, another comes first: both get in."""
    place = serving(kind)
    ann, ben = _two(place)
    flag, go = place.bare / "delayed", place.bare / "go"
    place.hook(
        "pre-receive",
        f'mkdir "{flag}" 2>/dev/null || exit 0\nsleep 1\n'
        f'for n in $(seq 200); do [ -e "{go}" ] && exit 0; sleep 0.1; done\nexit 1',
    )
    done = _overtake(ann, ben, flag, go)
    assert done.data["merged"], "nobody was overtaken"
    _heals(place, ann, ben, ["common", "quick", "slow"])


@kinds("path", "daemon", "http", "ssh", full=OF_GIT)
def test_row_26_a_refusing_hook_is_quoted_escaped_and_costs_nothing(
    kind: str, serving: Serving
) -> None:
    """Exit non-zero with the server's own words; later, without the hook, everything arrives."""
    place = serving(kind)
    ann, ben = _two(place)
    before = place.refs()
    words = r"no \033]52;c;aGk=\007 \033[31mentry\033[0m \302\233 \342\200\256 today"
    hook = place.hook("pre-receive", f"printf '{words}\\n' >&2\nexit 1")
    ann.new("mine")
    for options in ((), ("--push",), ("--json",)):
        done = ann.refused("sync", *options)
        shown = done.err + done.out
        assert "entry" in shown and "today" in shown, shown
        for control in ("\x1b", "\x07", "\x9b", "\u202e", "\r"):
            assert control not in shown, f"{options}: {control!r} reached the terminal: {shown!r}"
    assert place.refs() == before
    _loses_nothing(ann, ["common", "mine"])
    hook.unlink()
    _heals(place, ann, ben, ["common", "mine"])


def test_fault_19_the_name_of_a_server_with_escapes_is_shown_escaped(serving: Serving) -> None:
    """What a failing transport prints is foreign text too: a URL, a helper's output."""
    ann, _ = _two(serving("path"))
    ann.git("config", "remote.origin.url", "ext::sh -c printf% '\\033[31mred\\n'% >&2;% exit% 1")
    ann.git("config", "protocol.ext.allow", "always")
    ann.new("mine")
    done = ann.refused("sync")
    looked = ann.grit("doctor", "--remote")
    for said in (done.err, looked.out):
        assert "\x1b" not in said, repr(said)
        assert "red" in said, said
    _loses_nothing(ann, ["common", "mine"])


@kinds("http", full=OF_GIT)
def test_a_server_that_forbids_rewriting_and_deleting_is_no_obstacle(
    kind: str, serving: Serving
) -> None:
    """Sync moves the log forward only: denyNonFastForwards and denyDeletes change nothing."""
    place = serving(kind)
    place.git("config", "receive.denyNonFastForwards", "true")
    place.git("config", "receive.denyDeletes", "true")
    place.git("config", "transfer.fsckObjects", "true")
    ann, ben = _two(place)
    ann.new("by ann")
    ben.new("by ben")
    _heals(place, ann, ben, ["by ann", "by ben", "common"])


@pytest.mark.parametrize(("kind", "moment"), DEATHS if FULL_PRODUCT else DEATHS[::2])
def test_row_26_a_server_that_dies_in_the_middle_of_a_push(
    kind: str, moment: str, serving: Serving
) -> None:
    """Killed before its ref moved, the server is said to have failed; after that, it is done."""
    place = serving(kind)
    ann, ben = _two(place)
    state = '[ "$1" = committed ] && ' if moment == "reference-transaction" else ""
    hook = place.hook(moment, f"{state}kill -9 $PPID\nexit 0")
    ann.new("mine")
    done = ann.grit("sync", "--json")
    if moment == "pre-receive":
        assert done.status != 0, "a push that never ended was reported as done"
        assert "hung up" in done.out or "closed" in done.out, done
    else:
        assert done.status == 0, done
        assert done.data["events_sent"] == 1
        assert place.refs()[LOG] == ann.ref(), "reported as done, and not there"
    _loses_nothing(ann, ["common", "mine"])
    hook.unlink()
    for lock in place.bare.rglob("*.lock"):
        lock.unlink()  # what the dead server left is its administrator's to remove
    _heals(place, ann, ben, ["common", "mine"])


@pytest.mark.parametrize("moment", ["pre-receive", "reference-transaction"])
@kinds("path", "http", full=OF_GIT)
def test_row_15_a_push_that_is_broken_off_while_another_comes_is_looked_at_again(
    kind: str, moment: str, serving: Serving
) -> None:
    """It lost a race with that one: fetch, join, push again. Or it was stored below that one."""
    place = serving(kind)
    ann, ben = _two(place)
    flag, go = place.bare / "delayed", place.bare / "go"
    place.hook(
        moment,
        '[ "$1" != prepared ] && [ "$1" != aborted ] || exit 0\n'
        f'mkdir "{flag}" 2>/dev/null || exit 0\n'
        f'for n in $(seq 200); do [ -e "{go}" ] && kill -9 $PPID && exit; sleep 0.1; done\nexit 1',
    )
    done = _overtake(ann, ben, flag, go)
    assert done.data["merged"] == (moment == "pre-receive")
    assert (done.data["events_sent"], done.data["events_received"]) == (1, 2)
    _heals(place, ann, ben, ["common", "quick", "slow"])


@kinds("daemon", "http", "ssh", full=WITH_PORTS)
def test_row_26_a_connection_cut_in_the_middle_of_a_push(
    kind: str, serving: Serving, tmp_path: Path
) -> None:
    """The network goes after a third of the data: an error, and the next sync completes."""
    place = serving(kind)
    ann, ben = _two(place)
    before = place.refs()
    _attach_noise(ann, tmp_path)
    ann.new("mine")
    assert place.host.port is not None
    with proxy_before(place.host.port) as proxy:
        far = place.seen_through(proxy.port, ann)
        proxy.up_bytes_max = NOISE_BYTES // 3
        far.refused("sync")
        assert proxy.cuts, "nothing was cut"
        assert place.refs() == before
        _loses_nothing(ann, ["common", "mine"])
        proxy.up_bytes_max = None
        _heals(place, far, ben, ["common", "mine"])


@kinds("http", "ssh", "dulwich", full=WITH_PORTS)
def test_row_26_a_connection_cut_in_the_middle_of_a_fetch(
    kind: str, serving: Serving, tmp_path: Path
) -> None:
    """Half of a fetch changes nothing: no event is shown, none is lost, the next one completes."""
    place = serving(kind)
    ann, ben = _two(place)
    _attach_noise(ann, tmp_path)
    ann.new("by ann")
    ann.sync()
    ben.new("by ben")
    before = ben.export()
    assert place.host.port is not None
    with proxy_before(place.host.port) as proxy:
        far = place.seen_through(proxy.port, ben)
        proxy.down_bytes_max = NOISE_BYTES // 3
        far.refused("sync")
        assert proxy.cuts, "nothing was cut"
        assert ben.export() == before
        _loses_nothing(ben, ["by ben", "common"])
        proxy.down_bytes_max = None
        _heals(place, far, ann, ["by ann", "by ben", "common"])


@kinds("path", full=OF_GIT[:2])
def test_row_26_a_sender_that_dies_in_the_middle_of_a_fetch(
    kind: str, serving: Serving, tmp_path: Path
) -> None:
    """The process that packs for us is killed: an error, and the next sync completes."""
    place = serving(kind)
    ann, ben = _two(place)
    _attach_noise(ann, tmp_path)
    ann.sync()
    ben.new("by ben")
    killer = tmp_path / "killer"
    killer.write_text('#!/bin/sh\n"$@" | head -c 100000\nkill -9 $PPID\n')
    killer.chmod(0o755)
    config = Path(ben.environ["GIT_CONFIG_GLOBAL"])
    whole = config.read_text()
    config.write_text(f"{whole}[uploadpack]\n\tpackObjectsHook = {killer}\n")
    ben.refused("sync")
    _loses_nothing(ben, ["by ben", "common"])
    config.write_text(whole)
    _heals(place, ben, ann, ["by ben", "common"])


@kinds("daemon", "http", "ssh", full=WITH_PORTS)
def test_row_26_a_host_that_cannot_be_reached_is_said_at_once(kind: str, serving: Serving) -> None:
    """Nobody listens there: exit non-zero within seconds; writing goes on."""
    place = serving(kind)
    ann, ben = _two(place)
    assert place.host.port is not None
    with proxy_before(place.host.port) as proxy:
        far = place.seen_through(proxy.port, ann)
    done = far.refused("sync")
    assert done.seconds < 10
    far.new("meanwhile")
    _loses_nothing(far, ["common", "meanwhile"])
    near = Desk(ann.folder, ben.environ)
    near.git("config", "remote.origin.url", place.url)
    _heals(place, near, ben, ["common", "meanwhile"])


@pytest.mark.parametrize("password", ["wrong", None])
def test_row_26_a_wrong_or_missing_password_ends_at_once(
    password: str | None, serving: Serving, tmp_path: Path
) -> None:
    """No terminal, no question: the refusal comes within seconds and names the cause."""
    place = serving("http")
    ann, _ = _two(place)
    helper = f"!f() {{ echo username=ann; echo password={password}; }}; f" if password else ""
    config = tmp_path / "stranger"
    config.write_text(f'[include]\n\tpath = ~/.gitconfig\n[credential]\n\thelper = "{helper}"\n')
    ann.new("mine")
    environ = {"GIT_CONFIG_GLOBAL": str(config), "GIT_TERMINAL_PROMPT": "1"}
    stranger = Desk(ann.folder, environ)
    done = stranger.refused("sync", start_new_session=True)
    assert done.seconds < 10
    assert "uthentication failed" in done.err or "could not read" in done.err, done.err
    _loses_nothing(ann, ["common", "mine"])
    ann.sync()


@pytest.mark.parametrize(
    ("kind", "setting"), [("daemon", "daemon.receivepack"), ("http", "http.receivepack")]
)
def test_row_26_a_read_only_remote_gives_and_says_that_it_takes_nothing(
    kind: str, setting: str, serving: Serving
) -> None:
    """What others wrote arrives; that ours could not be sent is exit non-zero; --pull is fine."""
    place = serving(kind)
    ann, ben = _two(place)
    ann.new("by ann")
    ann.sync()
    ben.new("by ben")
    before = place.refs()
    place.git("config", setting, "false")
    ben.refused("sync")
    assert place.refs() == before
    _loses_nothing(ben, ["by ann", "by ben", "common"])
    ben.sync("--pull")
    place.git("config", "--unset", setting)
    _heals(place, ben, ann, ["by ann", "by ben", "common"])
