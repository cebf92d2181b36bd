"""At a terminal a served command behaves as any: keys, pager, editor, job control, signals.

Each test runs in both ways, by processes of their own and by a server, and expects the same.
"""

import base64
import http.server
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from grit.core.ids import IssueId
from grit.services import issues
from grit.services.workspace import Ports, open_workspace
from grit.services.write import Transaction, write
from tests.console import ALONE
from tests.daemon.pairs import answer, children_of, runtime
from tests.daemon.screen import PROMPT, Screen, quoted, screen
from tests.daemon.warm import kill, wait_for
from tests.servers.hosts import lacking

COUNT = 60
OLD_MS = 1_700_000_000_000
SHOWN_BY_LESS = r"^:$"


@pytest.fixture(params=["alone", "served"])
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Screen]:
    """A terminal in a clone whose list is longer than the screen; with a server, and without."""
    for program in ("tmux", "less"):
        if shutil.which(program) is None:
            lacking(f"{program} is not installed")
    with runtime(tmp_path / "runtime") as made:
        clone = tmp_path / "clone"
        subprocess.run(["git", "init", "-q", str(clone)], check=True, timeout=30)
        assert answer("grit init", clone, ALONE).status == 0
        workspace = open_workspace(
            str(clone), Ports(dict(os.environ), lambda: OLD_MS, os.urandom, lambda _text: None)
        )
        write(workspace, _issues, lambda _: "issues")
        workspace.close()
        environ = {**made.environ, **ALONE}
        if request.param == "served":
            environ = made.served_only
            assert answer("grit daemon start", clone, made.environ).status == 0
        with screen(clone, environ) as one:
            yield one
            wait_for(lambda: not one.users())


def _issues(transaction: Transaction) -> None:
    for number in range(COUNT):
        issues.create(transaction, IssueId(bytes([number]) * 16), f"Issue {number:02}")


def _modes(terminal: Screen) -> str:
    return terminal.run("stty -g")


def _waiting(terminal: Screen, line: str = "grit new Typed -F -; echo [$?]") -> None:
    """Start a command that reads the terminal, and wait until it does."""
    count = len(terminal.users())
    terminal.type(f"clear; {line}")
    wait_for(lambda: len(terminal.users()) > count)
    server = [pid for pid in terminal.users() if _reads_terminal(pid)]
    wait_for(lambda: server or [pid for pid in terminal.users() if _reads_terminal(pid)])


def _reads_terminal(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/wchan").read_text() in ("wait_woken", "n_tty_read")
    except OSError:
        return False


def test_pager_keys(terminal: Screen) -> None:
    """A long list is shown a page at a time; keys turn pages, search, and leave."""
    before = _modes(terminal)
    terminal.type("grit ls")
    first = terminal.await_text(SHOWN_BY_LESS)
    assert "Issue 59" in first and "Issue 20" not in first
    terminal.keys("Space")
    terminal.await_text("Issue 20")
    terminal.keys("g")
    terminal.await_text("Issue 59")
    terminal.type("/Issue 17")
    terminal.await_text("Issue 17")
    terminal.keys("q")
    terminal.await_text(PROMPT)
    assert _modes(terminal) == before
    assert "[0]" in terminal.run("echo [$?]")


def test_a_short_list_needs_no_pager(terminal: Screen) -> None:
    """What fits on the screen is printed, in colours, and the prompt is back."""
    terminal.run("grit ls --limit 3")
    assert "Issue 58" in terminal.text()
    assert "\x1b[" in terminal.text(colours=True)


def test_interrupt_in_the_pager(terminal: Screen) -> None:
    """Ctrl-C is a key of the pager; after q nothing is left, and the terminal is sane."""
    before = _modes(terminal)
    terminal.type("grit ls; echo [$?]")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("C-c")
    terminal.press("G", "Issue 20")
    terminal.keys("q")
    terminal.await_text(r"^\[0\]$")
    assert _modes(terminal) == before


def test_interrupt_in_a_command(terminal: Screen) -> None:
    """Ctrl-C ends a command with status 130 and not a word."""
    _waiting(terminal)
    terminal.keys("C-c")
    text = terminal.await_text(r"\[130\]\n\$\Z")
    assert text.split() == ["^C", "[130]", "$"]


def test_stop_and_go_on_in_the_pager(terminal: Screen) -> None:
    """Ctrl-Z gives the prompt back, with a terminal that works; fg shows the list again."""
    before = _modes(terminal)
    terminal.type("grit ls; echo [$?]")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("C-z")
    terminal.await_text("Stopped")
    assert _modes(terminal) == before
    terminal.type("clear; fg")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("Space")
    terminal.await_text("Issue 20")
    terminal.keys("q")
    terminal.await_text(PROMPT)
    assert _modes(terminal) == before


def test_a_stopped_pager_in_the_background_takes_no_keys(terminal: Screen) -> None:
    """`bg` of a pager stops it again; what is typed is the shell's."""
    terminal.type("grit ls")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("C-z")
    terminal.await_text("Stopped")
    terminal.type("clear; bg")
    terminal.await_text(r"Stopped|grit ls &")
    for number in range(3):
        assert f"typed {number}" in terminal.run(f"echo typed {number}")
    terminal.type("clear; fg")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("q")
    terminal.await_text(PROMPT)


def test_stop_and_go_on_in_a_command(terminal: Screen) -> None:
    """Ctrl-Z stops a command as well; it goes on with fg, and reads what is typed then."""
    _waiting(terminal)
    terminal.keys("C-z")
    terminal.await_text("Stopped")
    assert "mine" in terminal.run("echo mine")
    terminal.type("clear; fg")
    terminal.type("Text")
    terminal.keys("C-d")
    terminal.await_text("created .* Typed")
    assert "1 match" in terminal.run("grit search Text")


def test_resize(terminal: Screen) -> None:
    """The pager notices another size of the terminal."""
    terminal.type("grit ls")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.resize(60, 12)
    wait_for(lambda: len(terminal.text().splitlines()) == 12)
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("Space")
    terminal.await_text("Issue 40")
    terminal.keys("q")
    terminal.await_text(PROMPT)
    assert "12 60" in terminal.run("stty size")


def test_pagers_of_all_kinds(terminal: Screen) -> None:
    """The pager is what GRIT_PAGER says: none, one with options, one that is not there."""
    assert "Issue 10" in terminal.run("GRIT_PAGER=cat grit ls")
    assert "51 seen" in terminal.run("GRIT_PAGER='wc -l | sed s/$/\\ seen/' grit ls")
    assert "Issue 10" in terminal.run("GRIT_PAGER=nonsense grit ls")
    assert "could not be started" in terminal.run("GRIT_PAGER='nonsense -x' grit ls")
    assert "FRX" in terminal.run("GRIT_PAGER='echo $LESS' grit ls")
    assert "[0]" in terminal.run("GRIT_PAGER=false grit ls; echo [$?]")


def test_editor(terminal: Screen, tmp_path: Path) -> None:
    """Without a text the editor opens, with the terminal all its own."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nread -p \'Title? \' title </dev/tty\necho "$title" >"$1"\n')
    editor.chmod(0o755)
    before = _modes(terminal)
    _locally(terminal)
    terminal.type(f"clear; EDITOR={quoted(editor)} grit new")
    terminal.await_text(r"Title\?$")
    terminal.type("Edited")
    terminal.await_text("created .* Edited")
    assert _modes(terminal) == before


def test_vi(terminal: Screen) -> None:
    """A full-screen editor works, and leaves the terminal as it was."""
    if shutil.which("vi") is None:
        lacking("vi is not installed")
    before = _modes(terminal)
    _locally(terminal)
    terminal.type("clear; EDITOR='vi -u NONE --cmd \"set shm=aoOtTF\"' grit new")
    terminal.await_text(r"^~$")
    terminal.keys("O")
    terminal.type("Written by vi")
    terminal.keys("Escape")
    terminal.type(":wq")
    terminal.await_text("created .* Written by vi")
    assert _modes(terminal) == before


def _locally(terminal: Screen) -> None:
    """Let the launcher run what the server sends back."""
    terminal.run("PATH=${PATH#*/served:}; hash -r")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_launcher_that_is_ended(terminal: Screen, number: int) -> None:
    """A signal to the process that the user sees ends the command, as if it were one process."""
    _waiting(terminal, "ulimit -c 0; grit new Typed -F -; echo [$?]")
    launchers = children_of(terminal.shell)
    assert len(launchers) == 1
    os.kill(launchers[0], number)
    terminal.await_text(rf"\[{128 + number}\]")
    wait_for(lambda: not terminal.users())
    assert "Typed" not in terminal.run("grit ls --limit 3")


def test_a_killed_launcher_with_a_pager(terminal: Screen) -> None:
    """Killed while the list is read, the launcher leaves the prompt; the pager goes with q."""
    terminal.type("grit ls; echo [$?]")
    terminal.await_text(SHOWN_BY_LESS)
    os.kill(children_of(terminal.shell)[0], signal.SIGKILL)
    terminal.await_text(r"\[137\]")
    for pid in terminal.users():
        kill(pid)
    terminal.run("reset")


def test_the_terminal_is_closed(terminal: Screen) -> None:
    """With its window, a command and a pager end."""
    _waiting(terminal)
    terminal.close()
    wait_for(lambda: not terminal.users())


def test_the_terminal_is_closed_over_a_pager(terminal: Screen) -> None:
    """With its window, a pager and its command end."""
    terminal.type("grit ls")
    terminal.await_text(SHOWN_BY_LESS)
    assert terminal.users()
    terminal.close()
    wait_for(lambda: not terminal.users())


def test_in_the_background(terminal: Screen) -> None:
    """A list in the background is printed; one that needs a pager is stopped, and shown by fg."""
    _locally(terminal)
    terminal.type("clear; grit ls --limit 2 & wait; echo [$?]")
    assert "Issue 58" in terminal.await_text(r"\[0\]")
    terminal.type("clear; grit ls &")
    terminal.await_text(r"\[1\]")
    wait_for(lambda: len(terminal.users()) > 1)
    assert "typed" in terminal.run("echo typed")
    terminal.type("clear; fg")
    terminal.await_text(SHOWN_BY_LESS)
    terminal.keys("q")
    terminal.await_text(PROMPT)


def test_pipelines(terminal: Screen) -> None:
    """In a pipeline nothing is paged, nothing coloured, and an early end is no error."""
    assert "Issue 10" in terminal.run("grit ls | tail -1; echo ${PIPESTATUS[@]}")
    assert "0 0" in terminal.run("grit ls | head -1; echo ${PIPESTATUS[@]}")
    assert "created" in terminal.run("echo Text | grit new Piped -F - | cat")
    assert "\x1b[" not in terminal.run("grit ls --limit 2 | cat -v")


class _Refusing(http.server.BaseHTTPRequestHandler):
    """Wants a password, and takes none."""

    seen: list[str]

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append(base64.b64decode(given.removeprefix("Basic ")).decode())
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_git_asks_for_a_password(terminal: Screen) -> None:
    """What a sync's git asks is answered at the terminal, and not shown."""
    handler = type("Handler", (_Refusing,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        terminal.run(f"git remote add origin http://127.0.0.1:{server.server_port}/x.git")
        _locally(terminal)
        terminal.type("clear; grit sync; echo [$?]")
        terminal.await_text("Username for ")
        terminal.type("ann")
        terminal.await_text("Password for ")
        terminal.type("secret")
        text = terminal.await_text(r"^\[[1-9]\d*\]$")
        server.shutdown()
    assert "secret" not in text
    assert "ann:secret" in handler.seen


def test_a_password_is_not_asked_for_twice(terminal: Screen) -> None:
    """Ctrl-C at git's question ends the sync; the terminal shows what is typed again."""
    before = _modes(terminal)
    handler = type("Handler", (_Refusing,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        terminal.run(f"git remote add origin http://127.0.0.1:{server.server_port}/x.git")
        _locally(terminal)
        terminal.type("clear; grit sync; echo [$?]")
        terminal.await_text("Username for ")
        terminal.keys("C-c")
        assert "Traceback" not in terminal.await_text(r"\[\d+\]$")
        server.shutdown()
    assert _modes(terminal) == before
