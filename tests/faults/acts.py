"""What is killed or meets a failing disk: each kind of command, what it needs, what follows."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.machine import git
from tests.faults.realm import Turn

NOT_FOUND, CONFLICT = 3, 4


def _nothing(_turn: Turn) -> None:
    """Need nothing."""


def _anything(turn: Turn) -> None:
    """Let some other command follow; it works without help."""
    chance = turn.realm.chance
    following = chance.choice(
        (("ls", "--json"), ("new", f"{turn.tag}z"), ("sync",), ("doctor",), ("search", turn.tag))
    )
    if following[0] == "new":
        turn.realm.write(turn.here, following[1])
    else:
        turn.realm.ok(turn.here, *following)


class Act(NamedTuple):
    """A kind of command."""

    words: Callable[[Turn], tuple[str, ...]]
    prepare: Callable[[Turn], None] = _nothing
    stdin: Callable[[Turn], bytes] = lambda _turn: b""
    follow: Callable[[Turn], None] = _anything
    """The next commands, and what must be true of them."""


def _batch(turn: Turn) -> bytes:
    issue = turn.realm.issue(turn.here)
    lines = [
        {"op": "create", "title": f"{turn.tag} one", "labels": [turn.tag]},
        {"op": "comment", "issue": issue, "body": turn.tag},
        {"op": "create", "title": f"{turn.tag} two"},
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _both_have_news(turn: Turn) -> None:
    """Something to send here, and on most turns something to take in."""
    turn.realm.write(turn.here, f"{turn.tag}a")
    if turn.realm.chance.random() < 0.7:
        turn.realm.write(turn.there, f"{turn.tag}b")
        turn.realm.ok(turn.there, "sync")


def _without_refspec(turn: Turn) -> None:
    _both_have_news(turn)
    if "refs/grit/" in git(turn.here, "config", "--get-all", "remote.origin.fetch"):
        git(turn.here, "config", "--unset-all", "remote.origin.fetch", "refs/grit/")


def _fetched(turn: Turn) -> None:
    """What the other sent came by a plain fetch.

    The lock of a fetch that was killed before stops a plain git; a sync clears it away.
    """
    _both_have_news(turn)
    words = ["git", "fetch", "-q", "origin"]
    done = subprocess.run(words, cwd=turn.here, capture_output=True, timeout=60)
    if done.returncode != 0:
        assert b".lock': File exists" in done.stderr, done.stderr
        turn.realm.ok(turn.here, "sync")


def _without_view(turn: Turn) -> None:
    shutil.rmtree(turn.here / ".git/grit/view", ignore_errors=True)


def _damaged(turn: Turn) -> None:
    """Take away an object of the newest own append, or empty the ref."""
    turn.realm.write(turn.here, f"{turn.tag}a")
    ref = turn.here / ".git/refs/grit/wal"
    if turn.realm.chance.random() < 0.5:
        ref.write_text("")
        return
    tree = git(turn.here, "rev-parse", "refs/grit/wal^{tree}")
    (turn.here / ".git/objects" / tree[:2] / tree[2:]).unlink()


def _repair(turn: Turn) -> None:
    turn.realm.ok(turn.here, "doctor", "--fix")


def _snapshots(count: int) -> Callable[[Turn], None]:
    def make(turn: Turn) -> None:
        for number in range(count):
            turn.realm.ok(turn.here, "snapshot", "create")
            turn.realm.write(turn.here, f"{turn.tag}{chr(ord('a') + number)}")

    return make


def _snapshots_are_sound(turn: Turn) -> None:
    turn.realm.ok(turn.here, "snapshot", "verify")
    turn.realm.ok(turn.here, "snapshot", "gc", "--remote", "origin")
    turn.realm.ok(turn.here, "rebuild", "--from-snapshot")


def _resource(turn: Turn) -> str:
    return f"repo:{turn.tag}"


def _held(turn: Turn) -> None:
    turn.realm.ok(turn.here, "lock", "acquire", _resource(turn))


def _one_winner(turn: Turn) -> None:
    """Both try, in any order: one gets it, and keeps it until it gives it back."""
    order = turn.realm.chance.sample([turn.here, turn.there], 2)
    statuses = [_acquire(turn, place) for place in order]
    assert sorted(statuses) == [0, CONFLICT], statuses
    winner = order[statuses.index(0)]
    loser = order[statuses.index(CONFLICT)]
    turn.realm.ok(winner, "lock", "renew", _resource(turn))
    assert _acquire(turn, loser) == CONFLICT
    turn.realm.ok(winner, "lock", "release", _resource(turn))
    assert _acquire(turn, loser) == 0
    turn.realm.ok(loser, "lock", "release", _resource(turn))


def _still_held(turn: Turn) -> None:
    assert _acquire(turn, turn.there) == CONFLICT
    turn.realm.ok(turn.here, "lock", "renew", _resource(turn))
    turn.realm.ok(turn.here, "lock", "release", _resource(turn))


def _held_or_given_back(turn: Turn) -> None:
    """The other gets it at once, or after the release was said again.

    A git that outlived its grit may release it meanwhile: then nothing is left to give back.
    """
    if _acquire(turn, turn.there) == CONFLICT:
        again = turn.realm.run(turn.here, "lock", "release", _resource(turn))
        assert again.status in (0, NOT_FOUND), again
        assert _acquire(turn, turn.there) == 0
    assert _acquire(turn, turn.here) == CONFLICT
    turn.realm.ok(turn.there, "lock", "release", _resource(turn))


def _acquire(turn: Turn, place: Path) -> int:
    done = turn.realm.run(place, "lock", "acquire", _resource(turn))
    assert done.status in (0, CONFLICT), done
    return done.status


def _known_to_both(turn: Turn) -> None:
    turn.realm.write(turn.here, f"{turn.tag}a")
    for place in (turn.here, turn.there):
        turn.realm.ok(place, "sync")


def _claimed(turn: Turn) -> tuple[str, ...]:
    return ("issue", "claim", turn.realm.issue(turn.here, f"{turn.tag}a"))


def _claim_goes_on(turn: Turn) -> None:
    """Who was killed claims again, and has it; the other is told so, and waits for the release."""
    issue = turn.realm.issue(turn.here, f"{turn.tag}a")
    turn.realm.ok(turn.here, "issue", "claim", issue)
    turn.realm.ok(turn.here, "sync")
    turn.realm.ok(turn.there, "sync")
    assert turn.realm.run(turn.there, "issue", "claim", issue).status == CONFLICT
    turn.realm.ok(turn.here, "issue", "release", issue)
    turn.realm.ok(turn.here, "sync")
    turn.realm.ok(turn.there, "issue", "claim", issue)
    turn.realm.ok(turn.there, "issue", "release", issue)


ACTS = {
    "new": Act(lambda turn: ("new", turn.tag, "-l", turn.tag, "-f", f"team={turn.tag}")),
    "comment": Act(lambda turn: ("comment", turn.realm.issue(turn.here), "-b", turn.tag)),
    "batch": Act(lambda _turn: ("batch",), stdin=_batch),
    "sync": Act(lambda _turn: ("sync",), _both_have_news),
    "first sync": Act(lambda _turn: ("sync",), _without_refspec),
    "read what was fetched": Act(lambda _turn: ("ls", "--json"), _fetched),
    "write on what was fetched": Act(lambda turn: ("new", turn.tag), _fetched),
    "first read": Act(lambda _turn: ("ls", "--json"), _without_view),
    "rebuild": Act(lambda _turn: ("rebuild",)),
    "doctor": Act(lambda _turn: ("doctor", "--fix"), _damaged, follow=_repair),
    "snapshot create": Act(lambda _turn: ("snapshot", "create"), follow=_snapshots_are_sound),
    "snapshot gc": Act(
        lambda _turn: ("snapshot", "gc", "--remote", "origin"),
        _snapshots(4),
        follow=_snapshots_are_sound,
    ),
    "rebuild from a snapshot": Act(lambda _turn: ("rebuild", "--from-snapshot"), _snapshots(1)),
    "acquire": Act(lambda turn: ("lock", "acquire", _resource(turn)), follow=_one_winner),
    "renew": Act(
        lambda turn: ("lock", "renew", _resource(turn), "--ttl", "2h"), _held, follow=_still_held
    ),
    "release": Act(
        lambda turn: ("lock", "release", _resource(turn)), _held, follow=_held_or_given_back
    ),
    "claim": Act(_claimed, _known_to_both, follow=_claim_goes_on),
}
"""All kinds by name; many writers at once are a kind of their own."""
