"""`grit lock run`: held, renewed and given back around a command, whatever happens to either."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.machine import GRIT, Done, environment, git, grit, ok

WAIT_S_MAX = 30


@pytest.fixture
def tracker(git_repository: Path) -> Path:
    """A repository with an actor."""
    ok(git_repository, "init")
    return git_repository


def start(folder: Path, *words: str, **environ: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*GRIT, "lock", "run", *words],
        cwd=folder,
        env=environment(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]") -> Done:
    out, err = process.communicate(timeout=WAIT_S_MAX)
    assert "Traceback" not in err, err
    return Done(process.returncode, out, err, 0)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it never came true")


def live(folder: Path) -> list[dict[str, Any]]:
    rows = ok(folder, "lock", "status", "--json").data["locks"]
    return [row for row in rows if row["state"] == "live"]


def test_the_exit_status_is_the_commands(tracker: Path) -> None:
    """Any status passes through, a signal as 128 and its number; the lease is given back."""
    for script, status in (("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)):
        assert grit(tracker, "lock", "run", "repo:x", "--", "sh", "-c", script).status == status
        assert live(tracker) == []
    assert grit(tracker, "lock", "run", "repo:x", "--", "nowhere-to-be-found").status == 127
    (tracker / "plain").write_text("text")
    assert grit(tracker, "lock", "run", "repo:x", "--", "./plain").status == 126
    assert grit(tracker, "lock", "run", "repo:x").status == 2
    assert live(tracker) == []


def test_what_it_runs_belongs_to_the_session_that_holds_the_lease(tracker: Path) -> None:
    """Under `require` the command writes and others do not; two runs at once exclude each other."""
    ok(tracker, "config", "set", "lock_policy", "require")
    (tracker / "script").write_text(
        f"{' '.join(repr(word) if ' ' in word else word for word in GRIT)} new inside && touch in\n"
        "while [ ! -e go ]; do sleep 0.05; done\n"
    )
    process = start(tracker, "repo:x", "--", "sh", "script")
    until((tracker / "in").exists)
    refused = grit(tracker, "new", "outside")
    assert refused.status == 4
    assert "repo:x" in refused.err
    assert grit(tracker, "lock", "run", "repo:x", "--", "true").status == 4
    (tracker / "go").touch()
    assert ended(process).status == 0
    ok(tracker, "new", "outside")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: signal.Signals, tracker: Path) -> None:
    """The command gets the signal and decides; the lease is given back after its end."""
    script = f"trap 'echo caught; exit 9' {number.name[3:]}; touch in; while :; do sleep 0.05; done"
    process = start(tracker, "repo:x", "--", "sh", "-c", script)
    until((tracker / "in").exists)
    os.kill(process.pid, number)
    done = ended(process)
    assert (done.status, done.out) == (9, "caught\n")
    assert live(tracker) == []


def test_the_lease_is_renewed_for_as_long_as_the_command_runs(tracker: Path) -> None:
    """A command that takes longer than the lease keeps it; its end moves on, its fence stays."""
    process = start(
        tracker, "repo:x", "--ttl", "2s", "--", "sh", "-c", "while [ ! -e go ]; do sleep 0.05; done"
    )
    (first,) = until(lambda: live(tracker))
    until(lambda: live(tracker)[0]["expires_unix_ms"] > first["expires_unix_ms"] + 2_000)
    assert live(tracker)[0]["fence"] == first["fence"]
    (tracker / "go").touch()
    assert ended(process).status == 0
    assert live(tracker) == []


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_lost_lease_stops_the_command_unless_told_otherwise(
    keep_going: bool, tracker: Path
) -> None:
    """When somebody else has taken it, it is said, and the command is told to stop."""
    flag = ["--keep-going"] if keep_going else []
    script = "trap 'exit 5' TERM; while [ ! -e go ]; do sleep 0.05; done"
    process = start(tracker, "repo:x", "--ttl", "2s", *flag, "--", "sh", "-c", script)
    (held,) = until(lambda: live(tracker))
    ok(tracker, "lock", "release", "repo:x", "--nonce", held["nonce"])
    ok(tracker, "lock", "acquire", "repo:x")
    if keep_going:
        time.sleep(2)
        assert process.poll() is None
        (tracker / "go").touch()
    done = ended(process)
    assert done.status == (0 if keep_going else 5)
    assert "the lease on repo:x is lost" in done.err
    assert ("told to stop" in done.err) is not keep_going
    assert [row["resource"] for row in live(tracker)] == ["repo:x"]


def test_a_remote_that_goes_away_ends_the_lease_at_its_end(tracker: Path, tmp_path: Path) -> None:
    """Renewing is tried until the lease ends; then it is lost, and the command is stopped."""
    git(tmp_path, "init", "-q", "--bare", "shared.git")
    git(tracker, "remote", "add", "origin", str(tmp_path / "shared.git"))
    script = "trap 'exit 5' TERM; while :; do sleep 0.05; done"
    process = start(tracker, "repo:x", "--ttl", "3s", "--", "sh", "-c", script)
    until(lambda: live(tracker))
    (tmp_path / "shared.git").rename(tmp_path / "gone.git")
    done = ended(process)
    assert done.status == 5
    assert "is lost: origin decides" in done.err


def test_a_remote_that_hangs_neither_hides_the_loss_nor_holds_the_command_up(
    tracker: Path, tmp_path: Path
) -> None:
    """A renewal that never returns: the lease is lost at its end, and nothing waits for more."""
    git(tmp_path, "init", "-q", "--bare", "shared.git")
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/hang ] && exec sleep 60\n"
        'for last; do :; done; exec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    git(tracker, "remote", "add", "origin", f"ssh://localhost{tmp_path}/shared.git")
    script = f"trap 'exit 5' TERM; touch {tmp_path}/hang; while :; do sleep 0.05; done"
    words = ("repo:x", "--ttl", "4s", "--", "sh", "-c", script)
    process = start(tracker, *words, GIT_SSH=str(ssh), GIT_SSH_VARIANT="simple")
    try:
        done = ended(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the ssh that hangs
    assert done.status == 5
    assert "is lost: the remote does not answer" in done.err


def test_a_killed_grit_leaves_the_lease_until_its_end(tracker: Path) -> None:
    """kill -9 of grit cannot give back: the lease ends by itself, and the next run waits for it."""
    process = start(tracker, "repo:x", "--ttl", "2s", "--", "sleep", "20")
    until(lambda: live(tracker))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_S_MAX)
    assert grit(tracker, "lock", "acquire", "repo:x").status == 4


def test_json_follows_the_commands_own_output(tracker: Path) -> None:
    """Under --json one document comes after what the command printed."""
    done = grit(tracker, "lock", "run", "--json", "repo:x", "--", "sh", "-c", "echo own; exit 6")
    assert done.status == 6
    own, document = done.out.splitlines()
    assert own == "own"
    data = json.loads(document)["data"]
    assert data["status"] == 6
    assert data["lock"]["expires_unix_ms"] == 0
