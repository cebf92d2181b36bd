"""The servers themselves, proven with plain git before grit is asked to use them."""

import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.machine import TIMEOUT_S
from tests.servers.conftest import Serving
from tests.servers.desk import Desk
from tests.servers.hosts import is_open, need, serve

LOG = "refs/grit/wal"
SPEC = "refs/grit/*:refs/grit-remotes/origin/*"


def _write(desk: Desk, text: str) -> str:
    """Put a commit where a log stands, without grit; return its id."""
    blob = desk.git("hash-object", "-w", "--stdin", stdin=text.encode())
    tree = desk.git("mktree", stdin=f"100644 blob {blob}\tevent\n".encode())
    before = desk.ref(LOG)
    commit = desk.git("commit-tree", tree, "-m", text, *(["-p", before] if before else []))
    desk.git("update-ref", LOG, commit)
    return commit


def test_every_server_takes_and_gives_refs_of_grit(
    every_pair: tuple[str, int], serving: Serving
) -> None:
    """`git push` and `git fetch` of refs/grit/* work over every server and protocol version."""
    place = serving(*every_pair)
    one, other = place.clone("one"), place.clone("other")
    first = _write(one, "first")
    one.git("push", "-q", "origin", "refs/grit/*")
    assert place.refs() == {LOG: first}
    other.git("fetch", "-q", "origin", SPEC)
    assert other.ref("refs/grit-remotes/origin/wal") == first
    other.git("update-ref", LOG, first)
    second = _write(other, "second")
    _write(one, "a rival")
    other.git("push", "-q", "--atomic", "origin", LOG)
    assert one.try_git("push", "-q", "origin", LOG).returncode != 0, "a rival was accepted"
    assert place.refs() == {LOG: second}


def test_every_server_is_asked_in_the_version_that_is_configured(
    every_pair: tuple[str, int], serving: Serving
) -> None:
    """What the tests call version 2 is version 2; dulwich's server knows no more than 0."""
    kind, version = every_pair
    place = serving(kind, version)
    one = place.clone("one")
    _write(one, "first")
    one.git("push", "-q", "origin", "refs/grit/*")
    traced = Desk(one.folder, {**one.environ, "GIT_TRACE_PACKET": "1"}).try_git("fetch", "origin")
    assert traced.returncode == 0
    assert (b"version 2" in traced.stderr) == (version == 2 and kind != "dulwich")


def test_a_wrong_password_is_refused_without_a_question(serving: Serving) -> None:
    """The HTTP server checks who asks."""
    place = serving("http")
    stranger = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        ["git", "ls-remote", place.url], env=stranger, capture_output=True, timeout=TIMEOUT_S
    )
    assert done.returncode != 0
    assert b"could not read Username" in done.stderr


def test_servers_end_with_the_test(tmp_path: Path) -> None:
    """A server that a block started is gone after it, with its port, whoever is connected."""
    for kind in ("daemon", "http", "ssh", "dulwich"):
        scratch = tmp_path / kind
        scratch.mkdir()
        with ExitStack() as connected:
            with serve(kind, tmp_path, scratch) as host:
                assert host.port is not None and is_open(host.port)
                connected.enter_context(socket.create_connection(("127.0.0.1", host.port), 5))
            assert not is_open(host.port)


def test_where_ci_runs_a_missing_server_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be had is skipped by name, but never where CI runs."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"nosuch is not installed \(package nosuch\)"):
        need("nosuch", "nosuch")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nosuch"):
        need("nosuch", "nosuch")
