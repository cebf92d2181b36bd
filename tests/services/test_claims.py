"""Claims and the policy of leases: one winner, and every write path asks."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grit.core.errors import Conflict, GritError, NotFound
from grit.core.ids import IssueId
from grit.core.limits import LEASE_SKEW_MS
from grit.git.actors import ConfigDamaged, set_config
from grit.services import claims, issues
from grit.services.batch import run_batch
from grit.services.export import Asked, export
from grit.services.import_beads import import_beads
from grit.services.import_json import import_json
from grit.services.refresh import refresh
from grit.services.workspace import Workspace
from grit.services.write import Transaction, write
from tests.core.builders import ISSUE, NOW_MS, OTHER
from tests.services.tenants import TTL_MS, Session, bare, clone, git

LATE_MS = NOW_MS + TTL_MS + LEASE_SKEW_MS


def store(session: Session, work: Callable[[Transaction], Any]) -> Any:
    return session.use(lambda w: write(w, work, lambda change: change.subject))


@pytest.fixture
def tracker(tmp_path: Path) -> Path:
    """A clone with two issues."""
    folder = clone(tmp_path, "tracker")
    for issue_id in (ISSUE, OTHER):
        store(Session(folder, "setup"), lambda t, one=issue_id: issues.create(t, one, "title"))
    return folder


def claim(session: Session, issue: str = ISSUE.hex()[:7], **more: Any) -> claims.Claim:
    found: claims.Claim = session.use(lambda w: claims.claim(w, issue, TTL_MS, **more))
    return found


def give_back(session: Session, **more: Any) -> claims.Claim:
    found: claims.Claim = session.use(lambda w: claims.give_back(w, ISSUE.hex(), **more))
    return found


def assignees(session: Session, issue_id: IssueId = ISSUE) -> tuple[str, ...]:
    row = session.use(lambda w: refresh(w).summary(issue_id))
    return tuple(row.assignees)


def policy(folder: Path, value: str) -> None:
    Session(folder, "setup").use(lambda w: set_config(w.repository, "lock_policy", value))


def test_a_claim_leases_and_assigns_and_giving_back_undoes_both(tracker: Path) -> None:
    """Claim and release are one step each; the other session of the actor loses."""
    mine, other = Session(tracker, "a"), Session(tracker, "b")
    done = claim(mine)
    assert done.lease.resource.text == f"issue:{ISSUE.hex()}"
    assert done.change.event_id is not None
    assert assignees(mine) == ("Ann Example",)
    with pytest.raises(Conflict, match="another session"):
        claim(other)
    with pytest.raises(Conflict):
        give_back(other)
    assert claim(mine).change.event_id is None
    assert give_back(mine).lease.released
    assert assignees(mine) == ()
    with pytest.raises(NotFound):
        give_back(mine)
    assert claim(other).lease.fence == 2


def test_giving_back_keeps_who_was_assigned_before(tracker: Path) -> None:
    """Only what the claim added goes; the same by the nonce from another session."""
    mine = Session(tracker, "a")
    store(mine, lambda t: issues.assign(t, ISSUE.hex(), add=["Ann Example", "Bob"]))
    done = claim(mine)
    assert done.lease.claimed is None
    give_back(Session(tracker, "b"), nonce=done.lease.nonce)
    assert assignees(mine) == ("Ann Example", "Bob")


def test_a_takeover_takes_off_the_assignee_of_the_claim_that_ended(tracker: Path) -> None:
    """Who takes over an ended claim replaces its assignee; nobody else's is touched."""
    store(Session(tracker, "a"), lambda t: issues.assign(t, ISSUE.hex(), add=["Cy"]))
    claim(Session(tracker, "a"))
    folder = Session(tracker, "b", LATE_MS)
    folder.use(lambda w: _become(w, "Bob"))
    assert claim(folder).lease.claimed == "Bob"
    assert assignees(folder) == ("Bob", "Cy")
    give_back(folder)
    assert assignees(folder) == ("Cy",)


def _become(workspace: Workspace, label: str) -> None:
    from grit.services import actors

    actors.create(workspace, label=label, make_default=True)


def test_another_session_of_the_actor_gives_back_what_the_first_added(tracker: Path) -> None:
    """An agent that died is followed by another with the same actor: its release unassigns."""
    claim(Session(tracker, "a"))
    late = Session(tracker, "b", LATE_MS)
    assert claim(late).lease.claimed == "Ann Example"
    give_back(late)
    assert assignees(late) == ()


def test_closed_and_deleted_issues_cannot_be_claimed(tracker: Path) -> None:
    """There is nothing to do on them; no lease is taken."""
    mine = Session(tracker, "a")
    store(mine, lambda t: issues.set_state(t, ISSUE.hex(), "closed"))
    store(mine, lambda t: issues.set_deleted(t, OTHER.hex(), True, ""))
    for issue_id in (ISSUE, OTHER):
        with pytest.raises(GritError):
            claim(mine, issue_id.hex())
    with pytest.raises(NotFound):
        claim(mine, "ffff")
    assert mine.live() == []


def test_a_claim_that_cannot_be_stored_leaves_no_lease(
    tracker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the assignment fails the lease goes back; a lease that was there before stays."""

    def fail(*_: object) -> None:
        raise Conflict("no")

    mine = Session(tracker, "a")
    with monkeypatch.context() as patch:
        patch.setattr(claims, "write", fail)
        with pytest.raises(Conflict, match="^no$"):
            claim(mine)
        assert mine.live() == []
    claim(mine)
    with monkeypatch.context() as patch:
        patch.setattr(claims, "write", fail)
        with pytest.raises(Conflict, match="^no$"):
            claim(mine)
    assert mine.live() == [f"issue:{ISSUE.hex()}"]


def test_losers_over_a_remote_hear_the_winners_name(tmp_path: Path) -> None:
    """Another actor in another clone is named, although its events have not arrived."""
    shared = bare(tmp_path)
    one, two = (Session(clone(tmp_path, name, shared), name) for name in ("one", "two"))
    store(one, lambda t: issues.create(t, ISSUE, "title"))
    git(one.folder, "push", "-q", "origin", "refs/grit/wal")
    git(two.folder, "fetch", "-q", "origin", "refs/grit/wal:refs/grit/wal")
    claim(one)
    with pytest.raises(Conflict, match="held by Ann Example"):
        claim(two)
    assert assignees(two) == ()
    assert "held by" in two.refused("repo:x")


WRITES: dict[str, Callable[[Workspace], Any]] = {
    "comment": lambda w: write(w, lambda t: issues.comment(t, ISSUE.hex()[:7], "x"), _subject),
    "close": lambda w: write(w, lambda t: issues.set_state(t, ISSUE.hex(), "closed"), _subject),
    "delete": lambda w: write(w, lambda t: issues.set_deleted(t, ISSUE.hex(), True, ""), _subject),
    "attach": lambda w: write(
        w, lambda t: issues.attach(t, ISSUE.hex(), "a", b"x", "a/b"), _subject
    ),
    "batch": lambda w: run_batch(
        w,
        [
            json.dumps({"op": "comment", "issue": OTHER.hex(), "body": "x"}).encode(),
            json.dumps({"op": "label", "issue": ISSUE.hex()[:8], "add": ["x"]}).encode(),
        ],
    ),
}


def _subject(change: Any) -> str:
    return str(change.subject)


def head(folder: Path) -> str:
    return git(folder, "rev-parse", "refs/grit/wal")


@pytest.mark.parametrize("name", WRITES)
def test_require_refuses_every_write_to_an_issue_of_another(name: str, tracker: Path) -> None:
    """Resolved ids count; the refusal names the holder; nothing is stored; the holder may."""
    claim(Session(tracker, "a"))
    policy(tracker, "require")
    before = head(tracker)
    with pytest.raises(Conflict, match="refused: issue:") as refused:
        Session(tracker, "b").use(WRITES[name])
    assert refused.value.details["resource"] == f"issue:{ISSUE.hex()}"
    assert head(tracker) == before
    Session(tracker, "a").use(WRITES[name])
    assert head(tracker) != before


@pytest.mark.parametrize("resource", ["repo:freeze", f"issue:{ISSUE.hex()}"])
def test_require_refuses_imports(resource: str, tracker: Path, tmp_path: Path) -> None:
    """An import is a write as any other, of grit's own export and of beads."""
    source = Session(clone(tmp_path, "source"), "a")
    store(source, lambda t: issues.create(t, ISSUE, "elsewhere"))
    document = source.use(lambda w: "".join(export(w, Asked()))).encode()
    beads = (
        b'{"id": "x-1", "title": "one", "status": "open", "created_at": "2023-01-01T00:00:00Z"}\n'
    )
    Session(tracker, "a").acquire(resource)
    policy(tracker, "require")
    before = head(tracker)
    other = Session(tracker, "b")
    with pytest.raises(Conflict, match="refused: "):
        other.use(lambda w: import_json(w, io.BytesIO(document)))
    if resource.startswith("repo:"):
        with pytest.raises(Conflict, match="refused: "):
            other.use(lambda w: import_beads(w, io.BytesIO(beads)))
    assert head(tracker) == before


def test_a_repo_lease_stands_against_every_write_and_a_path_lease_against_none(
    tracker: Path,
) -> None:
    """repo: blocks all issues, new ones too; path: is about files."""
    mine, other = Session(tracker, "a"), Session(tracker, "b")
    policy(tracker, "require")
    mine.acquire("path:src")
    other.use(WRITES["comment"])
    mine.acquire("repo:freeze")
    fresh = IssueId(b"\x09" * 16)
    with pytest.raises(Conflict, match="repo:freeze is held"):
        store(other, lambda t: issues.create(t, fresh, "new"))
    mine.release("repo:freeze")
    store(other, lambda t: issues.create(t, fresh, "new"))


def test_warn_tells_once_and_stores(tracker: Path) -> None:
    """Under warn the write is stored, with one notice that names the holder."""
    claim(Session(tracker, "a"))
    policy(tracker, "warn")
    other = Session(tracker, "b")
    before = head(tracker)
    other.use(WRITES["batch"])
    assert head(tracker) != before
    assert len([notice for notice in other.notices if "is held by" in notice]) == 1


def test_off_reads_no_lease(tracker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a policy a write looks at no lock ref; an ended lease stops nobody under require."""
    from grit.services import lease_policy

    claim(Session(tracker, "a"))
    with monkeypatch.context() as patch:
        patch.delattr(lease_policy, "check_leases")
        Session(tracker, "b").use(WRITES["comment"])
    policy(tracker, "require")
    Session(tracker, "b", LATE_MS).use(WRITES["comment"])


def test_a_misspelt_policy_is_an_error(tracker: Path) -> None:
    """What is neither off, warn nor require is never taken for off."""
    policy(tracker, "requir")
    with pytest.raises(ConfigDamaged, match="requir"):
        Session(tracker, "b").use(WRITES["comment"])


def test_leases_of_other_clones_count_once_they_are_known(tmp_path: Path) -> None:
    """The policy asks no remote, but what a plain fetch recorded counts."""
    shared = bare(tmp_path)
    one, two = (Session(clone(tmp_path, name, shared), name) for name in ("one", "two"))
    for session in (one, two):
        store(session, lambda t: issues.create(t, ISSUE, "title"))
    policy(two.folder, "require")
    claim(one)
    two.use(WRITES["comment"])
    git(two.folder, "fetch", "-q", "origin", "+refs/grit/locks/*:refs/grit-remotes/origin/locks/*")
    with pytest.raises(Conflict, match="held by Ann Example"):
        two.use(WRITES["close"])
    give_back(one)
    git(two.folder, "fetch", "-q", "origin", "+refs/grit/locks/*:refs/grit-remotes/origin/locks/*")
    two.use(WRITES["close"])


def test_a_session_is_the_same_until_its_text_changes(tmp_path: Path) -> None:
    """The nonce depends on GRIT_SESSION; without it on the operating system's session."""
    from grit.services.session import nonce_of, session_nonce

    assert session_nonce({"GRIT_SESSION": "a"}) == nonce_of("a") != nonce_of("b")
    assert session_nonce({}) == session_nonce({}) != nonce_of("")


def test_a_sync_brings_the_leases_that_a_policy_needs(tmp_path: Path) -> None:
    """Under a policy `grit sync` records the leases of the remote; without one it does not ask."""
    from grit.services.sync import sync

    shared = bare(tmp_path)
    one, two = (Session(clone(tmp_path, name, shared), name) for name in ("one", "two"))
    store(one, lambda t: issues.create(t, ISSUE, "title"))
    one.use(sync)
    claim(one)
    two.use(sync)
    assert two.locks() == []
    two.use(WRITES["comment"])
    policy(two.folder, "require")
    two.use(sync)
    with pytest.raises(Conflict, match="held by Ann Example"):
        two.use(WRITES["close"])
