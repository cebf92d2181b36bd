"""Readers of the view: how many a command is, what happens when there are too many, and errors."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from grit.core.codec import seal
from grit.core.errors import Busy, IoFailed
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from grit.files.private import Folder
from grit.services import issues
from grit.services.write import Transaction, write
from grit.view.database import Database
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt
from grit.view.writer import rebuilding, writing
from tests.faults.machine import grit, ok
from tests.services.writers import opened
from tests.view.naive import records
from tests.view.probe import HEAD

ACTOR = ActorId(b"\xaa" * 16)
ISSUES, EVENTS_EACH = 500, 10
SLOTS_MAX = 3
"""How many readers one command may ever be at once."""
DAMAGE = {
    "BadTxnError", "CorruptedError", "CursorFullError", "IncompatibleError", "InvalidError",
    "PageFullError", "PageNotFoundError", "PanicError", "ProblemError", "VersionMismatchError",
}  # fmt: skip
FULL = {"ReadersFullError", "TlsFullError"}
OTHER = {
    "BadChecksumError", "BadDbiError", "BadRslotError", "BadValsizeError", "CryptoFailError",
    "DbsFullError", "DiskError", "EnvEncryptionError", "Error", "InvalidParameterError",
    "KeyExistsError", "LockError", "MapFullError", "MapResizedError", "MemoryError",
    "NotFoundError", "ReadonlyError", "TxnFullError",
}  # fmt: skip
ERRORS = sorted(
    name
    for name, one in vars(lmdb).items()
    if isinstance(one, type) and issubclass(one, lmdb.Error)
)
READS = [
    ("log", "-n", "300"),
    ("log", "-n", "300", "--json"),
    ("log", "--all"),
    ("log", "--since", "1d", "--actor", "@me", "--json"),
    ("ls", "--limit", "400"),
    ("ls", "--json"),
    ("search", "title"),
    ("ready",),
    ("blocked",),
    ("issue", "dep", "topo"),
    ("export", "--format", "json"),
    ("export", "--format", "html"),
    ("db", "stats"),
    ("actor", "list"),
]


def events(count: int, each: int) -> list[Event]:
    found = []
    for number in range(count):
        issue_id = IssueId(number.to_bytes(2, "big") * 8)
        create = Draft(issue_id, 1, (f"issue {number}", "", ("bug",)))
        found.append(seal(create, ACTOR, 1_000, None))
        for turn in range(1, each):
            draft = Draft(issue_id, 3, (f"comment {turn}",))
            found.append(seal(draft, ACTOR, 1_000 + turn, None))
    return found


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(Folder(str(tmp_path), ("view",), "grit"))
    with rebuilding(made) as writer:
        writer.apply(records(events(ISSUES, EVENTS_EACH)), HEAD)
    yield made
    made.close()


def slots(database: Database) -> int:
    """Return how many readers there ever were at once since the file was opened."""
    assert database._env is not None
    return int(database._env.info()["num_readers"])


def test_a_stream_that_waits_is_no_reader(database: Database) -> None:
    """Events of 500 issues are merged, and no issue's stream has a slot while it waits."""
    reader = ViewReader(database)
    found = list(reader.latest_events())
    assert len(found) == ISSUES * EVENTS_EACH
    assert slots(database) == 1
    for stream in (reader.all_rows(), reader.all_events(), reader.latest_events()):
        next(iter(stream))
        assert reader.head() == HEAD
    assert slots(database) == 1


def test_what_is_asked_inside_a_read_is_of_the_same_moment(database: Database) -> None:
    """One transaction, whatever is asked, and whoever writes meanwhile."""
    reader = ViewReader(database)
    reader.head()
    before = database.transactions
    with reader.at_once():
        assert reader.head() == HEAD
        with writing(database) as writer:
            writer.apply((), "later")
        assert reader.head() == HEAD
        assert len(list(reader.all_rows())) == ISSUES
    # Of the two others one was the writer's; the second is what it looks at before.
    assert database.transactions - before <= 3
    assert reader.head() == "later"


def test_two_that_open_one_view_take_turns(database: Database) -> None:
    """LMDB lets a process open a file once: neither is refused, and nothing is rebuilt."""
    inode = _inode(database)
    folder, name = os.path.split(database.directory)
    other = Database(Folder(folder, (name,), "grit"))
    for one in (database, other, database, other):
        assert ViewReader(one).head() == HEAD
    with writing(other) as writer:
        writer.apply((), "other")
    assert ViewReader(database).head() == "other"
    assert _inode(database) == inode
    with ViewReader(database).at_once(), pytest.raises(IoFailed, match="already open"):
        ViewReader(other).head()
    other.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracker of 500 issues with ten events each."""
    folder = tmp_path_factory.mktemp("large")
    subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=30)

    def work(transaction: Transaction) -> None:
        for number in range(ISSUES):
            issue_id = IssueId(os.urandom(16))
            issues.create(transaction, issue_id, f"title {number}")
            comments = [Draft(issue_id, 3, (f"comment {n}",)) for n in range(1, EVENTS_EACH)]
            transaction.add(comments)

    workspace = opened(folder)
    write(workspace, work, lambda _: "many")
    workspace.close()
    return folder


def test_no_command_is_more_than_a_few_readers(large: Path) -> None:
    """Each command that reads works at scale, and the view stays the file that it was."""
    ok(large, "ls")
    view = large / ".git/grit/view"
    inode = (view / "data.mdb").stat().st_ino
    for words in READS:
        # Who has it open keeps the table of readers from being cleared for the next one.
        with lmdb.open(str(view), readonly=True) as env:
            done = grit(large, *words)
            assert done.status == 0, (words, done.err)
            assert env.info()["num_readers"] <= SLOTS_MAX, words
    assert (view / "data.mdb").stat().st_ino == inode, "the view was rebuilt"


_HOLD = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True) as env:
    held = []
    try:
        while True:
            held.append(env.begin())
    except lmdb.ReadersFullError:
        print(len(held), flush=True)
        sys.stdin.read()
        held.clear()
"""


_KEEP = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True):
    print("open", flush=True)
    sys.stdin.read()
"""


def _started(code: str, database: Database) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-c", code, database.directory]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture
def crowd(database: Database) -> "Iterator[subprocess.Popen[bytes]]":
    """A process that is all the readers that there is room for, beside one that has the file open.

    When nobody has it open LMDB begins a new table by itself.
    """
    database.close()
    keeper = _started(_KEEP, database)
    assert keeper.stdout is not None and keeper.stdout.readline() == b"open\n"
    holder = _started(_HOLD, database)
    assert holder.stdout is not None and int(holder.stdout.readline()) > 100
    yield holder
    for process in (holder, keeper):
        process.kill()
        process.wait(30)


def _inode(database: Database) -> int:
    return os.stat(f"{database.directory}/data.mdb").st_ino


def test_readers_that_were_killed_are_cleared(
    database: Database, crowd: "subprocess.Popen[bytes]"
) -> None:
    """Who cannot open the file, since dead processes fill the table, goes on with a copy."""
    inode = _inode(database)
    crowd.kill()
    crowd.wait(30)
    assert ViewReader(database).head() == HEAD
    assert _inode(database) != inode
    assert not os.path.exists(f"{database.directory}/build")
    assert len(list(ViewReader(database).all_rows())) == ISSUES
    with writing(database) as writer:
        writer.apply((), "next")


def test_readers_that_were_killed_are_cleared_by_who_has_it_open(database: Database) -> None:
    """The slots are taken back, and nothing else is touched."""
    assert ViewReader(database).head() == HEAD
    inode = _inode(database)
    holder = _started(_HOLD, database)
    assert holder.stdout is not None and int(holder.stdout.readline()) > 100
    with pytest.raises(Busy, match="too many processes"):
        ViewReader(database).head()
    holder.kill()
    holder.communicate(timeout=30)
    assert ViewReader(database).head() == HEAD
    assert _inode(database) == inode


def test_live_readers_are_waited_for(
    database: Database, crowd: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view is not touched when there is room again in time."""
    from grit.view import database as module

    inode = _inode(database)
    monkeypatch.setattr(module, "READER_WAIT_MS_MAX", 20_000)
    assert crowd.stdin is not None
    released = threading.Timer(0.3, crowd.stdin.close)
    released.start()
    assert ViewReader(database).head() == HEAD
    released.join()
    assert _inode(database) == inode


def test_every_error_of_lmdb_is_known() -> None:
    """A new one has to be put into one of the three groups."""
    assert set(ERRORS) == DAMAGE | FULL | OTHER


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("way", ["read", "write", "open"])
def test_what_becomes_of_each_error(
    name: str, way: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage is doubt, a full table is busy, and the rest is an error that rebuilds nothing."""
    wanted = ViewDoubt if name in DAMAGE else Busy if name in FULL else IoFailed
    error = getattr(lmdb, name)("made up")
    reader = ViewReader(database)
    if way == "open":

        def refuse(*_: object, **__: object) -> None:
            raise error

        database.close()
        with monkeypatch.context() as patch, pytest.raises(wanted, match="made up"):
            patch.setattr(lmdb, "open", refuse)
            reader.head()
    elif way == "read":
        with pytest.raises(wanted, match="made up"), database.reading():
            raise error
    elif name == "MapFullError":
        return  # the map grows, and the work is done again

    else:

        def fail(_: object) -> None:
            raise error

        with pytest.raises(wanted, match="made up"), writing(database):
            database.write(fail)
    if wanted is ViewDoubt:
        with pytest.raises(ViewDoubt), writing(database):
            raise AssertionError("a damaged file is written")
    else:
        assert reader.head() == HEAD
