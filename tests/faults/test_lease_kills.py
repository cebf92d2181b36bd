"""kill -9 in the middle of taking, renewing and giving back a lease: nothing to clean up.

CI takes a sample of the points; GRIT_FAULTS=all takes every one.
"""

from pathlib import Path

import pytest

from tests.faults.machine import changing, git, grit, ok, points, sample

WAIT_S_MAX = 8
"""A lock file that a killed process left is waited for once, for less than this."""
MINE = {"GRIT_SESSION": "mine"}
OTHER = {"GRIT_SESSION": "other"}


@pytest.mark.parametrize("verb", ["acquire", "renew", "release"])
@pytest.mark.parametrize("over", ["alone", "remote"])
def test_fault_4_a_killed_change_of_a_lease_is_whole_or_absent(
    verb: str, over: str, tracker: Path, tmp_path: Path, traced: None
) -> None:
    """The lease is as before or as asked; its session goes on at once; the others agree."""
    shared = tmp_path / "shared.git"
    if over == "remote":
        git(tmp_path, "init", "-q", "--bare", str(shared))
        git(tracker, "remote", "add", "origin", str(shared))

    def prepare(name: str) -> tuple[str, ...]:
        if verb != "acquire":
            ok(tracker, "lock", "acquire", f"path:{name}", environ=MINE)
        return ("lock", verb, f"path:{name}")

    trace = tmp_path / "trace"
    found = changing(points(tracker, trace, *prepare("measured"), environ=MINE))
    assert len(found) > 10, found
    killed = 0
    for turn, point in enumerate(sample(found, 4)):
        name = f"turn{turn}"
        words = prepare(name)
        inject = f"inject={point.syscall}:signal=KILL:when={point.number}"
        before = ["strace", "-qq", "--seccomp-bpf", "-f", "-o", "/dev/null", "-e", inject]
        status = grit(tracker, *words, environ=MINE, before=before).status
        killed += status == -9
        # Another session is told who has it, or gets it; it never meets anything else.
        heard = grit(tracker, "lock", "acquire", f"path:{name}", environ=OTHER)
        assert heard.seconds < WAIT_S_MAX, point
        assert heard.status in (0, 4), (point, heard)
        if status == 0:
            assert heard.status == (0 if verb == "release" else 4), point
        if status == -9 and verb == "renew":
            assert heard.status == 4, point
        holder = MINE if heard.status == 4 else OTHER
        again = ok(tracker, "lock", "acquire", f"path:{name}", "--json", environ=holder)
        assert again.seconds < WAIT_S_MAX, point
        shown = ok(tracker, "lock", "status", f"path:{name}", "--json").data["locks"]
        assert [one["nonce"] for one in shown] == [again.data["lock"]["nonce"]], point
        git(tracker, "fsck", "--strict", "--no-dangling")
        if over == "remote":
            git(shared, "fsck", "--strict", "--no-dangling")
    assert killed >= 2, "the points were missed"
