"""A remote and two clones whose commands are killed, and what must be true of them afterwards."""

import json
import os
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from grit.files.private import Folder
from grit.services.export import Asked, export
from grit.services.refresh import rebuild
from grit.services.workspace import Ports, open_workspace
from grit.view.database import Database
from tests.faults.machine import Done, git
from tests.faults.nursery import Child

WAIT_S_MAX = 10
"""No command waits longer for what a killed one left, on a busy machine."""
_NAMED = re.compile(r'(?:(?<!AT_FDCWD)<|")(/[^">]*)')
_RELATIVE = re.compile(r'AT_FDCWD<([^>]*)>, "([^"]*)"')
_TAG = re.compile(r"tag\d{5}[a-z]?")


class Realm:
    """A bare remote, two clones with an actor each, and what is known of the events made there.

    Every change carries a tag of its own; its events are counted by it.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = Random(seed)
        self.bare = folder / "origin.git"
        self.whole: dict[str, int] = {}
        """How many events each tag stands for."""
        self.owed: dict[Path, set[str]] = {}
        """Tags that were acknowledged or seen in a clone, and must stay there."""
        self._runs = 0
        git(folder, "init", "-q", "--bare", str(self.bare))
        self.clones = [self._clone(name) for name in ("one", "two")]

    def _clone(self, name: str) -> Path:
        git(self.folder, "clone", "-q", str(self.bare), name)
        place = self.folder / name
        self.owed[place] = set()
        self.ok(place, "init")
        self.ok(place, "new", f"the first of {name}")
        self.ok(place, "sync")
        return place

    def start(self, place: Path, *words: str, stdin: bytes = b"") -> Child:
        """Start a command in a clone."""
        self._runs += 1
        return Child(place, words, self.folder / f"run{self._runs % 20}", stdin)

    def ok(self, place: Path, *words: str, stdin: bytes = b"") -> Done:
        """Run a command that must succeed, and without much waiting."""
        done = self.run(place, *words, stdin=stdin)
        assert done.status == 0, f"{words}: {done.status}\n{done.err}{done.out[-1000:]}"
        return done

    def run(self, place: Path, *words: str, stdin: bytes = b"") -> Done:
        """Run a command that may be refused, without much waiting."""
        self._let_a_minute_pass()
        done = self.start(place, *words, stdin=stdin).finish()
        assert done.seconds < WAIT_S_MAX, f"{words} took {done.seconds:.1f} s"
        return done

    def _let_a_minute_pass(self) -> None:
        """Make the locks old that only time tells from those of a living git."""
        for common in (self.bare, *(place / ".git" for place in self.owed)):
            for name in ("packed-refs.lock", "shallow.lock"):
                with suppress(FileNotFoundError):
                    os.utime(common / name, (0, 0))

    def write(self, place: Path, tag: str) -> None:
        """Make an issue by one event, acknowledged."""
        self.whole[tag] = 1
        self.ok(place, "new", tag)
        self.owed[place].add(tag)

    def issue(self, place: Path, title: str | None = None) -> str:
        """Return the id of some issue, or of the one with that title."""
        rows = self.ok(place, "ls", "--all", "--json=issue_id,title").data["issues"]
        return str(self.chance.choice([r for r in rows if title in (None, r["title"])])["issue_id"])

    def check(self, place: Path) -> None:
        """Fail unless the clone holds what it owes, each event once, nothing by halves."""
        counts = self.counts(place)
        for tag, count in counts.items():
            assert count == self.whole[tag], f"{tag}: {count} of {self.whole[tag]}"
        missing = self.owed[place] - set(counts)
        assert not missing, f"lost: {sorted(missing)}"
        self.owed[place] |= set(counts)

    def counts(self, place: Path) -> Counter[str]:
        """Return how many events bear each tag; raise AssertionError as `events`."""
        return Counter(tag for event in self.events(place) for tag in set(_TAG.findall(event)))

    def events(self, place: Path) -> list[str]:
        """Return the clone's events as JSON; the view must say what one built anew says."""
        git(place, "fsck", "--strict", "--no-dangling")
        document = _said(place, anew=False)
        assert document == _said(place, anew=True), "the view is not what a rebuild gives"
        texts = [json.dumps(event) for event in document["events"]]
        ids = [event["event_id"] for event in document["events"]]
        assert len(ids) == len(set(ids)), "an event is there twice"
        return texts

    def meet(self) -> None:
        """Let all clones sync, and fail unless everybody is equal then."""
        for place in [*self.clones, *self.clones]:
            self.ok(place, "sync")
        git(self.bare, "fsck", "--strict", "--no-dangling")
        heads = {git(place, "rev-parse", "refs/grit/wal") for place in (*self.clones, self.bare)}
        assert len(heads) == 1, heads
        everything = set().union(*self.owed.values())
        documents = []
        for place in self.clones:
            self.owed[place] = everything
            self.check(place)
            documents.append(_said(place, anew=False))
            checks = self.ok(place, "doctor", "--json").data["checks"]
            bad = [check for check in checks if check["status"] != "ok"]
            assert not bad, bad
        assert documents[0] == documents[1]


def _said(place: Path, *, anew: bool) -> Any:
    """Return the whole export, from the view as it is or from one built from the log alone."""
    now_ms = time.time_ns() // 1_000_000
    workspace = open_workspace(str(place), Ports(dict(os.environ), lambda: now_ms, os.urandom))
    with TemporaryDirectory() as folder:
        try:
            if anew:
                workspace.use_database(Database(Folder(folder, (), "grit/view")))
                rebuild(workspace)
            document = json.loads("".join(export(workspace, Asked())))
        finally:
            workspace.close()
    document["meta"].pop("generated_ts")
    return document


class Turn(NamedTuple):
    """One command to be killed: in which clone, and the tag of what it makes."""

    realm: Realm
    here: Path
    there: Path
    tag: str


def calls_below(trace: Path, folder: Path) -> list[tuple[str, int]]:
    """Return the calls of a trace that touch the folder, counted by process as strace counts."""
    counts: Counter[tuple[str, str]] = Counter()
    found = set()
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, rest = line.partition(" ")
        call = rest.strip().partition("(")[0]
        if not call.isidentifier():
            continue
        counts[pid, call] += 1
        if touches(line, folder):
            found.add((call, counts[pid, call]))
    return sorted(found)


def touches(line: str, folder: Path) -> bool:
    """Return whether a call of a trace made with -y is about a file below the folder."""
    below = f"{folder}/"
    if any(name.startswith(below) for name in _NAMED.findall(line)):
        return True
    return any(
        not name.startswith("/") and f"{place}/".startswith(below)
        for place, name in _RELATIVE.findall(line)
    )
