"""Odd commits: what git takes for one hides nothing, and what cannot be read is not joined."""

import hashlib
import os
import re
import zlib
from types import SimpleNamespace

import pytest

from grit.core.errors import GitFailed, WalDamaged
from grit.git import log_reader, objects, pitfalls
from grit.services import checks
from tests.git.shapes import Entry, Store


def _read(log, head, old=None):
    """Return the chunks of a log; anything else that is reported fails the test."""
    blobs = list(log.wal.read(head, old))
    assert [blob.problem for blob in blobs if blob.problem] == []
    return {blob.data for blob in blobs}


def _single(log, entries, parents=()):
    store = Store(log.folder)
    return store.commit(store.tree(entries), list(parents), 1_700_000_000)


ODD_COMMITS = {
    "17 MB of message": lambda raw: raw + b"x" * 17_000_000,
    "17 MB of a header": lambda raw: raw.replace(b"\n\n", b"\nx " + b"y" * 17_000_000 + b"\n\n", 1),
    "a header that is called parents": lambda raw: raw.replace(b"author", b"parents x\nauthor", 1),
    "a header that is called parent": lambda raw: raw.replace(b"author", b"parentage x\nauthor", 1),
    "its end in a parent": lambda raw: raw[: raw.index(b"author") - 1],
    "ids in capitals": lambda raw: raw.replace(*(raw[46:93], b"parent " + raw[53:93].upper())),
    "a second tree": lambda raw: raw.replace(b"author", b"tree " + b"1" * 40 + b"\nauthor", 1),
    "parents behind the author": lambda raw: raw.replace(
        b"\n\n", b"\nparent " + b"1" * 40 + b"\n\n", 1
    ),
    "a signature with parents": lambda raw: raw.replace(
        b"\n\n", b"\nmergetag x\n parent " + b"1" * 40 + b"\n\n", 1
    ),
}


@pytest.mark.parametrize("name", ODD_COMMITS)
def test_odd_commits_hide_nothing(log, git, name, monkeypatch):
    """What git takes for a commit is one: all behind it counts, for a reader of all and of news."""
    store = Store(log.folder)
    chunks = [log.chunk() for _ in range(4)]
    heads = [_single(log, [Entry(b"100644", b"0.bin", chunks[0])])]
    for number in (1, 2, 3):
        tree = store.tree([Entry(b"100644", b"%d.bin" % number, chunks[number])])
        commit = store.commit(tree, heads[-1:], number)
        if number == 2:
            raw = zlib.decompress((store.objects / commit[:2] / commit[2:]).read_bytes())
            commit = store.write("commit", ODD_COMMITS[name](raw.partition(b"\0")[2]))
        heads.append(commit)
    git(log.folder, "update-ref", log.wal.ref, heads[-1])
    listed = git(log.folder, "rev-list", heads[-1]).split()
    kept = chunks if len(listed) == 4 else chunks[2:]
    for packed in (False, True):
        if packed:
            git(log.folder, "repack", "-q", "-a", "-d")
        assert _read(log, heads[-1]) == set(kept)
        assert _read(log, heads[-1], heads[0]) == set(chunks[1:] if kept is chunks else kept)
    monkeypatch.setattr(log_reader, "_proposed", lambda *_: None)
    assert _read(log, heads[-1]) == set(kept)


def test_commits_that_cannot_be_read_are_not_joined(log, git, loose_path):
    """The log's ref does not move onto what nobody could read any more."""
    ours = log.append().head
    missing = _single(log, [Entry(b"100644", b"x.bin", log.chunk())], [ours])
    theirs = _single(log, [Entry(b"100644", b"y.bin", log.chunk())], [missing])
    loose_path(log.folder, missing).unlink()
    with pytest.raises(WalDamaged):
        log.wal.join(theirs, [])
    assert log.wal.head() == ours
    bad = Store(log.folder).write("commit", b"tree " + b"1" * 40 + b"\nparent x" + b"y" * 50)
    for head in (bad, _single(log, [Entry(b"100644", b"z.bin", log.chunk())], [bad])):
        with pytest.raises(WalDamaged):
            log.wal.join(head, [])
    assert log.wal.head() == ours


@pytest.mark.parametrize("line", ["tree", "parent"])
def test_ids_of_another_length_break_a_commit_for_every_reader(log, git, line):
    """A log of SHA-1 objects has no id of 64 digits; git refuses such a commit, too."""
    store = Store(log.folder)
    first = _single(log, [Entry(b"100644", b"0.bin", log.chunk())])
    second = _single(log, [Entry(b"100644", b"1.bin", log.chunk())], [first])
    raw = zlib.decompress((store.objects / second[:2] / second[2:]).read_bytes())
    longer = re.sub(line.encode() + b" [0-9a-f]{40}", rb"\g<0>" + b"0" * 24, raw, count=1)
    odd = store.write("commit", longer.partition(b"\0")[2])
    head = _single(log, [Entry(b"100644", b"2.bin", log.chunk())], [odd])
    for old in (None, first):
        with pytest.raises(WalDamaged, match=odd):
            _read(log, head, old)
    above = _single(log, [Entry(b"100644", b"3.bin", log.chunk())], [head])
    assert len(_read(log, above, head)) == 1


@pytest.mark.parametrize("what", ["commit", "tree", "chunk", "pack"])
def test_a_pipe_in_the_place_of_an_object_is_not_waited_for(
    log, git, loose_path, what, monkeypatch
):
    """It is named, with what to do; git would wait for who writes into it."""
    head = log.append().head
    tree = git(log.folder, "rev-parse", f"{head}:")
    chunk = git(log.folder, "ls-tree", "--object-only", tree)
    pack = log.folder / ".git" / "objects" / "pack" / "pack-1.idx"
    oids = {"commit": head, "tree": tree, "chunk": chunk}
    path = pack if what == "pack" else loose_path(log.folder, oids[what])
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    monkeypatch.setattr(pitfalls, "_sound", set())
    with pytest.raises(GitFailed, match="is a pipe"):
        log_reader.commit_trees(log.wal.repository, head, None)
    found = checks.check_ref(
        SimpleNamespace(repository=log.wal.repository),
        SimpleNamespace(name=log.wal.ref, head=head, problem=None, damaged=False),
        checks.ViewState(None, None, False),
    )
    assert found.status == "error" and "is a pipe" in found.message


@pytest.mark.parametrize("line", ["{}", '"{}"', "../../../{name}/.git/objects"])
def test_nor_is_one_in_a_store_that_is_borrowed_from(log, git, tmp_path, line, monkeypatch):
    """A store of a store is looked at as one's own is, however its path is written."""
    head = log.append().head
    lenders = [log.folder.parent / name for name in ("lender", "lender2")]
    for lender in lenders:
        git(tmp_path, "init", "-q", str(lender))
    for borrower, lender in zip((log.folder, lenders[0]), lenders, strict=True):
        info = borrower / ".git" / "objects" / "info"
        info.mkdir(exist_ok=True)
        path = lender / ".git" / "objects"
        (info / "alternates").write_text(f"# of\n{line.format(path, name=lender.name)}\n")
    pipe = lenders[1] / ".git" / "objects" / head[:2] / head[2:]
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    monkeypatch.setattr(pitfalls, "_sound", set())
    with pytest.raises(GitFailed, match="is a pipe"):
        log_reader.commit_trees(log.wal.repository, head, None)


@pytest.mark.parametrize("new", [False, True])
def test_a_git_that_dies_is_no_end_of_the_log(log, git, new, monkeypatch):
    """When the reader of commits is killed in the middle, the rest is read all the same."""
    heads = [log.append().head for _ in range(70)]
    git(log.folder, "gc", "-q")
    real = log_reader.read_listed

    def dying(*words):
        for number, found in enumerate(real(*words)):
            if number == 9:
                raise log_reader.NotWhole
            yield found

    monkeypatch.setattr(log_reader, "read_listed", dying)
    assert len(_read(log, heads[-1], heads[0] if new else None)) == (69 if new else 70)


def test_a_loose_object_with_a_false_size_is_none(log):
    """Git does not read it; neither does the reader of loose files, whatever its hash is."""
    store = Store(log.folder)
    chunk = log.chunk()
    framed = b"blob 1\0" + chunk
    oid = objects.hash_of("sha1", framed)
    path = store.objects / oid[:2] / oid[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(framed))
    tree = store.write("tree", b"100644 x.bin\0" + bytes.fromhex(oid))
    head = store.commit(tree, [], 1)
    assert [blob.data for blob in log.wal.read(head, None)] == [None]


def test_a_policy_that_forbids_sha1_does_not_forbid_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenSSL allows it only for what is no security, the same hash is had by saying so."""
    real = hashlib.sha1

    def strict(data: bytes, *, usedforsecurity: bool = True) -> "hashlib._Hash":
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return real(data)

    monkeypatch.setattr(hashlib, "sha1", strict)
    new_hash = objects.hash_function.__wrapped__("sha1")
    assert new_hash(b"blob 0\0").hexdigest() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
