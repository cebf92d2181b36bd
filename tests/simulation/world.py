"""Clones, a remote and a bad network from one seed: what happens to them, one step at a time."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from grit.core import codec, signing
from grit.core.errors import GritError
from grit.core.events import Event
from grit.core.ids import ActorId, EventId
from grit.services.actors import Signer
from tests.simulation import log
from tests.simulation.log import Commit, Objects
from tests.simulation.operations import Work, command, foreign
from tests.simulation.replica import POINTS, Killed, Replica, Snapshot, event_set

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
HUB = "hub"
REPLICAS_MAX = 6
ACTORS = 4
LATE_MS_MAX = 20_000
LATE_MS_TIGHT = 10


class Message(NamedTuple):
    """Something under way: who gets it when, from whom, and what it does there."""

    due_ms: int
    to: str
    sender: str
    arrive: Callable[[Replica], None]


class World:
    """Everything that a run consists of; `step` lets one thing happen."""

    def __init__(self, seed: int) -> None:
        self.pick = Random(seed)
        self.now_ms = START_MS
        self.tight = self.pick.random() < 0.3
        """All clocks agree and time hardly passes, so that many events bear the same time."""
        count = self.pick.randint(2, REPLICAS_MAX)
        self.clones = {f"clone{n}": Replica(f"clone{n}") for n in range(count)}
        self.places = {**self.clones, HUB: Replica(HUB)}
        for clone in self.clones.values():
            clone.clock_ms = self._skew()
        self.actors = [_actor(seed, n, keyed=n != 0) for n in range(ACTORS)]
        self.backups = {name: place.backup() for name, place in self.places.items()}
        self.group = dict.fromkeys(self.places, 0)
        """Places of one group reach each other."""
        self.under_way: list[Message] = []
        self.steps: list[str] = []
        self.met: Counter[str] = Counter()
        """How often each thing happened, for the proof that the runs contain it."""
        self.commands: list[tuple[EventId, ...]] = []
        """The events of each published command."""
        self.acknowledged: set[EventId] = set()
        self.perhaps: set[EventId] = set()
        """Acknowledged where the only copy went back to a backup."""
        self.times_stored: Counter[EventId] = Counter()

    def note(self, text: str) -> None:
        """Write down what happens, for the report of a failure."""
        self.steps.append(f"{len(self.steps):4} +{self.now_ms - START_MS:>8} ms  {text}")

    def step(self) -> None:
        """Let time pass, deliver what is due, and let one thing happen."""
        self.now_ms += self.pick.choice((0, 0, 0, 1) if self.tight else (0, 1, 50, 2_000, 60_000))
        self.deliver()
        names = list(_STEPS)
        name = self.pick.choices(names, weights=[_STEPS[one][0] for one in names])[0]
        self.met[name] += 1
        _STEPS[name][1](self, self.pick.choice(list(self.clones.values())))

    # Writing

    def write(self, clone: Replica, kill: str | None = None, race: bool = False) -> None:
        signer = self.pick.choice(self.actors)
        work = self._command()
        rival = self._rival(clone) if race else None
        self.note(f"{clone.name} writes as {signer.label} kill={kill} race={race}")
        now_ms = self.now_ms + clone.clock_ms
        before = clone.head
        try:
            events = clone.write(work, signer, now_ms, kill=kill, race=rival)
        except GritError as refused:
            self.met["refused"] += 1
            self.note(f"  refused: {refused}")
            return
        except Killed:
            self.met[f"killed: {kill}"] += 1
            if clone.head != before and kill != "reading":
                # Published and not acknowledged: wholly there all the same.
                published = log.span(clone.objects, clone.head, before)
                self._stored(tuple(log.events_of(published)))
            return
        for event in events:
            # Who writes after reading wins, however wrong the clock is.
            row = clone.view.rows.get(event.issue_id)
            assert row is None or row.last >= event.order
        _check_rising(clone, events)
        self._stored(events)

    def _stored(self, events: tuple[Event, ...]) -> None:
        ids = tuple(event.event_id for event in events)
        if ids:
            self.commands.append(ids)
            self.acknowledged.update(ids)
            self.times_stored.update(ids)
            self.met.update(f"kind {event.tag}" for event in events)

    def _command(self) -> Work:
        return command(str(self.pick.getrandbits(64)))

    def _rival(self, clone: Replica) -> Callable[[], None]:
        work, signer = self._command(), self.pick.choice(self.actors)

        def write() -> None:
            self.met["overtaken"] += 1
            try:
                self._stored(clone.write(work, signer, self.now_ms + clone.clock_ms))
            except GritError:
                self.met["refused"] += 1

        return write

    def killed(self, clone: Replica) -> None:
        self.write(clone, kill=self.pick.choice(POINTS))

    def raced(self, clone: Replica) -> None:
        self.write(clone, race=True)

    def imported(self, clone: Replica) -> None:
        rows = clone.view.rows
        known = {one: [e.ts_unix_ms for e in clone.view.events_of(one)] for one in rows}
        events = foreign(str(self.pick.getrandbits(64)), self.now_ms, known)
        self.note(f"{clone.name} imports {len(events)} events")
        self._stored(clone.store(events))

    # The network

    def offer(self, clone: Replica) -> None:
        """Let another place's head, as it is now, travel to the clone: a fetch."""
        place = self.pick.choice([one for one in self.places.values() if one is not clone])
        if place.head is None:
            return
        head, sender = place.head, place.name
        commits = _pack(place, clone)

        def arrive(receiver: Replica) -> None:
            if _take(receiver, commits, head):
                receiver.tracking[sender] = head
            else:
                self.met["incomplete fetch"] += 1

        self._send(clone.name, sender, arrive, f"{clone.name} fetches {sender} at {head[:7]}")

    def push(self, clone: Replica) -> None:
        """Let the clone's head travel to another place and move it there, fast-forward only."""
        places = [one for one in self.places.values() if one is not clone]
        hub = self.places[HUB]
        place = hub if self.pick.random() < 0.7 else self.pick.choice(places)
        if clone.head is None:
            return
        head, old, name = clone.head, place.head, place.name
        commits = _pack(clone, place)

        def arrive(receiver: Replica) -> None:
            if not _take(receiver, commits, head):
                self.met["incomplete push"] += 1
            elif not log.is_ancestor(receiver.objects, old, head) or not receiver.swap(old, head):
                self.met["push rejected"] += 1
            else:
                self.met["push done"] += 1

        self._send(name, clone.name, arrive, f"{clone.name} pushes {head[:7]} to {name}")

    def _send(self, to: str, sender: str, arrive: Callable[[Replica], None], text: str) -> None:
        copies = self.pick.choices((0, 1, 2), weights=(15, 75, 10))[0]
        if self.group[to] != self.group[sender]:
            copies = 0
        self.met[f"message: {('lost', 'sent', 'doubled')[copies]}"] += 1
        self.note(f"{text} ({copies} arrive)")
        for _ in range(copies):
            late_ms = self.pick.randint(0, LATE_MS_TIGHT if self.tight else LATE_MS_MAX)
            due_ms = self.now_ms + self.pick.choice((0, late_ms))
            self.under_way.append(Message(due_ms, to, sender, arrive))

    def deliver(self, everything: bool = False) -> None:
        """Hand over what is due, in a random order."""
        due = [one for one in self.under_way if everything or one.due_ms <= self.now_ms]
        self.under_way = [one for one in self.under_way if one not in due]
        self.pick.shuffle(due)
        for message in due:
            self.note(f"  from {message.sender} to {message.to}: arrives")
            message.arrive(self.places[message.to])

    def join(self, clone: Replica) -> None:
        """Do what every command does first: join what was fetched, and catch up."""
        made = clone.join()
        self.met["joins"] += made
        self.note(f"{clone.name} joins {made} heads")
        if self.pick.random() < 0.7:
            clone.refresh()

    def partition(self, _: Replica) -> None:
        self.group = {name: self.pick.randrange(3) for name in self.places}
        self.note(f"the network falls apart: {self.group}")

    def heal(self, _: Replica | None) -> None:
        self.group = dict.fromkeys(self.places, 0)
        self.note("the network heals")

    # Clocks, disks, snapshots

    def shift_clock(self, clone: Replica) -> None:
        clone.clock_ms = self._skew()
        self.note(f"the clock of {clone.name} is {clone.clock_ms} ms ahead now")

    def _skew(self) -> int:
        kind = "none" if self.tight else self.pick.choice(("none", "little", "hours", "days"))
        size = {"none": 0, "little": 3_000, "hours": 5 * HOUR_MS, "days": 40 * HOUR_MS}[kind]
        return self.pick.randint(-size, size)

    def back_up(self, _: Replica) -> None:
        name = self.pick.choice(list(self.places))
        self.backups[name] = self.places[name].backup()
        self.note(f"{name} is backed up")

    def restore(self, _: Replica) -> None:
        """Let a place come back from its last backup, the remote too."""
        name = self.pick.choice(list(self.places))
        place = self.places[name]
        had = {event.event_id for event in place.events()}
        place.restore(self.backups[name])
        kept = {e.event_id for one in self.places.values() for e in one.events()}
        self.perhaps |= had - kept
        self.acknowledged -= had - kept
        self.met["lost with a disk"] += len(had - kept)
        self.note(f"{name} comes back from a backup; {len(had - kept)} events were nowhere else")

    def snapshot(self, clone: Replica) -> None:
        """Make a snapshot and give it to anybody, who may or may not have its head."""
        made = clone.snapshot()
        if made is None:
            return
        if self.pick.random() < 0.3:
            made = self._lie(made)
        receiver = self.pick.choice(list(self.clones.values()))
        receiver.snapshots.append(made)
        self.note(f"{clone.name} makes a snapshot of {made.wal_head[:7]} for {receiver.name}")

    def _lie(self, snapshot: Snapshot) -> Snapshot:
        """Leave an event out; the set is stated as it is then, or as it should be."""
        events = list(log.events_of({"": Commit((), snapshot.chunks)}))
        del events[self.pick.randrange(len(events))]
        claimed = event_set(events) if self.pick.random() < 0.5 else snapshot.event_set
        self.met["snapshots that lie"] += 1
        return Snapshot(snapshot.wal_head, claimed, tuple(codec.split_chunks(events)))

    def rebuild(self, clone: Replica) -> None:
        self.met["snapshots used"] += clone.rebuild()
        self.note(f"{clone.name} builds its view anew")


def _actor(seed: int, number: int, *, keyed: bool) -> Signer:
    secret = Random(f"{seed}/actor/{number}").randbytes(32)
    label = f"actor{number}"
    if not keyed:
        return Signer(ActorId(secret[:16]), label, (label, label, "", None), None)
    key = signing.public_key(secret)
    return Signer(signing.actor_id_of(key), label, (label, label, "", key), secret)


def _pack(sender: Replica, receiver: Replica) -> Objects:
    """Return the commits that the sender has and the receiver had not when they talked."""
    commits = sender.commits()
    return {oid: commit for oid, commit in commits.items() if oid not in receiver.objects}


def _take(receiver: Replica, commits: Objects, head: str) -> bool:
    """Store what came; False, as git's own check says, when something below `head` is missing."""
    receiver.objects.update(commits)
    try:
        log.span(receiver.objects, head)
    except KeyError:
        return False
    return True


def _check_rising(clone: Replica, events: tuple[Event, ...]) -> None:
    """The events of a command have rising times and are the last of their issues.

    Where times of an issue do not count, the last of the command is what counts last.
    """
    times = [event.ts_unix_ms for event in events]
    assert times == sorted(set(times)), times
    lasts = {event.issue_id: event.order for event in events}
    for issue_id, last in lasts.items():
        row = clone.view.rows.get(issue_id)
        if row is not None:
            assert row.last == last or row.settled_ts == last[0], (row, last)


_STEPS: dict[str, tuple[int, Callable[[World, Replica], None]]] = {
    "write": (40, World.write),
    "race": (4, World.raced),
    "kill": (6, World.killed),
    "import": (3, World.imported),
    "fetch": (16, World.offer),
    "push": (12, World.push),
    "join": (10, World.join),
    "clock": (2, World.shift_clock),
    "backup": (2, World.back_up),
    "restore": (1, World.restore),
    "snapshot": (3, World.snapshot),
    "rebuild": (3, World.rebuild),
    "partition": (1, World.partition),
    "heal": (1, World.heal),
}
"""What may happen, with its weight."""
