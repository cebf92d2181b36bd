"""What grit asks of git's configuration: identity, durability, shared modes, upkeep.

Read once per writing process with one `git config --list` (spec/wal.md, Identity, Durability);
a warm process remembers it as long as no file of it changes (spec/daemon.md, Git's configuration).
"""

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, IoFailed
from grit.core.ids import parse_hex, parse_number
from grit.core.limits import GIT_SETTINGS_BYTES_MAX
from grit.git.process import output, run
from grit.git.repository import Repository

_FALSE: Final = frozenset({"false", "no", "off", "0", ""})
_COMMITTED: Final = frozenset({"loose-object", "reference"})
_FSYNC_COMPONENTS: Final = {
    "loose-object": frozenset({"loose-object"}),
    "objects": frozenset({"loose-object"}),
    "reference": frozenset({"reference"}),
    "committed": _COMMITTED,
    "added": _COMMITTED,
    "all": _COMMITTED,
}
"""What the words of core.fsync mean for what grit writes; packs and the index are git's."""
_FSYNC_DEFAULT: Final = frozenset({"reference"})
"""Git documents `committed,-loose-object`."""
_SHARED_MODES: Final = {
    **dict.fromkeys(("group", "true", "yes", "on", "1"), 0o660),
    **dict.fromkeys(("all", "world", "everybody", "2"), 0o664),
}
_NAME_CHARS_MAX: Final = 256
_NUMBER: Final = re.compile(
    r"[ \t\n\v\f\r]*([+-]?)(?:0x([0-9a-f]{1,15})|([0-9]{1,18}))([kmg]?)", re.IGNORECASE | re.ASCII
)
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
GC_AUTO_DEFAULT: Final = 6700
"""Git's own default for gc.auto: loose objects that are worth a collection."""


def git_number(word: str) -> int | None:
    """Return a number as git reads it in its configuration; None for what git refuses.

    C's notation (decimal, 0x, 0 for octal, a sign), and k, m or g for powers of 1,024.
    """
    found = _NUMBER.fullmatch(word)
    if found is None:
        return None
    sign, hexadecimal, digits, unit = found.groups()
    if hexadecimal is not None:
        number = int.from_bytes(parse_hex(hexadecimal.rjust(16, "0"), 8) or b"", "big")
    else:
        octal = digits.startswith("0")
        read = parse_number(digits, octal=octal)
        if read is None:
            return None
        number = read
    number *= _UNITS[unit.lower()]
    return -number if sign == "-" else number


class GitConfig(NamedTuple):
    """Every value of git's configuration, in git's order; the last one of a key counts."""

    values: Mapping[str, tuple[str, ...]]

    def get(self, key: str) -> str | None:
        """Return the value of a key in git's spelling (`user.name`), or None."""
        found = self.values.get(key)
        return found[-1] if found else None

    def flag(self, key: str) -> bool:
        """Return whether a boolean key is set and true."""
        found = self.get(key)
        return found is not None and found.lower() not in _FALSE

    @property
    def durable(self) -> bool:
        """Whether loose objects are to reach the disk before their ref does (core.fsync)."""
        return "loose-object" in self._hardened or self.flag("core.fsyncobjectfiles")

    @property
    def durable_refs(self) -> bool:
        """Whether a ref is to reach the disk before a command succeeds (core.fsync)."""
        return "reference" in self._hardened

    @property
    def _hardened(self) -> frozenset[str]:
        """What core.fsync names, as git reads it: what is added counts more than what is not."""
        started = _FSYNC_DEFAULT
        added: frozenset[str] = frozenset()
        removed: frozenset[str] = frozenset()
        for word in (self.get("core.fsync") or "").replace(",", " ").split():
            if word == "none":
                started = frozenset()
            elif word.startswith("-"):
                removed |= _FSYNC_COMPONENTS.get(word[1:], frozenset())
            else:
                added |= _FSYNC_COMPONENTS.get(word, frozenset())
        return (started - removed) | added

    @property
    def shared_mode(self) -> int:
        """Permission bits that core.sharedRepository adds to files; 0 when it is off."""
        word = (self.get("core.sharedrepository") or "umask").lower()
        if word in _SHARED_MODES:
            return _SHARED_MODES[word]
        mode = parse_number(word, octal=True) if word.startswith("0") else None
        return 0 if mode is None else mode & 0o666

    @property
    def gc_auto(self) -> int:
        """Loose objects from which git may collect; 0 when the user switched that off."""
        word = self.get("gc.auto")
        return GC_AUTO_DEFAULT if word is None else max(0, git_number(word) or 0)


class Remembered(NamedTuple):
    """A configuration that was read before, and what tells that git would read the same again."""

    git_dir: str
    environ: Mapping[str, str]
    files: Mapping[str, tuple[int, ...] | None]
    config: GitConfig | None
    """None for one that is not to be remembered: it is not tried again until a file changes."""

    def holds(self, repository: Repository, environ: Mapping[str, str]) -> bool:
        """Whether neither the files nor the environment have changed since."""
        return (
            self.git_dir == repository.git_dir
            and self.environ == _asked(environ)
            and all(_stamp(path) == stamp for path, stamp in self.files.items())
        )


remembered: Remembered | None = None
"""Set in a warm process alone: a git process takes longer than the rest of a small command."""
_OF_THE_USER: Final = frozenset({"system", "global", "command"})
"""Scopes of git's configuration that no repository brings along."""
_FIXED_INCLUDES: Final = ("include.path", "includeif.gitdir:", "includeif.gitdir/i:")
_SETTLED_NS: Final = 2_000_000_000
"""A file that was written just before it was read may be written again within the same tick."""


def load_git_config(repository: Repository, environ: Mapping[str, str] | None = None) -> GitConfig:
    """Read the configuration as git sees it in this repository; raises GitFailed.

    `environ` is that of this process, which git inherits; without it git itself is asked.
    """
    kept = remembered
    if kept is not None and kept.config is not None and environ and kept.holds(repository, environ):
        return kept.config
    listed = _listed(repository)
    return _collect(listed.decode(errors="surrogateescape").split("\0"))


def user_value(key: str, environ: Mapping[str, str]) -> str | None:
    """Return what the user's own configuration says of a key, as it is read in this folder.

    The repository's configuration does not count, nor what it includes. None where nothing is
    said, or git fails.
    """
    try:
        asked = run(None, "config", "--show-scope", "-z", "--get-all", key, environ=environ)
    except (GitFailed, IoFailed):
        return None
    words = asked.stdout.decode(errors="replace").split("\0") if asked.status == 0 else []
    pairs = zip(words[:-1:2], words[1::2], strict=False)
    return next((value for scope, value in reversed([*pairs]) if scope in _OF_THE_USER), None)


def default_program(variable: str, environ: Mapping[str, str]) -> str | None:
    """Return the program that git would start where there is no repository, or None.

    `variable`: GIT_PAGER or GIT_EDITOR.
    """
    try:
        asked = run(os.devnull, "var", variable, environ=environ)
    except (GitFailed, IoFailed):
        return None
    found = asked.stdout.decode(errors="replace").strip()
    return found if asked.status == 0 and found else None


def remember(repository: Repository, environ: Mapping[str, str]) -> Remembered | None:
    """Return what `remembered` should be now; raises GitFailed.

    None for what was written a moment ago; without a configuration where includes depend on more
    than files and the place of the clone.
    """
    if remembered is not None and remembered.holds(repository, environ):
        return remembered
    environ = _asked(environ)
    stamps = {path: _stamp(path) for path in _usual_files(repository, environ)}
    settled_ns = time.time_ns() - _SETTLED_NS
    if not _are_settled(stamps, settled_ns):
        return None
    listed = _list_with_origins(repository)
    words = listed.decode(errors="surrogateescape").split("\0")
    included = _included(words, environ.get("HOME", ""))
    if included:
        stamps = {**{path: _stamp(path) for path in included}, **stamps}
        if not _are_settled(stamps, settled_ns) or _list_with_origins(repository) != listed:
            return None
    known = {"command line:", *(f"file:{path}" for path in stamps)}
    whole = included is not None and known.issuperset(words[:-1:2])
    config = _collect(words[1::2]) if whole else None
    return Remembered(repository.git_dir, environ, stamps, config)


def _list_with_origins(repository: Repository) -> bytes:
    return _listed(repository, "--show-origin")


def _listed(repository: Repository, *words: str) -> bytes:
    return output(
        repository.git_dir, "config", "--list", "-z", *words, bytes_max=GIT_SETTINGS_BYTES_MAX
    )


def _are_settled(stamps: Mapping[str, tuple[int, ...] | None], settled_ns: int) -> bool:
    """Whether no file was written since."""
    return all(stamp is None or max(stamp[2:]) <= settled_ns for stamp in stamps.values())


def _included(words: Sequence[str], home: str) -> list[str] | None:
    """Return the files that are or could be included, of a list of origins and values.

    None where it depends on more than such a file and the clone's place whether one is.
    """
    paths = []
    for origin, item in zip(words[:-1:2], words[1::2], strict=True):
        key, _, path = item.partition("\n")
        if not key.startswith(("include.", "includeif.")):
            continue
        if not key.startswith(_FIXED_INCLUDES) or not origin.startswith("file:"):
            return None
        if path.startswith("~/"):
            path = home + path[1:]
        elif path.startswith(("~", "%")):
            return None
        paths.append(os.path.join(os.path.dirname(origin.removeprefix("file:")), path))
    return paths


def _collect(items: Iterable[str]) -> GitConfig:
    values: dict[str, list[str]] = {}
    for item in items:
        key, newline, value = item.partition("\n")
        if key:
            values.setdefault(key, []).append(value if newline else "true")
    return GitConfig({key: tuple(found) for key, found in values.items()})


def _asked(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the environment says where git's configuration is, or is part of it."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith("GIT_") or name in ("HOME", "XDG_CONFIG_HOME", "PATH")
    }


def _usual_files(repository: Repository, environ: Mapping[str, str]) -> list[str]:
    """Return the files that git reads its configuration from, whether they exist or not."""
    home = environ.get("HOME", "")
    user = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return [
        environ.get("GIT_CONFIG_SYSTEM", "/etc/gitconfig"),
        environ.get("GIT_CONFIG_GLOBAL", f"{home}/.gitconfig"),
        f"{user}/git/config",
        f"{repository.common_dir}/config",
        f"{repository.git_dir}/config.worktree",
    ]


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # also a name with a NUL
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def identity(
    config: GitConfig, environ: Mapping[str, str], role: str, actor_id: bytes
) -> tuple[str, str]:
    """Return (name, email) of the `author` or the `committer`, as git would choose them.

    Where nobody is configured the actor's id stands in, so that a commit never fails and never
    carries a name that was guessed from the machine (spec/wal.md, Identity).
    """
    prefix = f"GIT_{role.upper()}"
    names = (environ.get(f"{prefix}_NAME"), config.get(f"{role}.name"), config.get("user.name"))
    emails = (
        environ.get(f"{prefix}_EMAIL"),
        config.get(f"{role}.email"),
        config.get("user.email"),
        environ.get("EMAIL"),
    )
    name = next(filter(None, map(_clean, names)), f"grit actor {actor_id.hex()[:8]}")
    email = next(filter(None, map(_clean, emails)), f"{actor_id.hex()}@grit.invalid")
    return name, email


def _clean(text: str | None) -> str:
    """Drop what git's commit format or a terminal would trip over."""
    if not text:
        return ""
    kept = "".join(c if c.isprintable() and c not in "<>" else " " for c in text)
    return " ".join(kept.split())[:_NAME_CHARS_MAX].strip(" .,:;\"'\\")
