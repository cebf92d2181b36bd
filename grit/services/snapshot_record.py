"""What this clone found out about snapshots, in a file beside the view (spec/snapshots.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from grit.core.errors import Busy, IoFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from grit.git.actors import Setting, Settings
    from grit.services.workspace import Workspace

MADE: Final = "made"
AGREES: Final = "agrees"
TRUSTED: Final = (MADE, AGREES)
"""Verdicts of this clone on which a snapshot is used at once."""
_RECORD: Final = "snapshots.toml"
_MARK: Final = "snapshots-mark"
_ENTRIES_MAX: Final = 64
_CHECKED: Final = "checked"
_TOLD: Final = "told"
_NEWEST: Final = "newest"
_WAIT_MS_MAX: Final = 500

Verdicts = dict[str, str]
"""Commit of a snapshot to `made`, `agrees`, or the reason why it is false."""


class Newest(NamedTuple):
    """The newest snapshot known when a sync last asked; times in unix milliseconds."""

    event_count: int
    created_ts: int


def load_verdicts(workspace: Workspace) -> Verdicts:
    """Return what this clone found out about snapshots; nothing when that cannot be read."""
    return _texts(_load(workspace), _CHECKED)


def note_verdict(workspace: Workspace, commit: str, verdict: str) -> None:
    """Remember what was found out about a snapshot, outside the view; what cannot be is not."""

    def change(settings: Settings) -> None:
        settings[_CHECKED] = _added(settings, _CHECKED, commit, verdict)

    _change(workspace, change)


def tell_once(workspace: Workspace, commit: str, name: str, reason: str) -> None:
    """Say why a snapshot is not used, unless that was said before."""
    if _texts(_load(workspace), _TOLD).get(commit) == reason:
        return
    workspace.notice(f"the snapshot {name} is not used: {reason}")

    def change(settings: Settings) -> None:
        settings[_TOLD] = _added(settings, _TOLD, commit, reason)

    _change(workspace, change)


def load_newest(workspace: Workspace) -> Newest | None:
    """Return the newest snapshot as a sync last saw it."""
    table = _load(workspace).get(_NEWEST)
    if not isinstance(table, dict):
        return None
    count, created_ts = table.get("event_count"), table.get("created_ts")
    if not isinstance(count, int) or not isinstance(created_ts, int):
        return None
    return Newest(count, created_ts)


def note_newest(workspace: Workspace, newest: Newest) -> None:
    """Remember the newest snapshot, so that the next sync need not look for it."""

    def change(settings: Settings) -> None:
        settings[_NEWEST] = {"event_count": newest.event_count, "created_ts": newest.created_ts}

    _change(workspace, change)


def _load(workspace: Workspace) -> Settings:
    """Return what is remembered; nothing when grit did not leave the file as it is.

    One that was edited, or shipped with a repository, could vouch for a false snapshot.
    """
    from grit.git.actors import parse_toml
    from grit.view.trust import trusted_record

    try:
        with workspace.repository.private.open() as folder:
            data = trusted_record(folder, _RECORD, _MARK)
            return {} if data is None else parse_toml(data, f"{folder.path}/{_RECORD}")
    except (IoFailed, OSError, ValueError):
        return {}  # written anew by the next verdict: it saves time, and holds no truth


def _texts(settings: Settings, name: str) -> dict[str, str]:
    table = settings.get(name)
    found = table if isinstance(table, dict) else {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _added(settings: Settings, name: str, key: str, value: str) -> Setting:
    """Return the table with one more entry, without the oldest beyond the bound."""
    known = {**_texts(settings, name), key: value}
    return cast("Setting", dict(list(known.items())[-_ENTRIES_MAX:]))


def _change(workspace: Workspace, change: Callable[[Settings], None]) -> None:
    from grit.git.actors import dump_toml
    from grit.git.filelock import FileLock
    from grit.view.trust import vouch

    private = workspace.repository.private
    try:
        with FileLock(private, "snapshots.lock-file", _WAIT_MS_MAX), private.open() as folder:
            settings = _load(workspace)
            change(settings)
            vouch(folder, _RECORD, _MARK, dump_toml(settings).encode())
    except (Busy, IoFailed, OSError):
        return
