"""Discovery of the git repository around a folder (spec/wal.md, Repositories).

The usual repository is found with a few `stat` calls; everything unusual is asked of git, which
knows safe.directory, ceilings, foreign owners and odd layouts.
"""

import os
import re
import stat
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, IoFailed
from grit.core.ids import parse_number
from grit.core.limits import GIT_CONFIG_BYTES_MAX, GIT_POINTER_BYTES_MAX
from grit.files.names import GRIT, REFS
from grit.files.private import Folder, failed, read_plain

_ASK_VARIABLES: Final = (
    "GIT_DIR",
    "GIT_COMMON_DIR",
    "GIT_WORK_TREE",
    "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_OBJECT_DIRECTORY",
    "GIT_TEST_ASSUME_DIFFERENT_OWNER",
)
_EXTENSIONS: Final = frozenset(
    {
        "noop",
        "noop-v1",
        "objectformat",
        "compatobjectformat",
        "partialclone",
        "preciousobjects",
        "refstorage",
        "relativeworktrees",
        "worktreeconfig",
    }
)
_HEAD: Final = re.compile(rb"ref:\s*refs/|[0-9a-fA-F]{40}")
"""How a HEAD begins that names a branch or a commit."""
_PROMISOR: Final = "remote.promisor"
"""Under this key the parsed config holds the name of the remote with `promisor = true`."""
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_SHARED: Final = frozenset({"group", "all", "world", "everybody", "2"})
_GROUP_MAY_WRITE: Final = 0o020


class Repository(NamedTuple):
    """One repository as seen from one worktree; all paths are absolute."""

    git_dir: str
    common_dir: str
    worktree: str | None
    object_format: str
    """`sha1` or `sha256`."""
    ref_storage: str
    """`files` or `reftable`."""
    bare: bool
    objects_dir: str
    promisor: str | None
    """The remote that holds the missing objects of a partial clone."""

    @property
    def in_own_worktree(self) -> bool:
        """Whether the working tree's `.git` leads here; not where a setting alone names it."""
        if self.worktree is None:
            return False
        found = f"{self.worktree}/.git"
        try:
            if not os.path.isdir(found):
                found = _pointed(found, b"gitdir: ", self.worktree)
        except _Unusual:
            return False
        return os.path.realpath(found) == os.path.realpath(self.git_dir)

    @property
    def grit_dir(self) -> str:
        """Folder of grit's own files, shared by all worktrees."""
        return f"{self.common_dir}/grit"

    @property
    def private(self) -> Folder:
        """The same folder, to open; nothing else is how what lies in it is reached."""
        return private_folder(self.common_dir)


def private_folder(common_dir: str) -> Folder:
    """Return grit's folder in a git directory."""
    return Folder(common_dir, (GRIT,), shared=partial(_is_shared, common_dir))


def git_folder(common_dir: str, name: str) -> tuple[Folder, str]:
    """Return the folder of a name of git's, such as a ref or its lock, and the last part.

    What lies at the top (`refs`) may be a link, as it may for git; what is below may not.
    """
    *above, last = name.split("/")
    return Folder("/".join((common_dir, *above[:1])), tuple(above[1:]), REFS), last


def _is_shared(common_dir: str) -> bool:
    """Whether the group of the git directory may write to it, by git's configuration."""
    value = _format_values(common_dir).get("core.sharedrepository", "").lower()
    if value in _SHARED or value in _TRUE:
        return True
    mode = parse_number(value, octal=True) if len(value) > 1 else None
    return mode is not None and mode & _GROUP_MAY_WRITE != 0


class _Unusual(Exception):
    """Something that git itself should judge."""


class _Place(NamedTuple):
    git_dir: str
    common_dir: str
    worktree: str


def discover(directory: str, environ: Mapping[str, str]) -> Repository:
    """Return the repository that contains `directory`.

    Raises GitFailed when there is none, when git refuses it (another owner), or when it has a
    format that grit does not know. Nothing of a repository is read before its owner was checked.
    """
    if environ.get("GIT_QUARANTINE_PATH"):
        raise GitFailed("grit cannot run inside a receive hook: its objects are in quarantine")
    start = os.path.realpath(directory)
    if any(name in environ for name in _ASK_VARIABLES):
        return _ask_git(start, environ)
    try:
        place = _walk_up(start)
        values = _format_values(place.common_dir)
        return _usual(place, values)
    except _Unusual:
        return _ask_git(start, environ)


def _walk_up(start: str) -> _Place:
    """Find `.git` as git does; raise _Unusual for whatever is not a plain own repository."""
    directory = start
    device: int | None = None
    while True:
        try:
            here = os.stat(directory)
            if device is not None and here.st_dev != device:
                raise _Unusual
            device = here.st_dev
            found = _lstat(f"{directory}/.git")
            if found is None and _lstat(f"{directory}/HEAD") is not None:
                raise _Unusual  # a bare repository, or the inside of one
        except OSError as error:
            if directory == start and isinstance(error, FileNotFoundError):
                raise GitFailed(f"no such folder: {start}") from error
            raise _Unusual from error
        if found is not None:
            return _place(directory, here.st_uid, found)
        parent = os.path.dirname(directory)
        if parent == directory:
            raise GitFailed(f"no git repository in {start} or above; run 'git init' first")
        directory = parent


def _place(worktree: str, owner: int, found: os.stat_result) -> _Place:
    own = os.geteuid() if hasattr(os, "geteuid") else None
    if own is None or owner != own or found.st_uid != own:
        raise _Unusual
    git_dir = f"{worktree}/.git"
    if stat.S_ISREG(found.st_mode):
        git_dir = _pointed(git_dir, b"gitdir: ", worktree)
        at = _lstat(git_dir)
        if at is None or at.st_uid != own or not stat.S_ISDIR(at.st_mode):
            raise _Unusual
    elif not stat.S_ISDIR(found.st_mode):
        raise _Unusual
    common_dir = git_dir
    if _lstat(f"{git_dir}/commondir") is not None:
        common_dir = _pointed(f"{git_dir}/commondir", b"", git_dir)
    if not is_git_directory(git_dir, common_dir):
        raise _Unusual
    return _Place(git_dir, common_dir, worktree)


def is_git_directory(git_dir: str, common_dir: str) -> bool:
    """Whether git would take it for one, so that nothing is made where no repository is."""
    head = f"{git_dir}/HEAD"
    try:
        link = os.readlink(head) if os.path.islink(head) else ""
        line = read_plain(head, GIT_POINTER_BYTES_MAX, cut=True) if not link else b""
    except OSError:
        return False
    named = link.startswith("refs/") or _HEAD.match(line) is not None
    return named and all(os.path.isdir(f"{common_dir}/{name}") for name in ("objects", "refs"))


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _pointed(path: str, prefix: bytes, base: str) -> str:
    """Return the absolute path that a `.git` or `commondir` file names."""
    try:
        line = read_plain(path, GIT_POINTER_BYTES_MAX, cut=True)
    except OSError as error:
        raise _Unusual from error
    target = line.removeprefix(prefix).rstrip(b"\r\n")
    if not line.startswith(prefix) or not target or b"\n" in target or b"\0" in target:
        raise _Unusual
    return os.path.realpath(os.path.join(base, os.fsdecode(target)))


def _usual(place: _Place, values: dict[str, str]) -> Repository:
    bare = values.get("core.bare", "").lower() in _TRUE
    shared_config = values.get("extensions.worktreeconfig", "").lower() in _TRUE
    if bare or shared_config or "core.worktree" in values:
        raise _Unusual
    _check_format(values)
    versioned = values.get("core.repositoryformatversion", "0") == "1"
    if not versioned and ("extensions.objectformat" in values or "extensions.refstorage" in values):
        raise _Unusual
    return Repository(
        git_dir=place.git_dir,
        common_dir=place.common_dir,
        worktree=place.worktree,
        object_format=_object_format(values.get("extensions.objectformat", "sha1").lower()),
        ref_storage=_ref_storage(values),
        bare=False,
        objects_dir=f"{place.common_dir}/objects",
        promisor=values.get(_PROMISOR) or values.get("extensions.partialclone"),
    )


def _check_format(values: dict[str, str]) -> None:
    version = values.get("core.repositoryformatversion", "0")
    if version not in ("0", "1"):
        raise GitFailed(f"the repository has format version {version}, which grit does not know")
    if version == "0":
        return
    for key in values:
        section, _, name = key.partition(".")
        if section == "extensions" and name not in _EXTENSIONS:
            raise GitFailed(f"the repository uses git extension '{name}', unknown to grit")


def _object_format(name: str) -> str:
    if name not in ("sha1", "sha256"):
        raise GitFailed(f"the repository has objects of format '{name}', unknown to grit")
    return name


def _ref_storage(values: dict[str, str]) -> str:
    if values.get("core.repositoryformatversion", "0") == "0":
        return "files"
    name = values.get("extensions.refstorage", "files").lower()
    if name not in ("files", "reftable"):
        raise GitFailed(f"the repository stores refs as '{name}', unknown to grit")
    return name


def _format_values(common_dir: str) -> dict[str, str]:
    """Return `core.*`, `extensions.*` and the promisor of the repository's own config file.

    Git reads them there without following includes, so a few lines suffice; a file that uses
    more of the syntax is given to git.
    """
    path = f"{common_dir}/config"
    try:
        data = read_plain(path, GIT_CONFIG_BYTES_MAX)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise failed(f"cannot read {path}", error) from error
    values = _parse_config(data.decode(errors="surrogateescape"))
    return _parse_config_with_git(path) if values is None else values


def _parse_config(text: str) -> dict[str, str] | None:
    values: dict[str, str] = {}
    head = section = ""
    for raw in text.split("\n"):
        line = raw.strip()
        if line.endswith("\\"):
            return None
        if line.startswith("["):
            head, _, line = line.partition("]")
            head = head[1:].strip()
            section, line = head.lower(), line.strip()
        if not line or line[0] in "#;" or not _is_asked(section):
            continue
        key, equals, value = line.partition("=")
        if section.startswith("remote"):
            if key.strip().lower() == "promisor" and value.strip().lower() in _TRUE:
                values[_PROMISOR] = head[6:].strip().strip('"')
            continue
        if any(mark in value for mark in '"\\#;'):
            return None
        values[f"{section}.{key.strip().lower()}"] = value.strip() if equals else "true"
    return values


def _is_asked(section: str) -> bool:
    return section in ("core", "extensions") or section.startswith('remote "')


def _parse_config_with_git(path: str) -> dict[str, str]:
    from grit.git.process import run

    done = run(None, "config", "--file", path, "--list", "-z")
    if done.status != 0:
        raise GitFailed(f"git cannot read {path}: {done.reason}")
    values = {}
    for item in done.stdout.decode(errors="surrogateescape").split("\0"):
        key, newline, value = item.partition("\n")
        if key.startswith(("core.", "extensions.")):
            values[key] = value if newline else "true"
        elif key.startswith("remote.") and key.endswith(".promisor") and value.lower() in _TRUE:
            values[_PROMISOR] = key[len("remote.") : -len(".promisor")]
    return values


def _ask_git(directory: str, environ: Mapping[str, str]) -> Repository:
    from grit.git.pitfalls import look_ahead
    from grit.git.process import run, text_lines

    look_ahead(directory, environ)
    try:
        # The answers come in one call; paths first, then the plain words.
        done = run(
            None,
            "rev-parse",
            "--path-format=absolute",
            "--git-dir",
            "--git-common-dir",
            "--git-path",
            "objects",
            "--is-bare-repository",
            "--is-inside-work-tree",
            "--show-object-format",
            directory=directory,
            environ=environ,
        )
    except IoFailed as error:
        raise GitFailed(f"cannot look into {directory}: {error.message}") from error
    lines = text_lines(done.stdout)
    if done.status != 0 or len(lines) != 6:
        raise GitFailed(f"no usable git repository in {directory}: {_advice(done.stderr)}")
    git_dir, common_dir, objects_dir, bare, inside, object_format = lines
    values = _format_values(common_dir)
    _check_format(values)
    worktree = None
    if inside == "true":
        top = run(None, "rev-parse", "--show-toplevel", directory=directory, environ=environ)
        worktree = top.stdout.decode(errors="surrogateescape").rstrip("\n") or None
    return Repository(
        git_dir=git_dir,
        common_dir=common_dir,
        worktree=worktree,
        object_format=_object_format(object_format),
        ref_storage=_ref_storage(values),
        bare=bare == "true",
        objects_dir=objects_dir,
        promisor=values.get(_PROMISOR) or values.get("extensions.partialclone"),
    )


def _advice(stderr: bytes) -> str:
    """Git's refusal on one line, with the way out that it names (safe.directory)."""
    lines = [line.strip() for line in stderr.decode(errors="replace").split("\n")]
    return " ".join(line for line in lines if line).removeprefix("fatal: ")
