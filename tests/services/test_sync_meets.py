"""What clones bring to a meeting: wrong clocks, newer kinds, old dialects, worktrees."""

import json
import os
from pathlib import Path

import pytest

from grit.core.codec import encode_chunk, seal
from grit.core.events import Draft
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.workspace import Ports, open_workspace
from grit.services.write import Transaction, write
from tests.core.builders import ACTOR, NOW_MS
from tests.faults.machine import git, ok, titles
from tests.services.clinic import Patient
from tests.services.test_sync import REF, Team, assert_equal, sync, team

__all__ = ["team"]

HOUR_MS = 3_600_000
ERAS = Path(__file__).parents[1] / "compat"


def write_at(folder: Path, now_ms: int, issue: str, state: str) -> None:
    """Open or close an issue on a machine whose clock says `now_ms`."""
    ports = Ports(dict(os.environ), lambda: now_ms, os.urandom)
    workspace = open_workspace(str(folder), ports)
    try:

        def work(transaction: Transaction) -> issues.Change:
            return issues.set_state(transaction, issue, state)

        _, written = write(workspace, work, lambda change: change.subject)
        assert written.events
    finally:
        workspace.close()


def test_row_21_a_late_clock_closes_what_it_has_read(team: Team) -> None:
    """An edit made after reading a state wins, also on a machine an hour behind."""
    one, two = team.clone("one"), team.clone("two")
    ok(one, "new", "race")
    now_ms = int(ok(one, "ls", "--json").data["issues"][0]["updated_ts"])
    issue = ok(one, "ls", "--json").data["issues"][0]["issue_id"]
    write_at(one, now_ms + 1_000, issue, "closed")
    write_at(one, now_ms + 2_000, issue, "open")
    sync(one)
    sync(two)
    write_at(two, now_ms - HOUR_MS, issue, "closed")
    sync(two)
    sync(one)
    for folder in (one, two):
        assert ok(folder, "show", issue, "--json").data["issue"]["state"] == "closed"
    assert_equal(one, two)


def test_row_28_newer_kinds_are_kept_and_passed_on(team: Team) -> None:
    """An event of an unknown kind travels byte for byte, and what is known is shown."""
    one, two, three = (team.clone(name) for name in ("one", "two", "three"))
    ok(one, "new", "known")
    issue = bytes.fromhex(ok(one, "ls", "--json").data["issues"][0]["issue_id"])
    newer = seal(Draft(IssueId(issue), 4_242, ("from the future", 7)), ACTOR, NOW_MS, None)
    chunk = encode_chunk([newer])
    Patient(one).append_chunk(chunk)
    blob = git(one, "hash-object", "--stdin", stdin=chunk)
    sync(one)
    sync(two)
    ok(two, "comment", issue.hex(), "-b", "seen")
    sync(two, "--remote", str(three))
    assert titles(two) == titles(three) == ["known"]
    assert ok(three, "db", "stats", "--json").data["unknown_count"] == 1
    assert blob in git(three, "rev-list", "--objects", REF)
    assert_equal(two, three)


@pytest.mark.parametrize(
    "era", ["rust-grit-gritchnk", "rust-grite-gritchnk", "rust-grite-gritecnk"]
)
def test_old_logs_are_joined_so_that_their_readers_find_everything(team: Team, era: str) -> None:
    """In dialect "grite" a join stands on the remote's head and carries what is only here."""
    ref = REF if era.startswith("rust-grit-") else "refs/grite/wal"
    folder = ref.rpartition("/")[0]
    git(team.bare, "fetch", "-q", str(ERAS / f"{era}.bundle"), f"{folder}/*:{folder}/*")
    one, two = team.clone("one"), team.clone("two")
    for clone in (one, two):
        assert sync(clone)["events_received"] > 0
        ok(clone, "new", f"by {clone.name}")
        ok(clone, "new", f"also by {clone.name}")
    sync(one)
    remote_head = git(team.bare, "rev-parse", ref)
    assert sync(two)["merged"]
    sync(one)
    assert_equal(one, two)
    head = git(two, "rev-parse", ref)
    meta = json.loads(git(two, "cat-file", "blob", f"{head}:meta.json"))
    assert meta["prev_wal"] == remote_head == git(two, "rev-parse", f"{head}^1")
    assert followed(two, head) == set(chunks(two, head))


def followed(folder: Path, head: str) -> set[str]:
    """Return the chunks that a reader finds who follows prev_wal alone."""
    found: set[str] = set()
    at: str | None = head
    while at is not None:
        listed = git(folder, "ls-tree", "-r", "--name-only", at).splitlines()
        found |= {name.rpartition("/")[2] for name in listed if name.endswith(".bin")}
        at = json.loads(git(folder, "cat-file", "blob", f"{at}:meta.json"))["prev_wal"]
    return found


def chunks(folder: Path, head: str) -> list[str]:
    """Return the names of all chunks of a log."""
    listed = git(folder, "rev-list", "--objects", head).splitlines()
    return [line.rpartition("/")[2] for line in listed if line.endswith(".bin")]


def test_worktrees_share_log_and_view(team: Team) -> None:
    """A sync in one worktree is seen in the others, whoever acts there."""
    one, two = team.clone("one"), team.clone("two")
    (one / "file").write_text("x")
    git(one, "add", "file")
    git(one, "commit", "-q", "-m", "begin")
    git(one, "worktree", "add", "-q", "../beside")
    beside = team.folder / "beside"
    ok(two, "new", "from afar")
    sync(two)
    ok(beside, "actor", "init", "--label", "agent", "--use")
    ok(beside, "new", "from beside")
    assert sync(beside)["merged"]
    assert titles(one) == titles(beside) == ["from afar", "from beside"]
    sync(two)
    assert_equal(one, two)


def test_a_sync_sends_what_was_fetched_from_others(team: Team) -> None:
    """Events fetched from a peer reach the remote with the same sync; both end at one head."""
    one, two, three = (team.clone(name) for name in ("one", "two", "three"))
    ok(three, "new", "base")
    sync(three)
    ok(one, "new", "of the peer")
    ok(two, "new", "own")
    git(two, "remote", "add", "peer", str(one))
    git(two, "fetch", "-q", "peer", f"{REF}:refs/grit-remotes/peer/wal")
    done = sync(two)
    assert done["wal_head"] == done["remote_wal_head"] == team.head()
    assert git(two, "rev-parse", REF) == team.head()
    sync(three)
    assert titles(three) == titles(two) == ["base", "of the peer", "own"]
