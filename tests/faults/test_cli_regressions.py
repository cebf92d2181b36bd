"""What earlier trackers got wrong around a repository, by the program itself (rows 10 to 14)."""

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.machine import (
    GRIT,
    environment,
    events,
    fingerprint,
    git,
    grit,
    ok,
    titles,
)

READS = (
    ("ls",), ("ls", "--json"), ("show", "abcd"), ("log",), ("ready",), ("search", "x"),
    ("blocked",),
    ("export",), ("doctor",), ("db", "stats"), ("actor", "list"), ("actor", "current"),
    ("config", "list"), ("issue", "history", "abcd"), ("issue", "dep", "topo"),
    ("issue", "attachment", "list", "abcd"), ("completion", "bash"), ("--help",), ("--version",),
    ("batch", "--help"),
)  # fmt: skip
ADVICE_THAT_DESTROYS = (
    "rm ",
    "delete",
    "--force",
    "reset --hard",
    "update-ref -d",
    "prune",
    "wipe",
)


def _actors(folder: Path) -> list[str]:
    return [row["actor_id"] for row in ok(folder, "actor", "list", "--json").data["actors"]]


def test_regression_10_init_again_changes_nothing(tracker: Path, tmp_path: Path) -> None:
    """A second init, from a subfolder and from another worktree too, leaves every byte as it is."""
    (tracker / "sub").mkdir()
    git(tracker, "worktree", "add", "-q", str(tmp_path / "other"))
    own = tracker / ".git/grit"
    before = fingerprint(own, but=["view", "actors.lock-file"])
    for folder in (tracker, tracker / "sub", tmp_path / "other"):
        ok(folder, "init")
        ok(folder, "init", "--no-key")
        assert fingerprint(own, but=["view", "actors.lock-file"]) == before
    assert titles(tmp_path / "other") == ["the first"]


def test_regression_10_init_keeps_settings_that_it_does_not_know(git_repository: Path) -> None:
    """A configuration that is there already, even of a later version, is kept."""
    ok(git_repository, "actor", "init", "--label", "mine")
    config = git_repository / ".git/grit/config.toml"
    text = config.read_text() if config.exists() else ""
    config.write_text(text + 'lock_policy = "require"\nlater = [1, 2]\n\n[snapshot]\nevents = 7\n')
    ok(git_repository, "init")
    ok(git_repository, "new", "made")
    after = config.read_text()
    for part in ('lock_policy = "require"', "later = [1, 2]", "[snapshot]", "events = 7"):
        assert part in after, after
    assert len(_actors(git_repository)) == 1


def test_regression_10_init_over_a_broken_config_resets_nothing(tracker: Path) -> None:
    """A configuration that cannot be read is an error, for init too; it stays byte for byte."""
    config = tracker / ".git/grit/config.toml"
    config.write_bytes(b"this is [ no toml")
    for words in (("init",), ("new", "x"), ("init", "--no-key")):
        refused = grit(tracker, *words)
        assert refused.status == 5, refused
        assert "config.toml" in refused.err, refused.err
    assert config.read_bytes() == b"this is [ no toml"
    assert titles(tracker) == ["the first"]


@pytest.mark.parametrize("words", [("init",), ("new", "raced")])
def test_regression_10_racing_first_commands_make_one_actor(
    words: tuple[str, ...], git_repository: Path
) -> None:
    """Five first commands at once: one actor, its key whole, and every write stored and signed."""
    racers = [
        subprocess.Popen(
            [*GRIT, *words], cwd=git_repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(),
        )
        for _ in range(5)
    ]  # fmt: skip
    for racer in racers:
        _, err = racer.communicate(timeout=60)
        assert racer.returncode == 0, err.decode()
    assert len(_actors(git_repository)) == 1
    ok(git_repository, "new", "after")
    wanted = ["after"] + ["raced"] * 5 if words[0] == "new" else ["after"]
    assert titles(git_repository) == wanted
    assert not [
        event
        for event in events(git_repository)
        if json.loads(event).get("sig") is None
        and json.loads(event).get("signature") in (None, "none")
    ]


def test_regression_11_reads_create_nothing_where_there_is_no_log(git_repository: Path) -> None:
    """In a repository without a log no reading command, and no refused one, leaves a trace."""
    before = fingerprint(git_repository)
    for words in READS:
        grit(git_repository, *words)
        changed = fingerprint(git_repository)
        assert changed == before, (words, sorted(set(changed) ^ set(before)))


def test_regression_11_reads_change_nothing_but_the_view(tracker: Path) -> None:
    """With a log, what a read may write is the view and grit's own lock files."""
    but = [".git/grit/view", ".git/grit/wal.lock-file"]
    issue = ok(tracker, "ls", "--json").data["issues"][0]["issue_id"]
    before = fingerprint(tracker, but=but)
    for words in (*READS[:10], ("show", issue), ("rebuild",), ("issue", "history", issue)):
        grit(tracker, *words)
        assert fingerprint(tracker, but=but) == before, words


def test_regression_11_no_message_offers_a_command_that_destroys(tracker: Path) -> None:
    """Whatever is broken: the advice never deletes."""
    ref = tracker / ".git/refs/grit/wal"
    head = ref.read_text()
    messages = []
    for text in ("", "ref: refs/heads/main\n", "12" * 20 + "\n"):
        ref.write_text(text)
        for words in (("ls",), ("new", "x"), ("doctor",), ("rebuild",)):
            messages.append(grit(tracker, *words).err)
        assert ref.read_text() == text, "the ref was touched"
    ref.write_text(head)
    messages += [grit(tracker, *words).err for words in (("show", "abcd"), ("close", "abcd"))]
    messages.append(grit(tracker, "-C", "/", "ls").err)
    assert any(messages)
    for message in messages:
        for word in ADVICE_THAT_DESTROYS:
            assert word not in message.lower(), message
    assert titles(tracker) == ["the first"]


def test_regression_12_no_command_touches_what_is_the_users(tracker: Path, tmp_path: Path) -> None:
    """HEAD, index, branches, hooks, files, and the user's own git settings stay byte for byte."""
    home = Path(os.environ["HOME"])
    (tracker / "untracked").write_text("mine")
    content = tmp_path / "content"
    content.write_text("attached")
    own = [".git/grit", ".git/objects", ".git/refs/grit", ".git/refs", ".git/logs", ".git/config"]
    branches = git(tracker, "for-each-ref", "refs/heads", "refs/tags")
    before = fingerprint(tracker, but=own), fingerprint(home)
    config = (tracker / ".git/config").read_bytes()
    issue = ok(tracker, "new", "second", "--json").data["issue_id"]
    for words in (
        ("comment", issue, "-b", "x"), ("close", issue), ("issue", "reopen", issue),
        ("issue", "label", "add", issue, "bug"), ("issue", "assignee", "add", issue, "@me"),
        ("issue", "link", "add", issue, "https://example.org"),
        ("issue", "attachment", "add", issue, str(content)), ("issue", "delete", issue),
        ("issue", "restore", issue), ("issue", "update", issue, "--title", "other"),
        ("rebuild",), ("doctor",), ("doctor", "--fix"), ("init",), ("export",), ("actor", "list"),
    ):  # fmt: skip
        ok(tracker, *words)
        after = fingerprint(tracker, but=own), fingerprint(home)
        assert after == before, words
    assert git(tracker, "for-each-ref", "refs/heads", "refs/tags") == branches
    assert (tracker / ".git/config").read_bytes() == config
    kept = set(git(tracker, "for-each-ref", "--format=%(refname)").split())
    assert kept == {"refs/heads/main", "refs/grit/wal"}
    assert not (tracker / ".git/logs/refs/grit").exists()


def test_regression_12_init_adds_the_refspec_and_nothing_else(
    tracker: Path, tmp_path: Path
) -> None:
    """What init changes in git's configuration is one line of one remote."""
    git(tmp_path, "clone", "-q", str(tracker), "clone")
    clone = tmp_path / "clone"
    before = git(clone, "config", "--local", "--list").splitlines()
    ok(clone, "init")
    after = git(clone, "config", "--local", "--list").splitlines()
    added = [line for line in after if line not in before]
    assert [line for line in before if line not in after] == []
    assert len(added) == 1, added
    assert added[0].startswith("remote.origin.fetch=+refs/grit/"), added
    assert ":refs/grit-remotes/origin/" in added[0], added
    assert not (clone / "AGENTS.md").exists()
    assert titles(clone) == ["the first"]


def _key(folder: Path) -> Path:
    (found,) = (folder / ".git/grit/actors").glob("*/keys/signing.key")
    return found


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n", " \n"])
def test_regression_13_a_key_file_signs_with_any_line_ending(ending: str, tracker: Path) -> None:
    """With, without, or with another final newline: the same signature is made."""
    key = _key(tracker)
    key.write_bytes(key.read_bytes().strip() + ending.encode())
    made = ok(tracker, "new", "signed", "--json").data
    history = ok(tracker, "issue", "history", made["issue_id"], "--json").out
    assert '"signature": "valid"' in history, history


@pytest.mark.parametrize(
    "content",
    [None, b"", b"zz" * 32, b"ab" * 31, b"ab" * 33, b"\xff" * 64, b"-----BEGIN KEY-----\n"],
)
def test_regression_13_a_missing_or_broken_key_never_writes_unsigned(
    content: bytes | None, tracker: Path
) -> None:
    """No key, or no key in the file: every write is an error that names the file."""
    key = _key(tracker)
    if content is None:
        key.unlink()
    else:
        key.write_bytes(content)
    before = git(tracker, "rev-parse", "refs/grit/wal")
    issue = ok(tracker, "ls", "--json").data["issues"][0]["issue_id"]
    for words in (("new", "x"), ("comment", issue, "-b", "x"), ("close", issue)):
        refused = grit(tracker, *words)
        assert refused.status == 5, refused
        assert "signing.key" in refused.err, refused.err
    assert git(tracker, "rev-parse", "refs/grit/wal") == before


def test_regression_13_the_key_is_for_its_owner_alone(git_repository: Path) -> None:
    """Whatever the umask says, nobody else can read the key."""
    ok(git_repository, "init", preexec_fn=lambda: os.umask(0))
    assert _key(git_repository).stat().st_mode & 0o777 == 0o600


HOSTILE = {
    "newline": "a\nb", "escape": "\x1b]52;c;ZXZpbA==\x07", "C1": "\x9b31m", "bidi": "\u202egpj.exe",
    "return": "a\rb", "crab": "\N{CRAB}", "combining": "a" + "\u0301" * 200, "backspace": "a\x08b",
    "delete": "a\x7fb", "separator": "a\u2028b", "surrogate": "a\udc80b",
}  # fmt: skip
RAW = ("\x1b]", "\x9b", "\u202e", "\x08", "\x7f", "\u2028", "\x07", "a\rb")


def _in_terminal(folder: Path, *words: str) -> str:
    """Run grit with a terminal as its standard streams and return what the terminal got."""
    leader, follower = pty.openpty()
    extra = {"TERM": "xterm", "GRIT_PAGER": "cat", "PAGER": "cat"}
    process = subprocess.Popen(
        [*GRIT, *words], cwd=folder, stdin=follower, stdout=follower, stderr=follower,
        env=environment(extra), close_fds=True,
    )  # fmt: skip
    os.close(follower)
    got = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        got += piece
    os.close(leader)
    assert process.wait(timeout=10) == 0, got
    return got.decode(errors="surrogateescape")


def _assert_harmless(text: str, name: str) -> None:
    for raw in RAW:
        assert raw not in text, f"{name}: {text!r:.500}"
    assert "\u0301" * 5 not in text, f"{name}: {text!r:.500}"


def test_regression_14_hostile_text_is_stored_as_given_or_refused_and_never_runs(
    tracker: Path,
) -> None:
    """Hostile text in every option that takes text: what is shown drives no terminal."""
    issue = ok(tracker, "ls", "--json").data["issues"][0]["issue_id"]
    accepted = 0
    for turn, (name, text) in enumerate(HOSTILE.items()):
        raw = text.encode(errors="surrogateescape")
        body = raw + b" body"
        every = (
            ("new", raw), ("new", "-t", name, "-b", body), ("new", name, "-l", raw),
            ("issue", "update", issue, "--field", b"k=" + raw), ("show", raw), ("search", raw),
            ("issue", "assignee", "add", issue, raw), ("ls", raw), ("issue", "close", issue, raw),
        )  # fmt: skip
        # Each text goes a third of the ways, so that all ways meet texts of every sort.
        for words in every[turn % 3 :: 3]:
            done = grit(tracker, *words)
            accepted += done.status == 0
            assert done.status in (0, 2, 3), (name, words, done)
            _assert_harmless(done.out + done.err, name)
        done = grit(tracker, "comment", issue, "-F", "-", stdin=body)
        assert done.status in (0, 2), (name, done)
        _assert_harmless(done.out + done.err, name)
    assert accepted > 5
    shown = ok(tracker, "show", issue, "--json").data["issue"]
    bodies = [comment["body"] for comment in shown["comments"]]
    assert HOSTILE["crab"] + " body" in bodies
    assert HOSTILE["newline"] + " body" in bodies
    for shown_by in (["ls", "--all"], ["show", issue], ["log"]):
        _assert_harmless(ok(tracker, *shown_by).out, str(shown_by))
        _assert_harmless(_in_terminal(tracker, *shown_by).replace("\r\n", "\n"), f"pty {shown_by}")
    assert ok(tracker, "ls", "--all", "--json").out.isascii()
    events(tracker)
