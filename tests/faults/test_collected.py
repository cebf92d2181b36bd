"""`git prune` and `git gc --prune=now` beside grit: nothing acknowledged is lost, nothing sticks.

Some loops run in CI; GRIT_FAULTS=all lets them run ten times as long.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from grit.git import kept
from grit.git.objects import ObjectWriter
from grit.git.repository import Repository, discover
from tests.daemon.warm import clone
from tests.faults.machine import FULL_SWEEP, Done, git, grit, ok, titles
from tests.services import writers
from tests.services.writers import check, create, opened

SECONDS = 30 if FULL_SWEEP else 3
WRITERS = 3
COLLECTORS = 2
REF = "refs/grit/wal"

Command = Callable[..., Done]


def loose(folder: Path, oid: str) -> Path:
    return folder / ".git/objects" / oid[:2] / oid[2:]


def objects_of(folder: Path, *span: str) -> list[str]:
    """Return the objects that the span of the log adds: commit, trees, chunk, attachment."""
    return [line.split()[0] for line in git(folder, "rev-list", "--objects", *span).splitlines()]


def check_whole(folder: Path) -> None:
    git(folder, "fsck", "--connectivity-only")
    assert git(folder, "rev-list", "--objects", REF)


def drop_view(folder: Path) -> None:
    shutil.rmtree(folder / ".git/grit/view", ignore_errors=True)


class Writers:
    """Threads that run commands of a clone until the time is over, beside a loop of git."""

    def __init__(self, folder: Path, collect: tuple[str, ...], command: Command) -> None:
        self.folder, self.collect, self.command = folder, collect, command
        self.until = time.monotonic() + SECONDS
        self.acknowledged: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        loop = f"while :; do git {' '.join(self.collect)} 2>/dev/null; done"
        collectors = [
            subprocess.Popen(["sh", "-c", loop], cwd=self.folder, start_new_session=True)
            for _ in range(COLLECTORS)
        ]
        threads = [threading.Thread(target=self._write_one(number)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for collector in collectors:
            os.killpg(collector.pid, signal.SIGTERM)
            collector.wait(30)

    def _write_one(self, number: int) -> Callable[[], None]:
        def write() -> None:
            turn = 0
            while time.monotonic() < self.until:
                turn += 1
                title = f"writer {number} turn {turn}"
                words = ["new", title, "--json"]
                if turn % 3 == 0:
                    attached = self.folder / f"file{number}"
                    attached.write_bytes(os.urandom(300))
                    words = self._attaching(number, attached) or words
                done = self.command(*words)
                if done.status == 0:
                    found = done.data.get("event_id") or done.data["event_ids"][0]
                    self.acknowledged.append(found)
                else:
                    self.failures.append(f"{words}: {done.status} {done.err}{done.out}")

        return write

    def _attaching(self, number: int, attached: Path) -> list[str] | None:
        rows = self.command("ls", "--json")
        issues = rows.data["issues"] if rows.status == 0 else []
        if not issues:
            return None
        issue_id = issues[number % len(issues)]["issue_id"]
        return ["issue", "attachment", "add", issue_id, str(attached), "--json"]


@pytest.mark.parametrize("collect", [("prune",), ("gc", "-q", "--prune=now")], ids=["prune", "gc"])
@pytest.mark.parametrize("kept_view", [True, False], ids=["view", "noview"])
def test_nothing_acknowledged_is_lost_beside_collections(
    tracker: Path, collect: tuple[str, ...], kept_view: bool
) -> None:
    """Writers in processes of their own, and git in a loop that takes what it does not reach."""
    _check_race(tracker, collect, kept_view, partial(grit, tracker))


def test_nothing_acknowledged_is_lost_with_a_server(tmp_path: Path) -> None:
    """The same with commands that a warm server runs."""
    with clone(tmp_path / "clone") as warm:
        warm.grit("init")
        warm.up()

        def command(*words: str) -> Done:
            done = warm.run(*words)
            return Done(done.returncode, done.stdout, done.stderr, 0.0)

        _check_race(warm.folder, ("prune",), True, command)
        assert warm.served() > 0


def _check_race(folder: Path, collect: tuple[str, ...], kept_view: bool, command: Command) -> None:
    race = Writers(folder, collect, command)
    race.run()
    assert not race.failures, race.failures[:3]
    assert race.acknowledged
    if not kept_view:
        drop_view(folder)
    found = ok(folder, "export", "--format", "json")
    events = {event["event_id"] for event in json.loads(found.out)["events"]}
    assert set(race.acknowledged) <= events
    ok(folder, "doctor")
    check_whole(folder)
    drop_view(folder)
    again = json.loads(ok(folder, "export", "--format", "json").out)["events"]
    assert {event["event_id"] for event in again} == events


@pytest.fixture
def written(tracker: Path) -> tuple[Path, list[str]]:
    """A clone of a remote, and the objects of its newest write, which holds an attachment."""
    git(tracker, "init", "-q", "--bare", "hub.git")
    git(tracker, "remote", "add", "origin", str(tracker / "hub.git"))
    ok(tracker, "sync")
    first = ok(tracker, "ls", "--json").data["issues"][0]["issue_id"]
    before = git(tracker, "rev-parse", REF)
    ok(tracker, "new", "the second")
    (tracker / "attached").write_text("content that is attached")
    ok(tracker, "issue", "attachment", "add", first, "attached")
    return tracker, objects_of(tracker, REF, f"^{before}")


NEXT = (("new", "the third"), ("ls",), ("sync",), ("doctor",), ("rebuild",))


@pytest.mark.parametrize("kept_view", [True, False], ids=["view", "noview"])
def test_each_object_that_is_gone_comes_back(
    written: tuple[Path, list[str]], kept_view: bool
) -> None:
    """Whichever object of acknowledged writes is taken, alone or with all: the next command works.

    A command that has no need of the object need not notice; who reads the log next does.
    """
    folder, oids = written
    assert len(oids) >= 7
    rounds = [
        (gone, NEXT[n % len(NEXT)]) for n, gone in enumerate([*([one] for one in oids), oids])
    ]
    if FULL_SWEEP:
        rounds = [(gone, words) for gone, _ in rounds for words in NEXT]
    for gone, words in rounds:
        _take(folder, gone)
        if not kept_view:
            drop_view(folder)
        done = ok(folder, *words)
        drop_view(folder)
        assert {"the first", "the second"} <= set(titles(folder))
        ok(folder, "doctor")
        assert all(loose(folder, oid).exists() for oid in oids), (words, done)
        check_whole(folder)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_goes_while_it_is_written_comes_back(
    tracker: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each object, taken just before or just after the ref moves, is put back by the writer."""
    from grit.git import wal

    told: list[str] = []
    swap = wal.swap_ref
    for number in range(4):

        def swapped(*args: Any, **options: Any) -> bool:
            new = args[3]
            oids = objects_of(tracker, new, "--not", "--all")
            victims = oids if number == 3 else [oids[number]]  # noqa: B023
            if moment == "before":
                _take(tracker, victims)
            moved = swap(*args, **options)
            if moment == "after":
                _take(tracker, victims)
            return moved

        monkeypatch.setattr(wal, "swap_ref", swapped)
        workspace = opened(tracker)
        workspace.notice = told.append
        create(workspace, f"number {number}")
        workspace.close()
        monkeypatch.undo()
        check_whole(tracker)
        assert len(told) == number + 1 and "put back" in told[-1]
    drop_view(tracker)
    assert titles(tracker) == [*(f"number {number}" for number in range(4)), "the first"]


@pytest.mark.parametrize("turns", [1, 3])
def test_what_another_process_puts_back_is_looked_for_again(
    written: tuple[Path, list[str]], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is slower restores nothing, as often as a collection takes it; that is no damage."""
    folder, oids = written
    real, left = kept.restore, []

    def faster(repository: Repository) -> list[str]:
        real(repository)
        left.append(None)
        if len(left) < turns:
            _take(folder, oids)
        return []

    monkeypatch.setattr(kept, "restore", faster)
    _take(folder, oids)
    workspace = opened(folder)
    create(workspace, "the third")
    workspace.close()
    assert len(left) >= turns
    left.clear()
    _take(folder, oids)
    drop_view(folder)
    shown = writers.titles(check(folder))
    assert shown == ["the first", "the second", "the third"]
    assert len(left) >= turns


def _take(folder: Path, oids: list[str]) -> None:
    for oid in oids:
        loose(folder, oid).unlink()


def test_a_fetch_beside_a_collection(written: tuple[Path, list[str]], tmp_path: Path) -> None:
    """What a fetch unpacked has a second name before the log holds it."""
    folder, oids = written
    ok(folder, "sync")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(folder / "hub.git"), str(other))
    ok(other, "new", "elsewhere")
    ok(other, "sync")
    assert loose(other, oids[0]).exists()
    _take(other, oids)
    drop_view(other)
    assert titles(other) == ["elsewhere", "the first", "the second"]
    check_whole(other)


def test_what_was_fetched_and_is_gone_is_fetched_again(
    written: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Taken before anybody could keep it: no ref names a part of it, and a sync gets it."""
    folder, oids = written
    ok(folder, "sync")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(folder / "hub.git"), str(other))
    git(other, "fetch", "-q", "origin", f"+{REF}:refs/grit-remotes/origin/wal")
    chunk = next(oid for oid in oids if git(other, "cat-file", "-t", oid) == "blob")
    _take(other, [chunk])
    done = ok(other, "sync")
    assert "fetched again" in done.err
    assert titles(other) == ["the first", "the second"]
    check_whole(other)


class TestKept:
    """The second names themselves."""

    @pytest.fixture(params=["sha1", "sha256"])
    def repository(self, request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
        git(tmp_path, "init", "-q", f"--object-format={request.param}", "here")
        return discover(str(tmp_path / "here"), {})

    @pytest.fixture(params=["link", "copy"])
    def oid(
        self, request: pytest.FixtureRequest, repository: Repository, monkeypatch: Any
    ) -> Iterator[str]:
        """A kept object, where files may have two names or not."""
        if request.param == "copy":

            def refused(*_: object, **__: object) -> None:
                raise OSError(18, "Invalid cross-device link")

            monkeypatch.setattr(os, "link", refused)
        yield ObjectWriter(repository, False, 0).write("blob", b"content")

    def path(self, repository: Repository, oid: str) -> Path:
        return Path(repository.objects_dir) / oid[:2] / oid[2:]

    def second(self, repository: Repository, oid: str) -> Path:
        (found,) = Path(repository.grit_dir).glob(f"kept/*/{oid}")
        return found

    def test_it_comes_back_once(self, repository: Repository, oid: str) -> None:
        """With its folder, which `git gc` removes when it is empty."""
        path = self.path(repository, oid)
        content = path.read_bytes()
        path.unlink()
        path.parent.rmdir()
        assert kept.restore(repository) == [oid]
        assert path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o444
        assert kept.restore(repository) == []
        assert git(repository.common_dir, "cat-file", "-p", oid) == "content"
        assert not list(path.parent.glob("tmp_*"))

    def test_an_empty_file_is_replaced(self, repository: Repository, oid: str) -> None:
        """What a power loss left of the object, where the second name is a file of its own."""
        path = self.path(repository, oid)
        path.unlink()
        path.write_bytes(b"")
        assert kept.restore(repository) == [oid]
        assert path.stat().st_size > 0

    def test_what_is_packed_does_not_come_back(self, repository: Repository, oid: str) -> None:
        """It is in the repository."""
        place = repository.common_dir
        git(place, "pack-objects", "-q", "objects/pack/pack", stdin=f"{oid}\n".encode())
        git(place, "prune-packed")
        assert not self.path(repository, oid).exists()
        assert kept.restore(repository) == []

    def test_old_ones_are_forgotten_when_they_are_safe(
        self, repository: Repository, oid: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not within the hour; and what is missing by then comes back first."""
        now = time.time()
        assert kept.tidy(repository) == [] and kept.names(repository)
        self.path(repository, oid).unlink()
        monkeypatch.setattr(time, "time", lambda: now + 3_500)
        assert kept.tidy(repository) == [] and kept.names(repository)
        monkeypatch.setattr(time, "time", lambda: now + 4_200)
        assert kept.tidy(repository) == [oid]
        assert not kept.names(repository) and self.path(repository, oid).exists()
        assert os.listdir(f"{repository.grit_dir}/kept") == []

    def test_a_clock_that_went_back_forgets_them_too(
        self, repository: Repository, oid: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder from the future would stay for years."""
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now - 86_400)
        assert kept.tidy(repository) == [] and not kept.names(repository)
        assert self.path(repository, oid).exists()

    def test_many_are_forgotten_early(
        self, repository: Repository, oid: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond the bound the oldest go, but for those of the last minutes."""
        now = time.time()
        monkeypatch.setattr(kept, "KEPT_NAMES_MAX", 1)
        monkeypatch.setattr(time, "time", lambda: now + 900)
        ObjectWriter(repository, False, 0).write("blob", b"more")
        assert kept.tidy(repository) == []
        (folder,) = os.listdir(f"{repository.grit_dir}/kept")
        assert not os.path.exists(f"{repository.grit_dir}/kept/{folder}/{oid}")

    @pytest.mark.parametrize("how", ["other", "torn", "link", "fifo", "folder", "bomb", "longer"])
    def test_a_shipped_name_brings_nothing_in(
        self, repository: Repository, oid: str, how: str, tmp_path: Path
    ) -> None:
        """Only what the name says comes back, whatever lies there, and nothing is followed."""
        second, path = self.second(repository, oid), self.path(repository, oid)
        content = path.read_bytes()
        path.unlink()
        second.unlink()
        if how == "other":
            second.write_bytes(zlib.compress(b"blob 5\0other"))
        elif how == "torn":
            second.write_bytes(content[:-3])
        elif how == "link":
            (tmp_path / "elsewhere").write_bytes(content)
            second.symlink_to(tmp_path / "elsewhere")
        elif how == "fifo":
            os.mkfifo(second)
        elif how == "folder":
            second.mkdir()
        elif how == "bomb":
            second.write_bytes(zlib.compress(b"blob 300000000\0" + bytes(300_000_000)))
        else:
            second.write_bytes(content + b"x")
        assert kept.restore(repository) == []
        assert not path.exists()

    def test_a_malformed_object_stays_out(self, repository: Repository, oid: str) -> None:
        """An id of its own does not make it one."""
        for framed in (b"blob 7\0short", b"tag 0\0", b"blob x\0", b"nothing"):
            digest = hashlib.new(repository.object_format, framed).hexdigest()
            second = self.second(repository, oid).with_name(digest)
            second.write_bytes(zlib.compress(framed))
        assert kept.restore(repository) == []

    @pytest.mark.parametrize("level", ["kept", "period"])
    @pytest.mark.parametrize("how", ["link", "file"])
    def test_a_shipped_folder_is_not_followed(
        self, repository: Repository, oid: str, level: str, how: str, tmp_path: Path
    ) -> None:
        """A link in the place of a folder is replaced; nothing is written where it led."""
        period = self.second(repository, oid).parent
        place = period if level == "period" else period.parent
        shutil.rmtree(place)
        elsewhere = tmp_path / "elsewhere"
        (elsewhere / period.name).mkdir(parents=True)
        if how == "link":
            place.symlink_to(elsewhere)
        else:
            place.write_bytes(b"")
        assert kept.restore(repository) == []
        more = ObjectWriter(repository, False, 0).write("blob", b"more")
        assert os.listdir(elsewhere) == [period.name] and not os.listdir(elsewhere / period.name)
        assert self.second(repository, more).exists()
        self.path(repository, more).unlink()
        assert kept.restore(repository) == [more]

    def test_a_folder_that_refuses_stops_no_write(self, repository: Repository) -> None:
        """The object is written all the same."""
        os.makedirs(repository.grit_dir)
        (Path(repository.grit_dir) / "kept").mkdir(mode=0o500)
        oid = ObjectWriter(repository, False, 0).write("blob", b"content")
        assert self.path(repository, oid).exists()
