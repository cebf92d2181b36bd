"""`grit lock run`: hold a lease around a command, renew it meanwhile, give it back at the end."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import Final

import click

from grit.cli.context import Context, GritCommand
from grit.cli.foreground import leave_to_launcher
from grit.cli.lock import local_option, ttl_ms, ttl_option, until
from grit.core.errors import Conflict, GritError, NotFound
from grit.core.lease import Lease
from grit.core.limits import LEASE_MS_DEFAULT
from grit.services import leases
from grit.services.leases import Wish
from grit.services.session import GRIT_SESSION, nonce_of

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
_SIGNALLED: Final = 128
_RENEWALS: Final = 3
"""How often a lease is renewed within its time."""
_GRACE_S: Final = 10.0
"""How long a command that is told to stop has for it."""
_RETRY_S: Final = 1.0
_LOOK_S: Final = 0.05
_FROM_TERMINAL: Final = ("SIGINT", "SIGQUIT")
_FORWARDED: Final = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", *_FROM_TERMINAL)


@click.command(cls=GritCommand, name="run")
@click.argument("resource", metavar="RESOURCE")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True)
@ttl_option("30m")
@click.option("--keep-going", is_flag=True, help="Do not stop the command when the lease is lost.")
@local_option
@click.pass_obj
def run_(
    run: Context,
    resource: str,
    command: tuple[str, ...],
    ttl: str | None,
    keep_going: bool,
    local: bool,
) -> int:
    """Run a command while holding a lease; the exit status is the command's.

    The lease is renewed in the meantime and given back at the end. When it is lost, the command is
    told to stop. What it runs belongs to the same session (GRIT_SESSION).
    """
    leave_to_launcher(always=True)
    workspace = run.workspace
    session = workspace.ports.environ.get(GRIT_SESSION) or workspace.ports.entropy(16).hex()
    what = leases.parse(workspace, resource)
    who = leases.holder(workspace, nonce_of(session))
    wish = Wish(what, who, ttl_ms(ttl, LEASE_MS_DEFAULT), again=False)
    keeper = None
    try:
        keeper = _Keeper(run, wish, leases.acquire(workspace, wish, local=local).lease, local)
        status = keeper.run(list(command), session, stop=not keep_going)
    except KeyboardInterrupt:
        if keeper is None and not workspace.ports.environ.get(GRIT_SESSION):
            # It may be leased by now, to a session that nobody else will ever know.
            with suppress(GritError):
                leases.release(workspace, what, who, local=local)
        raise
    finally:
        if keeper is not None:
            keeper.release()
    if run.json:
        run.show({"lock": leases.details_of(keeper.lease), "status": status}, list)
    return status


class _Keeper:
    """Holds a lease around one process; the lease is renewed by a thread of its own.

    A remote that hangs must neither hide the end of the command nor that of the lease.
    """

    def __init__(self, run: Context, wish: Wish, lease: Lease, local: bool) -> None:
        self.lease = lease
        self._context = run
        self._wish = wish
        self._local = local
        self._lost = self._failed = ""
        self._again_s = 0.0
        self._renewal: Thread | None = None

    def run(self, command: list[str], session: str, *, stop: bool) -> int:
        """Run the command to its end and return its status, as a shell would give it."""
        environ = {**self._context.workspace.ports.environ, GRIT_SESSION: session}
        with _forwarding() as forward:
            try:
                process = subprocess.Popen(command, env=environ)
            except FileNotFoundError:
                self._context.notice(f"no command '{command[0]}'")
                return NOT_FOUND
            except OSError as error:
                self._context.notice(f"cannot run '{command[0]}': {error.strerror}")
                return NOT_EXECUTABLE
            forward(process)
            status = self._wait(process, stop=stop)
        return status if status >= 0 else _SIGNALLED - status

    def _wait(self, process: "subprocess.Popen[bytes]", *, stop: bool) -> int:
        nap_s: float | None = self._pace_s
        told = False
        while True:
            try:
                return process.wait(nap_s)
            except subprocess.TimeoutExpired:
                if told:
                    process.kill()
                else:
                    nap_s = self._look_after()
            if self._lost and not told:
                told = stop
                ending = "; the command is told to stop" if stop else ""
                self._context.notice(f"the lease on {self._what} is lost: {self._lost}{ending}")
                if stop:
                    process.terminate()
                nap_s = _GRACE_S if stop else None

    @property
    def _pace_s(self) -> float:
        return self._wish.ttl_ms / _RENEWALS / 1000

    @property
    def _what(self) -> str:
        return self._wish.resource.short

    def _look_after(self) -> float:
        """Start a renewal, or see how it goes; return the seconds until the next look."""
        workspace = self._context.workspace
        if self._renewal is None:
            self._failed, self._again_s = "", self._pace_s
            self._renewal = Thread(target=self._renew, daemon=True)
            self._renewal.start()
            return _LOOK_S
        if not self._renewal.is_alive():
            self._renewal = None
            if not self._failed:
                return self._again_s
        if workspace.now_ms() >= self.lease.expires_unix_ms:
            self._lost = self._failed or "the remote does not answer"
        return _LOOK_S if self._renewal else self._again_s

    def _renew(self) -> None:
        wish = self._wish
        try:
            self.lease = leases.renew(
                self._context.workspace, wish.resource, wish.who, wish.ttl_ms, local=self._local
            )
        except (Conflict, NotFound) as error:
            self._failed = self._lost = error.message
        except GritError as error:
            self._failed, self._again_s = error.message, min(self._again_s, _RETRY_S)

    def release(self) -> None:
        """Give the lease back; when that fails it ends by itself, and the user is told.

        A lease that was lost has ended, or is somebody else's.
        """
        wish = self._wish
        if self._lost:
            return
        if self._renewal is not None:
            self._renewal.join(_GRACE_S)
            if self._renewal.is_alive():
                end = until(self.lease.expires_unix_ms)
                self._context.notice(
                    f"{self._what} stays leased until {end} UTC: the remote does not answer"
                )
                return
        try:
            self.lease = leases.release(
                self._context.workspace, wish.resource, wish.who, local=self._local
            )
        except (Conflict, NotFound) as error:
            self._context.notice(f"the lease was lost meanwhile: {error.message}")
        except GritError as error:
            end = until(self.lease.expires_unix_ms)
            self._context.notice(f"{self._what} stays leased until {end} UTC: {error.message}")


@contextmanager
def _forwarding() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """Pass signals on to the process that is given to what this yields, while the block runs."""
    targets: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def take(number: int, _frame: FrameType | None) -> None:
        if number in _from_terminal and _in_foreground():
            return  # the terminal has sent it to the command as well
        if targets:
            targets[0].send_signal(number)
        else:
            early.append(number)

    def forward(process: "subprocess.Popen[bytes]") -> None:
        targets.append(process)
        for number in early:
            process.send_signal(number)

    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    _from_terminal = [getattr(signal, name) for name in _FROM_TERMINAL if hasattr(signal, name)]
    before = {number: signal.signal(number, take) for number in numbers}
    try:
        yield forward
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether this process group is the one that the terminal's Ctrl-C goes to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
