"""A soak: real commands of several threads, clones and remotes, and everything that disturbs them.

What was acknowledged (exit 0, with the event's id) is counted, and must be in every clone once when
all have synced. Threads run as the system lets them: a seed repeats what is done, not when.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

GRIT = [sys.executable, "-P", "-c", "from grit.cli.main import main; main()"]
ROOT = Path(__file__).parents[2]
REF = "refs/grit/wal"
THREADS = 4
CLONES = 3
REMOTES = ("one", "two")
BATCHES_MAX = (40, 40, 200)
"""Lines of a batch: one in three may be a large one."""
COMMAND_S_MAX = 120
ROUNDS_MAX = 6
"""How often all sync at the end until nobody has news."""
_CONFIG = """[user]
    name = Soak Example
    email = soak@example.org
[init]
    defaultBranch = main
[protocol "file"]
    allow = always
"""
_REFUSED = frozenset({4, 5})
"""A conflict, or somebody else at work: nothing was acknowledged, and nothing is wrong."""


class Soaked(NamedTuple):
    """What came of it."""

    acknowledged: int
    lost: int
    doubled: int
    different: int
    """Clones whose export differs from the first one's."""
    failures: list[str]
    """Commands that failed in another way than by being refused, and what else is wrong."""
    met: Counter[str]
    seconds: float

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.different or self.failures)


class Soak:
    """Clones, one with a second worktree, and bare remotes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.met: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.titles: list[str] = []
        """Of issues whose creation was acknowledged: each is there once."""
        self.failures: list[str] = []
        self._lock = threading.Lock()
        (folder / "home").mkdir(parents=True)
        (folder / "home/.gitconfig").write_text(_CONFIG)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", "GRIT_", "XDG_"))
        }
        self.environ = {
            **kept,
            "HOME": str(folder / "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GRIT_NO_DAEMON": "1",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
        }
        self.remotes = {name: folder / f"{name}.git" for name in REMOTES}
        for remote in self.remotes.values():
            self.git(folder, "init", "-q", "--bare", str(remote))
        self.clones = [folder / f"clone{number}" for number in range(CLONES)]
        for clone in self.clones:
            self.git(folder, "init", "-q", str(clone))
            self.git(clone, "commit", "-q", "--allow-empty", "-m", "begin")
            for name, remote in self.remotes.items():
                self.git(clone, "remote", "add", name, str(remote))
            self.must(clone, "init")
            self.must(clone, "sync", "--remote", REMOTES[0])
        self.git(self.clones[0], "worktree", "add", "-q", str(folder / "worktree"))
        self.places = [*self.clones, folder / "worktree"]

    def git(self, place: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["git", *words], cwd=place, env=self.environ, capture_output=True, timeout=COMMAND_S_MAX
        )

    def grit(
        self, place: Path, *words: str, stdin: bytes = b"", kill_s: float | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command, and kill it after a time where that is asked for."""
        process = subprocess.Popen(
            [*GRIT, *words],
            cwd=place,
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        fuse = None
        if kill_s is not None:
            fuse = threading.Timer(kill_s, self._kill, (process,))
            fuse.start()
        out, err = process.communicate(stdin, timeout=COMMAND_S_MAX)
        if fuse is not None:
            fuse.cancel()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def _kill(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill the command, with what it started."""
        if process.poll() is None:
            self.met["killed"] += 1
            os.killpg(process.pid, signal.SIGKILL)

    def must(self, place: Path, *words: str) -> bytes:
        done = self.grit(place, *words)
        assert done.returncode == 0, (place.name, words, done.stderr.decode(), done.stdout[-500:])
        return done.stdout

    def run(self, events: int, seconds: float) -> None:
        """Let all threads act until so many events are acknowledged, or the time is over."""
        until = time.monotonic() + seconds

        def act(number: int) -> None:
            pick = Random(f"{self.seed}/{number}")
            turn = 0
            try:
                while len(self.acknowledged) < events and time.monotonic() < until:
                    turn += 1
                    name = pick.choices(list(_ACTS), [one[0] for one in _ACTS.values()])[0]
                    place = pick.choice(self.places)
                    _ACTS[name][1](self, place, pick, f"t{number} {turn}")
                    self.met[name] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                self.failures.append(f"thread {number}, turn {turn}: {error!r}")

        threads = [threading.Thread(target=act, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def note(self, place: Path, done: "subprocess.CompletedProcess[bytes]") -> Any:
        """Return the result of a command that went well; remember what should not be."""
        if done.returncode == 0:
            return json.loads(done.stdout)["data"] if b"{" in done.stdout[:1] else {}
        self.met[f"status {done.returncode}"] += 1
        if b"built anew from the log" in done.stdout + done.stderr:
            self.met["view taken away"] += 1
        elif done.returncode not in _REFUSED and done.returncode != -signal.SIGKILL:
            words = (done.stdout[-400:] + done.stderr[-1500:]).decode(errors="replace")
            self.failures.append(f"{place.name}: {done.args} -> {done.returncode}: {words}")
        return None

    def count(self, titles: list[str], ids: list[str]) -> None:
        with self._lock:
            self.titles += titles
            self.acknowledged += ids

    # Writing

    def new(self, place: Path, pick: Random, tag: str) -> None:
        data = self.note(place, self.grit(place, "new", tag, "-l", "soak", "--json"))
        if data:
            self.count([tag], [data["event_id"]])

    def change(self, place: Path, pick: Random, tag: str) -> None:
        done = self.grit(place, "ls", "--json", "--limit", "30")
        data = self.note(place, done)
        if not data or not data["issues"]:
            return
        issue_id = pick.choice(data["issues"])["issue_id"]
        words = pick.choice((("comment", issue_id, "--body", tag), ("close", issue_id)))
        data = self.note(place, self.grit(place, *words, "--json"))
        if data and data.get("event_id"):
            self.count([], [data["event_id"]])

    def batch(self, place: Path, pick: Random, tag: str, kill_s: float | None = None) -> None:
        titles = [
            f"{tag} line {number}" for number in range(pick.randint(5, pick.choice(BATCHES_MAX)))
        ]
        lines = [json.dumps({"op": "create", "title": title}) for title in titles]
        done = self.grit(
            place, "batch", "-", "--json", stdin="\n".join(lines).encode(), kill_s=kill_s
        )
        data = self.note(place, done)
        if data:
            self.count(titles, [one["event_id"] for one in data["results"]])

    def killed(self, place: Path, pick: Random, tag: str) -> None:
        self.batch(place, pick, tag, pick.random() * 0.6)

    # Meeting

    def sync(self, place: Path, pick: Random, tag: str, kill_s: float | None = None) -> None:
        words = (
            "sync",
            "--remote",
            pick.choice(REMOTES),
            *pick.choice(((), (), ("--pull",), ("--push",))),
        )
        self.note(place, self.grit(place, *words, kill_s=kill_s))

    def killed_sync(self, place: Path, pick: Random, tag: str) -> None:
        self.sync(place, pick, tag, pick.random() * 0.8)

    def fetch(self, place: Path, pick: Random, tag: str) -> None:
        self.git(place, "fetch", "-q", pick.choice(REMOTES))

    def read(self, place: Path, pick: Random, tag: str) -> None:
        words = pick.choice((("ls",), ("log", "-n", "200"), ("ready",), ("search", "line")))
        self.note(place, self.grit(place, *words))

    # Disturbing

    def collect(self, place: Path, pick: Random, tag: str) -> None:
        for _ in range(pick.randint(1, 4)):
            words = pick.choice((("gc", "-q"), ("prune",), ("prune",), ("gc", "-q", "--prune=now")))
            self.git(place, *words)

    def pack_remote(self, place: Path, pick: Random, tag: str) -> None:
        self.git(self.remotes[pick.choice(REMOTES)], "gc", "-q")

    def roll_back(self, place: Path, pick: Random, tag: str) -> None:
        """Set a remote back; the events stay in the clones that sent them."""
        remote = self.remotes[pick.choice(REMOTES)]
        words = (REF, f"{REF}~{pick.randint(1, 5)}") if pick.random() < 0.8 else ("-d", REF)
        self.git(remote, "update-ref", *words)

    def flip(self, place: Path, pick: Random, tag: str) -> None:
        policy = pick.choice(("off", "warn", "require"))
        self.note(place, self.grit(place, "config", "set", "verify", policy))

    def drop_view(self, place: Path, pick: Random, tag: str) -> None:
        clone = self.clones[0] if place not in self.clones else place
        shutil.rmtree(clone / ".git/grit/view", ignore_errors=True)

    # Looking

    def finish(self) -> Soaked:
        """Let all meet, and compare."""
        for clone in self.clones:
            self.must(clone, "config", "set", "verify", "off")
        for _ in range(ROUNDS_MAX):
            for clone in self.clones:
                for remote in REMOTES:
                    self._settle(clone, "sync", "--remote", remote)
            heads = {self.git(place, "rev-parse", REF).stdout for place in self.clones}
            if len(heads) == 1:
                break
        exports = []
        for clone in self.clones:
            if self.seed % 2 == 0:
                shutil.rmtree(clone / ".git/grit/view", ignore_errors=True)
            exports.append(self.must(clone, "export", "--format", "json"))
            whole = self.git(clone, "fsck", "--connectivity-only")
            if whole.returncode != 0:
                self.failures.append(f"{clone.name}: fsck: {whole.stderr.decode()[-500:]}")
        stripped = [_comparable(one) for one in exports]
        ids = Counter(event["event_id"] for event in json.loads(exports[0])["events"])
        titles = Counter(issue["title"] for issue in json.loads(exports[0])["issues"])
        doubled = sum(count > 1 for count in ids.values())
        doubled += sum(titles[title] != 1 for title in self.titles)
        return Soaked(
            len(self.acknowledged),
            sum(one not in ids for one in self.acknowledged),
            doubled,
            sum(one != stripped[0] for one in stripped),
            self.failures,
            self.met,
            0.0,
        )

    def _settle(self, clone: Path, *words: str) -> None:
        """Run a command that must succeed, again where another was faster."""
        for _ in range(5):
            done = self.grit(clone, *words)
            if done.returncode not in _REFUSED:
                break
        assert done.returncode == 0, (clone.name, words, done.stderr.decode())


def _comparable(export: bytes) -> bytes:
    """Return an export without the time at which it was made."""
    document = json.loads(export)
    return json.dumps([document["issues"], document["events"]], sort_keys=True).encode()


def soak(seed: int, events: int, seconds: float, folder: Path | None = None) -> Soaked:
    """Run until so many events are acknowledged, or the time is over; return what came of it."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="grit-soak-") as made:
            return soak(seed, events, seconds, Path(made) / "world")
    started = time.monotonic()
    world = Soak(folder, seed)
    world.run(events, seconds)
    return world.finish()._replace(seconds=time.monotonic() - started)


_Act = Callable[[Soak, Path, Random, str], None]
_ACTS: dict[str, tuple[int, _Act]] = {
    "new": (20, Soak.new),
    "change": (20, Soak.change),
    "batch": (30, Soak.batch),
    "killed batch": (6, Soak.killed),
    "sync": (18, Soak.sync),
    "killed sync": (5, Soak.killed_sync),
    "fetch": (4, Soak.fetch),
    "read": (6, Soak.read),
    "collect": (14, Soak.collect),
    "pack a remote": (2, Soak.pack_remote),
    "roll back a remote": (2, Soak.roll_back),
    "flip the policy": (3, Soak.flip),
    "delete a view": (3, Soak.drop_view),
}
