"""A view that was damaged, killed, held or resized heals: never a signal, never a wrong answer."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from grit.core.codec import encode_chunk, seal
from grit.core.errors import Busy
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from grit.files.private import Folder
from grit.view.database import Database
from grit.view.reader import ViewReader
from grit.view.trust import SCHEMA, Mark, ViewDoubt, look, read_mark, write_mark
from grit.view.writer import rebuilding, writing
from tests.view.naive import records
from tests.view.probe import HEAD, answer

ROOT = Path(__file__).parents[2]
ACTOR = ActorId(b"\xaa" * 16)


def make_events(issues: int = 40, comments: int = 5, body: str = "crash here") -> list[Event]:
    events = []
    for number in range(issues):
        issue_id = IssueId(number.to_bytes(2, "big") * 8)
        create = Draft(issue_id, 1, (f"issue {number}", body, ("bug",)))
        events.append(seal(create, ACTOR, 1_000 + number, None))
        for turn in range(comments):
            draft = Draft(issue_id, 3, (f"{body} {turn}",))
            events.append(seal(draft, ACTOR, 2_000 + turn, None))
    return events


class Scene:
    """A built view, the chunk it was built from, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.events = make_events()
        self.chunk = folder / "chunk"
        self.chunk.write_bytes(encode_chunk(self.events))
        self.view = folder / "view"
        self.data = self.view / "data.mdb"
        database = Database(Folder(str(self.view.parent), ("view",), "grit"))
        with rebuilding(database) as writer:
            writer.apply(records(self.events), HEAD)
        self.said = answer(database)
        database.close()

    def probe(self, verb: str) -> str:
        done = subprocess.run(self.command(verb), cwd=ROOT, capture_output=True, timeout=60)
        assert done.returncode == 0, (done.returncode, done.stderr.decode())
        return done.stdout.decode().rstrip("\n")

    def command(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "tests.view.probe", str(self.view), str(self.chunk), verb]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def _truncate(data: Path) -> None:
    os.truncate(data, data.stat().st_size // 2)


def _empty(data: Path) -> None:
    os.truncate(data, 0)


def _zero(data: Path) -> None:
    data.write_bytes(bytes(data.stat().st_size))


def _garbage_page(data: Path) -> None:
    content = bytearray(data.read_bytes())
    at = random.Random(7).randrange(len(content) // 4096) * 4096
    content[at : at + 4096] = random.Random(8).randbytes(4096)
    data.write_bytes(content)


def _flip_bit(data: Path) -> None:
    content = bytearray(data.read_bytes())
    content[len(content) // 3] ^= 4
    data.write_bytes(content)


def _flip_bit_and_restore_times(data: Path) -> None:
    before = data.stat()
    _flip_bit(data)
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_by_a_copy(data: Path) -> None:
    content, before = data.read_bytes(), data.stat()
    data.unlink()
    data.write_bytes(content)
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))


def _garble_mark(data: Path) -> None:
    (data.parent / "mark").write_bytes(b"\xff" * 500)


DAMAGES = [
    _truncate,
    _empty,
    _zero,
    _garbage_page,
    _flip_bit,
    _flip_bit_and_restore_times,
    _replace_by_a_copy,
    _garble_mark,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_fault_10_a_changed_view_is_rebuilt(scene: Scene, damage: Callable[[Path], None]) -> None:
    """A file that is not the one the last writer left is not opened, but rebuilt."""
    assert scene.probe("read") == f"trusted {scene.said}"
    damage(scene.data)
    assert scene.probe("read") == f"changed {scene.said}"
    assert scene.probe("read") == f"trusted {scene.said}"


def test_fault_10_a_deleted_view_is_rebuilt(scene: Scene) -> None:
    """Without a data file there is no view yet, whatever else lies there."""
    scene.data.unlink()
    assert scene.probe("read") == f"absent {scene.said}"


def test_fault_10_a_schema_of_another_version_is_rebuilt(scene: Scene) -> None:
    """The mark tells the layout before the file is opened."""
    with Folder(str(scene.view.parent), ("view",), "grit").open() as view:
        mark = look(view, "data.mdb")
        assert mark is not None
        write_mark(view, "mark", mark._replace(schema=SCHEMA + 1))
    assert scene.probe("read") == f"schema {scene.said}"
    assert scene.probe("read") == f"trusted {scene.said}"


def test_fault_10_a_damaged_row_is_found_by_its_checksum(scene: Scene) -> None:
    """A flip that no time shows (a failing disk) is found when the row is read, and heals."""
    content = bytearray(scene.data.read_bytes())
    at = content.index(b"issue 7")
    content[at] ^= 1
    scene.data.write_bytes(content)
    with Folder(str(scene.view.parent), ("view",), "grit").open() as view:
        write_mark(view, "mark", look(view, "data.mdb"))
    assert scene.probe("read") == f"damaged {scene.said}"
    assert scene.probe("read") == f"trusted {scene.said}"


def test_fault_10_a_full_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map too small for the first batch grows and loses nothing."""
    events = make_events(comments=200, body="crash " * 200)
    database = Database(Folder(str(tmp_path), ("view",), "grit"), map_bytes=64 * 1024)
    with rebuilding(database) as writer:
        monkeypatch.setattr(database, "_reserve", _double)
        writer.apply(records(events), HEAD)
    assert ViewReader(database).stats().event_count == len(events)
    database.close()


def _double(env: lmdb.Environment, need_bytes: int) -> None:
    """Ignore guesses; after a full map double it, so that several retries are needed."""
    if need_bytes == env.info()["map_size"]:
        env.set_mapsize(2 * need_bytes)


def test_fault_10_a_map_grown_by_another_process_is_adopted(tmp_path: Path) -> None:
    """A reader and a writer that hold the view open go on after another process grew it."""
    events = make_events(comments=100, body="crash " * 300)
    chunk, folder = tmp_path / "chunk", tmp_path / "view"
    chunk.write_bytes(encode_chunk(events))
    database = Database(Folder(str(tmp_path), ("view",), "grit"), map_bytes=256 * 1024)
    with rebuilding(database) as writer:
        writer.apply(records(events[:1]), "old")
    reader = ViewReader(database)
    assert reader.head() == "old"
    command = [sys.executable, "-m", "tests.view.probe", str(folder), str(chunk), "grow"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, capture_output=True)
    assert reader.head() == HEAD
    assert reader.stats().event_count == len(events)
    with writing(database) as writer:
        assert writer.apply(records(events), "again").event_count == 0
    database.close()


def test_regression_18_a_writer_killed_at_any_moment_leaves_a_view_that_heals(
    scene: Scene,
) -> None:
    """kill -9 in a row of applies: what is there afterwards is whole, or is rebuilt."""
    pauses = random.Random(3)
    for _ in range(6):
        database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
        with rebuilding(database, force=True) as writer:
            writer.apply((), None)
        database.close()
        writer_process = subprocess.Popen(
            scene.command("write"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert writer_process.stdout is not None
        writer_process.stdout.readline()
        time.sleep(pauses.random() * 0.03)
        writer_process.send_signal(signal.SIGKILL)
        writer_process.communicate(timeout=30)
        word, said = scene.probe("read").split(" ", 1)
        if word == "trusted":
            # Each apply moved the head to the number of its first event, two events at a time.
            head = re.match(r"\('([0-9a-f]{40})'", said)
            events = re.findall(r"'[0-9a-f]{64}'", said)
            assert len(events) == (0 if head is None else int(head[1], 16) + 2)
        else:
            assert (word, said) == ("changed", scene.said)


def test_a_rebuild_that_dies_leaves_the_old_view(scene: Scene) -> None:
    """Nothing is replaced before the new file is complete."""
    database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
    with pytest.raises(ZeroDivisionError), rebuilding(database, force=True) as writer:
        writer.apply(records(scene.events[:3]), "half")
        raise ZeroDivisionError
    assert answer(database) == scene.said
    assert not (scene.view / "build").exists()
    database.close()


def test_a_rebuild_by_another_process_is_adopted(scene: Scene) -> None:
    """A reader that has the old file open reads the new one as soon as it is there."""
    database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
    assert answer(database) == scene.said
    inode = scene.data.stat().st_ino
    assert scene.probe("rebuild") == f"rebuilt {scene.said}"
    assert scene.data.stat().st_ino != inode
    assert answer(database) == scene.said
    database.close()


def test_readers_do_not_wait_for_a_writer(scene: Scene) -> None:
    """While another process holds the writers' lock, answers come at once."""
    holder = subprocess.Popen(scene.command("hold"), cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"holding\n"
        database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
        assert answer(database) == scene.said
        database.close()
    finally:
        holder.kill()
        holder.communicate(timeout=30)


def test_fault_11_a_held_lock_ends_in_busy_naming_the_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is bounded, and the error names who holds the lock."""
    from grit.view.writer_lock import WriterLock

    monkeypatch.setattr(WriterLock.acquire, "__defaults__", (50,))
    holder = subprocess.Popen(scene.command("hold"), cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"holding\n"
        database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
        with pytest.raises(Busy, match=f"pid {holder.pid}"), writing(database):
            raise AssertionError("two writers at once")
    finally:
        holder.kill()
        holder.communicate(timeout=30)
    with writing(database) as writer:
        assert writer.head() == HEAD
    database.close()


def test_a_view_that_cannot_be_written_is_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only file system LMDB is opened without its lock file, and nothing is created."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = sorted(os.listdir(scene.view))
    (scene.view / "lock.mdb").unlink(missing_ok=True)
    database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
    reader = ViewReader(database)
    assert reader.head() == HEAD
    assert len(list(reader.all_rows())) == 40
    assert set(os.listdir(scene.view)) <= set(before) - {"lock.mdb"}
    database.close()


def test_a_forked_child_opens_its_own_environment(scene: Scene) -> None:
    """Parent and child go on reading and writing after a fork."""
    database = Database(Folder(str(scene.view.parent), ("view",), "grit"))
    reader = ViewReader(database)
    assert reader.head() == HEAD
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with writing(database) as writer:
                writer.apply((), "child")
            status = 0 if reader.head() == "child" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.head() == "child"
    with writing(database) as writer:
        writer.apply((), "parent")
    assert reader.head() == "parent"
    database.close()


def test_a_temporary_view_works_and_is_private() -> None:
    """Where nothing can be written, a view in a private folder answers for one process."""
    database = Database.temporary()
    with pytest.raises(ViewDoubt):
        ViewReader(database).head()
    with rebuilding(database) as writer:
        writer.apply(records(make_events(issues=2)), HEAD)
    assert ViewReader(database).stats().issue_count == 2
    assert os.stat(database.directory).st_mode & 0o077 == 0
    database.close()


def test_the_mark_tells_every_difference(tmp_path: Path) -> None:
    """A mark survives its file, and a torn or foreign one is none."""
    path = tmp_path / "mark"
    mark = Mark(1, 2, 3, 4, 5)
    with Folder(str(tmp_path), (), "grit/view").open() as view:
        assert read_mark(view, "mark") is None
        write_mark(view, "mark", mark)
        assert read_mark(view, "mark") == mark
        path.write_bytes(mark.encode()[:-5])
        assert read_mark(view, "mark") == mark
        path.write_bytes(mark.encode().replace(b" 4 ", b" 6 "))
        assert read_mark(view, "mark") is None
        write_mark(view, "mark", None)
        assert read_mark(view, "mark") is None
