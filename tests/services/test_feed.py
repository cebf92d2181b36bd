"""The feed: each event once and none left out, whatever happens to the log and to the view."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from grit.core.codec import encode_chunk
from grit.core.errors import GritError, NotFound, WalDamaged
from grit.core.events import ISSUE_CREATED, Event
from grit.core.ids import IssueId
from grit.services import feed as feeds
from grit.services.refresh import rebuild, refresh
from grit.view import arrivals
from tests.core.builders import event
from tests.services.clinic import REF, Patient
from tests.services.follower import Follower
from tests.services.writers import create, opened


@pytest.fixture
def folder(git_repository: Path) -> Path:
    """A repository with a log of one issue."""
    create(opened(git_repository), "first")
    return git_repository


def _write(folder: Path, *names: str) -> None:
    workspace = opened(folder)
    for name in names:
        create(workspace, name)
    workspace.close()


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _clone(folder: Path, to: Path) -> Path:
    _git(folder.parent, "clone", "-q", str(folder), str(to))
    _git(
        to, "config", "--add", "remote.origin.fetch", "+refs/grit/wal:refs/grit-remotes/origin/wal"
    )
    _git(to, "fetch", "-q")
    return to


def test_nothing_old_then_each_once(folder: Path) -> None:
    """It begins with nothing; what comes is given out in its order, and not again."""
    one = Follower(folder)
    assert one.events == [] and one.look() == []
    _write(folder, "a", "b", "c")
    assert one.look() == ["a", "b", "c"]
    assert one.look() == []
    _write(folder, "d")
    assert one.look() == ["d"]


def test_the_last_ones_first(folder: Path) -> None:
    """With a limit, the last that many come first, the oldest before; then what is new."""
    _write(folder, "a", "b", "c")
    one = Follower(folder, limit=2)
    assert [event.payload[0] for event in one.events] == ["b", "c"]
    whole = Follower(folder, limit=None)
    assert [event.payload[0] for event in whole.events] == ["first", "a", "b", "c"]
    late = Follower(folder, since_ms=one.events[-1].ts_unix_ms, limit=None)
    assert "c" in [event.payload[0] for event in late.events]
    assert "first" not in [event.payload[0] for event in late.events]
    _write(folder, "d")
    assert one.look() == whole.look() == late.look() == ["d"]


def test_old_ones_and_new_ones_meet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while the old ones are read comes once, and not with them."""
    real = arrivals.place

    def place(database: Any) -> Any:
        found = real(database)
        if monkeypatch is not None and not (folder / "written").exists():
            (folder / "written").touch()
            _write_beside(folder, "between")
        return found

    monkeypatch.setattr(feeds.arrivals, "place", place)
    one = Follower(folder, limit=None)
    assert [event.payload[0] for event in one.events] == ["first"]
    assert one.look() == ["between"]


def _write_beside(folder: Path, *names: str) -> None:
    """Write in another process: one view is opened once in a process."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.services.writers import create, opened\n"
        "one = opened(Path(sys.argv[1]))\n"
        "for name in sys.argv[2:]: create(one, name)\n"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *names],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["removed", "rebuilt", "damaged", "of another layout"])
@pytest.mark.parametrize("written", [0, 3])
def test_view_lost_while_following(folder: Path, how: str, written: int) -> None:
    """A view that goes, or is built anew by somebody, with or without news: nothing twice."""
    _write(folder, "a")
    one = Follower(folder)
    _write(folder, "b")
    assert one.look() == ["b"]
    view = folder / ".git" / "grit" / "view"
    if how == "removed":
        shutil.rmtree(view)
    elif how == "damaged":
        (view / "mark").write_text("x" * 160)
    names = [f"n{number}" for number in range(written)]
    _write_beside(folder, *names)
    if how == "rebuilt":
        workspace = opened(folder)
        rebuild(workspace)
        workspace.close()
    assert one.look() == names
    _write(folder, "last")
    assert one.look() == ["last"]


def test_log_set_back_and_taken_back(folder: Path) -> None:
    """What the log lost and got back is not given out again; what is new on either side is."""
    _write(folder, "a")
    one = Follower(folder)
    _write(folder, "b", "c", "d")
    assert one.look() == ["b", "c", "d"]
    lost = _git(folder, "rev-parse", REF)
    _git(folder, "update-ref", REF, f"{REF}~2")
    assert one.look() == []
    assert any("does not hold the head known before" in notice for notice in one.notices)
    _write_beside(folder, "e")
    assert one.look() == ["e"]
    kept = Patient(folder)
    kept.diagnose(fix=True)
    assert _git(folder, "merge-base", "--is-ancestor", lost, REF) == ""
    assert one.look() == []
    _write_beside(folder, "f")
    assert one.look() == ["f"]


def test_log_set_back_with_news_unseen(folder: Path) -> None:
    """Set back, written to and rebuilt between two looks: only what is new there comes."""
    one = Follower(folder)
    _write(folder, "a", "b")
    assert one.look() == ["a", "b"]
    _git(folder, "update-ref", REF, f"{REF}~1")
    _write_beside(folder, "c")
    assert one.look() == ["c"]
    Patient(folder).diagnose(fix=True)
    assert one.look() == []


def test_set_back_where_nobody_else_knew(folder: Path) -> None:
    """A log that is set back while its view is away: the feed knows the head, and keeps it."""
    one = Follower(folder)
    _write(folder, "a", "b")
    assert one.look() == ["a", "b"]
    head = _git(folder, "rev-parse", REF)
    shutil.rmtree(folder / ".git" / "grit" / "view")
    _git(folder, "update-ref", REF, f"{REF}~1")
    _write_beside(folder, "c")
    assert one.look() == ["c"]
    assert _git(folder, "for-each-ref", "--format=%(objectname)", "refs/grit-lost/") == head
    assert sum("does not hold the head known before" in notice for notice in one.notices) == 1
    Patient(folder).diagnose(fix=True)
    assert one.look() == []


def test_log_replaced(folder: Path, tmp_path: Path) -> None:
    """Another log in the place of this one: all of its events are new, and come once."""
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    _write(other, "x", "y")
    one = Follower(folder)
    _write(folder, "a")
    assert one.look() == ["a"]
    _git(folder, "fetch", "-q", str(other), f"+{REF}:{REF}")
    assert sorted(one.look()) == ["x", "y"]


def test_log_gone(folder: Path) -> None:
    """A log that is gone is an error; a log that begins is followed from its first event."""
    one = Follower(folder)
    _git(folder, "update-ref", "-d", REF)
    with pytest.raises(WalDamaged, match="is gone"):
        one.look()


def test_log_begins(git_repository: Path) -> None:
    """Where no log is yet, nothing is made; the first event is given out."""
    one = Follower(git_repository)
    assert one.look() == []
    assert not (git_repository / ".git" / "grit").exists()
    _write(git_repository, "a", "b")
    assert one.look() == ["a", "b"]
    _write(git_repository, "c")
    assert one.look() == ["c"]


def test_plain_fetch_and_push(folder: Path, tmp_path: Path) -> None:
    """What git itself brought is joined and given out; so is what was pushed into the place."""
    clone = _clone(folder, tmp_path / "clone")
    refresh_once = opened(clone)
    refresh(refresh_once)
    refresh_once.close()
    there, here = Follower(clone), Follower(folder)
    _write(folder, "a", "b")
    _git(clone, "fetch", "-q")
    assert sorted(there.look()) == ["a", "b"]
    _write(clone, "c")
    _git(clone, "push", "-q", "origin", f"{REF}:{REF}")
    assert sorted(here.look()) == ["a", "b", "c"]
    assert there.look() == ["c"]


def test_first_fetch_into_a_clone_without_log(folder: Path, tmp_path: Path) -> None:
    """A clone that gets its log while it is followed gives out all of it."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    one = Follower(clone)
    _git(clone, "fetch", "-q", str(folder), f"{REF}:refs/grit-remotes/origin/wal")
    assert one.look() == ["first"]


def _events(count: int, prefix: str = "e") -> list[Event]:
    return [
        event(
            ISSUE_CREATED,
            f"{prefix}{number:05}",
            "",
            (),
            issue=IssueId(os.urandom(16)),
            ts=1_700_000_000_000 + number,
        )
        for number in range(count)
    ]


def test_ten_thousand_at_once(folder: Path) -> None:
    """A large import is given out once, by time within what is sorted at once."""
    one = Follower(folder)
    events = _events(12_000)
    patient = Patient(folder)
    for start in range(0, len(events), 4_000):
        patient.append(*reversed(events[start : start + 4_000]))
    found = one.look()
    assert sorted(found) == [f"e{number:05}" for number in range(12_000)]
    assert found[:10_000] == sorted(found[:10_000])
    assert found[10_000:] == sorted(found[10_000:])


def test_rebuilt_between_two_portions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that is replaced in the middle of what comes: the rest comes, and no more."""
    one = Follower(folder)
    Patient(folder).append(*_events(50))
    real = arrivals.arrivals
    calls = 0

    def some(database: Any, since: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            shutil.rmtree(folder / ".git" / "grit" / "view")
            _write_beside(folder, "more")
        return real(database, since, 10, 2**20)

    monkeypatch.setattr(feeds.arrivals, "arrivals", some)
    assert sorted(one.look()) == sorted([f"e{number:05}" for number in range(50)] + ["more"])
    _write_beside(folder, "last")
    assert one.look() == ["last"]


def test_the_same_event_in_two_chunks(folder: Path) -> None:
    """An event that comes again in another chunk is known, also after a rebuild."""
    one = Follower(folder)
    events = _events(3)
    Patient(folder).append(*events)
    assert len(one.look()) == 3
    Patient(folder).append(*_events(1, "x"), *events[:2])
    shutil.rmtree(folder / ".git" / "grit" / "view")
    assert one.look() == ["x00000"]
    Patient(folder).append_chunk(encode_chunk(events))
    assert one.look() == []


def test_actor(folder: Path) -> None:
    """Only what one actor does comes; a name that nobody has is an error."""
    from grit.services import actors

    workspace = opened(folder)
    bob = actors.create(workspace, label="bob")
    workspace.close()
    as_bob = opened(folder, {"GRIT_ACTOR": "bob"})
    create(as_bob, "b1")
    as_bob.close()
    one, old = Follower(folder, "bob"), Follower(folder, "bob", limit=5)
    assert [event.payload[0] for event in old.events] == ["b1"]
    _write(folder, "a")
    as_bob = opened(folder, {"GRIT_ACTOR": "bob"})
    create(as_bob, "b2")
    as_bob.close()
    assert one.look() == ["b2"]
    assert one.events[0].actor_id == bob.actor_id
    with pytest.raises(NotFound):
        Follower(folder, "nobody")


def test_what_belongs_to_no_issue(folder: Path) -> None:
    """The announcement of an actor is no line; an event of an unknown issue is one."""
    from grit.core.events import COMMENT_ADDED
    from grit.services import actors

    one = Follower(folder)
    workspace = opened(folder)
    actors.create(workspace, label="new")
    workspace.close()
    as_new = opened(folder, {"GRIT_ACTOR": "new"})
    create(as_new, "by the new one")
    as_new.close()
    assert one.look() == ["by the new one"]
    Patient(folder).append(event(COMMENT_ADDED, "early", issue=IssueId(b"u" * 16)))
    assert one.look() == ["early"]


def _policy(folder: Path, text: str) -> None:
    path = folder / ".git" / "grit" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_held_back_and_released(folder: Path) -> None:
    """What does not count is not given out; it comes when it begins to count, and once."""
    one = Follower(folder)
    _policy(folder, 'verify = "require"\n')
    unsigned = _events(2)
    Patient(folder).append(*unsigned)
    assert one.look() == []
    _write(folder, "signed")
    assert one.look() == ["signed"]
    _policy(folder, 'verify = "off"\n')
    assert one.look() == ["e00000", "e00001"]
    _policy(folder, 'verify = "require"\n')
    assert one.look() == []
    _policy(folder, 'verify = "off"\n')
    assert one.look() == []


def test_released_by_an_announcement(folder: Path, tmp_path: Path) -> None:
    """Events whose key comes later are given out with the key."""
    from grit.core.events import ACTOR_ANNOUNCED
    from grit.git.wal import Wal
    from grit.services.decoding import decoded

    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    _write(other, "theirs")
    workspace = opened(other)
    head = workspace.wal.head()
    assert head is not None
    events = [
        event
        for _, chunk in decoded(Wal(workspace.repository).read(head, None), whole_log=False)
        for event, _ in chunk.records
    ]
    announced = [event for event in events if event.tag == ACTOR_ANNOUNCED]
    rest = [event for event in events if event.tag != ACTOR_ANNOUNCED]
    assert announced and rest
    _policy(folder, 'verify = "require"\n')
    one = Follower(folder)
    Patient(folder).append(*rest)
    assert one.look() == []
    Patient(folder).append(*announced)
    assert one.look() == ["theirs"]


def test_busy_view(folder: Path) -> None:
    """While another process holds the view, the feed is behind and says nothing; then it comes."""
    one = Follower(folder)
    workspace = opened(folder)
    lock = workspace.database._lock
    Patient(folder).append(*_events(1))
    assert lock.try_acquire()
    try:
        assert list(one.feed.look()) == []
        assert one.feed.behind and one.notices == []
    finally:
        lock.release()
    assert one.look() == ["e00000"]


def test_nothing_is_held_between_looks(folder: Path) -> None:
    """Between two looks no read transaction is open, so that old pages are used again."""
    one = Follower(folder)
    _write(folder, "a")
    one.look()
    assert one.feed._database is not None and one.feed._database._env is not None
    listed = one.feed._database._env.readers().splitlines()
    slots = [line.split() for line in listed if line.split()[0].isdigit()]
    assert [slot for slot in slots if slot[-1] != "-"] == []


def test_view_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the view must be a temporary one, the feed goes on with it."""
    from grit.core.errors import IoFailed
    from grit.services import refresh as refreshing

    _write(folder, *(f"old{number}" for number in range(6)))
    shutil.rmtree(folder / ".git" / "grit" / "view")
    one = Follower(folder)

    def refused(*_arguments: Any, **_named: Any) -> Any:
        raise IoFailed("read-only")

    monkeypatch.setattr(refreshing, "_catch_up", refused)
    Patient(folder).append(*_events(2))
    assert one.look() == ["e00000", "e00001"]
    monkeypatch.undo()
    _write(folder, "a")
    assert one.look() == ["a"]


def test_notices_come_once(folder: Path) -> None:
    """The same notice is passed on once, not at every look."""
    one = Follower(folder)
    _git(folder, "update-ref", "refs/grit-remotes/origin/wal", _code_commit(folder))
    for number in range(3):
        _write_beside(folder, f"n{number}")
        one.look()
    assert len(one.notices) == len(set(one.notices)) <= 1


def test_what_cannot_be_joined_yet_is_told(folder: Path) -> None:
    """A fetched head of which objects are missing: tried again, told once, and nobody waits."""
    one = Follower(folder)
    path = folder / ".git" / "refs" / "grit-remotes" / "origin" / "wal"
    path.parent.mkdir(parents=True)
    path.write_text("12" * 20 + "\n")
    for _ in range(10):
        assert list(one.feed.look()) == []
        assert one.feed.behind
    assert len(one.notices) == 1
    _write_beside(folder, "a")
    assert one.take(one.feed.look()) == ["a"]
    path.unlink()
    assert one.look() == []


def _code_commit(folder: Path) -> str:
    _git(folder, "commit", "-q", "--allow-empty", "-m", "code")
    return _git(folder, "rev-parse", "HEAD")


def test_damage_is_an_error(folder: Path) -> None:
    """A ref of the log that cannot be read ends the feed with what any command says."""
    one = Follower(folder)
    (folder / ".git" / REF).write_text("garbage\n")
    with pytest.raises(GritError, match="head unchanged"):
        one.look()


def test_nothing_is_written(folder: Path) -> None:
    """A feed writes nothing but the view: no event, no actor, no setting."""
    head = _git(folder, "rev-parse", REF)
    before = sorted(path.name for path in (folder / ".git" / "grit").iterdir())
    one = Follower(folder, limit=None)
    one.look()
    assert _git(folder, "rev-parse", REF) == head
    assert sorted(path.name for path in (folder / ".git" / "grit").iterdir()) == before
