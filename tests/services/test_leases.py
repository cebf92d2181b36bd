"""Leases over one clone, several clones and a remote: one winner, nothing comes back."""

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from grit.core.errors import Conflict, GitFailed, NotFound
from grit.core.lease import Lease, conflicts, encode_lock, parse_resource
from grit.core.limits import LEASE_KEEP_MS, LEASE_MS_MAX, LEASE_SKEW_MS
from grit.services import leases
from tests.core.builders import NOW_MS
from tests.services.tenants import TTL_MS, Session, bare, clone, git, race, two_clones

FULL = os.environ.get("GRIT_FAULTS") == "all"
TRIALS = 100 if FULL else 10
RACERS = 8
LATE_MS = NOW_MS + TTL_MS + LEASE_SKEW_MS


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A clone without a remote."""
    return clone(tmp_path, "alone")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Session, Session]:
    """Sessions in two clones of one bare repository."""
    return two_clones(tmp_path)


def lock_ref(text: str) -> str:
    return f"refs/grit/locks/{parse_resource(text).lock_name}"


def test_one_session_goes_on_and_another_is_refused(alone: Path) -> None:
    """Two sessions of one actor exclude each other; the holder itself goes on."""
    mine, other = Session(alone, "a"), Session(alone, "b")
    first = mine.acquire("repo:x")
    assert first.fence == 1
    assert mine.acquire("repo:x", 2 * TTL_MS).expires_unix_ms == NOW_MS + 2 * TTL_MS
    assert "in another session" in other.refused("repo:x")
    with pytest.raises(Conflict, match="GRIT_SESSION"):
        other.release("repo:x")
    mine.release("repo:x")
    assert other.acquire("repo:x").fence == 2
    with pytest.raises(Conflict):
        mine.renew("repo:x")


def test_a_takeover_waits_for_the_margin(alone: Path) -> None:
    """An expired lease is taken over only after the margin for clocks; the fence counts up."""
    Session(alone, "a").acquire("repo:x")
    early = Session(alone, "b", NOW_MS + TTL_MS + LEASE_SKEW_MS - 1)
    assert "taken over in a moment" in early.refused("repo:x")
    assert Session(alone, "b", LATE_MS).acquire("repo:x").fence == 2


def test_a_lapsed_lease_can_be_renewed_until_somebody_stands_against_it(alone: Path) -> None:
    """Renewing after the end works while nobody has the resource, or one that overlaps."""
    mine, other = Session(alone, "a"), Session(alone, "b", LATE_MS)
    mine.acquire("path:src")
    mine.now_ms = LATE_MS
    assert mine.renew("path:src").fence == 1
    mine.now_ms = other.now_ms = LATE_MS + TTL_MS + LEASE_SKEW_MS
    other.acquire("path:src/a.py")
    with pytest.raises(Conflict, match=r"path:src overlaps with path:src/a\.py"):
        mine.renew("path:src")


def test_what_is_not_leased_cannot_be_renewed_or_given_back(alone: Path) -> None:
    """Without a lease of one's own both say so; nothing is written."""
    mine = Session(alone, "a")
    for work in (mine.renew, mine.release):
        with pytest.raises(NotFound):
            work("repo:x")
    assert mine.locks() == []


def test_who_gives_back_the_lease_of_another_actor_is_told_whose_it_is(
    pair: tuple[Session, Session],
) -> None:
    """Another actor's session is nothing that GRIT_SESSION or --nonce could help with."""
    one, two = pair
    one.acquire("repo:x")
    with pytest.raises(Conflict, match="not by you") as refusal:
        two.release("repo:x")
    assert "GRIT_SESSION" not in refusal.value.message


def test_row_25_overlapping_resources_exclude_each_other(alone: Path) -> None:
    """path:src/ stands against repo:global and against path:src/a.py of another."""
    mine, other = Session(alone, "a"), Session(alone, "b")
    mine.acquire("path:src/")
    assert "overlaps with path:src" in other.refused("repo:global")
    assert "overlaps with path:src" in other.refused("path:src/a.py")
    assert other.acquire("path:src2").fence == 1
    mine.acquire("path:src/a.py")


def test_row_25_a_short_id_does_not_slip_past_the_lease(alone: Path) -> None:
    """issue:<prefix> is the lease of the whole id."""
    from grit.services import issues
    from grit.services.write import write
    from tests.core.builders import ISSUE

    mine, other = Session(alone, "a"), Session(alone, "b")
    mine.use(lambda w: write(w, lambda t: issues.create(t, ISSUE, "x"), lambda c: c.subject))
    found = other.use(lambda w: leases.parse(w, f"issue:{ISSUE.hex()[:6]}"))
    assert found.text == f"issue:{ISSUE.hex()}"
    mine.acquire(f"issue:{ISSUE.hex()}")
    assert "another session" in other.refused(found.text)
    with pytest.raises(NotFound):
        other.use(lambda w: leases.parse(w, "issue:ffff"))


def test_row_23_a_released_lease_never_comes_back(pair: tuple[Session, Session]) -> None:
    """Acquire, release, expire, acquire over two clones; a stale plain push changes nothing."""
    one, two = pair
    shared = one.folder.parent / "shared.git"
    ref = lock_ref("repo:x")
    one.acquire("repo:x", LEASE_MS_MAX)
    stale = git(one.folder, "rev-parse", ref)
    assert "held by Ann Example" in two.refused("repo:x")
    one.release("repo:x")
    second = two.acquire("repo:x")
    assert second.fence == 2
    git(one.folder, "update-ref", ref, stale)  # a clone that slept through all of it
    pushed = os.spawnlp(
        os.P_WAIT, "git", "git", "-C", str(one.folder), "push", "-q", "origin", "refs/grit/*"
    )
    assert pushed != 0
    assert git(shared, "rev-parse", ref) == git(two.folder, "rev-parse", ref)
    assert "held by" in one.refused("repo:x")
    two.release("repo:x")
    assert one.acquire("repo:x").fence == 3
    one.now_ms = two.now_ms = LATE_MS
    assert two.acquire("repo:x").fence == 4
    assert "held by" in one.refused("repo:x")
    for session in pair:
        git(session.folder, "fsck", "--strict", "--no-dangling")
        assert session.live() == ["repo:x"]
    git(shared, "fsck", "--strict", "--no-dangling")


def test_row_24_eight_racers_for_a_free_lease(alone: Path) -> None:
    """Of eight processes in one clone exactly one gets a free lease, again and again."""
    sessions = [Session(alone, f"racer {number}") for number in range(RACERS)]
    for trial in range(TRIALS):
        check_race(sessions, f"path:free/{trial}", 1)


def test_row_24_eight_racers_for_an_expired_lease(alone: Path) -> None:
    """Of eight processes in one clone exactly one takes an expired lease over."""
    sessions = [Session(alone, f"racer {number}", LATE_MS) for number in range(RACERS)]
    for trial in range(TRIALS):
        Session(alone, "dead").acquire(f"path:old/{trial}")
        check_race(sessions, f"path:old/{trial}", 2)


def _clones(tmp_path: Path, now_ms: int) -> list[Session]:
    shared = bare(tmp_path)
    folders = [clone(tmp_path, f"clone{number}", shared) for number in range(RACERS // 2)]
    return [Session(folders[number // 2], f"racer {number}", now_ms) for number in range(RACERS)]


def test_row_24_eight_racers_for_a_free_lease_over_a_remote(tmp_path: Path) -> None:
    """Of eight processes in four clones of one remote exactly one gets a free lease."""
    sessions = _clones(tmp_path, NOW_MS)
    for trial in range(TRIALS):
        check_race(sessions, f"path:free/{trial}", 1)


def test_row_24_eight_racers_for_an_expired_lease_over_a_remote(tmp_path: Path) -> None:
    """Of eight processes in four clones of one remote exactly one takes an expired lease over."""
    sessions = _clones(tmp_path, LATE_MS)
    for trial in range(TRIALS):
        Session(sessions[trial % RACERS].folder, "dead").acquire(f"path:old/{trial}")
        check_race(sessions, f"path:old/{trial}", 2)


def check_race(sessions: list[Session], text: str, fence: int) -> None:
    """Exactly one racer wins, the others hear of a conflict, and the ref holds the winner."""
    raced = race(sessions, text)
    won = [one.lease for one in raced if one.lease is not None]
    assert len(won) == 1, raced
    assert won[0].fence == fence
    assert {one.code for one in raced if one.lease is None} == {"conflict"}, raced
    assert all(text in one.words for one in raced if one.lease is None), raced
    stored = [
        lock.lease
        for lock in sessions[0].status().leases
        if lock.lease is not None and lock.lease.resource.text == text
    ]
    assert stored == won


@pytest.mark.parametrize("over", ["alone", "remote"])
def test_overlapping_racers_never_both_win(over: str, tmp_path: Path) -> None:
    """Leases on different refs that overlap: two swaps may succeed, two holders never stay."""
    if over == "remote":
        sessions = _clones(tmp_path, NOW_MS)[::2]
    else:
        folder = clone(tmp_path, "alone")
        sessions = [Session(folder, f"racer {number}") for number in range(4)]
    for trial in range(3 if over == "remote" else TRIALS):
        top = f"path:t{trial}"
        texts = [top, f"{top}/a", f"{top}/a/b", f"{top}/c"]
        raced = race([Named(one, text) for one, text in zip(sessions, texts, strict=True)], "")
        won = [one.lease.resource for one in raced if one.lease is not None]
        assert not any(conflicts(one, two) for one, two in combinations(won, 2)), won
        assert {one.code for one in raced if one.lease is None} <= {"conflict"}, raced
        assert over == "remote" or won
        assert sessions[0].live() == sorted(one.text for one in won)
        for session, one in zip(sessions, raced, strict=True):
            if one.lease is not None:
                session.release(one.lease.resource.text)


class Named(Session):
    """A session that asks for a resource of its own in a race."""

    def __init__(self, session: Session, text: str) -> None:
        super().__init__(session.folder, session.name, session.now_ms)
        self.text = text

    def acquire(self, text: str, ttl_ms: int = TTL_MS, **more: Any) -> Lease:
        return super().acquire(self.text, ttl_ms, **more)


def test_a_remote_that_cannot_be_asked_decides_nothing(pair: tuple[Session, Session]) -> None:
    """Without the remote's word nothing is taken; --local decides here alone."""
    one, _ = pair
    git(one.folder, "remote", "set-url", "origin", str(one.folder / "nowhere"))
    with pytest.raises(GitFailed, match="nowhere"):
        one.acquire("repo:x")
    assert one.locks() == []
    assert one.acquire("repo:x", local=True).fence == 1
    with pytest.raises(GitFailed):
        one.release("repo:x")
    assert one.status().leases[0].lease is not None
    assert any("nowhere" in notice for notice in one.notices)
    one.release("repo:x", local=True)


def test_an_answer_that_is_lost_is_asked_for_again(
    pair: tuple[Session, Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remote took the lease and the connection died: the lease is there, and is known."""
    from grit.git import transport
    from grit.git.transport import Pushed

    one, two = pair
    real = transport.push

    def cut(*arguments: object) -> list[Pushed]:
        return [
            done._replace(done=False, words="the line was cut")
            for done in real(*arguments)  # type: ignore[arg-type]
        ]

    with monkeypatch.context() as patch:
        patch.setattr(transport, "push", cut)
        assert one.acquire("repo:x").fence == 1
    assert "held by" in two.refused("repo:x")


def test_row_26_garbage_lock_refs_block_nobody(alone: Path) -> None:
    """Whatever a lock ref holds that is no lease is reported, and the resource can be taken."""
    mine = Session(alone, "a")
    texts = [f"path:{name}" for name in ("blob", "empty", "garbage", "missing", "code", "symref")]
    refs = {text: lock_ref(text) for text in texts}
    (alone / "file").write_text("code")
    git(alone, "add", "file")
    git(alone, "commit", "-q", "-m", "code")
    folder = alone / ".git/refs/grit/locks"
    folder.mkdir(parents=True)
    git(alone, "update-ref", refs["path:blob"], git(alone, "hash-object", "-w", "file"))
    git(alone, "update-ref", refs["path:code"], "HEAD")
    (alone / ".git" / refs["path:empty"]).write_text("")
    (alone / ".git" / refs["path:garbage"]).write_text("rubbish\n")
    (alone / ".git" / refs["path:missing"]).write_text("1" * 40 + "\n")
    git(alone, "symbolic-ref", refs["path:symref"], "refs/heads/main")
    (folder / "not-a-name").write_text(git(alone, "rev-parse", "HEAD") + "\n")
    found = mine.status()
    assert found.leases == []
    assert {lock.ref for lock in found.malformed} == {
        *refs.values(), "refs/grit/locks/not-a-name"
    }  # fmt: skip
    assert all(lock.problem for lock in found.malformed)
    code = git(alone, "rev-parse", "HEAD")
    for text in texts:
        assert mine.acquire(text).fence == 1
    assert mine.live() == sorted(texts)
    assert git(alone, "rev-parse", "HEAD") == code
    kept = list((alone / ".git/grit").glob("damaged-lock-*"))
    assert len(kept) == 4
    assert all(path.name in "".join(mine.notices) for path in kept)
    git(alone, "fsck", "--strict", "--no-dangling")


def test_row_26_garbage_on_the_remote_blocks_nobody(pair: tuple[Session, Session]) -> None:
    """Garbage on the remote keeps nobody away, and its holder puts the lease back."""
    one, two = pair
    (one.folder / "file").write_text("code")
    git(one.folder, "add", "file")
    git(one.folder, "commit", "-q", "-m", "code")
    ref = lock_ref("repo:x")
    git(one.folder, "push", "-q", "origin", f"HEAD:{ref}", f"HEAD:{lock_ref('path:a')[:-4]}")
    assert two.acquire("repo:x").fence == 1
    assert "held by" in one.refused("repo:x")
    git(one.folder, "push", "-q", "-f", "origin", f"HEAD:{ref}")
    assert two.renew("repo:x").fence == 1
    assert "held by" in one.refused("repo:x")


def test_a_broken_record_of_the_remote_is_kept_aside(pair: tuple[Session, Session]) -> None:
    """Garbage in a ref that records the remote's lock does not keep it from being asked."""
    one, two = pair
    two.acquire("repo:x")
    assert "held by" in one.refused("repo:x")
    record = one.folder / ".git" / lock_ref("repo:x").replace("grit/", "grit-remotes/origin/", 1)
    record.write_text("rubbish\n")
    assert "held by" in one.refused("repo:x")
    assert list((one.folder / ".git/grit").glob("damaged-lock-*"))


def test_gc_removes_what_is_old_everywhere(pair: tuple[Session, Session]) -> None:
    """After 30 days without a change a lock ref goes, here and on the remote; newer ones stay.

    It goes with the second gc that finds it old, more than 7 days after the first.
    """
    one, two = pair
    shared = one.folder.parent / "shared.git"
    one.acquire("path:a")
    one.acquire("path:b")
    one.release("path:b")
    two.now_ms = NOW_MS + LEASE_KEEP_MS
    two.acquire("path:c")
    assert two.use(leases.gc) == leases.Collected([], 3)
    two.now_ms += TTL_MS + 1000
    assert two.use(leases.gc) == leases.Collected([], 3, 2)
    two.now_ms += LEASE_MS_MAX + LEASE_SKEW_MS - 1
    assert two.use(leases.gc) == leases.Collected([], 3, 2)
    two.now_ms += 1
    assert two.use(leases.gc) == leases.Collected(["path:a", "path:b"], 1)
    assert git(shared, "for-each-ref", "--format=%(refname)") == lock_ref("path:c")
    assert {lock.ref for lock in two.locks()} == {lock_ref("path:c")}
    # The other clone has them still; a plain push of them brings nothing to life.
    one.now_ms = two.now_ms
    assert one.use(leases.gc).waiting == 2
    one.now_ms += LEASE_MS_MAX + LEASE_SKEW_MS
    assert one.use(leases.gc).removed == ["path:a", "path:b"]
    assert two.acquire("path:a").fence == 1


def test_gc_keeps_what_it_does_not_understand(alone: Path) -> None:
    """A malformed lock ref stays, however old."""
    mine = Session(alone, "a", NOW_MS + 10 * LEASE_KEEP_MS)
    ref = lock_ref("repo:x")
    blob = git(alone, "hash-object", "-w", "--stdin", stdin=b"x")
    git(alone, "update-ref", ref, blob)
    assert mine.use(leases.gc) == leases.Collected([], 1)
    assert git(alone, "rev-parse", ref) == blob


def test_packed_and_linked(alone: Path, tmp_path: Path) -> None:
    """Packed lock refs, collected objects and linked worktrees make no difference."""
    mine = Session(alone, "a")
    mine.acquire("repo:x")
    git(alone, "commit", "-q", "--allow-empty", "-m", "begin")
    git(alone, "worktree", "add", "-q", str(tmp_path / "linked"))
    git(alone, "gc", "-q")
    git(alone, "pack-refs", "--all", "--prune")
    other = Session(tmp_path / "linked", "b")
    assert "another session" in other.refused("repo:x")
    mine.release("repo:x")
    assert other.acquire("repo:x").fence == 2
    assert other.live() == ["repo:x"]


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_a_lease_is_one_commit_with_lock_json(tmp_path: Path, form: str) -> None:
    """The layout of spec/leases.md, with both kinds of object ids."""
    import json
    import subprocess

    folder = tmp_path / form
    subprocess.run(["git", "init", "-q", f"--object-format={form}", str(folder)], check=True)
    lease = Session(folder, "a").acquire("repo:x")
    ref = lock_ref("repo:x")
    stored = json.loads(git(folder, "show", f"{ref}:lock.json"))
    assert stored == {
        "owner": lease.owner.hex(), "nonce": lease.nonce, "resource": "repo:x", "fence": 1,
        "expires_unix_ms": NOW_MS + TTL_MS,
    }  # fmt: skip
    assert git(folder, "log", "--format=%s %an", ref) == "lease repo:x Ann Example"
    Session(folder, "a").release("repo:x")
    assert git(folder, "log", "--format=%s", ref) == "release repo:x\nlease repo:x"


def test_doctor_names_lock_refs_that_hold_no_lease(alone: Path) -> None:
    """Malformed, broken and unbelievable ones are warnings; --fix moves the broken ones aside."""
    from grit.services.clone_checks import check_leases
    from grit.services.doctor import diagnose

    mine = Session(alone, "a")
    assert mine.use(check_leases).message == "nothing is leased, as far as this clone knows"
    mine.acquire("path:fine")
    assert mine.use(check_leases).status == "ok"
    future = Session(alone, "a", NOW_MS + 3 * LEASE_MS_MAX).acquire("path:future", LEASE_MS_MAX)
    assert mine.use(check_leases).message == "live leases: 2"
    # Set by hand: its commit is of today, and its end fits neither that nor the clock.
    blob = git(alone, "hash-object", "-w", "--stdin", stdin=encode_lock(future))
    tree = git(alone, "mktree", stdin=f"100644 blob {blob}\tlock.json\n".encode())
    commit = git(alone, "commit-tree", tree, "-m", "by hand")
    git(alone, "update-ref", lock_ref("path:future"), commit)
    check = mine.use(check_leases)
    assert (check.status, "ends too late" in check.message) == ("warn", True)
    assert "blocks" not in Session(alone, "b").acquire("path:future").resource.text
    broken = alone / ".git" / lock_ref("path:broken")
    broken.write_text("1" * 40 + "\n")
    assert "--fix" in str(mine.use(check_leases).plan)
    found = mine.use(lambda w: diagnose(w, fix=True))
    assert any(lock_ref("path:broken") in line for line in found.applied)
    assert not broken.exists()
    assert mine.use(check_leases).status == "ok"


def test_a_local_ref_follows_the_remote(pair: tuple[Session, Session]) -> None:
    """What others did to a lease moves the ref here too, so that a plain push stays accepted."""
    one, two = pair
    one.acquire("repo:x")
    one.release("repo:x")
    two.acquire("repo:x")
    assert one.live() == ["repo:x"]
    ref = lock_ref("repo:x")
    assert git(one.folder, "rev-parse", ref) == git(two.folder, "rev-parse", ref)
    git(one.folder, "push", "-q", "origin", "refs/grit/*")


def test_logs_of_the_older_tools_have_their_locks_beside_them(alone: Path) -> None:
    """In dialect "grite" the lock refs lie under refs/grite/locks."""
    from grit.services import issues
    from grit.services.write import write
    from tests.core.builders import ISSUE

    mine = Session(alone, "a")
    mine.use(lambda w: write(w, lambda t: issues.create(t, ISSUE, "x"), lambda c: c.subject))
    git(alone, "update-ref", "refs/grite/wal", git(alone, "rev-parse", "refs/grit/wal"))
    git(alone, "update-ref", "-d", "refs/grit/wal")
    mine.acquire("repo:x")
    ref = lock_ref("repo:x").replace("refs/grit/", "refs/grite/")
    assert [lock.ref for lock in mine.locks()] == [ref]
    assert "another session" in Session(alone, "b").refused("repo:x")


def test_a_ref_that_moves_under_the_decision_is_looked_at_again(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain git that moves the ref between look and swap is not written over."""
    from grit.git import leases as refs

    mine, other = Session(alone, "a"), Session(clone(tmp_path, "elsewhere"), "b")
    other.acquire("repo:x")
    ref, real = lock_ref("repo:x"), refs.write_lock

    def late(*arguments: Any) -> str:
        git(alone, "fetch", "-q", str(other.folder), f"{ref}:{ref}")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(refs, "write_lock", late)
        assert "held by" in mine.refused("repo:x")
    assert git(alone, "rev-parse", ref) == git(other.folder, "rev-parse", ref)
