"""Remotes of the repository and the refspec that records their logs (spec/wal.md)."""

from typing import NamedTuple

from grit.core.errors import GitFailed, InvalidArgs
from grit.git.gitconfig import GitConfig
from grit.git.process import run
from grit.git.repository import Repository


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


def find_remote(config: GitConfig, text: str) -> Remote:
    """Return the remote of that name, or the place that a URL or path names.

    Raises InvalidArgs for what git would take for an option.
    """
    if text in list_remotes(config):
        return Remote(text, text, True)
    if not text or text.startswith("-"):
        raise InvalidArgs(f"'{text}' is neither a remote nor an address")
    from hashlib import sha256

    return Remote(text, f"url-{sha256(text.encode(errors='replace')).hexdigest()[:16]}", False)


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


def tracking_ref(remote: str, ref: str) -> str:
    """Return where the state of `ref` on that remote is recorded, outside the log's own folder."""
    root, _, name = ref.removeprefix("refs/").partition("/")
    return f"refs/{root}-remotes/{remote}/{name}"


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


def add_refspec(repository: Repository, config: GitConfig, remote: str, ref: str) -> bool:
    """Add the refspec to the remote unless it is there; return whether the config changed.

    Raises GitFailed when git cannot write its config.
    """
    if has_refspec(config, remote, ref):
        return False
    key, spec = f"remote.{remote}.fetch", fetch_refspec(remote, ref)
    done = run(repository.git_dir, "config", "--add", key, spec)
    if done.status != 0:
        raise GitFailed(f"git cannot add the refspec of remote {remote}: {done.reason}")
    return True


def fetch_log(repository: Repository, remote: str, ref: str) -> str | None:
    """Fetch the remote's log into its tracking refs; return git's words when that fails."""
    done = run(repository.git_dir, "fetch", "--quiet", remote, fetch_refspec(remote, ref))
    return done.reason if done.status else None
