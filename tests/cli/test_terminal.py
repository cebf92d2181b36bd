"""The terminal: size, colours, pager and notices, tried on real pseudo-terminals."""

import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from grit.cli.progress import ProgressBar
from grit.cli.terminal import Terminal, absolute_time, pager_command, relative_time
from grit.git import gitconfig

NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000
PREAMBLE = """
import sys
from grit.cli.terminal import Terminal
def lines(count):
    for number in range(count):
        yield f"line {number}"
"""
TOP = str(Path(__file__).resolve().parent.parent.parent)
PATH = {"PATH": os.environ["PATH"], "PYTHONPATH": TOP, "GIT_CONFIG_NOSYSTEM": "1"}


def on_pty(
    code: str, environ: Mapping[str, str], *, rows: int = 10, columns: int = 60
) -> tuple[str, int]:
    """Run the code on a terminal of that size; return what it showed and how it exited."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code],
        stdin=slave, stdout=slave, stderr=slave, env={**PATH, "TERM": "xterm", **environ},
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return shown.decode().replace("\r\n", "\n"), process.wait(10)


def piped(
    code: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        env={**PATH, **(environ or {})}, capture_output=True, timeout=20,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("age_ms", "words"),
    [
        (0, "now"),
        (4_999, "now"),
        (5_000, "5 s ago"),
        (60_000, "1 min ago"),
        (3 * 3_600_000 + 59 * 60_000, "3 h ago"),
        (13 * DAY_MS, "13 d ago"),
        (14 * DAY_MS, "2 w ago"),
        (60 * DAY_MS, "2 mo ago"),
        (364 * DAY_MS, "12 mo ago"),
        (-2 * DAY_MS, "in 2 d"),
        (-30_000, "in 30 s"),
    ],
)
def test_relative_time_in_words(age_ms: int, words: str) -> None:
    """Times near now are told by their distance, past and future, in one unit."""
    assert relative_time(NOW_MS - age_ms, NOW_MS) == words


def test_times_far_away_are_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a year, up to the last year there is, a time is a local date."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert relative_time(NOW_MS - 400 * DAY_MS, NOW_MS) == "2025-12-11"
    assert relative_time(0, NOW_MS) == "1970-01-01"
    assert relative_time(253_402_300_799_999, NOW_MS) == "9999-12-31"
    assert absolute_time(NOW_MS) == "2027-01-15 08:00"


def test_short_output_goes_to_the_terminal_without_a_pager() -> None:
    """What fits the screen is not paged, nor is git asked for a pager."""
    environ = {"GIT_PAGER": "sed s/^/paged:/"}
    shown, status = on_pty("Terminal().write(lines(5))", environ)
    assert shown == "".join(f"line {n}\n" for n in range(5))
    assert status == 0


def test_long_output_is_paged_whole_and_in_order() -> None:
    """What is longer than the screen goes through the pager, the first screen included."""
    environ = {"GIT_PAGER": "sed s/^/paged:/"}
    shown, status = on_pty("Terminal().write(lines(300))", environ)
    assert shown == "".join(f"paged:line {n}\n" for n in range(300))
    assert status == 0


def test_long_lines_count_as_the_rows_they_fill() -> None:
    """Two lines of many screens' width are long output; their colours do not count."""
    environ = {"GIT_PAGER": "sed s/^/paged:/"}
    shown, _ = on_pty("Terminal().write(['x' * 500] * 2)", environ)
    assert shown.startswith("paged:")
    shown, _ = on_pty("Terminal().write(['\\x1b[31mred\\x1b[m ' * 5] * 4)", environ)
    assert not shown.startswith("paged:")


@pytest.mark.parametrize("pager", ["", "cat"])
def test_no_pager_wanted(pager: str) -> None:
    """An empty pager, or cat, means none."""
    shown, _ = on_pty("Terminal().write(lines(50))", {"GRIT_PAGER": pager, "GIT_PAGER": "false"})
    assert shown.count("line") == 50


def test_pager_that_is_missing_shows_the_text_all_the_same() -> None:
    """A pager that does not exist costs nothing but the paging."""
    shown, status = on_pty("Terminal().write(lines(50))", {"GRIT_PAGER": "no-such-pager"})
    assert shown.count("line") == 50
    assert status == 0
    shown, _ = on_pty("Terminal().write(lines(50))", {"GRIT_PAGER": "no-such-pager -X"})
    assert "GRIT_PAGER=cat" in shown


def test_pager_that_is_left_early_is_no_error() -> None:
    """Quitting the pager stops the work behind it, without a word."""
    code = """
def endless():
    while True:
        yield "line"
Terminal().write(endless())
"""
    shown, status = on_pty(code, {"GRIT_PAGER": "head -n 3"})
    assert shown == "line\n" * 3
    assert status == 0


def test_pager_outlives_an_interrupt() -> None:
    """Ctrl-C stops what feeds the pager; the pager goes on to show what it has."""
    code = """
import os, signal
def interrupted():
    for number in range(40):
        yield f"line {number}"
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        yield "too late"
Terminal().write(interrupted())
"""
    shown, status = on_pty(code, {"GRIT_PAGER": "sed s/^/paged:/"})
    assert shown.count("paged:line") == 40
    assert status == 0


def test_error_behind_the_pager_lets_the_pager_finish_first() -> None:
    """An error while lines are made shows after the pager, not under it."""
    code = """
def failing():
    yield from lines(40)
    raise SystemExit(3)
Terminal().write(failing())
"""
    shown, status = on_pty(code, {"GRIT_PAGER": "sed s/^/paged:/"})
    assert shown.count("paged:line") == 40
    assert status == 3


def test_pager_is_chosen_as_git_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRIT_PAGER, GIT_PAGER, the user's core.pager, PAGER, in this order."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    environ = {**PATH, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    assert pager_command({**environ, "PAGER": "three"}) == "three"
    subprocess.run(["git", "config", "--global", "core.pager", "two"], check=True, env=environ)
    assert pager_command({**environ, "PAGER": "three"}) == "two"
    assert pager_command({**environ, "GIT_PAGER": "one", "PAGER": "three"}) == "one"
    assert pager_command({**environ, "GRIT_PAGER": "zero", "GIT_PAGER": "one"}) == "zero"
    assert pager_command({"PATH": "/nowhere", "PAGER": "three"}) == "three"
    assert pager_command({"PATH": "/nowhere"}) == "less"


@pytest.mark.parametrize("place", ["local", "include", "worktree"])
def test_pager_of_the_repository_does_not_count(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a repository brings along starts nothing; what the user says for it does."""
    environ = {**PATH, "HOME": str(tmp_path / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
    here = tmp_path / "here"
    (tmp_path / "home").mkdir()
    (tmp_path / "more").write_text("[core]\npager = evil\n")
    (tmp_path / "own").write_text("[core]\npager = own\n")
    git = ["git", "-C", str(here), "config"]
    subprocess.run(["git", "init", "-q", str(here)], check=True)
    if place == "include":
        subprocess.run([*git, "include.path", str(tmp_path / "more")], check=True)
    else:
        subprocess.run([*git, "extensions.worktreeConfig", "true"], check=True)
        subprocess.run([*git, f"--{place}", "core.pager", "evil"], check=True)
    monkeypatch.chdir(here)
    default = subprocess.run(
        ["git", "var", "GIT_PAGER"], env=environ, cwd="/", capture_output=True, text=True
    )
    assert pager_command(environ) == default.stdout.strip()
    assert pager_command({**environ, "PAGER": "three"}) == "three"
    condition = f"includeIf.gitdir:{here}/.path"
    words = ["git", "config", "--global", condition, str(tmp_path / "own")]
    subprocess.run(words, check=True, env=environ)
    assert pager_command({**environ, "PAGER": "three"}) == "own"


def test_pager_costs_one_process_at_most_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None where a variable decides, one where the configuration is asked."""
    started: list[tuple[str, ...]] = []
    run = gitconfig.run

    def count(*words: str, **more: Mapping[str, str]) -> object:
        started.append(words)
        return run(*words, **more)

    monkeypatch.setattr(gitconfig, "run", count)
    environ = {**PATH, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    assert pager_command({**environ, "GIT_PAGER": "one"}) == "one"
    assert not started
    assert pager_command({**environ, "PAGER": "three"}) == "three"
    assert len(started) == 1


def test_reader_of_a_pipe_that_goes_away_is_no_error() -> None:
    """`grit ls | head` ends quietly, whatever is left to write."""
    code = "Terminal().write(lines(200000))"
    command = f"\"{sys.executable}\" -c '{PREAMBLE}{code}' | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=PATH, capture_output=True, timeout=30
    )
    assert result.stdout == b"line 0\n"
    assert result.stderr == b""
    assert result.returncode == 0


def test_pipe_is_never_paged_coloured_or_cut() -> None:
    """In a pipe there is no pager, no colour and no width, even if COLUMNS says one."""
    code = "t = Terminal(); print(t.screen, t.columns); t.write(lines(100))"
    result = piped(code, {"GIT_PAGER": "false", "COLUMNS": "20", "TERM": "xterm"})
    assert result.stdout.startswith(b"Screen(columns=None, colour=False, unicode=True) 20")
    assert result.stdout.count(b"line") == 100


@pytest.mark.parametrize(
    ("color", "environ", "expected"),
    [
        ("auto", {}, True),
        ("never", {"CLICOLOR_FORCE": "1"}, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": ""}, True),
        ("auto", {"TERM": "dumb"}, False),
        ("auto", {"TERM": "dumb", "CLICOLOR_FORCE": "1"}, True),
    ],
)
def test_colour_on_a_terminal(color: str, environ: dict[str, str], expected: bool) -> None:
    """--color first, then NO_COLOR, CLICOLOR_FORCE and TERM; else a terminal has colours."""
    shown, _ = on_pty(f"print(Terminal({color!r}).screen.colour)", environ)
    assert shown == f"{expected}\n"


def test_colour_in_a_pipe_only_when_forced() -> None:
    """A pipe has colours by --color always or CLICOLOR_FORCE alone."""
    code = "print(Terminal().screen.colour)"
    assert piped(code, {"TERM": "xterm"}).stdout == b"False\n"
    assert piped(code, {"CLICOLOR_FORCE": "1"}).stdout == b"True\n"
    assert piped(code, {"CLICOLOR_FORCE": "0"}).stdout == b"False\n"
    assert piped("print(Terminal('always').screen.colour)").stdout == b"True\n"


def test_size_of_the_terminal() -> None:
    """COLUMNS before the terminal's own size; nonsense in it is ignored."""
    code = "t = Terminal(); print(t.screen.columns, t.rows)"
    assert on_pty(code, {})[0] == "60 10\n"
    assert on_pty(code, {"COLUMNS": "44"})[0] == "44 10\n"
    assert on_pty(code, {"COLUMNS": "wide", "LINES": "-3"})[0] == "60 10\n"


@pytest.mark.parametrize(
    "environ", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_fault_23_c_locale_never_crashes(environ: dict[str, str]) -> None:
    """Text that the encoding lacks, lone surrogates too, is written as escapes."""
    code = "t = Terminal(); t.write(['\\u65e5 \\udc80']); t.notice('\\u65e5')"
    result = piped(code, environ)
    assert result.returncode == 0
    assert result.stdout.decode().split()[0] in ("\u65e5", "\\u65e5")
    assert b"\\udc80" in result.stdout


def test_fault_19_notices_are_made_safe() -> None:
    """What a server or a file says in a notice cannot drive the terminal."""
    result = piped("Terminal().notice('remote: \\x1b]0;pwned\\x07\\nnext')")
    assert result.stderr == b"remote: \\x1b]0;pwned\\x07\nnext\n"
    assert result.stdout == b""


def test_notice_takes_the_line_of_a_progress_bar() -> None:
    """On a terminal a notice wipes the line it stands on; a dumb one gets no codes."""
    code = "Terminal().notice('done')"
    assert on_pty(code, {})[0] == "\r\x1b[Kdone\n"
    assert on_pty(code, {"TERM": "dumb"})[0] == "done\n"


def test_streams_that_are_closed() -> None:
    """A closed stdout is found out, not stumbled over."""
    closed = io.StringIO()
    closed.close()
    assert Terminal(environ={}, stdout=closed, stderr=io.StringIO()).is_tty is False


def test_progress_is_silent_for_a_second_then_draws_ten_times_a_second() -> None:
    """Nothing before a second has passed, at most ten lines a second after, none at the end."""
    now_s = 0.0
    stream = io.StringIO()
    bar = ProgressBar(stream, 60, clock=lambda: now_s)
    bar.start("Reading \x1b events", 1000)
    for _ in range(99):
        now_s += 0.01
        bar.advance()
    assert stream.getvalue() == ""
    for _ in range(101):
        now_s += 0.01
        bar.advance()
    drawn = stream.getvalue().split("\r")[1:]
    assert 9 <= len(drawn) <= 11
    assert "200 of 1,000" in drawn[-1] and "Reading \\x1b events [#" in drawn[-1]
    assert max(len(line.removesuffix("\x1b[K")) for line in drawn) < 60
    bar.done()
    bar.done()
    assert stream.getvalue().endswith("\r\x1b[K")
    assert stream.getvalue().count("\r") == len(drawn) + 1


def test_progress_of_unknown_length_and_on_a_narrow_terminal() -> None:
    """Without a total it counts; on 20 columns it is cut, not wrapped."""
    now_s = 0.0
    stream = io.StringIO()
    bar = ProgressBar(stream, 20, clock=lambda: now_s)
    bar.start("Indexing")
    now_s = 3.0
    bar.advance(12_345)
    assert stream.getvalue() == "\rIndexing  12,345…\x1b[K"
    bar.start("Importing", 10)
    bar.done()
    assert stream.getvalue().count("\r") == 2


def test_progress_survives_a_terminal_that_goes_away() -> None:
    """The work goes on when nobody can see its progress any more."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    now_s = 0.0
    bar = ProgressBar(Gone(), 60, clock=lambda: now_s)
    bar.start("Reading", 10)
    now_s = 2.0
    bar.advance()
    bar.advance()
    bar.done()


def test_signal_numbers_are_left_alone() -> None:
    """Looking at the terminal changes no signal handler."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGPIPE)
    Terminal(environ={}, stdout=io.StringIO(), stderr=io.StringIO())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGPIPE)) == before
