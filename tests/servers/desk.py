"""A person at work in a clone of a served repository: plain git and grit with their environment."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.machine import GRIT, TIMEOUT_S, Done, environment, grit, judge
from tests.servers.hosts import Host


class Repository(NamedTuple):
    """A bare repository on a server, as its clients and its administrator see it."""

    host: Host
    url: str
    bare: Path
    environ: dict[str, str]
    """What a client needs to reach it: a user's git configuration."""
    desks: Path
    """Where clones of it are made."""

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git on the server's side; a failure fails the test."""
        return _git(self.bare, arguments, {}, stdin).stdout.decode().strip()

    def refs(self, below: str = "refs/") -> dict[str, str]:
        """Return name -> object id of the server's refs."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", below).splitlines()
        return dict(line.split(" ") for line in lines)

    def hook(self, name: str, text: str) -> Path:
        """Install a shell script as a hook of the server."""
        path = self.bare / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def begin(self) -> "Repository":
        """Put a first commit of code on the server, as before anybody knew grit."""
        tree = self.git("mktree")
        commit = self.git("commit-tree", tree, "-m", "begin")
        self.git("update-ref", "refs/heads/main", commit)
        return self

    def seen_through(self, port: int, desk: "Desk") -> "Desk":
        """Return the desk with its remote at another port of this machine."""
        host = self.host.through(port)
        version = int(desk.git("config", "protocol.version"))
        desk.git("config", "remote.origin.url", host.url(self.bare.name))
        return Desk(desk.folder, host.configuration(self.desks, version))

    def clone(self, name: str, *options: str) -> "Desk":
        """Clone over the server's protocol."""
        folder = self.desks / name
        _git(self.desks, ("clone", "-q", *options, self.url, str(folder)), self.environ)
        return Desk(folder, self.environ)


class Desk(NamedTuple):
    """A clone and the environment of the one who works in it."""

    folder: Path
    environ: Mapping[str, str]

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run git; a failure fails the test."""
        return _git(self.folder, arguments, self.environ, stdin).stdout.decode().strip()

    def try_git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run git, which may fail."""
        return _git(self.folder, arguments, self.environ, may_fail=True)

    def grit(self, *arguments: str, **more: Any) -> Done:
        """Run grit, which may fail, but never with a traceback."""
        return grit(self.folder, *arguments, environ=self.environ, **more)

    def ok(self, *arguments: str, **more: Any) -> Done:
        """Run grit; a failure fails the test."""
        done = self.grit(*arguments, **more)
        assert done.status == 0, f"{arguments!r}: {done.status}\n{done.err}{done.out[-1000:]}"
        return done

    def refused(self, *arguments: str, **more: Any) -> Done:
        """Run grit; it must fail and say why."""
        done = self.grit(*arguments, **more)
        assert done.status in (1, 2, 3, 4, 5), f"{arguments!r}: {done.status}\n{done.err}"
        said = done.out if "--json" in arguments else done.err
        assert said.strip(), f"{arguments!r} failed without a word"
        return done

    def new(self, *titles: str) -> None:
        """Create issues."""
        for title in titles:
            self.ok("new", title)

    def sync(self, *options: str) -> Any:
        """Sync, which must work; return the result."""
        return self.ok("sync", *options, "--json").data

    def ref(self, name: str = "refs/grit/wal") -> str | None:
        """Return what a ref of this clone names, None without it."""
        done = self.try_git("rev-parse", "--verify", "--quiet", name)
        return done.stdout.decode().strip() or None

    def titles(self) -> list[str]:
        """Return the titles of all issues, sorted."""
        rows = self.ok("ls", "--all", "--state", "all", "--json").data["issues"]
        return sorted(row["title"] for row in rows)

    def export(self) -> str:
        """Return everything that this clone knows, but the time of asking."""
        document = json.loads(self.ok("export", "--format", "json").out)
        document = document.get("data", document)
        del document["meta"]["generated_ts"]
        return json.dumps(document, sort_keys=True, indent=1)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start grit beside others; `finish` waits for it."""
        return subprocess.Popen(
            [*GRIT, *arguments],
            cwd=self.folder,
            env=environment(self.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def finish(process: subprocess.Popen[bytes]) -> Done:
    """Wait for a started grit; a traceback fails the test."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    done = Done(process.returncode, out.decode(), err.decode(), 0.0)
    judge(done, str(process.args))
    return done


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something has happened, for 20 seconds at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def _git(
    folder: Path,
    arguments: tuple[str, ...],
    environ: Mapping[str, str],
    stdin: bytes = b"",
    may_fail: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environ},
    )
    assert may_fail or done.returncode == 0, f"git {arguments}: {done.stderr.decode()}"
    return done
