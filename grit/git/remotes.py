"""Remotes of the repository and the refspec that records their logs (spec/wal.md)."""

from grit.core.errors import GitFailed
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
