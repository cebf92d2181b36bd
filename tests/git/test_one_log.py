"""One log, one answer: what a log holds depends on its commits alone (spec/wal.md).

Random trees, as anybody may push them, are read by every reader, in every way of being stored. Run
more of them with GRIT_SHAPES=2000.
"""

import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from grit.core import limits
from grit.core.errors import GitFailed, WalDamaged
from grit.git import log_reader, loose_tail, objects
from grit.git.log_tree import list_tree, only_chunk
from tests.git.shapes import Entry, History, Store, chunks_of, history

COMMITS = 40
SEEDS = range(max(3, int(os.environ.get("GRIT_SHAPES", "0")) // COMMITS))


def _read(log, head, old=None, known=None):
    """Return the chunks of a log; anything else that is reported fails the test."""
    blobs = list(log.wal.read(head, old, known))
    assert [blob.problem for blob in blobs if blob.problem] == []
    return {blob.data for blob in blobs}


def _loose_only(monkeypatch):
    """Let nothing start git."""
    monkeypatch.setattr(subprocess, "Popen", None)


@pytest.fixture(params=SEEDS)
def seed(request):
    """The seed of a random history."""
    return request.param


@pytest.fixture
def past(log, git, seed):
    """A history of random trees, with forks and merges; the log's ref names its head."""
    made = history(Store(log.folder), seed, COMMITS)
    git(log.folder, "update-ref", log.wal.ref, made.commits[-1])
    return made


def test_loose_and_packed_and_packed_again(log, git, past):
    """The same chunks are read from loose objects, from packs, and from packs with other deltas."""
    head = past.commits[-1]
    whole = past.held(head)
    assert _read(log, head) == whole
    git(log.folder, "repack", "-q", "-a", "-d", "-f")
    assert _read(log, head) == whole
    git(log.folder, "repack", "-q", "-a", "-d", "-f", "--window=50", "--depth=40")
    git(log.folder, "prune-packed", "-q")
    assert _read(log, head) == whole


def test_what_is_new_and_what_was_there_are_all(log, git, past):
    """From every older head: what it holds, and what it does not hold, are the whole log."""
    head = past.commits[-1]
    for packed in (False, True):
        for old in past.commits[:: 7 if packed else 5]:
            assert _read(log, old) == past.held(old)
            _check_news(_read(log, head, old), past, old)
        git(log.folder, "repack", "-q", "-a", "-d")


def test_a_line_of_loose_commits_is_read_as_git_reads_it(log, git, seed, monkeypatch):
    """The reader that starts no process sees what the others see."""
    made = history(Store(log.folder), seed, COMMITS, line=True)
    for old in (None, *made.commits[:-1:9]):
        head = made.commits[-1]
        with monkeypatch.context() as patched:
            _loose_only(patched)
            assert _read(log, head, old) == made.held(head, old)
        monkeypatch.setattr(log_reader, "read_loose_tail", lambda *_: None)
        assert _read(log, head, old) == made.held(head, old)
        monkeypatch.undo()


def test_walking_from_commit_to_commit_finds_the_same(log, past, monkeypatch):
    """The reader for logs that git cannot list is no other reader."""
    monkeypatch.setattr(log_reader, "_proposed", lambda *_: None)
    head = past.commits[-1]
    for old in (None, *past.commits[:-1:6]):
        assert _read(log, head, old) == past.held(head, old)


def _check_news(read, past, old):
    """All that is new must be there; git may list what is old where times of commits go back."""
    head = past.commits[-1]
    assert past.held(head, old) <= read <= past.held(head)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_fetched_in_any_split(log, git, past, tmp_path, open_log, steps):
    """However the commits come, each step adds what it holds, and the end is the whole log."""
    git(tmp_path, "init", "-q", "there")
    there = open_log(tmp_path / "there")
    seen, old = set(), None
    heads = [*past.commits[:: max(1, len(past.commits) // steps)][1:steps], past.commits[-1]]
    for number, head in enumerate(heads):
        git(log.folder, "update-ref", "refs/split/head", head)
        unpack = f"fetch.unpackLimit={1 if number % 2 else 10_000}"
        git(there.folder, "-c", unpack, "fetch", "-q", str(log.folder), "+refs/split/head:refs/new")
        assert git(there.folder, "rev-parse", "refs/new") == head
        if old is not None and git(there.folder, "merge-base", old, head) != old:
            old = None
        seen |= _read(there, head, old)
        old = head
        assert _read(there, head) == past.held(head)
    assert seen == past.held(past.commits[-1])


def test_known_chunks_are_exactly_those_of_the_log(log, past):
    """Who knows chunks already hears of each whether the log lists it, and gets the others."""
    head = past.commits[-1]
    oids = {
        objects.hash_of("sha1", b"blob %d\0%b" % (len(data), data)).encode(): data
        for data in past.held(head)
    }
    known = dict.fromkeys(list(oids)[::2], False) | {b"f" * 40: False}
    assert _read(log, head, known=known) == {oids[oid] for oid in list(oids)[1::2]}
    assert known == {oid: oid != b"f" * 40 for oid in known}


def test_grafts_replaced_objects_and_a_false_graph_change_nothing(log, git, past):
    """What a repository says about commits beside the commits themselves is not listened to."""
    head, first = past.commits[-1], past.commits[0]
    whole = past.held(head)
    git(log.folder, "replace", "-f", head, first)
    assert _read(log, head) == whole
    (log.folder / ".git" / "info").mkdir(exist_ok=True)
    (log.folder / ".git" / "info" / "grafts").write_text(f"{head}\n")
    assert _read(log, head) == whole
    (log.folder / ".git" / "info" / "grafts").unlink()
    git(log.folder, "replace", "-d", head)
    git(log.folder, "commit-graph", "write", "--reachable")
    graph = log.folder / ".git" / "objects" / "info" / "commit-graph"
    data = bytearray(graph.read_bytes())
    graph.chmod(0o644)
    at = _graph_chunk(data, b"CDAT")
    for number in range(len(past.commits)):  # every commit becomes a first one, with no parents
        row = at + number * 36
        data[row + 20 : row + 28] = b"\x70\0\0\0\x70\0\0\0"
    graph.write_bytes(bytes(data))
    assert len(git(log.folder, "rev-list", head).splitlines()) == 1, "the graph does not lie"
    assert _read(log, head) == whole
    for old in past.commits[:-1:8]:
        _check_news(_read(log, head, old), past, old)


def _graph_chunk(data, name):
    """Return where a chunk of a commit-graph file starts."""
    for at in range(8, len(data), 12):
        if data[at : at + 4] == name:
            return int.from_bytes(data[at + 4 : at + 12], "big")
    raise AssertionError(name)


def test_borrowed_objects_are_read(log, git, past, tmp_path, open_log):
    """In a clone that borrows its objects the log is the same; without them it is an error."""
    git(tmp_path, "clone", "-q", "--mirror", "--shared", str(log.folder), "mirror.git")
    mirror = open_log(tmp_path / "mirror.git")
    head = past.commits[-1]
    assert _read(mirror, head) == past.held(head)
    log.folder.rename(tmp_path / "away")
    with pytest.raises(WalDamaged, match=head):
        _read(mirror, head)


def test_a_log_that_is_cut_off_is_refused(log, git, past, tmp_path, open_log):
    """At every depth a shallow clone of the log says so, and none shows a part."""
    head = past.commits[-1]
    git(log.folder, "update-ref", "refs/heads/main", head)
    for depth in (1, 2, 5):
        name = f"cut-{depth}"
        git(tmp_path, "clone", "-q", "-n", f"--depth={depth}", f"file://{log.folder}", name)
        cut = open_log(tmp_path / name)
        with pytest.raises(GitFailed, match="sync"):
            _read(cut, head)


def test_sha256(tmp_path, git, open_log, seed):
    """Repositories with longer ids hold the same."""
    git(tmp_path, "init", "-q", "--object-format=sha256", "wide")
    wide = open_log(tmp_path / "wide")
    made = history(Store(wide.folder, wide=True), seed, COMMITS)
    head = made.commits[-1]
    git(wide.folder, "update-ref", wide.wal.ref, head)
    assert _read(wide, head) == made.held(head)
    git(wide.folder, "repack", "-q", "-a", "-d")
    assert _read(wide, head) == made.held(head)


def _single(log, entries, parents=()):
    store = Store(log.folder)
    return store.commit(store.tree(entries), list(parents), 1_700_000_000)


@pytest.mark.parametrize("packed", [False, True])
def test_an_older_commit_hides_nothing(log, git, packed):
    """A chunk counts although an older commit holds its bytes as an attachment, or as a link."""
    chunk = log.chunk()
    for number, entries in enumerate(
        (
            [Entry(b"40000", b"attachments", [Entry(b"100644", b"a" * 64, chunk)])],
            [Entry(b"120000", b"x.bin", chunk)],
            [Entry(b"100644", b"x", chunk)],
            [Entry(b"40000", b"attachments", [Entry(b"100644", b"x.bin", chunk)])],
        )
    ):
        first = _single(log, entries)
        second = _single(log, [Entry(b"100644", b"y.bin", chunk)], [first])
        if packed:
            git(log.folder, "update-ref", f"refs/packed/{number}", second)
            git(log.folder, "repack", "-q", "-a", "-d")
        assert _read(log, first) == set()
        assert _read(log, second) == _read(log, second, first) == {chunk}


@pytest.mark.parametrize("packed", [False, True])
def test_a_tree_that_was_a_folder_of_attachments_is_read(log, git, packed):
    """The same tree object counts where it is a commit's own, also after it was none."""
    chunk = log.chunk()
    inner = [Entry(b"100644", b"x.bin", chunk)]
    first = _single(log, [Entry(b"40000", b"attachments", inner)])
    second = _single(log, inner, [first])
    if packed:
        git(log.folder, "update-ref", "refs/packed/head", second)
        git(log.folder, "repack", "-q", "-a", "-d")
    assert _read(log, first) == set()
    assert _read(log, second) == {chunk}


@pytest.mark.parametrize(
    "content",
    [b"100644 x.bin\0short", b"x", b"100644x.bin\0" + bytes(20), b"100849 x.bin\0" + bytes(20),
     b" x.bin\0" + bytes(20), b"100644 \0" + bytes(20), b"-100644 x.bin\0" + bytes(20),
     b"1_0 x.bin\0" + bytes(20), b"0o100644 x.bin\0" + bytes(20)],
)  # fmt: skip
def test_of_a_malformed_tree_nothing_counts(log, content, monkeypatch):
    """It is reported alike by all readers, and what other commits name is there."""
    store = Store(log.folder)
    chunk = log.chunk()
    first = _single(log, [Entry(b"100644", b"a.bin", chunk)])
    before = [Entry(b"100644", b"b.bin", log.chunk())]
    tree = store.write("tree", _tree_bytes(store, before) + content)
    head = store.commit(tree, [first], 1_700_000_000)
    for _ in range(2):
        blobs = list(log.wal.read(head, None))
        assert [blob.data for blob in blobs if blob.data is not None] == [chunk]
        assert [blob.oid for blob in blobs if blob.problem] == [tree]
        monkeypatch.setattr(loose_tail, "read_loose", lambda *_: None)


def _tree_bytes(store, entries):
    oid = store.tree(entries)
    path = store.objects / oid[:2] / oid[2:]
    return zlib.decompress(path.read_bytes()).partition(b"\0")[2]


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_named_as_a_chunk_and_is_none_hides_nothing(log, git, packed):
    """A tree or a commit with the name and mode of a file is reported; what is beside is there."""
    store = Store(log.folder)
    chunk = log.chunk()
    good = store.write("blob", chunk)
    tree = store.tree([Entry(b"100644", b"inner", b"1")])
    commit = store.commit(tree, [], 1)
    lines = b"".join(
        b"100644 %d.bin\0" % number + bytes.fromhex(oid)
        for number, oid in enumerate((tree, commit, good))
    )
    head = store.commit(store.write("tree", lines), [], 2)
    if packed:
        listed = "\n".join([head, tree, commit, good, git(log.folder, "rev-parse", f"{head}:")])
        git(
            log.folder, "pack-objects", "-q", ".git/objects/pack/pack", stdin=f"{listed}\n".encode()
        )
        git(log.folder, "prune-packed", "-q")
    blobs = list(log.wal.read(head, None))
    assert [blob.data for blob in blobs if blob.data is not None] == [chunk]
    assert {blob.oid for blob in blobs if blob.problem} == {tree, commit}


def test_many_ways_to_one_folder_are_one(log):
    """Folders that name each other's folders many times over take no longer than what they are."""
    entries = [Entry(b"100644", b"x.bin", log.chunk())]
    for _ in range(limits.TREE_DEPTH_MAX):
        entries = [Entry(b"40000", b"%d" % number, entries) for number in range(40)]
    store = Store(log.folder)
    head = store.commit(_shared_tree(store, entries, {}), [], 1)
    assert len(_read(log, head)) == 1


def _shared_tree(store, entries, done):
    """Write a tree whose folders are one and the same object, once."""
    if id(entries) not in done:
        lines = []
        for mode, name, content in entries:
            oid = (
                _shared_tree(store, content, done)
                if isinstance(content, list)
                else store.write("blob", content)
            )
            lines.append(mode + b" " + name + b"\0" + bytes.fromhex(oid))
        done[id(entries)] = store.write("tree", b"".join(lines))
    return done[id(entries)]


def test_remembering_less_reads_more_and_nothing_else(log, git, past, monkeypatch):
    """When more trees and chunks are seen than are remembered, some are read twice."""
    monkeypatch.setattr(log_reader, "SEEN_OBJECTS_MAX", 3)
    git(log.folder, "repack", "-q", "-a", "-d")
    assert _read(log, past.commits[-1]) == past.held(past.commits[-1])


@pytest.mark.parametrize("packed", [False, True])
def test_an_attachment_up_to_its_bound_is_no_chunk(log, git, packed):
    """20 MB of attachment are neither read with the log nor reported, and are found again."""
    import hashlib

    data = os.urandom(1 << 16) * 320
    name = hashlib.sha256(data).hexdigest()
    log.append(attachments={name: data})
    chunks = len(_read(log, log.wal.head()))
    for _ in range(70):
        log.append()
    if packed:
        git(log.folder, "gc", "-q")
    assert len(_read(log, log.wal.head())) == chunks + 70
    assert log.wal.attachment(name) == data


def test_nothing_hides_an_attachment(log, git):
    """An attachment is found although its bytes lie elsewhere before, or a link bears its name."""
    import hashlib

    data = b"content"
    name = hashlib.sha256(data).hexdigest().encode()
    first = _single(log, [Entry(b"100644", b"x.bin", data)])
    second = _single(
        log, [Entry(b"40000", b"attachments", [Entry(b"120000", name, data)])], [first]
    )
    third = _single(
        log, [Entry(b"40000", b"attachments", [Entry(b"100644", name, data)])], [second]
    )
    fourth = _single(
        log, [Entry(b"40000", b"attachments", [Entry(b"100644", name, b"no")])], [third]
    )
    git(log.folder, "update-ref", log.wal.ref, second)
    assert log.wal.attachment(name.decode()) is None
    git(log.folder, "update-ref", log.wal.ref, fourth)
    assert log.wal.attachment(name.decode()) == data
    git(log.folder, "gc", "-q")
    assert log.wal.attachment(name.decode()) == data


def test_huge_objects_are_not_read(log, git):
    """Trees and chunks beyond the bound are reported; only over the first one git is stopped."""
    store = Store(log.folder)
    zeros = bytes(limits.CHUNK_BYTES_MAX)
    huge = [store.write("blob", zeros + b"%d" % number) for number in range(12)]
    tree = store.write("tree", zeros + b"0")
    chunk = log.chunk()
    lines = b"".join(
        b"100644 %03d.bin\0" % number + bytes.fromhex(oid) for number, oid in enumerate(huge)
    )
    good = b"100644 z.bin\0" + bytes.fromhex(store.write("blob", chunk))
    first = store.commit(store.write("tree", lines + good), [], 1)
    second = store.commit(tree, [first], 2)
    blobs = list(log.wal.read(second, None))
    assert [blob.data for blob in blobs if blob.data is not None] == [chunk]
    assert {blob.oid for blob in blobs if blob.problem} == {*huge, tree}


def test_a_broken_object_is_not_what_its_id_says(log, git, past, loose_path):
    """A whole commit, tree or chunk under another's id is named, wherever it is read."""
    head = past.commits[-1]
    victim = past.commits[len(past.commits) // 2]
    path = loose_path(log.folder, victim)
    path.chmod(0o644)
    shutil.copy(loose_path(log.folder, past.commits[0]), path)
    with pytest.raises(WalDamaged, match=victim):
        _read(log, head)


def test_the_usual_tree_is_read_as_any_other():
    """The shortcut for a tree of one chunk says what the way for all trees says, or nothing."""
    usual = b"100644 " + b"a" * 64 + b".bin\0" + bytes(range(20))
    assert only_chunk(usual) == bytes(range(20)).hex()
    others = usual.replace(b"100644", b"120000"), usual.replace(b".bin", b".bim"), usual * 2
    for content in (usual, *others, usual[:-1], usual.replace(b"a.bin", b"A.bin")):
        found = only_chunk(content)
        listed = list_tree(content, "sha1", 0)
        assert found is None or (listed and [one.oid for one in listed.chunks] == [found])
        assert (found is None) == (content != usual)


@pytest.mark.parametrize("many", [1, 10**9])
def test_many_trees_are_read_as_few_are(log, git, past, loose_path, monkeypatch, many):
    """Whole trees in a row are read in a way of their own; one that is not ends it, and counts."""
    monkeypatch.setattr(log_reader, "_MANY_TREES", many)
    head = past.commits[-1]
    victim = git(log.folder, "rev-parse", f"{past.commits[len(past.commits) // 2]}^{{tree}}")
    assert _read(log, head) == past.held(head)
    loose_path(log.folder, victim).unlink(missing_ok=True)
    blobs = list(log.wal.read(head, None))
    assert victim in {blob.oid for blob in blobs if blob.problem}
    found = {blob.data for blob in blobs if blob.data is not None}
    others = [one for one in past.commits if not _names(log, git, one, victim)]
    assert found >= set().union(*(past.chunks[one] for one in others))


def _names(log, git, commit, tree):
    """Return whether the tree is that of the commit, or may be below it."""
    done = subprocess.run(
        ["git", "-C", str(log.folder), "ls-tree", "-r", "-t", commit], capture_output=True
    )
    return done.returncode != 0 or tree.encode() in done.stdout


def test_the_model_knows_the_definition():
    """The model itself, on the cases that the definition names."""
    inside = [Entry(b"100644", b"x.bin", b"1")]
    assert chunks_of(inside) == {b"1"}
    assert chunks_of([Entry(b"40000", b"attachments", inside)]) == set()
    assert chunks_of([Entry(b"40000", b"a", [Entry(b"40000", b"attachments", inside)])]) == {b"1"}
    assert chunks_of([Entry(b"120000", b"x.bin", b"1")]) == set()
    deep = inside
    for _ in range(8):
        deep = [Entry(b"040000", b"f", deep)]
    assert chunks_of(deep) == {b"1"}
    assert chunks_of([Entry(b"040000", b"f", deep)]) == set()


def test_history_is_what_git_says(log, git):
    """The model's commits are git's, or nothing above would mean anything."""
    made: History = history(Store(Path(log.folder)), 1, COMMITS)
    listed = git(log.folder, "rev-list", made.commits[-1]).split()
    assert sorted(listed) == sorted(made.commits)
