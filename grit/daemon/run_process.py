"""A run of the worker in a process of its own, which is forked for it (spec/daemon.md, Worker).

What a run takes of memory goes with it, and a view that kills its reader kills no more than that.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn

from grit.core.errors import GritError
from grit.daemon.health import Problems, look
from grit.daemon.troubles import words
from grit.daemon.warming import Warmed, warm
from grit.git.repository import Repository
from grit.services.workspace import Ports, Workspace

_NOTICES_MAX: Final = 10
_WORDS_CHARS_MAX: Final = 500
"""An answer fits into a pipe that nobody reads yet."""
_ANSWER_BYTES_MAX: Final = 1 << 16


class Task(NamedTuple):
    """What a run is to do."""

    bring_up: bool
    """Whether the view is brought up to the log in any case, not only where health asks for it."""
    health: bool
    syncs: bool
    """Whether the remote's record is looked at."""


class Done(NamedTuple):
    """What came of it."""

    problems: Problems | None = None
    """What `look` found; None when it was not asked."""
    warmed: Warmed | None = None
    """None when the view was not brought up."""
    error: str | None = None
    notices: tuple[str, ...] = ()


class RunProcess:
    """One run; its end is a SIGCHLD."""

    def __init__(self, repository: Repository, environ: Mapping[str, str], task: Task) -> None:
        """Fork it; raises OSError."""
        self._answer, sink = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._answer)
            os.close(sink)
            raise
        if self._pid == 0:
            _become(repository, environ, task, sink)
        os.close(sink)
        os.set_blocking(self._answer, False)

    def done(self) -> Done | None:
        """Return what came of it, or None while it runs."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        try:
            data = os.read(self._answer, _ANSWER_BYTES_MAX)
        except BlockingIOError:
            data = b""  # a process that it has started still holds the other end
        os.close(self._answer)
        if status == 0:
            return _read(data)
        code = os.waitstatus_to_exitcode(status)
        return Done(error=f"a run of the worker ended with status {code}")

    def end(self) -> None:
        """Kill it: the view is as good as after any kill, and the log untouched."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._answer)


def _become(repository: Repository, environ: Mapping[str, str], task: Task, sink: int) -> NoReturn:
    """Do the task, tell what came of it, and end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(sink, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.write(1, json.dumps(_do(repository, environ, task)).encode())
        status = 0
    except BrokenPipeError:
        pass  # the worker is gone
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
        raise
    finally:
        os._exit(status)


def _do(repository: Repository, environ: Mapping[str, str], task: Task) -> Done:
    notices: list[str] = []

    def hear(notice: str) -> None:
        if len(notices) < _NOTICES_MAX:
            notices.append(notice[:_WORDS_CHARS_MAX])

    workspace = Workspace(
        repository, Ports(environ, lambda: time.time_ns() // 1_000_000, os.urandom, hear)
    )
    done = Done()
    try:
        if task.health:
            done = done._replace(problems=look(workspace))
        if task.bring_up or (done.problems is not None and done.problems["view"] is not None):
            done = done._replace(warmed=warm(workspace, syncs=task.syncs))
    except (GritError, OSError) as error:
        done = done._replace(error=words(error)[:_WORDS_CHARS_MAX])
    finally:
        workspace.close()
    return done._replace(notices=tuple(notices))


def _read(data: bytes) -> Done:
    problems, warmed, error, notices = json.loads(data)
    return Done(problems, None if warmed is None else Warmed(*warmed), error, tuple(notices))
