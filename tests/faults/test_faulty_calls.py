"""One system call fails, of grit or of a git that it started: success or a refusal, never a ruin.

CI takes a sample of calls for every kind of command; GRIT_FAULTS=all takes ten times as many, and
every call of an append.
"""

import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random

import pytest

from tests.faults.acts import ACTS
from tests.faults.machine import FULL_SWEEP, Done, grit, judge, need_strace
from tests.faults.nursery import session_environment
from tests.faults.realm import Realm, Turn, calls_below, touches

SEED = int(os.environ.get("GRIT_TEST_SEED", "7"))
FAILING = (
    "openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,write,pwrite64,"
    "writev,pwritev,fsync,fdatasync,ftruncate"
)
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EINTR")
SAMPLES = 40 if FULL_SWEEP else 3
TRIES = 4
"""What strace counts differs a little from run to run, so that some calls are missed."""
WHOLE_SWEEP = ("new",)
"""What is tried at every call where everything is tried."""
REFUSED = (1, 4, 5)
INTERPRETER = (Path(sys.base_prefix), Path(sys.prefix))
"""Where a failing call makes Python itself show a traceback, before any line of grit runs."""
APPENDS = ("new", "comment", "batch")


class Disk:
    """Runs commands in a realm, each with one call that fails."""

    def __init__(self, realm: Realm, name: str) -> None:
        self.realm = realm
        self.name = name
        self.hit = 0
        self.history: list[str] = []
        self._turns = 0
        self._whole = 0
        self._trace = realm.folder / "trace"

    def calls(self) -> list[tuple[str, int]]:
        """Run the command once, and return the calls that touch the repositories."""
        turn, done = self._run([])
        assert done.status == 0, done
        self._whole = self.realm.counts(turn.here)[turn.tag]
        self._note(turn, done)
        return calls_below(self._trace, self.realm.folder)

    def fail(self, call: str, number: int, error: str) -> None:
        """Let that call fail, and look at what is left."""
        self.history.append(f"{error} at {call}:{number}")
        turn, done = self._run(["-e", f"inject={call}:error={error}:when={number}"])
        traced = self._trace.read_text(errors="replace").splitlines()
        found = [line for line in traced if "(INJECTED)" in line]
        self.history += [f"  {line[:300]}" for line in found]
        # Another file's call, the interpreter's perhaps, says nothing about grit.
        ours = any(touches(line, self.realm.folder) for line in found)
        if not ours or any(touches(line, place) for line in found for place in INTERPRETER):
            self._note(turn, done)
            return
        judge(done, f"{self.name}: {error} at {call}:{number}")
        self.hit += 1
        assert done.status == 0 or done.status in REFUSED, done
        assert done.status == 0 or done.err.strip() or done.out.strip(), "refused without a word"
        self._note(turn, done)
        if self.name in APPENDS and done.status != 0:
            assert turn.tag not in self.realm.counts(turn.here), "refused, and stored"

    def _run(self, inject: Sequence[str]) -> tuple[Turn, Done]:
        realm, act = self.realm, ACTS[self.name]
        here, there = realm.chance.sample(realm.clones, 2)
        turn = Turn(realm, here, there, f"tag{self._turns:05}")
        self._turns += 1
        act.prepare(turn)
        before = ["strace", "-qq", "--seccomp-bpf", "-f", "-y", "-o", str(self._trace)]
        before += ["-e", f"trace={FAILING}", *inject]
        done = grit(
            here,
            *act.words(turn),
            stdin=act.stdin(turn),
            before=before,
            environ=session_environment(here),
            judged=False,
        )
        self.history.append(f"  {turn.tag}: status {done.status} {done.err[-500:]}")
        return turn, done

    def _note(self, turn: Turn, done: Done) -> None:
        if self._whole:
            self.realm.whole[turn.tag] = self._whole
            if done.status == 0:
                self.realm.owed[turn.here].add(turn.tag)
        ACTS[self.name].follow(turn)
        self.realm.check(turn.here)


@pytest.mark.parametrize("name", ACTS)
def test_fault_5_a_failing_call_of_any_command_is_survived(name: str, tmp_path: Path) -> None:
    """ENOSPC, EIO, EDQUOT, EROFS, EINTR: done, or refused with a word; then all works again."""
    need_strace()
    chance = Random(f"{SEED} {name}")
    disk = Disk(Realm(tmp_path, chance.randrange(1 << 32)), name)
    try:
        calls = disk.calls()
        if FULL_SWEEP and name in WHOLE_SWEEP:
            for (call, when), error in product(calls, ERRORS):
                disk.fail(call, when, error)
        for turn in range(TRIES * SAMPLES):
            if disk.hit >= SAMPLES:
                break
            kind = chance.choice(sorted({call for call, _ in calls}))
            call, when = chance.choice([one for one in calls if one[0] == kind])
            error = ERRORS[turn % len(ERRORS)]
            if (call, error) == ("write", "EINTR") and name not in WHOLE_SWEEP:
                # Of a git that answers by stdio the line is lost, and grit waits for it: Linux
                # interrupts no write of a process that handles no signals.
                continue
            disk.fail(call, when, error)
        disk.realm.meet()
    except BaseException as error:
        error.add_note(f"GRIT_TEST_SEED={SEED}\n" + "\n".join(disk.history[-12:]))
        raise
    assert disk.hit >= SAMPLES // 2, "the calls were missed"
