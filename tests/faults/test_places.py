"""Every place and state in which a user or a script may call grit: it works, or it says why not."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.machine import (
    GRIT,
    environment,
    events,
    git,
    grit,
    mounting,
    need_root,
    ok,
    titles,
)


def _works(folder: Path | bytes | str) -> None:
    """A write and a read, and git finds nothing wrong."""
    ok(folder, "new", "from here")
    assert "from here" in titles(folder)
    git(folder, "fsck", "--no-dangling")


def _commit(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name)


@pytest.mark.parametrize("options", [(), ("--bare",), ("--object-format=sha256",)])
def test_fault_8_a_repository_without_any_commit_works(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """No commit, no working tree, other hashes: an issue can be made."""
    git(tmp_path, "init", "-q", *options, "place")
    _works(tmp_path / "place")


def test_fault_8_a_detached_head_and_a_stopped_rebase_and_merge_are_left_alone(
    tracker: Path,
) -> None:
    """In the middle of git's own work: works, and that work goes on as before."""
    git(tracker, "checkout", "-q", "-b", "side")
    _commit(tracker, "file", "side\n")
    git(tracker, "checkout", "-q", "main")
    _commit(tracker, "file", "main\n")
    for words in (("merge", "-q", "side"), ("rebase", "-q", "side")):
        stopped = subprocess.run(["git", *words], cwd=tracker, capture_output=True, timeout=30)
        assert stopped.returncode != 0, "no conflict"
        before = git(tracker, "status", "--porcelain=v2", "--branch")
        _works(tracker)
        assert git(tracker, "status", "--porcelain=v2", "--branch") == before
        git(tracker, words[0], "--abort")
    git(tracker, "checkout", "-q", "--detach")
    _works(tracker)


def test_fault_8_all_worktrees_share_one_log_and_one_view(tracker: Path, tmp_path: Path) -> None:
    """An issue made in one working tree is seen in the other; nothing is kept per worktree."""
    other = tmp_path / "other"
    git(tracker, "worktree", "add", "-q", str(other))
    ok(other, "new", "made beside")
    assert titles(tracker) == titles(other) == ["made beside", "the first"]
    assert len(ok(other, "actor", "list", "--json").data["actors"]) == 1
    assert not list((tracker / ".git/worktrees").rglob("grit"))
    refs = git(other, "for-each-ref", "--format=%(refname)", "refs/grit").split()
    assert refs == ["refs/grit/wal"]


def test_fault_8_a_submodule_has_issues_of_its_own(tracker: Path, tmp_path: Path) -> None:
    """In a submodule grit works on the submodule, not on what it is in."""
    git(tracker, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tracker), "sub")
    ok(tracker / "sub", "new", "inside")
    assert titles(tracker) == ["the first"]
    assert "inside" in titles(tracker / "sub")


def test_fault_8_a_separate_git_dir_packed_refs_and_alternates_work(
    tracker: Path, tmp_path: Path
) -> None:
    """Repositories in several places."""
    git(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "apart"), "separate")
    _works(tmp_path / "separate")
    git(tracker, "pack-refs", "--all", "--prune")
    _works(tracker)
    git(tmp_path, "clone", "-q", "--shared", str(tracker), "shared")
    _works(tmp_path / "shared")


def test_fault_8_a_linked_git_folder_works_or_refuses(tracker: Path, tmp_path: Path) -> None:
    """`.git` as a symbolic link does what git does with it."""
    place = tmp_path / "linked"
    place.mkdir()
    (place / ".git").symlink_to(tracker / ".git")
    _works(place)
    assert "from here" in titles(tracker)


def test_fault_8_git_dir_and_subfolders_and_directory_options_work(
    tracker: Path, tmp_path: Path
) -> None:
    """GIT_DIR, a subfolder, -C: the same repository."""
    inner = tracker / "a" / "b"
    inner.mkdir(parents=True)
    assert titles(inner) == ["the first"]
    assert titles(tmp_path, environ={"GIT_DIR": str(tracker / ".git")}) == ["the first"]
    assert ok(tmp_path, "-C", str(inner), "ls", "--json").data["total"] == 1
    refused = grit(tmp_path, "ls", environ={"GIT_DIR": str(tmp_path / "nowhere")})
    assert refused.status == 5, refused
    hidden = grit(inner, "ls", environ={"GIT_CEILING_DIRECTORIES": str(tracker)})
    assert hidden.status in (0, 5), hidden


@pytest.mark.parametrize("name", [b"with space", b"new\nline", b"\xff\xfe latin", "ünï".encode()])
def test_fault_8_a_path_of_any_bytes_works(name: bytes, tmp_path: Path) -> None:
    """Spaces, newlines and bytes that are no text in the path of a repository."""
    place = os.fsencode(tmp_path) + b"/" + name
    try:
        os.mkdir(place)
    except OSError:
        pytest.skip("this file system does not take such a name")
    git(place, "init", "-q")
    _works(place)
    ok(place, "doctor")


@pytest.fixture
def read_only(tracker: Path) -> Iterator[Path]:
    """A repository on a file system that is mounted for reading."""
    for mounted in mounting(tracker, "--bind", str(tracker)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True, timeout=30)
        yield mounted


def test_fault_5_a_read_only_repository_can_be_read_and_refuses_writes(read_only: Path) -> None:
    """The view is fresh: reads just work; a write is refused with the reason."""
    assert titles(read_only) == ["the first"]
    refused = grit(read_only, "new", "no way")
    assert refused.status == 5, refused
    assert "Read-only file system" in refused.err, refused.err
    assert titles(read_only) == ["the first"]


def test_fault_5_a_read_only_repository_with_an_old_view_is_read_with_a_notice(
    tracker: Path,
) -> None:
    """No view, or one that is behind, and no way to write one: shown all the same."""
    shutil.rmtree(tracker / ".git/grit/view")
    for mounted in mounting(tracker, "--bind", str(tracker)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mounted)], check=True, timeout=30)
        done = ok(mounted, "ls", "--json")
        assert [row["title"] for row in done.data["issues"]] == ["the first"]
        assert "temporary folder" in done.err, done.err


HOSTILE_CONFIG = """
[core]
    fsmonitor = {script}
    hooksPath = {folder}
    pager = {script}
    editor = {script}
    sshCommand = {script}
    askPass = {script}
    alternateRefsCommand = {script}
[pager]
    grit = {script}
[uploadpack]
    packObjectsHook = {script}
[diff]
    external = {script}
[gpg]
    program = {script}
[alias]
    rev-parse = !{script}
    cat-file = !{script}
[gc]
    auto = 1
"""


def _plant(repository: Path, folder: Path) -> Path:
    """Put commands into every setting that git might run; return what they leave when they do."""
    folder.mkdir(mode=0o755)
    ran = folder / "ran"
    script = folder / "evil"
    script.write_text(f"#!/bin/sh\necho $0 $@ >> {ran}\n")
    script.chmod(0o755)
    for hook in ("reference-transaction", "post-commit", "pre-auto-gc", "post-index-change"):
        (folder / hook).symlink_to(script)
        (repository / ".git/hooks").mkdir(exist_ok=True)
        (repository / f".git/hooks/{hook}").symlink_to(script)
    with (repository / ".git/config").open("a") as file:
        file.write(HOSTILE_CONFIG.format(script=script, folder=folder))
    return ran


def test_fault_21_a_repository_of_another_user_is_refused_and_nothing_runs(
    tracker: Path, tmp_path: Path
) -> None:
    """Not ours: refused before anything is read, with git's way out named; git's word counts."""
    need_root()
    ran = _plant(tracker, tmp_path / "evil")
    paths = [tracker, *tracker.rglob("*")]
    for path in paths:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    before = sorted(str(path) for path in paths)
    for words in (["ls"], ["new", "x"], ["doctor"], ["init"], ["export"], ["rebuild"]):
        refused = grit(tracker, *words)
        assert refused.status == 5, (words, refused)
        assert "safe.directory" in refused.err, refused.err
    assert sorted(str(path) for path in [tracker, *tracker.rglob("*")]) == before
    assert not ran.exists(), ran.read_text()
    config = tmp_path / "config"
    config.write_text(f"[safe]\n\tdirectory = {tracker}\n[user]\n\tname = A\n\temail = a@b\n")
    assert titles(tracker, environ={"GIT_CONFIG_GLOBAL": str(config)}) == ["the first"]
    assert not ran.exists(), ran.read_text()


def test_fault_21_hostile_settings_of_an_own_repository_never_run(
    tracker: Path, tmp_path: Path
) -> None:
    """Somebody's archive, unpacked by its user: reading and writing start none of its commands."""
    shutil.rmtree(tracker / ".git/grit/view")
    ran = _plant(tracker, tmp_path / "evil")
    for words in (["ls"], ["new", "x"], ["rebuild"], ["doctor"], ["export"], ["init"], ["log"]):
        ok(tracker, *words)
    assert not ran.exists(), ran.read_text()


def test_fault_23_a_current_folder_that_was_deleted_is_refused(tracker: Path) -> None:
    """The folder is gone: status 5 and a reason."""
    gone = tracker / "gone"
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *GRIT, "ls"],
        cwd=tracker,
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    assert not gone.exists()
    assert done.returncode == 5, done
    assert b"Traceback" not in done.stderr, done.stderr.decode()


def test_fault_23_no_home_no_tmp_and_an_odd_locale_change_nothing(tracker: Path) -> None:
    """Without HOME and in a C locale: works, and says the same bytes."""
    plain = ok(tracker, "ls", "--json").out
    for drop, extra in (
        (("HOME",), {}),
        ((), {"LC_ALL": "C"}),
        ((), {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu"}),
        ((), {"TMPDIR": "/nonexistent"}),
        (("PATH",), {}),
    ):
        bare = {name: value for name, value in environment(extra).items() if name not in drop}
        done = subprocess.run(
            [*GRIT, "ls", "--json"], cwd=tracker, capture_output=True, env=bare, timeout=60
        )
        assert done.stdout.decode() == plain, (drop, extra, done.stderr)


def test_fault_23_without_git_a_fresh_view_is_read_and_the_rest_is_refused(
    tracker: Path, tmp_path: Path
) -> None:
    """No git program: what needs it says so."""
    empty = {"PATH": str(tmp_path / "empty")}
    assert titles(tracker, environ=empty) == ["the first"]
    git(tracker, "gc", "-q")
    shutil.rmtree(tracker / ".git/grit/view")
    refused = grit(tracker, "ls", environ=empty)
    assert refused.status == 5, refused
    assert "git program was not found" in refused.err, refused.err
    assert titles(tracker) == ["the first"]


@pytest.mark.parametrize("count", [8, 12, 16, 20, 64])
def test_fault_23_few_file_descriptors_are_enough_or_refused(count: int, tracker: Path) -> None:
    """With 20 descriptors all works; with fewer grit may refuse, and nothing is half done."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    done = grit(tracker, "new", "made", preexec_fn=limited)
    listed = grit(tracker, "ls", "--json", preexec_fn=limited)
    if count >= 20:
        assert done.status == listed.status == 0, (done, listed)
    assert done.status in (0, 5), done
    assert titles(tracker).count("made") == (done.status == 0)
    events(tracker)


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "--json"], ["new", "unheard"], ["export"], ["--help"]]
)
def test_fault_23_output_that_goes_nowhere_is_an_error(words: list[str], tracker: Path) -> None:
    """A full device as stdout: non-zero, a reason, no traceback."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*GRIT, *words],
            cwd=tracker,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=60,
        )
    assert done.returncode not in (0, 120), done
    assert b"No space left" in done.stderr, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"Exception ignored" not in done.stderr, done.stderr.decode()


@pytest.mark.parametrize(
    "words",
    [
        "ls >&-",
        "ls --json >&-",
        "new unheard >&-",
        "new unseen 2>&-",
        "new untold <&-",
        "new nothing <&- >&- 2>&-",
    ],
)
def test_fault_23_closed_streams_do_no_harm(words: str, tracker: Path) -> None:
    """A closed stdin, stdout or stderr never lets output run into the repository's files."""
    command = f'exec "$@" {words}'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *GRIT],
        cwd=tracker,
        capture_output=True,
        env=environment(),
        timeout=60,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"bug" not in done.stderr, done.stderr.decode()
    if done.returncode == 0 and words.startswith("new"):
        assert words.split()[1] in titles(tracker)
    events(tracker)


def test_fault_23_a_reader_that_leaves_early_ends_the_command_quietly(tracker: Path) -> None:
    """`grit ls | head -1`: no message."""
    lines = "".join(f'{{"op":"create","title":"issue {number}"}}\n' for number in range(3000))
    ok(tracker, "batch", stdin=lines.encode())
    for words in ("ls --all", "ls --all --jsonl", "export", "log"):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {words} | head -1', "sh", *GRIT],
            cwd=tracker,
            capture_output=True,
            env=environment(),
            timeout=60,
        )
        assert done.stderr == b"", (words, done.stderr.decode())
        assert done.stdout.count(b"\n") <= 1


def test_fault_4_ctrl_c_after_the_end_of_a_command_does_not_change_its_status(
    tracker: Path,
) -> None:
    """A command that has done its work says so, though Python itself is still being taken down."""
    code = f"""if True:
        import os, signal, sys
        class Last:
            def __del__(self, kill=os.kill, me=os.getpid(), interrupt=signal.SIGINT):
                kill(me, interrupt)
        last = Last()
        sys.argv[1:] = ["new", "stored"]
        {GRIT[-1]}
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tracker, capture_output=True, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"stored" in done.stdout


def test_fault_4_ctrl_c_in_a_rebuild_ends_with_130_and_harms_nothing(tracker: Path) -> None:
    """SIGINT at any time: status 130, no traceback, no child left over, the next command works."""
    lines = "".join(f'{{"op":"create","title":"issue {number}"}}\n' for number in range(5000))
    ok(tracker, "batch", stdin=lines.encode())
    ended = []
    for pause_ms in (60, 120, 200, 300, 450):
        process = subprocess.Popen(
            [*GRIT, "rebuild"],
            cwd=tracker,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        time.sleep(pause_ms / 1000)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        ended.append(process.returncode)
        # Before main() runs, the interpreter alone decides what an interrupt looks like.
        if pause_ms > 200:
            assert b"Traceback" not in err, err.decode()
            assert process.returncode in (0, 130), (process.returncode, err.decode())
        assert ok(tracker, "ls", "--json").data["total"] == 5001
    assert 130 in ended, ended
    assert not (tracker / ".git/grit/view/build").exists()
