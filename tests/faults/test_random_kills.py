"""kill -9 at random moments of everything that grit does: nothing acknowledged is ever lost.

Half of the kills come after a random time and hit the command, what it started, or both; the
others come at a random system call of one of these processes. CI kills 100 times;
GRIT_FAULTS=all kills 1,000 times; GRIT_TEST_SEED chooses the seed.
"""

import os
import time
from pathlib import Path
from random import Random

import pytest

from tests.faults.acts import ACTS
from tests.faults.machine import CHANGING, FULL_SWEEP, Done, grit, need_strace
from tests.faults.nursery import Child, session_environment, wait_for_orphans
from tests.faults.realm import Realm, Turn, calls_below

SEED = int(os.environ.get("GRIT_TEST_SEED", "7"))
REALMS = 20 if FULL_SWEEP else 4
KILLS = 50 if FULL_SWEEP else 26
CROWD = "many at once"
WRITERS = 4
MOVING = ("link", "linkat", "rename", "renameat", "unlink", "unlinkat")


class Killer:
    """Runs commands in a realm and kills them."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.killed = 0
        self.killed_at_calls = 0
        self.history: list[str] = []
        self._seconds: dict[str, float] = {}
        self._whole: dict[str, int] = {}
        self._calls: dict[str, list[tuple[str, int]]] = {}

    def turn(self, number: int) -> None:
        """Kill one command, let others follow, and look."""
        chance = self.realm.chance
        name = chance.choice([*ACTS, CROWD, CROWD])
        here, there = chance.sample(self.realm.clones, 2)
        turn = Turn(self.realm, here, there, f"tag{number:05}")
        self.history.append(f"{turn.tag} {name} in {here.name}")
        if name == CROWD:
            self._kill_in_crowd(turn)
        elif name not in self._seconds:
            self._measure(name, turn)
        elif chance.random() < 0.5:
            self._kill_in_time(name, turn)
        else:
            self._kill_at_call(name, turn)
        self.realm.check(here)

    def _measure(self, name: str, turn: Turn) -> None:
        """Run it to its end: how long it takes, and how many events bear its tag."""
        act = ACTS[name]
        act.prepare(turn)
        done = self.realm.ok(turn.here, *act.words(turn), stdin=act.stdin(turn))
        self._seconds[name] = done.seconds
        self._whole[name] = self.realm.counts(turn.here)[turn.tag]
        self._note(turn, done, self._whole[name])
        act.follow(turn)

    def _kill_in_time(self, name: str, turn: Turn) -> None:
        act, chance = ACTS[name], self.realm.chance
        act.prepare(turn)
        pause_s = chance.random() * self._seconds[name]
        victim = chance.choice(("alone", "all", "child"))
        self.history.append(f"  kill {victim} after {pause_s:.3f} s")
        child = self.realm.start(turn.here, *act.words(turn), stdin=act.stdin(turn))
        time.sleep(pause_s)
        child.kill(victim, chance.randrange(8))
        self._note(turn, child.finish(), self._whole[name])
        if chance.random() < 0.5:
            wait_for_orphans(child.pid)
        act.follow(turn)
        wait_for_orphans(child.pid)

    def _kill_at_call(self, name: str, turn: Turn) -> None:
        act, trace = ACTS[name], self.realm.folder / "trace"
        act.prepare(turn)
        # Not with --seccomp-bpf: strace 6.1 then injects no signal into calls that it filters.
        before = ["strace", "-qq", "-f", "-y", "-o", str(trace)]
        before += ["-e", f"trace={CHANGING}"]
        if name in self._calls:
            call, number = self._point(name)
            self.history.append(f"  kill at {call}:{number}")
            before += ["-e", f"inject={call}:signal=KILL:when={number}"]
        words, stdin = act.words(turn), act.stdin(turn)
        environ = session_environment(turn.here)
        done = grit(turn.here, *words, stdin=stdin, before=before, environ=environ)
        if name not in self._calls:
            self._calls[name] = calls_below(trace, self.realm.folder)
        self._note(turn, done, self._whole[name])
        hit = "killed by SIGKILL" in trace.read_text(errors="replace")
        self.killed += hit and done.status == 0
        self.killed_at_calls += hit
        act.follow(turn)

    def _point(self, name: str) -> tuple[str, int]:
        """Choose a call: renames and links are few, and what matters happens around them."""
        chance, calls = self.realm.chance, self._calls[name]
        kinds = sorted({call for call, _ in calls})
        moving = [kind for kind in kinds if kind in MOVING]
        kind = chance.choice(moving if moving and chance.random() < 0.5 else kinds)
        return chance.choice([one for one in calls if one[0] == kind])

    def _kill_in_crowd(self, turn: Turn) -> None:
        """Writers, a reader and a sync at once; one or two of them are killed."""
        realm, chance = self.realm, self.realm.chance
        tags = [f"{turn.tag}{chr(ord('a') + number)}" for number in range(WRITERS)]
        crowd: list[tuple[str, Child]] = [
            (tag, realm.start(turn.here, "new", tag, "-l", tag)) for tag in tags
        ]
        crowd += [("", realm.start(turn.here, word)) for word in ("ls", "sync")]
        time.sleep(chance.random() * 0.2)
        victims = chance.sample(range(len(crowd)), chance.randint(1, 2))
        for number in victims:
            crowd[number][1].kill("all")
        for number, (tag, child) in enumerate(crowd):
            done = child.finish()
            self._note(turn._replace(tag=tag), done, 1)
            assert done.status in ((0, -9) if number in victims else (0,)), done
        realm.ok(turn.here, "ls", "--json")

    def _note(self, turn: Turn, done: Done, whole: int) -> None:
        """Remember what was acknowledged, and what may be there."""
        self.killed += done.status != 0
        self.history.append(f"  status {done.status} {done.err[-300:]}")
        if whole and turn.tag:
            self.realm.whole[turn.tag] = whole
            if done.status == 0:
                self.realm.owed[turn.here].add(turn.tag)


@pytest.mark.parametrize("number", range(REALMS))
def test_fault_4_random_kills_lose_nothing(number: int, tmp_path: Path) -> None:
    """After each kill the next command works, and what was acknowledged is there once."""
    need_strace()
    seed = Random(f"{SEED} {number}").randrange(1 << 32)
    killer = Killer(Realm(tmp_path, seed))
    try:
        for turn in range(KILLS * 4):
            if killer.killed >= KILLS:
                break
            killer.turn(turn)
        killer.realm.meet()
    except BaseException as error:
        error.add_note(f"GRIT_TEST_SEED={SEED}, [{number}]\n" + "\n".join(killer.history[-12:]))
        raise
    assert killer.killed >= KILLS, "the kills came too late"
    assert killer.killed_at_calls >= KILLS // 8, "calls were missed"
