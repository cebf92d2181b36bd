"""Remotes of the repository and the refspec that records their logs (spec/wal.md)."""

import itertools
import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from grit.core.errors import GitFailed, InvalidArgs
from grit.core.ids import parse_number
from grit.files.private import read_plain
from grit.git.gitconfig import GitConfig
from grit.git.process import run, text_lines
from grit.git.repository import Repository, is_git_directory
from grit.git.tracking import tracking_name, tracking_ref

_CREDENTIALS: Final = re.compile(r"(?<=://)[^/]*@")
_PLAIN_NAME: Final = re.compile(r"\w[\w.-]*", re.ASCII)
_URL: Final = re.compile(rb"\turl = \S")
_CONFIG_BYTES_MAX: Final = 1 << 20
_AGREED: Final = "remotes"
_COUNT_DIGITS_MAX: Final = 18


def list_remotes(config: GitConfig) -> list[str]:
    """Return the names of the remotes that have a URL, in git's order."""
    return [
        key[len("remote.") : -len(".url")]
        for key in config.values
        if key.startswith("remote.") and key.endswith(".url") and len(key) > len("remote..url")
    ]


class Remote(NamedTuple):
    """A place to sync with."""

    address: str
    """The name of a configured remote, or a URL, a path, a bundle."""
    tracking: str
    """Under this name below refs/grit-remotes/ its refs are recorded."""
    configured: bool
    bundle: bool
    """A file, which can only be read."""
    reads: str = ""
    """Where it is fetched from, when that is not by the address."""

    @property
    def name(self) -> str:
        """The address as it may be shown."""
        return without_credentials(self.address)


def find_remote(config: GitConfig, text: str, directory: str = ".") -> Remote:
    """Return the remote of that name, or the place that a URL, or a path from `directory`, names.

    Raises InvalidArgs for what git would take for an option.
    """
    if text in list_remotes(config):
        url = config.get(f"remote.{text}.url") or ""
        return Remote(text, tracking_name(text), True, os.path.isabs(url) and os.path.isfile(url))
    if not text or text.startswith("-"):
        raise InvalidArgs(f"'{text}' is neither a remote nor an address")
    from hashlib import sha256

    path = os.path.abspath(os.path.join(directory, text))
    if os.path.exists(path):
        text = path
    digest = sha256(without_credentials(text).encode(errors="replace")).hexdigest()
    return Remote(text, f"url-{digest[:16]}", False, os.path.isfile(path))


def is_written_down(repository: Repository, name: str) -> bool:
    """Return whether the clone's own config file plainly has a remote of that name with a URL.

    So a talk can begin before git was asked for its configuration, which nothing can take that
    away from. False says nothing: included files and odd spellings are git's to read.
    """
    try:
        lines = read_plain(f"{repository.common_dir}/config", _CONFIG_BYTES_MAX).split(b"\n")
    except OSError:
        return False
    header = b'[remote "%s"]' % name.encode(errors="surrogateescape")
    if not _PLAIN_NAME.fullmatch(name) or header not in lines:
        return False
    at = lines.index(header)
    if lines[at - 1].endswith(b"\\") or lines.count(header) != 1:
        return False  # a value that goes on, or more than one place to look at
    section = itertools.takewhile(lambda line: not line.startswith(b"["), lines[at + 1 :])
    return any(map(_URL.match, section))


def without_credentials(address: str) -> str:
    """Return a URL without user and password, as git shows it; anything else as it is."""
    return _CREDENTIALS.sub("", address, count=1)


def sync_remote(config: GitConfig, chosen: str | None = None) -> str | None:
    """Return the remote to sync with: `chosen` in the settings, `origin`, or the only one.

    None when there is no remote; raises GitFailed when there are several and none is chosen.
    """
    known = list_remotes(config)
    if chosen is not None:
        return chosen
    if "origin" in known or not known:
        return "origin" if known else None
    if len(known) > 1:
        raise GitFailed(
            f"several remotes ({', '.join(known)}): name one with --remote, or choose with "
            "'grit config set sync.remote NAME'"
        )
    return known[0]


def push_urls(repository: Repository, remote: str) -> list[str]:
    """Return the addresses that git pushes to for a remote's name, rewritten as it would."""
    return _urls(repository, "--push", "--all", "--", remote)


def fetch_url(repository: Repository, remote: str) -> str:
    """Return the address that git fetches from for a remote's name; "" where it tells none."""
    return next(iter(_urls(repository, "--", remote)), "")


def _urls(repository: Repository, *words: str) -> list[str]:
    done = run(repository.git_dir, "remote", "get-url", *words)
    text = done.stdout.decode(errors="surrogateescape")
    return [line for line in text.split("\n") if line] if done.status == 0 else []


def fetch_refspec(remote: str, ref: str) -> str:
    """Return the refspec that makes a plain `git fetch` record the remote's log."""
    folder = ref.rpartition("/")[0]
    return f"+{folder}/*:{tracking_ref(remote, folder + '/*')}"


def has_refspec(config: GitConfig, remote: str, ref: str) -> bool:
    """Return whether the remote's log is recorded by `git fetch`, with or without force."""
    wanted = fetch_refspec(remote, ref).lstrip("+")
    return any(
        spec.lstrip("+") == wanted for spec in config.values.get(f"remote.{remote}.fetch", ())
    )


def overwriting_refspecs(config: GitConfig, ref: str) -> list[tuple[str, str]]:
    """Return (remote, refspec) of those that let `git fetch` move the log itself, also back."""
    found = []
    for remote in list_remotes(config):
        for spec in config.values.get(f"remote.{remote}.fetch", ()):
            start, star, end = spec.partition(":")[2].partition("*")
            inside = ref.startswith(start) and ref.endswith(end) and len(ref) >= len(start + end)
            if start and (inside if star else start == ref):
                found.append((remote, spec))
    return found


def add_refspec(repository: Repository, config: GitConfig, remote: str, ref: str) -> bool:
    """Add the refspec to the remote unless it is there; return whether the config changed.

    A lock that a killed process left on the config is removed. Raises GitFailed when git cannot
    write its config, or it lies outside of any repository.
    """
    if has_refspec(config, remote, ref):
        return False
    _check_place(f"{repository.common_dir}/config", f"the refspec of remote {remote}")
    words = ("config", "--add", f"remote.{remote}.fetch", fetch_refspec(remote, ref))
    done = run(repository.git_dir, *words)
    if done.status != 0:
        from grit.git.leftovers import Lock, clear

        if clear([Lock(repository.common_dir, "config.lock")]):
            done = run(repository.git_dir, *words)
    if done.status != 0:
        raise GitFailed(f"git cannot add the refspec of remote {remote}: {done.reason}")
    return True


def _check_place(path: str, what: str) -> None:
    """Refuse to have git write through a link to a file that is no repository's configuration."""
    if not os.path.islink(path):
        return
    folder, name = os.path.split(os.path.realpath(path))
    if name != "config" or not is_git_directory(folder, folder):
        raise GitFailed(
            f"{path} is a link to {folder}/{name}, outside of the repository; grit writes nothing "
            f"there: add {what} yourself"
        )


def broken_refspecs(config: GitConfig) -> list[tuple[str, str]]:
    """Return (remote, refspec) of those of grit's own that git refuses, and with them every fetch.

    Earlier versions wrote the name of any remote into a ref.
    """
    found = []
    for key, specs in config.values.items():
        remote = key.removeprefix("remote.").removesuffix(".fetch")
        if key != f"remote.{remote}.fetch" or tracking_name(remote) == remote:
            continue
        wrong = {f"refs/{root}/*:refs/{root}-remotes/{remote}/*" for root in ("grit", "grite")}
        found += [(remote, spec) for spec in specs if spec.removeprefix("+") in wrong]
    return found


def mend_refspecs(repository: Repository, config: GitConfig) -> list[str]:
    """Remove broken refspecs from the clone's configuration; return the remotes that had one."""
    mended = []
    for remote, spec in dict.fromkeys(broken_refspecs(config)):
        words = ("config", "--fixed-value", "--unset-all", f"remote.{remote}.fetch", spec)
        if run(repository.git_dir, *words).status == 0:
            mended.append(remote)
    return mended


class Agreed(NamedTuple):
    """A head that a remote and this clone both held, and how many events it holds."""

    head: str
    event_count: int


def load_agreed(repository: Repository) -> dict[str, Agreed]:
    """Return what each remote and this clone last agreed on, by tracking name."""
    try:
        with repository.private.open() as folder:
            data = folder.read(_AGREED)
    except OSError:
        return {}
    return dict(parse_agreed(data))


def parse_agreed(data: bytes) -> Iterator[tuple[str, "Agreed"]]:
    """Yield what the lines of the file say, without those that say nothing."""
    for line in text_lines(data):
        words = line.split(" ", 2)
        count = parse_number(words[1]) if len(words) == 3 else None
        if count is not None:
            yield words[2], Agreed(words[0], count)


def save_agreed(repository: Repository, tracking: str, agreed: Agreed) -> None:
    """Remember a head that both sides hold; only explanations and counts depend on it.

    Raises OSError when it cannot be written.
    """
    known = load_agreed(repository)
    if known.get(tracking) == agreed:
        return
    known[tracking] = agreed
    lines = (f"{one.head} {one.event_count} {name}\n" for name, one in known.items())
    with repository.private.open(make=True) as folder:
        folder.replace(_AGREED, "".join(lines).encode(errors="surrogateescape"), sync=False)
