"""Damaged, hostile and partial logs: everything readable is read, the rest is reported."""

import os
import shutil
import time

import pytest

from grit.core import limits
from grit.core.errors import GitFailed, WalDamaged
from grit.git.wal import Wal


def _blobs(log, old=None):
    head = log.wal.head()
    return list(log.wal.read(head, old))


def _good(blobs):
    return {blob.data for blob in blobs if blob.data is not None}


def _problems(blobs):
    return [blob.problem for blob in blobs if blob.problem]


def _break(path, how):
    os.chmod(path, 0o644)
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(bytes(data))


@pytest.fixture
def five(log):
    """A log of five commits: the chunks and the heads."""
    chunks = [log.chunk() for _ in range(5)]
    heads = [log.append(chunk).head for chunk in chunks]
    _forget_kept(log)
    return chunks, heads


def _forget_kept(log):
    """Let the objects be old: while they are new, missing ones come back."""
    shutil.rmtree(f"{log.wal.repository.grit_dir}/kept")


@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
@pytest.mark.parametrize("what", ["blob", "tree"])
def test_fault_3_damaged_chunk_or_tree(log, git, five, loose_path, how, what):
    """The other four chunks are there, the damaged object is named, and doctor can list it."""
    chunks, heads = five
    tree = git(log.folder, "rev-parse", f"{heads[2]}^{{tree}}")
    oid = tree if what == "tree" else git(log.folder, "ls-tree", "--object-only", tree)
    _break(loose_path(log.folder, oid), how)
    blobs = _blobs(log)
    assert _good(blobs) == set(chunks) - {chunks[2]}
    problems = _problems(blobs)
    assert len(problems) == 1
    assert oid in problems[0]
    assert oid in log.wal.missing_objects(heads[-1])


def test_fault_3_another_object_under_the_name(log, git, five, loose_path):
    """A whole object with other contents than its id says is broken, however it is read."""
    chunks, heads = five
    first, last = (git(log.folder, "rev-parse", f"{heads[n]}:") for n in (0, 4))
    wrong, right = (
        loose_path(log.folder, git(log.folder, "ls-tree", "--object-only", tree))
        for tree in (first, last)
    )
    os.chmod(right, 0o644)
    right.write_bytes(wrong.read_bytes())
    blobs = _blobs(log, heads[1])
    assert _good(blobs) == set(chunks[2:4])
    assert len(_problems(blobs)) == 1
    assert log.wal.missing_objects(heads[4]) == [blob.oid for blob in blobs if blob.problem]


def test_an_empty_object_is_written_again(log, git, loose_path):
    """What a power loss left empty does not pass for the object of a new append."""
    chunk = log.chunk()
    oid = git(log.folder, "hash-object", "--stdin", stdin=chunk)
    path = loose_path(log.folder, oid)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    log.append(chunk)
    assert log.read() == [chunk]


@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
def test_fault_3_damaged_commit(log, five, loose_path, how):
    """A commit that cannot be read is an error that names it: never a part shown as the whole."""
    _, heads = five
    _break(loose_path(log.folder, heads[2]), how)
    with pytest.raises(WalDamaged, match=heads[2]):
        _blobs(log)
    assert log.wal.missing_objects(heads[-1]) == [heads[2]]


def test_fault_3_nothing_is_written_on_a_missing_head(log, git, five, loose_path):
    """A new process refuses to append to a head that is not there, and the ref stays."""
    _, heads = five
    loose_path(log.folder, heads[-1]).unlink()
    log.wal = Wal(log.wal.repository)
    with pytest.raises(WalDamaged, match=heads[-1]):
        log.append()
    assert log.wal.head() == heads[-1]


def test_fault_3_healthy_logs_miss_nothing(log, five):
    """Doctor's list is empty for a log without damage."""
    assert log.wal.missing_objects(five[1][-1]) == []


def test_fault_9_shallow_log_is_refused(log, git, tmp_path, open_log):
    """A log cut by --depth is refused with the way out, and whole again after it."""
    for _ in range(3):
        log.append()
    git(log.folder, "update-ref", "refs/heads/main", log.wal.head())
    url = f"file://{log.folder}"
    git(tmp_path, "clone", "-q", "--depth=1", url, "cut")
    cut = open_log(tmp_path / "cut")
    git(cut.folder, "update-ref", "refs/grit/wal", "HEAD")
    with pytest.raises(GitFailed, match="unshallow"):
        _blobs(cut)
    git(cut.folder, "fetch", "-q", "--unshallow")
    assert len(cut.read()) == 3


def test_fault_9_shallow_code_does_not_matter(log, git, tmp_path, open_log):
    """In a shallow clone of the code the whole log is read."""
    log.append()
    log.append()
    for n in range(3):
        git(log.folder, "commit", "-q", "--allow-empty", "-m", str(n))
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{log.folder}", "cut")
    cut = open_log(tmp_path / "cut")
    git(cut.folder, "fetch", "-q", "--no-tags", "origin", "refs/grit/wal:refs/grit/wal")
    assert (cut.folder / ".git" / "shallow").exists()
    assert sorted(cut.read()) == sorted(log.read())


def test_fault_9_partial_clone_refuses_what_it_lacks(log, git, tmp_path, open_log):
    """What a partial clone left out is named, and never fetched by reading."""
    chunks = [log.chunk() for _ in range(3)]
    for chunk in chunks:
        log.append(chunk)
    git(log.folder, "commit", "-q", "--allow-empty", "-m", "one")
    git(log.folder, "config", "uploadpack.allowFilter", "true")
    git(log.folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    url = f"file://{log.folder}"
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", url, "part")
    part = open_log(tmp_path / "part")
    git(part.folder, "fetch", "-q", "origin", "refs/grit/wal:refs/grit/wal")
    assert len(part.wal.missing_objects(part.wal.head())) == 3
    with pytest.raises(GitFailed, match="lacks 3 objects of the log; 'grit sync'"):
        part.read()
    assert len(part.wal.missing_objects(part.wal.head())) == 3
    git(part.folder, "fetch", "-q", "--refetch", "--no-filter", "origin", "refs/grit/wal")
    assert part.read() == chunks


def test_fault_13_huge_packed_blob_is_set_aside(log, git, write_commit, monkeypatch):
    """A chunk beyond the bound is reported, not read; the others are there, at once."""
    first = log.chunk()
    log.append(first)
    zeros = bytes(limits.CHUNK_BYTES_MAX + 1)
    write_commit(log.folder, log.wal.ref, {"bomb.bin": zeros}, [log.wal.head()])
    del zeros
    git(log.folder, "repack", "-q", "-a", "-d")
    last = log.chunk()
    log.append(last)
    start = time.monotonic()
    blobs = _blobs(log)
    assert time.monotonic() - start < 0.5
    assert _good(blobs) == {first, last}
    problems = _problems(blobs)
    assert len(problems) == 1
    assert "larger than" in problems[0]
    assert len(git(log.folder, "log", "--format=%H", log.wal.ref).splitlines()) == 3


def test_fault_13_huge_loose_blob_is_set_aside(log, write_commit):
    """The short way through loose files has the same bound."""
    head = log.append().head
    zeros = bytes(limits.CHUNK_BYTES_MAX + 1)
    write_commit(log.folder, log.wal.ref, {"bomb.bin": zeros}, [head])
    del zeros
    blobs = _blobs(log, head)
    assert _good(blobs) == set()
    assert len(_problems(blobs)) == 1


def test_foreign_files_in_the_log_are_not_chunks(log, git, write_commit):
    """Only names ending in .bin are chunks, at any depth; others are left alone."""
    deep = log.chunk()
    files = {"README": b"x", "a/b/c.bin": deep, "meta.txt": b"y", "attachments/zz": b"z"}
    write_commit(log.folder, log.wal.ref, files)
    assert log.read() == [deep]
    git(log.folder, "gc", "-q")
    assert log.read() == [deep]
