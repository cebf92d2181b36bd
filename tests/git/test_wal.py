"""Appending to the log and reading it back, in every kind of repository."""

import hashlib
import os
import subprocess
import sys
import threading
from hashlib import blake2b

import pytest

from grit.core.errors import InvalidArgs, IoFailed
from grit.files import private
from grit.git import loose_tail, objects, wal
from grit.git.log_reader import HeadUnknown
from grit.git.repository import discover
from grit.git.wal import HeadMoved, Wal

TS = 1_700_000_000_000
ACTOR = bytes(range(16))


def _object_count(git, folder):
    return int(git(folder, "count-objects").split()[0])


def test_append_is_three_objects_and_readable_by_people(log, git):
    """Blob, tree and commit; the person as author, the event's time, one line and trailers."""
    chunk = log.chunk()
    done = log.append(chunk)
    assert _object_count(git, log.folder) == 3
    assert [kind for kind, _ in done.objects] == ["blob", "tree", "commit"]
    name = blake2b(chunk, digest_size=32).hexdigest()
    assert git(log.folder, "ls-tree", "--name-only", "-r", done.head) == f"{name}.bin"
    shown = git(log.folder, "log", "--format=%an|%ae|%cn|%at|%ct|%ai|%s|%b", log.wal.ref)
    assert shown == (
        "Ann Example|ann@example.org|Ann Example|1700000000|1700000000|"
        "2023-11-14 22:13:20 +0000|create 4f2a91c Title|Grit-Events: 1"
    )
    assert done.durable
    assert done.notices == ()
    git(log.folder, "fsck", "--strict")


def test_message_and_people_are_made_harmless(log, git):
    """Newlines, escapes, bidi marks and surrogates cannot forge a header, a trailer or a line."""
    log.wal = Wal(
        log.wal.repository, {"GIT_AUTHOR_NAME": "E <v>\nil\x1b", "GIT_AUTHOR_EMAIL": "e@x\n"}
    )
    log.append(message="a\nparent b\x1b[31m\u202e\ud800 c", trailers=["T: x\nU: y"])
    shown = git(log.folder, "log", "-1", "--format=%an|%ae|%cn|%B", log.wal.ref)
    assert shown == "E v il|e@x|Ann Example|a parent b [31m c\n\nT: x U: y"
    log.append(message="x" * 10_000)
    assert len(git(log.folder, "log", "-1", "--format=%B", log.wal.ref)) < 300
    git(log.folder, "fsck", "--strict")


def test_identity_has_a_fallback(log, git, monkeypatch, tmp_path):
    """Without any configured person the actor's id stands in; nothing is guessed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    log.append()
    assert git(log.folder, "log", "--format=%an|%ae", log.wal.ref) == (
        f"grit actor 00010203|{ACTOR.hex()}@grit.invalid"
    )


@pytest.mark.parametrize("kind", ["sha256", "bare", "separate", "worktree", "reftable"])
def test_fault_8_kinds_of_repositories(kind, tmp_path, git, open_log):
    """Append, read, pack and read again; git finds nothing wrong."""
    folder = tmp_path / "x"
    options = {
        "sha256": ["--object-format=sha256"],
        "bare": ["--bare"],
        "separate": ["--separate-git-dir", str(tmp_path / "apart")],
        "reftable": ["--ref-format=reftable"],
    }.get(kind, [])
    done = subprocess.run(["git", "init", "-q", *options, str(folder)], capture_output=True)
    if done.returncode != 0 and kind == "reftable":
        pytest.skip("the installed git has no reftable")
    if kind == "worktree":
        git(folder, "commit", "-q", "--allow-empty", "-m", "one")
        git(folder, "worktree", "add", "-q", str(tmp_path / "linked"))
        folder = tmp_path / "linked"
    log = open_log(folder)
    chunks = [log.chunk() for _ in range(5)]
    heads = [log.append(chunk).head for chunk in chunks]
    assert git(folder, "rev-parse", "refs/grit/wal") == heads[-1]
    assert log.read() == chunks
    assert log.read(old=heads[2]) == chunks[3:]
    git(folder, "fsck", "--strict")
    git(folder, "gc", "-q", "--prune=now")
    assert log.read() == chunks
    assert log.read(old=heads[2]) == chunks[3:]
    chunks.append(log.chunk())
    log.append(chunks[-1])
    assert log.read() == chunks


def test_fault_8_alternates_and_mirror(log, git, tmp_path, open_log):
    """A clone that borrows objects and a mirror read the same log, and can be written."""
    chunks = [log.chunk() for _ in range(3)]
    for chunk in chunks:
        log.append(chunk)
    git(tmp_path, "clone", "-q", "--mirror", "--shared", str(log.folder), "mirror.git")
    mirror = open_log(tmp_path / "mirror.git")
    assert mirror.read() == chunks
    mirror.append()
    assert len(mirror.read()) == 4
    git(tmp_path / "mirror.git", "fsck", "--strict")


def test_several_chunks_of_one_append(log, git):
    """Chunks share one commit up to a bound; beyond it the ref still moves once."""
    chunks = [log.chunk() for _ in range(16)]
    log.append(*chunks)
    assert git(log.folder, "rev-list", "--count", log.wal.ref) == "1"
    more = [log.chunk() for _ in range(20)]
    log.append(*more)
    assert git(log.folder, "rev-list", "--count", log.wal.ref) == "3"
    assert sorted(log.read()) == sorted(chunks + more)


def test_the_loser_of_a_race_changes_nothing(log):
    """An append on a head that is not the head any more is HeadMoved, and nothing is visible."""
    log.append()
    head = log.append().head
    for old in (None, "1" * 40):
        with pytest.raises(HeadMoved):
            log.append(old=old)
    assert log.wal.head() == head
    assert len(log.read()) == 2


def test_the_ref_moving_between_look_and_swap_is_noticed(log, monkeypatch):
    """The compare-and-swap itself refuses when somebody moves the ref at the last moment."""
    first = log.append().head
    monkeypatch.setattr(wal, "swap_ref", lambda *_, **__: False)
    with pytest.raises(HeadMoved):
        log.append()
    monkeypatch.undo()
    assert log.wal.head() == first


def test_old_head_that_is_gone(log):
    """A reader whose head is unknown is told to start over, before it gets anything."""
    log.append()
    for old in ("1" * 40, "f" * 40):
        with pytest.raises(HeadUnknown):
            list(log.wal.read(log.wal.head(), old))


def test_a_merge_joins_two_heads(log, git):
    """The log is what is reachable: a commit with two parents and the empty tree joins two logs."""
    base = log.append().head
    left = log.append().head
    git(log.folder, "update-ref", log.wal.ref, base)
    right = log.append().head
    tree = git(log.folder, "mktree")
    joined = git(log.folder, "commit-tree", tree, "-p", left, "-p", right, "-m", "join")
    git(log.folder, "update-ref", log.wal.ref, joined)
    assert len(log.read()) == 3
    assert len(log.read(old=left)) == 1
    assert log.wal.dialect.name == "grit"
    log.append()
    assert len(log.read()) == 4


def test_catching_up_reads_files_only(log, monkeypatch):
    """Ten new loose commits are read without starting git; packed ones with git."""
    heads = [log.append().head for _ in range(12)]
    monkeypatch.setattr(subprocess, "Popen", None)
    assert len(log.read(old=heads[1])) == 10


def test_attachments(log, git):
    """Contents are stored under their hash, found again, and checked on the way in and out."""
    data = os.urandom(5000)
    name = hashlib.sha256(data).hexdigest()
    log.append(attachments={name: data})
    log.append()
    assert log.wal.attachment(name) == data
    assert log.wal.attachment("0" * 64) is None
    assert len(log.read()) == 2
    with pytest.raises(InvalidArgs):
        log.append(attachments={"0" * 64: data})


def test_attachment_with_false_contents_is_not_believed(log, git, write_commit):
    """Another file under the attachment's name does not stand in for it."""
    data = b"the real one"
    name = hashlib.sha256(data).hexdigest()
    log.append(attachments={name: data})
    write_commit(log.folder, log.wal.ref, {f"attachments/{name}": b"false"}, [log.wal.head() or ""])
    assert log.wal.attachment(name) == data


def test_an_attachment_cannot_hide_a_chunk(log, git, write_commit):
    """A chunk that git lists under another name first is still part of the log."""
    chunk = log.chunk()
    name = hashlib.sha256(chunk).hexdigest()
    write_commit(log.folder, log.wal.ref, {f"attachments/{name}": chunk})
    log.append(chunk)
    git(log.folder, "gc", "-q")
    assert log.read() == [chunk]


def test_a_false_name_cannot_hide_a_chunk(log, git, write_commit):
    """A chunk that some commit lists under another chunk's name is read all the same."""
    chunk = log.chunk()
    write_commit(log.folder, log.wal.ref, {f"{'0' * 64}.bin": chunk})
    log.append(chunk)
    assert set(log.read()) == {chunk}
    git(log.folder, "gc", "-q")
    assert log.read() == [chunk]


def test_durable_appends_sync_in_order(log, git, monkeypatch):
    """With core.fsync the objects and their folders reach the disk before the ref is renamed."""
    git(log.folder, "config", "core.fsync", "committed")
    log.append()
    steps = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(fd):
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
        real_sync(fd)

    def replace(source, target, **folders):
        if not str(source).startswith("tmp_obj_"):
            steps.append("ref")
        real_replace(source, target, **folders)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    log.wal = Wal(log.wal.repository)
    log.append()
    before, after = steps[: steps.index("ref")], steps[steps.index("ref") :]
    assert before.count("file") == 4
    assert before[-1] == "file"
    assert before.count("folder") >= 3
    assert after == ["ref", "folder"]


def test_durability_not_confirmed_is_said(log, git, monkeypatch):
    """When the ref's folder cannot be synced the append is visible and reported as such."""
    git(log.folder, "config", "core.fsync", "all")

    def failing(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(wal, "sync_folder", failing)
    done = log.append()
    assert not done.durable
    assert log.wal.head() == done.head


class _FailingOs:
    """The os module, but one call fails as on a full disk."""

    def __init__(self, call):
        self._call = call

    def __getattr__(self, name):
        if name == self._call:
            return self._fail
        return getattr(os, name)

    def _fail(self, *arguments, **more):
        if self._call == "open" and not str(arguments[0]).startswith("tmp_obj_"):
            return os.open(*arguments, **more)
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["write", "replace", "open", "mkdir", "fsync"])
def test_fault_5_disk_errors_while_writing(log, git, monkeypatch, call):
    """A full or failing disk at any step is an error, the head is unchanged, nothing is left."""
    git(log.folder, "config", "core.fsync", "all")
    head = log.append().head
    for module in (objects, private):
        monkeypatch.setattr(module, "os", _FailingOs(call))
    with pytest.raises(IoFailed, match="head unchanged"):
        log.append()
    monkeypatch.undo()
    assert log.wal.head() == head
    assert not list(log.folder.glob(".git/objects/*/tmp_*"))
    log.append()
    assert len(log.read()) == 2


def test_shared_repositories_stay_shared(log, git):
    """core.sharedRepository=group gives the group its bits on objects, folders and the ref."""
    git(log.folder, "config", "core.sharedRepository", "group")
    done = log.append()
    path = log.folder / ".git" / "objects" / done.head[:2] / done.head[2:]
    assert path.stat().st_mode & 0o777 == 0o440
    assert path.parent.stat().st_mode & 0o2770 == 0o2770
    assert (log.folder / ".git" / log.wal.ref).stat().st_mode & 0o060 == 0o060


def test_restore_is_bit_for_bit(log, git, loose_path):
    """Objects that a collection took are written again with the same ids, damaged ones too."""
    done = log.append()
    oid = git(log.folder, "rev-parse", f"{done.head}^{{tree}}")
    loose_path(log.folder, oid).unlink()
    os.chmod(loose_path(log.folder, done.head), 0o644)
    loose_path(log.folder, done.head).write_bytes(b"")
    assert done.head in log.wal.restore(done.objects)
    git(log.folder, "fsck", "--strict")
    assert len(log.read()) == 1


def test_readers_do_not_wait_and_can_stop(log):
    """A reader that stops early leaves no process and no thread behind."""
    for _ in range(3):
        log.append(*[log.chunk() for _ in range(16)])
    loose_tail._COMMITS_MAX, usual = 0, loose_tail._COMMITS_MAX
    try:
        blobs = log.wal.read(log.wal.head(), None)
        next(blobs)
        blobs.close()
    finally:
        loose_tail._COMMITS_MAX = usual
    assert threading.active_count() == 1


def test_a_new_process_without_any_git_state(log):
    """The log of a folder is the same whoever opens it."""
    log.append()
    code = (
        "from grit.git.repository import discover; from grit.git.wal import Wal\n"
        f"print(Wal(discover({str(log.folder)!r}, {{}})).head())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == log.wal.head()
    assert discover(str(log.folder), {}) == log.wal.repository


def test_contains_follows_parents(log, git, monkeypatch):
    """A head contains itself and its ancestors, loose or packed, and nothing that is gone."""
    heads = [log.append().head for _ in range(3)]
    tree = git(log.folder, "mktree")
    stranger = git(log.folder, "commit-tree", tree, "-m", "elsewhere")
    for _ in range(2):
        assert log.wal.contains(heads[2], heads[2])
        assert log.wal.contains(heads[2], heads[0])
        assert not log.wal.contains(heads[0], heads[2])
        assert not log.wal.contains(heads[2], stranger)
        assert not log.wal.contains(heads[2], "1" * 40)
        git(log.folder, "gc", "-q")
    fresh = log.append().head
    monkeypatch.setattr(subprocess, "run", None)
    assert log.wal.contains(log.append().head, fresh)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_read_only_repository_is_read_and_refuses_writes(log):
    """On a read-only file system the log is read, and an append is an error with its cause."""
    chunk = log.chunk()
    log.append(chunk)
    folder = str(log.folder)
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody mount here")
    try:
        remount = ["mount", "-o", "remount,bind,ro", folder]
        if subprocess.run(remount, capture_output=True).returncode != 0:
            pytest.skip("this system lets nobody mount here")
        fresh = Wal(discover(folder, {}))
        assert [blob.data for blob in fresh.read(fresh.head() or "", None)] == [chunk]
        with pytest.raises(IoFailed, match="Read-only"):
            log.append()
    finally:
        subprocess.run(["umount", folder], check=True)
