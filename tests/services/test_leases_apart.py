"""Leases that a clone and its remote disagree about: the remote's word counts."""

from pathlib import Path

import pytest

from grit.core.errors import Conflict
from grit.core.lease import parse_resource
from tests.services.tenants import Session, git, two_clones


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Session, Session]:
    """Sessions in two clones of one bare repository."""
    return two_clones(tmp_path)


def lock_ref(text: str) -> str:
    return f"refs/grit/locks/{parse_resource(text).lock_name}"


def test_a_local_lease_and_one_of_the_remote_are_joined(pair: tuple[Session, Session]) -> None:
    """What was taken with --local meets the remote's lease: who holds it there is named."""
    one, two = pair
    two.acquire("repo:x")
    one.acquire("repo:x", local=True)
    assert "held by" in one.refused("repo:x")
    two.release("repo:x")
    joined = one.acquire("repo:x")
    assert joined.fence == 1
    assert "held by" in two.refused("repo:x")
    parents = git(one.folder, "rev-list", "--parents", "-1", lock_ref("repo:x")).split()[1:]
    assert len(parents) == 2


def test_a_local_lease_never_ends_the_one_that_the_remote_gave_to_another(
    pair: tuple[Session, Session],
) -> None:
    """Neither renewing nor giving back the own one touches the winner's; --local ends it here."""
    one, two = pair
    one.acquire("repo:x", local=True)
    two.acquire("repo:x")
    for work in (one.renew, one.release):
        with pytest.raises(Conflict, match="known to this clone alone"):
            work("repo:x")
    one.release("repo:x", local=True)
    assert "held by" in one.refused("repo:x", local=True)
    assert "held by" in one.refused("repo:x")
    two.renew("repo:x")
    two.release("repo:x")
    assert one.acquire("repo:x").fence == 2


def test_a_lease_that_the_remote_lost_and_gave_to_another_is_not_taken_back(
    pair: tuple[Session, Session],
) -> None:
    """After `git push --mirror` removed the ref, the remote's word of today counts."""
    one, two = pair
    one.acquire("repo:x")
    git(one.folder, "push", "-q", "origin", f":{lock_ref('repo:x')}")
    two.acquire("repo:x")
    with pytest.raises(Conflict, match="known to this clone alone"):
        one.renew("repo:x")
    assert "held by" in one.refused("repo:x")
    two.renew("repo:x")
