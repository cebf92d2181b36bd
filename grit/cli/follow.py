"""`grit log --follow`: prints events as they become visible, until nobody wants them any more."""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from grit.cli.activity import EVENT_FIELDS
from grit.cli.context import Context
from grit.cli.detail import lines_of_log
from grit.cli.foreground import leave_to_launcher
from grit.cli.terminal import forget
from grit.cli.wording import activity_rows
from grit.core.errors import GitFailed, IoFailed, WalDamaged
from grit.core.events import Event
from grit.git.watch import Watcher
from grit.services.feed import Feed
from grit.services.shapes import event_json
from grit.services.signatures import statuses
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt

_NAP_MS_MIN: Final = 10
_NAP_MS_MAX: Final = 5_000
"""How long to wait before looking again for what another process has still to do."""
_GOING_S_MAX: Final = 1.0
"""How long a repository may take to disappear, once something of it is missing or wrong."""

Show = Callable[[ViewReader, Event], str]


class Old(NamedTuple):
    """What to print of the time before: `limit` events, None for all, from `since_ms` on."""

    since_ms: int | None
    limit: int | None


def follow_log(run: Context, old: Old, actor: str | None) -> None:
    """Print events until Ctrl-C, until the reader of the output goes, or an error.

    Raises GitFailed when the repository is gone.
    """
    # A server has better uses for a child than to let it wait for hours.
    leave_to_launcher(always=True)
    workspace = run.workspace
    show = _shower(run)
    with Watcher(workspace.repository) as watcher:
        _tell_mode(run, watcher, "events")
        feed = Feed(workspace.repository, run.ports(), actor)
        try:
            _follow(run, watcher, feed, old, show)
        except BrokenPipeError:
            raise
        except (GitFailed, IoFailed, WalDamaged, OSError, ViewDoubt):
            _check_gone(watcher, workspace.repository.common_dir)
            raise
        finally:
            feed.close()


def _follow(run: Context, watcher: Watcher, feed: Feed, old: Old, show: Show) -> None:
    for event in feed.begin(old.since_ms, old.limit):
        _print(run, feed, event, show)
    nap_ms = _NAP_MS_MIN
    mode = watcher.mode
    while True:
        came = False
        for event in feed.look():
            _print(run, feed, event, show)
            came = True
        nap_ms = _NAP_MS_MIN if came or not feed.behind else min(2 * nap_ms, _NAP_MS_MAX)
        again = time.monotonic() + nap_ms / 1000 if feed.behind else None
        if not _wait(watcher, again):
            forget(sys.stdout)
            return
        _tell_mode(run, watcher, mode)
        mode = watcher.mode
        if watcher.gone:
            raise _gone(run.workspace.repository.common_dir)


def _wait(watcher: Watcher, again: float | None) -> bool:
    """Wait until a ref moved, or the time `again` has come; False when nobody reads any more."""
    poll = select.poll()
    poll.register(watcher.fileno(), select.POLLIN)
    stdout = sys.stdout.fileno()
    poll.register(stdout, 0)  # errors and hang-ups are told all the same
    while True:
        due_s = watcher.timeout_s()
        left = [] if due_s is None else [due_s]
        left += [] if again is None else [max(0.0, again - time.monotonic())]
        ready = poll.poll(min(left) * 1000 + 1 if left else None)
        if any(fd == stdout for fd, _ in ready):
            return False
        if watcher.drain() or watcher.gone:
            return True
        if again is not None and time.monotonic() >= again:
            return True


def _shower(run: Context) -> Show:
    """Return what makes a line of an event."""
    if run.json or run.jsonl:
        narrow = run.narrowing(EVENT_FIELDS)

        def document(reader: ViewReader, event: Event) -> str:
            [(_, status)] = statuses(reader, [event])
            return json.dumps(narrow(event_json(event, status)), default=run.long_text)

        return document

    def line(reader: ViewReader, event: Event) -> str:
        return "\n".join(lines_of_log(activity_rows(reader, [event]), run.terminal.screen, None))

    return line


def _print(run: Context, feed: Feed, event: Event, show: Show) -> None:
    if run.quiet and not (run.json or run.jsonl):
        return
    try:
        line = show(feed.reader, event)
    except ViewDoubt:
        feed.renew()  # removed between the look and this line
        line = show(feed.reader, event)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _tell_mode(run: Context, watcher: Watcher, before: str) -> None:
    if watcher.mode == "polling" and before != "polling":
        run.notice(f"changes are looked for every few seconds: {watcher.reason}")


def _check_gone(watcher: Watcher, common_dir: str) -> None:
    """Raise GitFailed when the repository is being removed: other errors only follow from that."""
    deadline = time.monotonic() + _GOING_S_MAX
    while time.monotonic() < deadline:
        if watcher.gone or not os.path.exists(f"{common_dir}/HEAD"):
            raise _gone(common_dir)
        time.sleep(0.05)
        watcher.drain()


def _gone(common_dir: str) -> GitFailed:
    return GitFailed(f"the repository {common_dir} was removed or replaced")
