"""Real repositories from one seed: services and plain git side by side, killed and restored."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from grit.core import lease as rules
from grit.core import limits
from grit.core.errors import Conflict, GritError, InvalidArgs, NotFound
from grit.core.ids import EventId, IssueId
from grit.services import leases, snapshots
from grit.services.actors import signer
from grit.services.leases import Wish
from grit.services.refresh import rebuild, rebuild_from_snapshot, refresh
from grit.services.sync import sync
from grit.services.workspace import Workspace
from grit.services.write import Transaction, Written, store, write
from tests.simulation.clone import (
    REF,
    Clone,
    actor_ids,
    environment,
    events_of,
    git,
    git_ok,
    killed_after,
    make_keys,
)
from tests.simulation.operations import command, foreign
from tests.simulation.scale import join_child, start_child
from tests.simulation.world import HOUR_MS, START_MS

STEPS = 50
"""Of a run, unless told otherwise."""
CLONES_MAX = 4
ACTORS = 3
RACERS = 4
LEASE_MS = 600_000
LEASE_SKEW_MS = HOUR_MS
"""More than clocks may differ before an expired lease is taken over."""
FUSE_MAX = {"write": 500, "sync": 1000, "rebuild": 200, "snapshot": 250}
"""About how many boundaries a command has."""
_CONFIG = """[user]
    name = Sim Example
    email = sim@example.org
[init]
    defaultBranch = main
[gc]
    auto = 0
[protocol "file"]
    allow = always
"""


class Repositories:
    """Clones of one bare remote in a folder; `step` lets one thing happen."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.pick = Random(seed)
        self.folder = folder
        self.now_ms = START_MS
        (folder / "home").mkdir(parents=True)
        (folder / "home/.gitconfig").write_text(_CONFIG)
        self.environ = environment(folder / "home")
        self.hub = folder / "hub.git"
        git_ok(folder, self.environ, "init", "-q", "--bare", str(self.hub))
        secrets = make_keys(seed, ACTORS)
        self.actors = actor_ids(secrets)
        self.clones = [
            Clone(folder / f"clone{n}", self.environ, f"{seed}/{n}")
            for n in range(self.pick.randint(2, CLONES_MAX))
        ]
        for clone in self.clones:
            clone.set_up(self.hub, secrets)
            self.shift_clock(clone)
        self.steps: list[str] = []
        self.met: Counter[str] = Counter()
        self.acknowledged: set[EventId] = set()
        self.perhaps: set[EventId] = set()
        """Acknowledged where the only copy went back to a backup; or decided by a killed writer."""
        self.times_stored: Counter[EventId] = Counter()
        self.lies: set[str] = set()
        """Commits of snapshots that are false."""

    def note(self, text: str) -> None:
        """Write down what happens, for the report of a failure."""
        self.steps.append(f"{len(self.steps):4} +{self.now_ms - START_MS:>8} ms  {text}")

    def step(self) -> None:
        """Let time pass and one thing happen to one clone."""
        self.now_ms += self.pick.choice((0, 1, 50, 2_000, 60_000))
        clone = self.pick.choice(self.clones)
        clone.now_ms = self.now_ms
        clone.actor = self.pick.choice(self.actors)
        names = list(_STEPS)
        name = self.pick.choices(names, weights=[_STEPS[one][0] for one in names])[0]
        self.note(f"{clone.name}: {name}")
        try:
            _STEPS[name][1](self, clone)
            self.met[name] += 1
        except GritError as refused:
            self.note(f"  refused: {refused}")
            self.met[f"refused: {refused.code}"] += 1

    # Writing

    def stored(self, ids: list[EventId]) -> None:
        self.acknowledged.update(ids)
        self.times_stored.update(ids)

    def write(self, clone: Clone) -> None:
        with clone.opened() as workspace:
            written = self._write()(workspace)
        self.stored([event.event_id for event in written.events])

    def _write(self) -> Callable[[Workspace], Written]:
        work = command(str(self.pick.getrandbits(64)))
        return lambda workspace: write(workspace, work, lambda _: "simulated")[1]

    def imported(self, clone: Clone) -> None:
        with clone.opened() as workspace:
            known: dict[IssueId, list[int]] = {}
            for event in refresh(workspace).all_events():
                known.setdefault(event.issue_id, []).append(event.ts_unix_ms)
            events = foreign(str(self.pick.getrandbits(64)), self.now_ms, known)
            written = store(workspace, events, "import", signer(workspace))
        self.stored([event.event_id for event in written.events])

    def rush(self, clone: Clone) -> None:
        """Let several processes of one clone write, sync and tidy up at the same time."""

        def writer(work: Callable[[Workspace], Written]) -> list[str]:
            try:
                with clone.opened() as workspace:
                    return [event.event_id.hex() for event in work(workspace).events]
            except (InvalidArgs, NotFound, Conflict):
                return []

        def syncer() -> list[str]:
            with clone.opened() as workspace:
                sync(workspace)
            return []

        def tidier() -> list[str]:
            clone.git("pack-refs", "--all", "--prune")
            return []

        writes = [self._write() for _ in range(3)]
        children = [start_child(partial(writer, work)) for work in writes]
        children += [start_child(syncer), start_child(tidier)]
        for child in children:
            self.stored([EventId(bytes.fromhex(text)) for text in join_child(child)])

    def killed_write(self, clone: Clone) -> None:
        """Kill a writer; what it had queued may still be stored, with a later write of another."""
        work = command(str(self.pick.getrandbits(64)))
        decided = self.folder / "decided"
        decided.write_bytes(b"")

        def told(transaction: Transaction) -> None:
            work(transaction)
            with decided.open("ab") as file:
                file.write(b"".join(event.event_id for event in transaction.events))

        self._kill("write", clone, lambda workspace: write(workspace, told, lambda _: "killed"))
        data = decided.read_bytes()
        size = limits.EVENT_ID_BYTES
        ids = {EventId(data[at : at + size]) for at in range(0, len(data), size)}
        waiting = ids - self.acknowledged
        self.perhaps |= waiting
        self.times_stored.update(waiting)

    def killed_sync(self, clone: Clone) -> None:
        self._kill("sync", clone, sync)

    def killed_rebuild(self, clone: Clone) -> None:
        self._kill("rebuild", clone, rebuild)

    def _kill(self, what: str, clone: Clone, act: Callable[[Workspace], object]) -> None:
        """Kill a command at some moment; what it published counts, and is all of it or nothing."""
        before = self._everywhere()

        def child() -> None:
            with clone.opened() as workspace:
                act(workspace)

        # What comes after publishing is short: half of the kills are in the last quarter.
        longest = FUSE_MAX[what]
        fuse = self.pick.randint(1, 2 * longest)
        ended = killed_after(child, fuse if fuse <= longest else longest - fuse % (longest // 4))
        published = self._everywhere() - before
        self.note(f"  {what} {ended}, {len(published)} events published")
        self.met[f"{what} {ended}{' after publishing' if published else ''}"] += 1
        self.stored(list(published))

    # Sync and plain git

    def sync(self, clone: Clone) -> None:
        with clone.opened() as workspace:
            done = sync(workspace)
        self.met["joins"] += done.merged
        self.met["received"] += done.events_received
        self.met["sent"] += done.events_sent

    def fetch(self, clone: Clone) -> None:
        clone.git("fetch", "-q", *self.pick.choice(((), ("--prune",))))

    def fetch_peer(self, clone: Clone) -> None:
        other = self.pick.choice([one for one in self.clones if one is not clone])
        refspec = f"+{REF}:refs/grit-remotes/{other.name}/wal"
        clone.git("fetch", "-q", str(other.folder), refspec)

    def push(self, clone: Clone) -> None:
        done = clone.git("push", "-q", "origin", "refs/grit/*")
        self.met["push rejected" if done.returncode else "push done"] += 1

    def read(self, clone: Clone) -> None:
        with clone.opened() as workspace:
            assert refresh(workspace).head() == workspace.wal.head()

    def tidy(self, clone: Clone) -> None:
        """Let git pack and prune, here or in the remote."""
        words = self.pick.choice((("gc", "-q", "--prune=now"), ("pack-refs", "--all")))
        folder = self.pick.choice((clone.folder, self.hub))
        git_ok(folder, self.environ, *words)

    # What goes wrong

    def drop_view(self, clone: Clone) -> None:
        clone.drop_view()

    def rewind(self, clone: Clone) -> None:
        """Move the log's ref back by hand, and see that grit keeps what it held."""
        with clone.opened() as workspace:
            refresh(workspace)
        if clone.git("rev-parse", "-q", "--verify", f"{REF}~1").returncode == 0:
            git_ok(clone.folder, self.environ, "update-ref", REF, f"{REF}~1")
            with clone.opened() as workspace:
                refresh(workspace)

    def rewind_hub(self, _: Clone) -> None:
        """Set the remote's log back, or remove it."""
        had = self._in_hub()
        if git(self.hub, self.environ, "rev-parse", "-q", "--verify", f"{REF}~1").returncode:
            return
        words = ("-d", REF) if self.pick.random() < 0.3 else (REF, f"{REF}~1")
        git_ok(self.hub, self.environ, "update-ref", *words)
        self._lost(had)

    def back_up(self, clone: Clone) -> None:
        clone.copy_to(self.folder / f"{clone.name}.backup")

    def restore(self, clone: Clone) -> None:
        backup = self.folder / f"{clone.name}.backup"
        if backup.exists():
            had = set(clone.events())
            clone.copy_from(backup)
            self._lost(had)

    def _lost(self, had: set[EventId]) -> None:
        gone = had - self._everywhere()
        self.perhaps |= gone
        self.acknowledged -= gone
        self.met["lost with a disk"] += len(gone)

    def shift_clock(self, clone: Clone) -> None:
        clone.clock_ms = self.pick.choice((0, 1, -1)) * self.pick.randint(0, 40 * HOUR_MS)

    # Snapshots and leases

    def snapshot(self, clone: Clone) -> None:
        with clone.opened() as workspace:
            snapshots.create(workspace)

    def killed_snapshot(self, clone: Clone) -> None:
        self._kill("snapshot", clone, snapshots.create)

    def lie(self, clone: Clone) -> None:
        """Put a snapshot into the remote that stands for more of the log than it holds."""
        with clone.opened() as workspace:
            ref = snapshots.create(workspace).refs[0]
        self.write(clone)
        manifest = json.loads(clone.git("show", f"{ref}:snapshot.json").stdout)
        manifest["wal_head"], known = clone.head(), manifest["wal_head"]
        if manifest["wal_head"] == known:
            return
        blob = self._put(clone, "blob", json.dumps(manifest))
        listed = clone.git("ls-tree", ref).stdout.splitlines()
        lines = [line for line in listed if not line.endswith("\tsnapshot.json")]
        lines.append(f"100644 blob {blob}\tsnapshot.json")
        tree = self._put(clone, "tree", "\n".join(lines))
        false = git_ok(clone.folder, self.environ, "commit-tree", "-m", "false", tree)
        name = f"refs/grit/snapshots/{self.now_ms + 1}"
        clone.git("push", "-q", "origin", f"{false}:{name}")
        clone.git("update-ref", name, false)
        self.lies.add(false)
        self.met["snapshots that lie"] += 1

    def _put(self, clone: Clone, kind: str, text: str) -> str:
        words = ("mktree",) if kind == "tree" else ("hash-object", "-w", "--stdin")
        return git_ok(clone.folder, self.environ, *words, stdin=text)

    def verify_snapshots(self, clone: Clone) -> None:
        """Compare all snapshots with the log; one that lies is not believed."""
        with clone.opened() as workspace:
            listed = snapshots.verify(workspace)
        believed = {one.snapshot.commit for one in listed if one.usable}
        assert not believed & self.lies, "a false snapshot is believed"
        self.met["snapshots believed"] += len(believed)

    def rebuild_from_snapshot(self, clone: Clone) -> None:
        with clone.opened() as workspace:
            self.met["snapshots used"] += rebuild_from_snapshot(workspace)[1] is not None

    def race_for_a_lease(self, _: Clone) -> None:
        """Let sessions of several clones, their clocks alike, want one lease at once: one wins."""
        resource = rules.parse_resource(f"path:race{self.pick.randrange(2)}")
        racers = [(self.pick.choice(self.clones), f"{n:032x}") for n in range(RACERS)]

        def race(clone: Clone, nonce: str) -> bool:
            clone.now_ms, clone.clock_ms = self.now_ms, 0
            with clone.opened() as workspace:
                wish = Wish(resource, leases.holder(workspace, nonce), LEASE_MS)
                try:
                    leases.acquire(workspace, wish)
                except Conflict:
                    return False
            return True

        children = [start_child(partial(race, *racer)) for racer in racers]
        won = [join_child(child) for child in children]
        assert sum(won) == 1, f"{sum(won)} of {RACERS} racers have the lease"
        if self.pick.random() < 0.5:
            clone, nonce = racers[won.index(True)]
            clone.clock_ms = 0
            clone.now_ms = self.now_ms
            with clone.opened() as workspace:
                leases.release(workspace, resource, leases.holder(workspace, nonce))
        else:
            self.now_ms += 2 * LEASE_MS + LEASE_SKEW_MS

    # Looking

    def _in_hub(self) -> set[EventId]:
        look = Clone(self.hub, self.environ, "")
        with look.opened() as workspace:
            return set(events_of(workspace))

    def _everywhere(self) -> set[EventId]:
        """Return the events of all logs, the remote's too."""
        return self._in_hub().union(*(clone.events() for clone in self.clones))


def run(seed: int, steps: int = STEPS, folder: Path | None = None) -> Counter[str]:
    """Run a world to its end and return what it contained; AssertionError names the seed."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="grit-simulation-") as made:
            return run(seed, steps, Path(made) / "world")
    world = Repositories(seed, folder)
    try:
        for _ in range(steps):
            world.step()
        quiesce(world)
        check(world)
    except Exception as error:
        told = "\n".join(world.steps)
        raise AssertionError(
            f"{told}\n{type(error).__name__}: {error}\n"
            f"seed {seed}: repeat with tools/simulate repositories --seed {seed} --steps {steps}"
        ) from error
    shutil.rmtree(folder)
    return world.met


def quiesce(world: Repositories) -> None:
    """Let every clone sync twice with the remote, in any order."""
    for _ in range(2):
        world.pick.shuffle(world.clones)
        for clone in world.clones:
            clone.now_ms = world.now_ms
            world.note(f"{clone.name}: syncs at the end")
            world.sync(clone)


def check(world: Repositories) -> None:
    """Every clone shows the same bytes, as a rebuild does; nothing is lost, doubled or damaged."""
    shown: dict[str, str] = {}
    for clone in world.clones:
        document, shown[clone.name] = clone.exported()
        with clone.opened() as workspace:
            rebuild(workspace)
        assert clone.exported()[1] == shown[clone.name], f"{clone.name}: the view is no rebuild"
        with clone.opened() as workspace:
            world.met["snapshots used"] += rebuild_from_snapshot(workspace)[1] is not None
        assert clone.exported()[1] == shown[clone.name], f"{clone.name}: a snapshot changed it"
        stored = clone.events()
        ids = {EventId(bytes.fromhex(event["event_id"])) for event in document["events"]}
        assert ids == set(stored), f"{clone.name}: the view has other events than the log"
        _check_events(world, clone, stored)
        made = [event for event in document["events"] if "IssueCreated" in event["kind"]]
        born = {event["issue_id"] for event in made}
        assert born == {one["issue_id"] for one in document["issues"]}, f"{clone.name}: issues"
        git_ok(clone.folder, world.environ, "fsck", "--strict", "--no-dangling")
    git_ok(world.hub, world.environ, "fsck", "--strict", "--no-dangling")
    assert len(set(shown.values())) == 1, "the clones show different things"


def _check_events(world: Repositories, clone: Clone, stored: Counter[EventId]) -> None:
    missing = world.acknowledged - stored.keys()
    assert not missing, f"{clone.name}: {len(missing)} acknowledged events are gone"
    invented = stored.keys() - world.acknowledged - world.perhaps
    assert not invented, f"{clone.name}: {len(invented)} events that nobody stored"
    often = [one for one, count in stored.items() if count > world.times_stored[one]]
    assert not often, f"{clone.name}: {len(often)} events are in the log more than once"


_STEPS: dict[str, tuple[int, Callable[[Repositories, Clone], None]]] = {
    "write": (36, Repositories.write),
    "import": (3, Repositories.imported),
    "rush": (2, Repositories.rush),
    "killed write": (8, Repositories.killed_write),
    "killed sync": (4, Repositories.killed_sync),
    "killed rebuild": (2, Repositories.killed_rebuild),
    "sync": (12, Repositories.sync),
    "fetch": (8, Repositories.fetch),
    "fetch from a peer": (5, Repositories.fetch_peer),
    "push": (8, Repositories.push),
    "read": (8, Repositories.read),
    "gc or pack-refs": (4, Repositories.tidy),
    "view deleted": (3, Repositories.drop_view),
    "ref moved back": (1, Repositories.rewind),
    "remote set back": (1, Repositories.rewind_hub),
    "snapshot": (3, Repositories.snapshot),
    "killed snapshot": (2, Repositories.killed_snapshot),
    "snapshot that lies": (1, Repositories.lie),
    "verify snapshots": (2, Repositories.verify_snapshots),
    "rebuild from a snapshot": (2, Repositories.rebuild_from_snapshot),
    "race for a lease": (1, Repositories.race_for_a_lease),
    "backup": (3, Repositories.back_up),
    "restore": (1, Repositories.restore),
    "clock": (2, Repositories.shift_clock),
}
"""What may happen, with its weight."""
