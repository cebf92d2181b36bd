"""Real git servers as context managers: a path, file://, git daemon, HTTP, ssh and dulwich.

Each serves one folder of bare repositories on a free port of this machine and is gone at the end.
"""

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest

from tests.faults.machine import ROOT, environment

KINDS = ("path", "file", "daemon", "http", "ssh", "dulwich")
OF_GIT = ("path", "file", "daemon", "http", "ssh")
"""Those whose server is git itself: they run hooks and take pushes from shallow clones."""
WITH_PORTS = ("daemon", "http", "ssh", "dulwich")
VERSIONS = (0, 2)
"""The versions of git's protocol that every server is asked in."""
START_S = 20
ATTEMPTS = 5
USER = "ann"


class Host(NamedTuple):
    """A running server of the bare repositories in `root`."""

    kind: str
    root: Path
    prefix: str
    """What stands before the name of a repository in its URL."""
    settings: str
    """What the user's git configuration says for this server."""
    port: int | None
    pid: int | None

    def url(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def through(self, port: int) -> "Host":
        """Return the same server as it is reached by another port."""
        old, new = f"127.0.0.1:{self.port}", f"127.0.0.1:{port}"
        settings = self.settings.replace(old, new)
        if self.kind == "ssh":
            alias = f"HostKeyAlias='[127.0.0.1]:{self.port}'"
            settings = f"{settings.rstrip()} -p {port} -o {alias}\n"
        return self._replace(prefix=self.prefix.replace(old, new), settings=settings, port=port)

    def configuration(self, folder: Path, version: int) -> dict[str, str]:
        """Write a user's configuration for this server; return the environment that names it."""
        file = folder / f"gitconfig-{self.kind}-{version}-{self.port}"
        home = Path(os.environ["HOME"]) / ".gitconfig"
        file.write_text(
            f"[include]\n\tpath = {home}\n[protocol]\n\tversion = {version}\n{self.settings}"
        )
        environ = {"GIT_CONFIG_GLOBAL": str(file)}
        if self.kind == "ssh" and version == 0:
            environ["GIT_SSH_COMMAND"] = self.settings.partition("=")[2].strip()
        return environ


def lacking(reason: str) -> NoReturn:
    """Skip, naming the reason; where CI runs nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; CI must have it")
    pytest.skip(reason)


def need(program: str, package: str) -> str:
    """Return the path of a program, wherever Debian puts servers."""
    searched = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(program, path=searched)
    if found is None:
        lacking(f"{program} is not installed (package {package})")
    return found


def git_program(name: str) -> str:
    """Return the path of one of git's own server programs."""
    done = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, timeout=30)
    path = Path(done.stdout.strip()) / name
    if not path.exists():
        lacking(f"{name} is not part of this git")
    return str(path)


@contextmanager
def serve(kind: str, root: Path, scratch: Path) -> Iterator[Host]:
    """Start a server of `kind` for the bare repositories in `root`; its own files go to scratch."""
    with STARTERS[kind](root, scratch) as host:
        yield host


@contextmanager
def _path(root: Path, scratch: Path) -> Iterator[Host]:
    yield Host("path", root, f"{root}/", "", None, None)


@contextmanager
def _file(root: Path, scratch: Path) -> Iterator[Host]:
    yield Host("file", root, f"file://{root}/", "", None, None)


@contextmanager
def _daemon(root: Path, scratch: Path) -> Iterator[Host]:
    program = git_program("git-daemon")

    def command(port: int) -> list[str]:
        place = ["--listen=127.0.0.1", f"--port={port}", f"--base-path={root}"]
        rights = ["--export-all", "--enable=receive-pack", "--informative-errors"]
        return [program, "--reuseaddr", *place, *rights, str(root)]

    with _listening(command, scratch / "daemon.log") as (port, pid):
        yield Host("daemon", root, f"git://127.0.0.1:{port}/", "", port, pid)


@contextmanager
def _dulwich(root: Path, scratch: Path) -> Iterator[Host]:
    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "tests.servers.dulwich_host", str(root), str(port)]

    with _listening(command, scratch / "dulwich.log") as (port, pid):
        yield Host("dulwich", root, f"git://127.0.0.1:{port}{root}/", "", port, pid)


@contextmanager
def _http(root: Path, scratch: Path) -> Iterator[Host]:
    program = need("lighttpd", "lighttpd")
    backend = git_program("git-http-backend")
    password = secrets.token_hex(8)
    (scratch / "passwords").write_text(f"{USER}:{password}\n")
    file = scratch / "lighttpd.conf"

    def command(port: int) -> list[str]:
        file.write_text(
            'server.modules = ("mod_auth", "mod_authn_file", '
            '"mod_alias", "mod_setenv", "mod_cgi")\n'
            f'server.document-root = "{scratch}"\n'
            'server.bind = "127.0.0.1"\n'
            f"server.port = {port}\n"
            f'server.upload-dirs = ("{scratch}")\n'
            f'alias.url = ("/git" => "{backend}")\n'
            'cgi.assign = ("" => "")\n'
            f'setenv.add-environment = ("GIT_PROJECT_ROOT" => "{root}", '
            '"GIT_HTTP_EXPORT_ALL" => "1", "GIT_CONFIG_NOSYSTEM" => "1", '
            f'"HOME" => "{os.environ["HOME"]}", "PATH" => "{os.environ["PATH"]}")\n'
            'auth.backend = "plain"\n'
            f'auth.backend.plain.userfile = "{scratch}/passwords"\n'
            'auth.require = ("/" => ("method" => "basic", "realm" => "git", '
            '"require" => "valid-user"))\n'
        )
        return [program, "-D", "-f", str(file)]

    helper = scratch / "credentials"
    helper.write_text(
        f'#!/bin/sh\n[ "$1" = get ] || exit 0\necho username={USER}\necho password={password}\n'
    )
    helper.chmod(0o700)
    with _listening(command, scratch / "lighttpd.log") as (port, pid):
        settings = f'[credential "http://127.0.0.1:{port}"]\n\thelper = {helper}\n'
        yield Host("http", root, f"http://127.0.0.1:{port}/git/", settings, port, pid)


@contextmanager
def _ssh(root: Path, scratch: Path) -> Iterator[Host]:
    program = need("sshd", "openssh-server")
    client = need("ssh", "openssh-client")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host_key", "user_key"):
        make = [need("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", ""]
        subprocess.run([*make, "-f", str(scratch / name)], check=True, timeout=30)
    shutil.copyfile(scratch / "user_key.pub", scratch / "authorized_keys")
    file = scratch / "sshd_config"

    def command(port: int) -> list[str]:
        file.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {scratch}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {scratch}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            "AcceptEnv GIT_PROTOCOL\nMaxStartups 100\nUseDNS no\nPrintMotd no\n"
            # Not the developer's own settings; bash reads no .bashrc below another shell.
            f"SetEnv HOME={os.environ['HOME']} GIT_CONFIG_NOSYSTEM=1 SHLVL=1\n"
        )
        return [program, "-D", "-e", "-f", str(file)]

    with _listening(command, scratch / "sshd.log") as (port, pid):
        public = " ".join((scratch / "host_key.pub").read_text().split()[:2])
        (scratch / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, timeout=30)
        (scratch / "ssh_config").write_text(
            f"Host tracker\n  HostName 127.0.0.1\n  Port {port}\n  User {user.stdout.strip()}\n"
            f"  IdentityFile {scratch}/user_key\n  IdentitiesOnly yes\n  BatchMode yes\n"
            f"  UserKnownHostsFile {scratch}/known_hosts\n  StrictHostKeyChecking yes\n"
        )
        settings = f"[core]\n\tsshCommand = {client} -F {scratch}/ssh_config\n"
        yield Host("ssh", root, f"tracker:{root}/", settings, port, pid)


@contextmanager
def _listening(command: Callable[[int], list[str]], log: Path) -> Iterator[tuple[int, int]]:
    """Run a server on a free port until the block ends; yield the port and its process."""
    for _ in range(ATTEMPTS):
        port = free_port()
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command(port),
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            if _accepts(process, port):
                yield port, process.pid
                return
        finally:
            _end(process, port)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """Return a port that nobody listens on, outside the range that the system hands out."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _accepts(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the process listens; False when it ended, as it does when the port is taken."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_open(port):
            return process.poll() is None
        time.sleep(0.02)
    return False


def is_open(port: int) -> bool:
    """Return whether somebody listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes], port: int) -> None:
    """End a server with all that it started, which share its process group."""
    started = time.monotonic()
    while process.poll() is None or is_open(port):
        seconds = time.monotonic() - started
        assert seconds < START_S, f"the server {process.args} does not end"
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM if seconds < 2 else signal.SIGKILL)
        time.sleep(0.02)


STARTERS = {
    "path": _path,
    "file": _file,
    "daemon": _daemon,
    "http": _http,
    "ssh": _ssh,
    "dulwich": _dulwich,
}
