"""Both dialects in one repository, in every order: never a join across, never an unreadable commit.

What lies in the repositories is judged by `reader`, which knows the format and nothing of grit.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from grit.core.errors import GritError
from grit.core.ids import IssueId
from grit.services import issues
from grit.services.actors import init
from grit.services.doctor import diagnose
from grit.services.refresh import refresh
from grit.services.sync import sync
from grit.services.workspace import Ports, Workspace, open_workspace
from grit.services.write import write
from tests.compat import reader
from tests.compat.test_compat import GRIT, HERE, RUST, Era
from tests.faults.machine import CHANGING, grit, need_strace, ok, titles
from tests.hostile.plumbing import run

NATIVE = "refs/grit/wal"
LATER = "refs/grite/wal"
PLACES = ("here", "fetched", "remote", "lost")
"""Where a log can come from."""


class Scene:
    """A clone and its remote, into which logs of both dialects come."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.bare = folder / "origin.git"
        reader.plumb(folder, "init", "-q", "--bare", str(self.bare))
        reader.plumb(folder, "init", "-q", str(self.folder))
        reader.plumb(self.folder, "remote", "add", "origin", str(self.bare))
        self.refused: list[str] = []

    def arrive(self, era: Era, place: str) -> None:
        """Bring a stored log to a place; where another log has its ref already, beside that."""
        head = stored_head(era)
        bundle = str(HERE / f"{era.name}.bundle")
        if place == "remote":
            if has_ref(self.bare, era.ref):
                return
            reader.plumb(self.bare, "fetch", "-q", bundle, f"{era.ref}:{era.ref}")
            return
        if place == "here" and has_ref(self.folder, era.ref):
            place = "fetched"
        folder = era.ref.split("/")[1]
        ref = {
            "here": era.ref,
            "fetched": f"refs/{folder}-remotes/origin/wal",
            "lost": f"refs/grit-lost/{head}",
        }[place]
        reader.plumb(self.folder, "fetch", "-q", bundle, f"+{era.ref}:{ref}")

    def workspace(self) -> Workspace:
        ports = Ports(dict(os.environ), lambda: 1_800_000_000_000, os.urandom)
        return open_workspace(str(self.folder), ports)

    def do(self, work: Callable[[Workspace], object]) -> None:
        """Run one command in a fresh workspace; it may be refused, and the log must hold."""
        workspace = self.workspace()
        try:
            work(workspace)
        except GritError as error:
            self.refused.append(f"{work.__name__}: {error.message}")
        finally:
            workspace.close()
        self.judge()

    def judge(self) -> None:
        """Look at all that is here and at the remote."""
        for folder in (self.folder, self.bare):
            refs = reader.log_refs(folder)
            known = reader.commits(folder, *refs)
            reader.never_joined(known)
            reader.check_metas(folder, (one for one in known.values() if one.is_grite))
            if LATER in refs:
                assert known[refs[LATER]].is_grite


def has_ref(folder: Path, ref: str) -> bool:
    return bool(reader.plumb(folder, "for-each-ref", ref))


def stored_head(era: Era) -> str:
    listed = reader.plumb(HERE, "bundle", "list-heads", str(HERE / f"{era.name}.bundle"))
    return listed.split()[0].decode()


def new(workspace: Workspace) -> None:
    """What `grit new` does."""
    issue = IssueId(os.urandom(16))
    write(workspace, lambda one: issues.create(one, issue, "written here"), lambda it: it.subject)


def first_steps(workspace: Workspace) -> None:
    init(workspace)


def listed(workspace: Workspace) -> None:
    refresh(workspace)


def synced(workspace: Workspace) -> None:
    sync(workspace)


def mended(workspace: Workspace) -> None:
    diagnose(workspace, fix=True)


COMMANDS = {"init": first_steps, "new": new, "sync": synced, "doctor": mended, "ls": listed}


@pytest.mark.parametrize("era", RUST, ids=lambda era: era.name)
@pytest.mark.parametrize("native_first", [True, False], ids=["grit first", "grite first"])
def test_two_dialects_are_never_joined(era: Era, native_first: bool, tmp_path: Path) -> None:
    """From every place, in every order, with every command first: each commit has its own kind."""
    order = (GRIT, era) if native_first else (era, GRIT)
    names = [*COMMANDS]
    for number, places in enumerate(product(PLACES, PLACES)):
        (tmp_path / str(number)).mkdir()
        scene = Scene(tmp_path / str(number))
        at = number + RUST.index(era) + 2 * native_first
        turns = [names[(at + step) % len(names)] for step in range(len(names))]
        for arriving, place in zip(order, places, strict=True):
            scene.arrive(arriving, place)
            scene.do(COMMANDS[turns[0]])
        for name in turns[1:]:
            scene.do(COMMANDS[name])


def test_the_reader_knows_nothing_of_grit() -> None:
    """Who judges shares no code with who is judged."""
    assert "grit" not in {
        line.split()[1].split(".")[0]
        for line in Path(reader.__file__).read_text().splitlines()
        if line.startswith(("import ", "from "))
    }


def test_a_join_across_dialects_is_impossible(tmp_path: Path) -> None:
    """Whatever asks for it: the log refuses the head before any ref or object is made."""
    from grit.git.joins import OtherDialect

    for ours, theirs in ((GRIT, RUST[2]), (RUST[2], GRIT), (GRIT, RUST[0]), (RUST[0], GRIT)):
        (tmp_path / f"{ours.name}-{theirs.name}").mkdir()
        scene = Scene(tmp_path / f"{ours.name}-{theirs.name}")
        scene.arrive(ours, "here")
        scene.arrive(theirs, "lost")
        workspace = scene.workspace()
        for wal_head in (stored_head(theirs),):
            with workspace.wal.lock(), pytest.raises(OtherDialect, match="never joined"):
                workspace.wal.join(wal_head, [])
        assert reader.log_refs(scene.folder)[ours.ref] == stored_head(ours)
        scene.judge()


def test_a_log_that_was_joined_before_is_not_taken_in(tmp_path: Path) -> None:
    """A join across dialects that an earlier grit pushed spoils no other clone, and is named."""
    scene = Scene(tmp_path)
    scene.arrive(RUST[2], "here")
    good = stored_head(RUST[2])
    reader.plumb(scene.folder, "fetch", "-q", str(HERE / "grit.bundle"), f"{NATIVE}:refs/x/native")
    tree = reader.plumb(scene.folder, "rev-parse", f"{good}^{{tree}}").decode().strip()
    spoiled = spoil(scene.folder, tree, stored_head(GRIT), good)
    reader.plumb(scene.folder, "push", "-q", "origin", f"{spoiled}:{LATER}")
    done = run(scene.folder, "sync")
    assert done.status == 1 and "two dialects" in done.err
    assert reader.log_refs(scene.folder)[LATER] == good
    # Where it is the log already, nothing is lost, and doctor says what it is.
    reader.plumb(scene.folder, "update-ref", LATER, spoiled)
    assert len(data(scene.folder, "ls", "--state", "all")["issues"]) > 0
    told = check(scene.folder, "ref")
    assert told["status"] == "warn" and "cannot read" in told["message"]
    assert data(scene.folder, "new", "goes on")["issue_id"]


def spoil(folder: Path, tree: str, *parents: str) -> str:
    """Join two heads by hand, as an earlier grit did."""
    words = [word for parent in parents for word in ("-p", parent)]
    return reader.plumb(folder, "commit-tree", tree, *words, "-m", "WAL: 0 events").decode().strip()


@pytest.mark.parametrize("era", RUST, ids=lambda era: era.name)
def test_the_first_write_beside_a_grite_log_begins_no_second_one(era: Era, tmp_path: Path) -> None:
    """A fresh clone of a folder: the first write is refused, init takes over, the refspec fits."""
    scene = Scene(tmp_path)
    scene.arrive(era, "remote")
    clone = tmp_path / "fresh"
    reader.plumb(tmp_path, "clone", "-q", str(scene.bare), str(clone))
    done = run(clone, "new", "first")
    assert done.status != 0 and "'grit init'" in done.err
    assert not reader.log_refs(clone)
    assert data(clone, "init")["adopted"] == "origin"
    spec = reader.plumb(clone, "config", "--get-all", "remote.origin.fetch").decode().split()
    folder = era.ref.split("/")[1]
    assert spec[1:] == [f"+refs/{folder}/*:refs/{folder}-remotes/origin/*"]
    data(clone, "new", "first")
    data(clone, "sync")
    check_other_tools(scene.bare, era.ref, events=20)


@pytest.mark.parametrize("era", RUST, ids=lambda era: era.name)
def test_the_first_sync_takes_the_log_that_is_there(era: Era, tmp_path: Path) -> None:
    """Without init, too, the refspec is that of the log's dialect, and of no other."""
    scene = Scene(tmp_path)
    scene.arrive(era, "remote")
    data(scene.folder, "sync")
    spec = reader.plumb(scene.folder, "config", "--get-all", "remote.origin.fetch").decode()
    folder = era.ref.split("/")[1]
    assert spec.split()[1:] == [f"+refs/{folder}/*:refs/{folder}-remotes/origin/*"]
    assert reader.log_refs(scene.folder)[era.ref] == stored_head(era)


@pytest.mark.parametrize(
    "spec",
    ["+refs/grite/*:refs/grite-remotes/origin/*", "+refs/*:refs/remotes/origin/*"],
    ids=["tracked", "mirror of all"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_what_was_fetched_says_which_log_it_is(spec: str, packed: bool, tmp_path: Path) -> None:
    """No remote is asked by a first write: refs here are enough, loose or packed."""
    scene = Scene(tmp_path)
    scene.arrive(RUST[2], "remote")
    reader.plumb(scene.folder, "fetch", "-q", "origin", spec)
    if packed:
        reader.plumb(scene.folder, "pack-refs", "--all")
    reader.plumb(scene.folder, "remote", "set-url", "origin", "ssh://nowhere.invalid/x")
    done = run(scene.folder, "new", "first")
    refs = reader.log_refs(scene.folder)
    assert NATIVE not in refs
    if "grite-remotes" in spec:
        assert done.status == 0
        check_other_tools(scene.folder, LATER, events=20)
    else:
        assert "refs/remotes/origin/grite/wal" in done.err


def check_other_tools(folder: Path, ref: str, events: int) -> None:
    """Fail unless a tool that follows prev_wal finds every event, so many of them."""
    head = reader.log_refs(folder)[ref]
    reader.check_metas(folder, reader.commits(folder, head).values())
    found = reader.followed(folder, head)
    assert found.keys() == reader.held(folder, head).keys()
    assert len(found) == events


@pytest.mark.parametrize("era", RUST, ids=lambda era: era.name)
def test_a_second_log_is_not_sent_beside_the_first(era: Era, tmp_path: Path) -> None:
    """A remote that nobody could look at: what was begun here stays, and each way out works."""
    scene = Scene(tmp_path)
    data(scene.folder, "new", "begun here")  # the remote is empty still
    scene.arrive(era, "remote")
    refused = run(scene.folder, "sync")
    record = f"refs/{era.ref.split('/')[1]}-remotes/origin/wal"
    assert refused.status != 0 and f"grit import log {record}" in refused.err
    assert reader.log_refs(scene.bare) == {era.ref: stored_head(era)}
    told = check(scene.folder, "remotes")
    assert told["status"] == "warn" and "import log" in told["plan"]
    # The other log is to count: word for word as the message says.
    told = re.findall(r"'((?:git|grit) [^']+)'", refused.err)
    at = next(place for place, words in enumerate(told) if "update-ref" in words)
    set_by, sync_it, bring = told[at : at + 3]
    subprocess.run(set_by, shell=True, cwd=scene.folder, check=True, timeout=60)
    assert data(scene.folder, *sync_it.split()[1:])["events_received"] == 19
    brought = data(scene.folder, *bring.split()[1:])
    assert brought["added"] == 1 and not brought["set_aside"]
    data(scene.folder, "sync")
    check_other_tools(scene.bare, era.ref, events=20)
    assert [*reader.log_refs(scene.bare)] == [era.ref]
    assert not reader.plumb(scene.folder, "for-each-ref", "refs/grit-lost")
    assert {check(scene.folder, name)["status"] for name in ("ref", "lost", "remotes")} == {"ok"}


def test_events_of_the_other_log_make_a_second_one_needless(tmp_path: Path) -> None:
    """Once its events are here, the log that counts may be sent; doctor and ls are content."""
    scene = Scene(tmp_path)
    data(scene.folder, "new", "begun here")
    scene.arrive(RUST[2], "remote")
    assert run(scene.folder, "sync").status != 0
    assert data(scene.folder, "import", "log", "refs/grite-remotes/origin/wal")["added"] == 19
    data(scene.folder, "sync")
    assert len(reader.held(scene.bare, NATIVE)) == 21
    assert check(scene.folder, "remotes")["status"] == "ok"
    scene.judge()


@pytest.mark.parametrize("era", RUST, ids=lambda era: era.name)
def test_import_brings_events_as_they_are_both_ways(era: Era, tmp_path: Path) -> None:
    """Same ids, same bytes, signatures included; a second import adds nothing."""
    for ours, theirs in ((GRIT, era), (era, GRIT)):
        (tmp_path / ours.name).mkdir()
        scene = Scene(tmp_path / ours.name)
        scene.arrive(ours, "here")
        scene.arrive(theirs, "lost")
        source = f"refs/grit-lost/{stored_head(theirs)}"
        before = reader.held(scene.folder, ours.ref)
        wanted = reader.held(scene.folder, source)
        if ours is era:
            wanted = {key: one for key, one in wanted.items() if one[5] <= 14}
        done = run(scene.folder, "import", "log", source, "--json")
        after = reader.held(scene.folder, ours.ref)
        assert after == {**before, **wanted}
        assert done.status == (0 if ours is GRIT else 1)
        head = reader.log_refs(scene.folder)[ours.ref]
        run(scene.folder, "import", "log", source)
        assert reader.log_refs(scene.folder)[ours.ref] == head
        if ours is era:
            check_other_tools(scene.folder, era.ref, len(after))
            kept = json.loads(done.out)["data"]["set_aside"]
            assert all("other readers" in one["reason"] for one in kept) and kept
        else:
            assert check(scene.folder, "lost")["status"] == "ok"
        scene.judge()


def test_an_import_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed at any of its calls that change a file: whole after the next import, each once."""
    need_strace()
    scene = Scene(tmp_path)
    data(scene.folder, "init")
    scene.arrive(RUST[2], "lost")
    source = stored_head(RUST[2])
    count = reader.held(scene.folder, source).keys()
    whole: list[str] = []
    for number in (10**6, *range(1, 400, 29)):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(scene.folder, copy)
        tracer = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={CHANGING}"]
        inject = ["-e", f"inject={CHANGING}:signal=KILL:when={number}"]
        grit(copy, "import", "log", source, before=[*tracer, *inject], judged=False)
        ok(copy, "import", "log", source)
        whole = whole or titles(copy)
        assert len(whole) == 2
        assert reader.held(copy, NATIVE).keys() >= count
        assert titles(copy) == whole
        shutil.rmtree(copy)


def test_contents_of_attachments_come_along(tmp_path: Path) -> None:
    """Both ways, also where the event was here without its content before."""
    content = b"the content\n" * 100
    (tmp_path / "file.txt").write_bytes(content)
    for ours, theirs in ((GRIT, RUST[2]), (RUST[2], GRIT)):
        (tmp_path / ours.name).mkdir()
        scene = Scene(tmp_path / ours.name)
        scene.arrive(theirs, "here")
        issue = data(scene.folder, "new", "with a file")["issue_id"]
        data(scene.folder, "issue", "attachment", "add", issue, str(tmp_path / "file.txt"))
        document = data(scene.folder, "export")
        reader.plumb(scene.folder, "update-ref", "refs/grit-other/wal", theirs.ref)
        reader.plumb(scene.folder, "update-ref", "-d", theirs.ref)
        shutil.rmtree(scene.folder / ".git/grit/view")
        scene.arrive(ours, "here")
        named = [one for one in document["events"] if one["issue_id"] == issue]
        export = {"events": named, "attachments": []}
        grit(scene.folder, "import", "json", "-", stdin=json.dumps(export).encode())
        words = ("import", "log", "refs/grit-other/wal", "--json")
        brought = json.loads(grit(scene.folder, *words).out)["data"]
        assert brought["attachments"] == (2 if theirs is GRIT else 1)
        place = tmp_path / "out"
        ok(scene.folder, "issue", "attachment", "get", issue, "file.txt", "-o", str(place))
        assert place.read_bytes() == content
        again = json.loads(grit(scene.folder, *words).out)["data"]
        assert again["added"] == again["attachments"] == 0
        scene.judge()


@pytest.mark.parametrize(
    "name", ["HEAD", "refs/none", "-x", "refs/../x", "ab", "zz" * 20, "0" * 40]
)
def test_what_is_no_log_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    """A name that is no ref and no commit id is told, and nothing is stored."""
    scene = Scene(tmp_path)
    done = run(scene.folder, "import", "log", "--", name)
    assert done.status in (2, 3)
    assert not reader.log_refs(scene.folder)


def test_a_ref_is_restored_where_it_stood(tmp_path: Path) -> None:
    """doctor --fix never sets the head of one log at the ref of the other."""
    scene = Scene(tmp_path)
    scene.arrive(RUST[2], "here")
    data(scene.folder, "ls")
    head = stored_head(RUST[2])
    reader.plumb(scene.folder, "update-ref", "-d", LATER)
    assert run(scene.folder, "new", "x").status != 0
    run(scene.folder, "doctor", "--fix")
    assert reader.log_refs(scene.folder) == {LATER: head}
    other = Scene(tmp_path / "other") if (tmp_path / "other").mkdir() is None else None
    assert other is not None
    other.arrive(GRIT, "here")
    data(other.folder, "ls")
    (other.folder / ".git/refs/grite").mkdir(parents=True)
    (other.folder / ".git/refs/grite/wal").write_text("garbage\n")
    run(other.folder, "doctor", "--fix")
    assert reader.log_refs(other.folder) == {NATIVE: stored_head(GRIT)}


def data(folder: Path, *words: str) -> Any:
    """Run grit, which must succeed, and return its JSON data."""
    return ok(folder, *words, "--json").data


def check(folder: Path, name: str) -> Any:
    """Return one check of doctor."""
    found = json.loads(grit(folder, "doctor", "--json").out)["data"]["checks"]
    return next(one for one in found if one["id"] == name)
