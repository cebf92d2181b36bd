"""Nothing of grit's below the git directory is reached through what is not grit's (spec/wal.md).

The names are those of the table in the code. CI tries every kind of thing at every name with a read
and a write; GRIT_FAULTS=all with every command.
"""

import ast
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from grit.launch import SERVER_LINK, look_around
from grit.services import server_place
from tests.every_command import leaves, line
from tests.faults.machine import FULL_SWEEP, Done, grit, ok
from tests.hostile.planted import (
    FOR_ROOT,
    KINDS,
    PRECIOUS,
    SECONDS_MAX,
    Place,
    Scene,
    git,
    places,
)

A_READ = ("ls",)
A_WRITE = ("new", "more")
APART = {("daemon", "start"), ("daemon", "restart"), ("daemon", "stop")}
"""These start and end processes: `test_shipped_server.py`."""


def _commands(issue: str) -> Iterator[tuple[str, ...]]:
    """Yield every command of the program with words that it takes."""
    return (line(issue, *found) for found in leaves() if found[0] not in APART)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with an issue, a remote and all that grit keeps."""
    top = tmp_path_factory.mktemp("planted")
    git(top, "init", "-q", "--bare", "--template=", "origin.git")
    folder = top / "clone"
    git(top, "init", "-q", "--template=", str(folder))
    git(folder, "remote", "add", "origin", str(top / "origin.git"))
    (folder / "notes.txt").write_text("notes")
    for name in ("core", "files", "git", "view", "services", "cli"):
        package = import_module(f"grit.{name}")
        for module in iter_modules(package.__path__, f"grit.{name}."):
            import_module(module.name)  # here, and not in each process that is forked
    ok(folder, "init")
    for words in (("new", "one"), ("sync",), ("snapshot", "create"), ("db", "verify"), ("ls",)):
        ok(folder, *words)
    return folder


def _facts(clone: Path) -> tuple[str, str]:
    """Return the ids of an actor and an issue of the clone."""
    issue = ok(clone, "ls", "--json").data["issues"][0]["issue_id"]
    return ok(clone, "actor", "current", "--json").data["actor"]["actor_id"], issue


def _tried(place: Place, kind: str) -> bool:
    """Whether it is something else than what belongs there."""
    if kind in FOR_ROOT and os.geteuid() != 0:
        return False
    return not (place.kind == "link" and kind.startswith("a link"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_grits_is_left_alone(clone: Path, tmp_path: Path, kind: str) -> None:
    """Every name, with this in its place: commands end well, and nothing outside is touched."""
    actor_id, issue = _facts(clone)
    commands = [*_commands(issue)] if FULL_SWEEP else [A_READ, A_WRITE]
    wrong = []
    for place in places(actor_id):
        if not _tried(place, kind):
            continue
        scene = None
        for words in commands:
            if scene is None or FULL_SWEEP:
                scene = Scene(clone, tmp_path / "scene", place, kind)
            problem = scene.run(words)
            if problem:
                wrong.append(f"{kind} at {place.path}, {' '.join(words)}: {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_refused_with_one_message(clone: Path, tmp_path: Path, kind: str) -> None:
    """What is no file of grit's at `config.toml` is named, with what to do; exit status 5."""
    place = Place(".git/grit/config.toml", "file")
    if not _tried(place, kind):
        pytest.skip("only root can give files away")
    scene = Scene(clone, tmp_path / "scene", place, kind)
    assert scene.run(("config", "list", "--json")) == ""
    error = json.loads(scene.said())["error"]
    assert error["code"] == "io_error"
    assert error["message"].endswith(f"grit does not use it: {error['details']['way_out']}")
    assert "config.toml" in error["message"]


def test_a_view_that_lies_elsewhere_is_built_anew_for_the_command(
    clone: Path, tmp_path: Path
) -> None:
    """A list is right all the same, and says what lies in the view's place."""
    for path in (".git/grit/view", ".git/grit/view/data.mdb", ".git/grit/view/mark"):
        scene = Scene(clone, tmp_path / "scene", Place(path, "file"), "a link to a folder")
        assert scene.run(("ls",)) == ""
        said = scene.said()
        assert "one" in said and said.count("is a symbolic link") == 1, said
        assert "built in a temporary folder" in said


def _runs(clone: Path, *words: str) -> Done:
    """Run a command, which must end in time; a traceback fails the test."""
    done = grit(clone, *words)
    assert done.seconds < SECONDS_MAX, done
    assert done.status in (0, 1, 3, 4, 5), done
    return done


@pytest.fixture
def copy(clone: Path, tmp_path: Path) -> Path:
    """A copy of the clone that a test may spoil, beside a folder of the user's."""
    shutil.copytree(clone, tmp_path / "copy", symlinks=True)
    (tmp_path / "outside").mkdir()
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["refs", "objects", "config", "packed-refs"])
def test_git_may_be_led_elsewhere_at_the_top(copy: Path, tmp_path: Path, name: str) -> None:
    """Some tools lay a git directory out with links at its top: reading and writing go on."""
    git(copy, "pack-refs", "--all")
    path = copy / ".git" / name
    path.rename(tmp_path / "outside" / name)
    path.symlink_to(tmp_path / "outside" / name)
    assert _runs(copy, "ls").status == 0
    assert _runs(copy, "new", "more").status == 0
    assert "more" in _runs(copy, "ls").out
    assert path.is_symlink()


@pytest.mark.parametrize("name", ["refs/grit", "refs/grit-remotes", "refs/grit-remotes/origin"])
def test_refs_are_not_written_through_a_link(copy: Path, tmp_path: Path, name: str) -> None:
    """Below the top a folder that is a link is refused, and nothing comes to lie behind it."""
    outside = tmp_path / "outside"
    git(copy, "pack-refs", "--all", "--prune")
    shutil.rmtree(copy / ".git" / name, ignore_errors=True)
    (copy / ".git" / name).parent.mkdir(exist_ok=True)
    (copy / ".git" / name).symlink_to(outside)
    _runs(copy, "ls")
    written = _runs(copy, "new", "more")
    if name == "refs/grit":
        assert written.status == 5 and "refs/grit is a symbolic link" in written.err
    _runs(copy, "snapshot", "gc")
    assert not [*outside.iterdir()]


def test_objects_are_not_written_through_a_link(copy: Path, tmp_path: Path) -> None:
    """Whichever of the 256 folders is a link: an append is refused, and leaves nothing there."""
    outside = tmp_path / "outside"
    for number in range(256):
        folder = copy / ".git" / "objects" / f"{number:02x}"
        if not folder.exists():
            folder.symlink_to(outside)
    done = _runs(copy, "new", "more")
    assert done.status == 5 and "is a symbolic link" in done.err, done
    assert not [*outside.iterdir()]


@pytest.mark.parametrize("kind", ["a link to a file", "a link to nothing", "a pipe", "a socket"])
@pytest.mark.parametrize("name", ["refs/grit/wal.lock", "refs/grit/wal", "packed-refs", "shallow"])
def test_odd_files_of_gits_stop_nobody(copy: Path, tmp_path: Path, name: str, kind: str) -> None:
    """What is no file at a name of git's is neither waited for, nor written or removed through."""
    if name == "packed-refs" and kind == "a link to nothing":
        pytest.skip("an empty list, as for git")
    outside = tmp_path / "outside"
    (outside / "file").write_text(PRECIOUS)
    path = copy / ".git" / name
    path.unlink(missing_ok=True)
    KINDS[kind](path, outside)
    for words in (("ls",), ("new", "more")):
        done = _runs(copy, *words)
        assert "precious words" not in done.err + done.out
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", PRECIOUS)]


@pytest.mark.parametrize(
    "place", ["logs/refs/grit/snapshots", "logs/refs/grit", "refs/grit/snapshots", "refs/grit"]
)
def test_refs_are_not_removed_through_a_link(copy: Path, tmp_path: Path, place: str) -> None:
    """Removing snapshots removes no file, and writes none, behind a link to a folder."""
    for title in ("two", "three", "four"):
        ok(copy, "new", title)
        ok(copy, "snapshot", "create")
    names = [path.name for path in (copy / ".git" / "refs" / "grit" / "snapshots").iterdir()]
    assert len(names) == 4
    git(copy, "pack-refs", "--all", "--prune")
    inner = tmp_path / "outside" / "snapshots"
    inner.mkdir()
    for name in names:
        for folder in (inner, tmp_path / "outside"):
            (folder / name).write_text(PRECIOUS)
    path = copy / ".git" / place
    if path.exists():
        path.rename(tmp_path / "before")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tmp_path / "outside")
    before = {str(one): one.lstat().st_mtime_ns for one in (tmp_path / "outside").rglob("*")}
    _runs(copy, "snapshot", "gc")
    after = {str(one): one.lstat().st_mtime_ns for one in (tmp_path / "outside").rglob("*")}
    assert after == before


WAITED_FOR = (
    "HEAD", "config", "config.worktree", "commondir", "shallow", "packed-refs", "info/grafts",
    "objects/info/alternates", "objects/info/commit-graph",
    "objects/info/commit-graphs/commit-graph-chain", "objects/pack/multi-pack-index",
    "refs/replace", "refs/grit/x", "refs/grit/locks/x", "refs/grit/snapshots/1",
    "refs/grit-remotes/origin/locks/x", "refs/grit-remotes/origin/snapshots/1",
)  # fmt: skip
"""Names at which git itself opens what lies there."""


@pytest.mark.parametrize("kind", ["a link to /dev/zero", "a pipe", "a socket"])
@pytest.mark.parametrize("name", WAITED_FOR)
def test_git_waits_for_nothing(copy: Path, tmp_path: Path, name: str, kind: str) -> None:
    """What git would wait for, or read without end, is found before git is started."""
    if name == "config.worktree":
        git(copy, "config", "core.repositoryFormatVersion", "1")
        git(copy, "config", "extensions.worktreeConfig", "true")
    path = copy / ".git" / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path, tmp_path / "outside")
    shutil.rmtree(copy / ".git" / "grit" / "view")
    commands = [("ls",), ("doctor",)] + [("lock", "status")] * name.startswith("refs/grit")
    ended = [_runs(copy, *words) for words in commands]
    assert name == "info/grafts" or any(path.name in done.err + done.out for done in ended)


@pytest.mark.parametrize("name", ["HEAD", "config"])
def test_a_bare_repository_is_looked_at_before_git_is(tmp_path: Path, name: str) -> None:
    """Discovery that git is asked for ends, too."""
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    (tmp_path / "bare.git" / name).unlink()
    os.mkfifo(tmp_path / "bare.git" / name)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".git").write_text("gitdir: ../bare.git\n")
    for done in (
        _runs(tmp_path / "bare.git", "ls"),
        _runs(tmp_path / "work", "ls"),
        grit(tmp_path, "ls", environ={"GIT_DIR": "bare.git"}),
    ):
        assert done.status in (4, 5) and f"{name} is a pipe" in done.err, done


def _waits_for_collections(copy: Path) -> None:
    """Wait until no git runs for this clone."""
    marker = f"--git-dir={copy}/.git".encode()
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        lines = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                lines.append(process.read_bytes())
        if not any(marker in line.split(b"\0") for line in lines):
            return
        time.sleep(0.05)
    raise AssertionError("a git is still running")


@pytest.mark.parametrize("place", ["worktrees", "worktrees/x", "rr-cache", "objects/ab"])
def test_no_collection_goes_through_a_link(copy: Path, tmp_path: Path, place: str) -> None:
    """Files of the user's behind a link that was shipped are there after an append."""
    folder = copy / ".git" / "objects" / "17"
    folder.mkdir(exist_ok=True)
    for n in range(40):
        (folder / f"{n:038x}").write_bytes(b"no object")
    for words in (("gc.auto", "1"), ("gc.pruneExpire", "now"), ("gc.worktreePruneExpire", "now")):
        git(copy, "config", *words)
    inner = tmp_path / "outside" / ("d" * 40)
    inner.mkdir()
    names = ["letter.tex", "gitdir", "preimage", "tmp_obj_mine"]
    for name in names:
        for path in (inner / name, tmp_path / "outside" / name):
            path.write_text(PRECIOUS)
            os.utime(path, (0, 0))
    path = copy / ".git" / place
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path / "outside")
    assert _runs(copy, "new", "more").status == 0
    _waits_for_collections(copy)
    assert {path.name for path in inner.iterdir()} == {*names}
    assert {path.name for path in (tmp_path / "outside").iterdir()} == {*names, inner.name}


ALLOWED = {
    "a name of git's at the top, which is looked at alone": (
        "cli/follow.py:_check_gone daemon/worker.py:Worker._stamp_git_config "
        "git/gitconfig.py:_stamp git/leftovers.py:local_remote git/loose_tail.py:read_loose_tail "
        "git/refs.py:_packed_stamp git/repository.py:_walk_up git/repository.py:_lstat "
        "git/pitfalls.py:look_ahead git/pitfalls.py:_pointed "
        "git/repository.py:Repository.in_own_worktree git/kept.py:look_after "
        "git/kept.py:_is_loose git/upkeep.py:_has_say "
        "services/checks.py:check_repository "
        "services/places.py:is_cut git/repository.py:is_git_directory "
        "git/watch.py:_inode git/watch.py:_is_folder git/watch.py:_folders"
    ),
    "a path that the user gave": (
        "cli/edit.py:read_file cli/exchange.py:_opened cli/manual.py:man "
        "git/remotes.py:find_remote git/remotes.py:_check_place "
        "services/attachments.py:save services/export.py:save"
    ),
    "of the system, or a temporary folder": (
        "cli/daemon.py:_used cli/foreground.py:start_pager cli/lock_run.py:_in_foreground "
        "cli/main.py:_open_missing_streams cli/terminal.py:forget daemon/child.py:_practise "
        "daemon/child.py:_let_go daemon/child.py:become_one_of daemon/child.py:_open_streams "
        "daemon/code.py:_stamp daemon/door.py:listen daemon/door.py:_runtime_folder "
        "daemon/server.py:Server._look_around daemon/server.py:Server._leave "
        "git/transport.py:fetch_objects git/log_reader.py:Trees.to_file "
        "services/import_json.py:_Contents.__init__ services/long_texts.py:LongTexts._keep_events "
        "daemon/warming.py:_bring_up git/watch.py:network_type "
        "launch.py:_has_terminal "
        "launch.py:pass_on services/session.py:_text view/database.py:Database.temporary"
    ),
    "a descriptor that was checked, or a look at the link of the server": (
        "daemon/door.py:identity daemon/server.py:_bound_log launch.py:_look_into "
        "launch.py:_pointed services/server_place.py:_may_start services/server_place.py:start "
        "services/server_place.py:_up view/database.py:Database._copy"
    ),
}
OPENING = {
    *"open stat lstat rename replace renames unlink remove mkdir makedirs rmdir scandir".split(),
    *"listdir walk fwalk link symlink readlink utime chmod chown truncate mkfifo mknod".split(),
}
LOOKING = {"exists", "lexists", "isdir", "isfile", "islink", "getsize", "getmtime"}


def _opening(tree: ast.AST, where: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the function in which a path is opened, looked at, renamed or removed."""
    for node in ast.iter_child_nodes(tree):
        inner = where
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = (*where, node.name)
        if isinstance(node, ast.Call):
            module, _, name = ast.unparse(node.func).rpartition(".")
            if (
                (module, name) == ("", "open")
                or (module == "os" and name in OPENING)
                or module in ("shutil", "tempfile")
                or (module == "os.path" and name in LOOKING)
            ):
                yield ".".join(where)
        yield from _opening(node, inner)


def test_the_room_of_private_files_is_the_one_door() -> None:
    """Nothing else in grit opens, lists, renames or removes a path, but what stands in the list."""
    package = Path(__file__).parents[2] / "grit"
    found = {
        f"{path.relative_to(package).as_posix()}:{place}"
        for path in package.rglob("*.py")
        if path.parent.name != "files"
        for place in _opening(ast.parse(path.read_text()))
    }
    assert found == {place for places_ in ALLOWED.values() for place in places_.split()}


def test_the_launcher_looks_behind_no_link(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `grit` that leads elsewhere has no server, and none is started for it."""
    outside = tmp_path / "outside"
    os.symlink("/nowhere", outside / SERVER_LINK)
    shutil.rmtree(copy / ".git" / "grit")
    (copy / ".git" / "grit").symlink_to(outside)
    monkeypatch.chdir(copy)
    assert look_around([]) == (None, None)
    server_place.start_unasked(f"{copy}/.git/grit", os.environ)
    assert os.listdir(outside) == [SERVER_LINK]
