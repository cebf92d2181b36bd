"""What a shipped git directory names leads neither out of it, nor to where git would wait.

Git's own files name others: `.git`, `commondir`, HEAD, alternates, the configuration.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.machine import Done, grit, need_strace, ok
from tests.hostile.planted import SECONDS_MAX, git

WRITES = (
    ("new", "x"),
    ("init", "--agents-md"),
    ("config", "set", "sync.auto", "off"),
    ("actor", "init"),
    ("doctor", "--fix"),
    ("import", "json", os.devnull),
    ("daemon", "status"),
    ("ls",),
)


def _everything(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*") if "shipped" not in path.parts}


SHIPPED: dict[str, dict[str, str]] = {
    "commondir, out of it": {".git/HEAD": "ref: refs/heads/main", ".git/commondir": "../.."},
    "commondir, from the root": {
        ".git/HEAD": "ref: refs/heads/main",
        ".git/commondir": "{outside}",
    },
    "a .git file": {".git": "gitdir: ../outside"},
    "a .git file, to within": {".git": "gitdir: inner", "inner/HEAD": "ref: refs/heads/main"},
    "no store": {".git/HEAD": "ref: refs/heads/main", ".git/refs/x": ""},
    "a HEAD without sense": {".git/HEAD": "what", ".git/refs/x": "", ".git/objects/x": ""},
}
"""By what leads away: files, of which git says that they are no repository."""


@pytest.mark.parametrize("what", SHIPPED)
def test_nothing_is_made_where_git_sees_no_repository(tmp_path: Path, what: str) -> None:
    """A folder that only looks like a repository leads to no other folder."""
    outside, shipped = tmp_path / "outside", tmp_path / "shipped"
    for folder in (outside, outside / "grit", shipped):
        folder.mkdir()
    (outside / "HEAD").write_text("ref: refs/heads/main\n")
    for name, text in SHIPPED[what].items():
        path = shipped / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(outside=outside) + "\n")
    asked = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=shipped, capture_output=True)
    assert asked.returncode, "a repository for git: the case is wrong"
    before, inside = _everything(tmp_path), {*shipped.rglob("*")}
    for words in WRITES:
        done = grit(shipped, *words)
        assert done.status == 5 and "not a git repository" in done.err, (words, done)
    assert (_everything(tmp_path), {*shipped.rglob("*")}) == (before, inside)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with issues in a folder of its own, so that what comes to lie beside it is seen."""
    folder = tmp_path / "around" / "clone"
    git(tmp_path, "init", "-q", "-b", "main", "--template=", str(folder))
    git(folder, "commit", "-q", "--allow-empty", "-m", "code")
    for title in ("one", "two"):
        ok(folder, "new", title)
    return folder


def test_agents_md_is_written_in_the_clones_own_tree_alone(clone: Path) -> None:
    """A core.worktree that was shipped names a folder of somebody else's."""
    git(clone, "config", "core.worktree", "../..")
    done = grit(clone, "init", "--agents-md")
    assert done.status == 2 and "core.worktree" in done.err, done
    assert [path.name for path in clone.parent.iterdir()] == ["clone"]


@pytest.mark.parametrize("shape", ["worktree", "submodule"])
def test_agents_md_is_written_where_the_tree_is_the_repositorys(
    clone: Path, tmp_path: Path, shape: str
) -> None:
    """Worktrees and submodules lie apart from their git directory, and know it."""
    if shape == "worktree":
        tree = tmp_path / "tree"
        git(clone, "worktree", "add", "-q", str(tree))
    else:
        git(tmp_path, "init", "-q", "super")
        add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
        git(tmp_path / "super", *add, str(clone), "sub")
        tree = tmp_path / "super" / "sub"
    ok(tree, "init", "--agents-md")
    assert "grit ready" in (tree / "AGENTS.md").read_text()


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_configuration_outside_of_repositories_is_not_changed(
    clone: Path, tmp_path: Path, elsewhere: bool
) -> None:
    """A link to another repository's is a layout of some tools; one to a file is led away."""
    git(clone, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(clone, "config", "--unset-all", "remote.origin.fetch")
    other = tmp_path / "file"
    if not elsewhere:
        git(tmp_path, "init", "-q", "--bare", "other.git")
        other = tmp_path / "other.git" / "config"
    shutil.move(clone / ".git" / "config", other)
    (clone / ".git" / "config").symlink_to(other)
    before = other.read_text()
    done = grit(clone, "doctor", "--fix")
    assert (other.read_text() == before) is elsewhere, done
    assert ("is a link to" in done.err + done.out) is elsewhere, done


def _rich(clone: Path) -> None:
    """Give a clone whatever makes git open one more file."""
    lender = clone / ".git" / "objects" / "s"
    git(clone, "init", "-q", "--bare", "--template=", "lender")
    shutil.move(clone / "lender" / "objects", lender)
    shutil.rmtree(clone / "lender")
    (clone / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (clone / ".git" / "objects" / "info" / "alternates").write_text("s\n")
    git(clone, "repack", "-a", "-d", "-q")
    git(clone, "commit-graph", "write", "--reachable")
    git(clone, "multi-pack-index", "write")
    for title in ("three", "four"):
        ok(clone, "new", title)
    ok(clone, "lock", "acquire", "repo:x", "--local")
    git(clone, "config", "includeIf.onbranch:main.path", "included")
    git(clone, "config", "includeIf.hasconfig:remote.*.url:x.path", "included")


COMMANDS = (("ls",), ("new", "x"), ("doctor",), ("lock", "status", "--local"), ("rebuild",))
_OPENED = re.compile(r'(\d+) .*open(?:at)?\((?:AT_FDCWD, )?"([^"]*)", O_RDONLY(?!.*O_DIRECTORY)')
_STARTED = re.compile(r'(\d+) .*execve\("[^"]*/git"')
_EXCEPTED = re.compile(r"/\.git/(included|grit/.*)$")
"""What an include names (threat-model.md), and grit's own, which has a test of its own."""


def _opened_by_git(clone: Path, trace: Path) -> list[str]:
    """Return what the gits of the commands opened in the git directory, one of a kind."""
    before = ["strace", "-f", "-qq", "-e", "trace=execve,openat,open", "-o", str(trace)]
    found: dict[str, str] = {}
    for words in COMMANDS:
        grit(clone, *words, before=before)
        gits: set[str] = set()
        for line in trace.read_text(errors="replace").split("\n"):
            if started := _STARTED.match(line):
                gits.add(started[1])
            if (opened := _OPENED.match(line)) and opened[1] in gits:
                path = os.path.normpath(os.path.join(clone, opened[2]))
                if path.startswith(f"{clone}/.git/") and not _EXCEPTED.search(path):
                    kind = re.sub(r"[0-9a-f]{38,64}|(?<=objects/)(s/)?[0-9a-f]{2}(?=/)", "*", path)
                    found.setdefault(kind, path)
    return sorted(found.values())


def _ends(clone: Path, *words: str) -> Done:
    done = grit(clone, *words)
    assert done.seconds < SECONDS_MAX, done
    return done


def test_git_waits_for_none_of_what_it_was_seen_to_open(clone: Path, tmp_path: Path) -> None:
    """A pipe at any of the names that git opens here is named before git is started."""
    need_strace()
    _rich(clone)
    original = tmp_path / "original"
    shutil.copytree(clone, original, symlinks=True)
    names = _opened_by_git(clone, tmp_path / "trace")
    assert len(names) > 12, names
    ended = {}
    for name in names:
        shutil.rmtree(clone)
        shutil.copytree(original, clone, symlinks=True)
        path = Path(name)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        ended[name] = [_ends(clone, *words).status for words in COMMANDS[1:4]]
        shutil.rmtree(clone / ".git" / "grit" / "view", ignore_errors=True)
        ended[name].append(_ends(clone, "ls").status)
    assert all(set(statuses) <= {0, 1, 3, 4, 5} for statuses in ended.values()), ended
