"""A repository opened for use: its log, its view, and the ports to the outside."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from grit.core.long_text import Text
from grit.core.progress import SILENT, ProgressReporter
from grit.files.private import Opened
from grit.git.repository import Repository, discover
from grit.view.database import Database

if TYPE_CHECKING:
    from grit.git.wal import Wal
    from grit.services.long_texts import LongTexts


def _ignore(_message: str) -> None:
    """Take a notice that nobody asked to see."""


def _at_once(work: Callable[[], None]) -> None:
    """Do what could be done after the answer, where nobody says when that is."""
    work()


class Ports(NamedTuple):
    """What services take from their shell: time, randomness, environment, and ears."""

    environ: Mapping[str, str]
    now_ms: Callable[[], int]
    entropy: Callable[[int], bytes]
    notice: Callable[[str], None] = _ignore
    progress: ProgressReporter = SILENT
    later: Callable[[Callable[[], None]], None] = _at_once
    """Takes work that nobody has to wait for: what it does the next command would do else."""


class Workspace:
    """One repository; everything it needs is opened when first used."""

    def __init__(self, repository: Repository, ports: Ports) -> None:
        """Open nothing yet."""
        self.repository = repository
        self.ports = ports
        self.now_ms = ports.now_ms
        self.notice = ports.notice
        self._wal: Wal | None = None
        self._database: Database | None = None
        self._long_texts: LongTexts | None = None

    @property
    def wal(self) -> "Wal":
        """The log."""
        if self._wal is None:
            from grit.git.wal import Wal

            self._wal = Wal(self.repository, self.ports.environ, self.notice)
        return self._wal

    @property
    def database(self) -> Database:
        """The view's database; it may be behind the log, see `refresh`."""
        if self._database is None:
            self._database = Database(self.repository.private.below("view"))
        return self._database

    @property
    def long_texts(self) -> "LongTexts":
        """What reads texts whole of which the view gave the beginning."""
        if self._long_texts is None:
            from grit.services.long_texts import LongTexts

            self._long_texts = LongTexts(self)
        return self._long_texts

    def whole(self, text: Text) -> str:
        """Return a text whole; raise WalDamaged when the log lacks it."""
        return text if isinstance(text, str) else self.long_texts.text(text)

    def settings_stamp(self, *, actors: bool = False) -> bytes:
        """Return what tells that the settings were changed, and with `actors` those here.

        It costs a stat: the settings themselves are not read. Nothing when there are none.
        """
        found = b""
        try:
            with self.repository.private.open() as folder:
                for name in ("config.toml", "actors") if actors else ("config.toml",):
                    found += _stamp(folder, name)
        except FileNotFoundError:
            return found
        except OSError as error:
            return b"?%d " % (error.errno or 0)
        return found

    def use_database(self, database: Database) -> None:
        """Take another database for the rest of this command (a temporary one)."""
        self._database = database

    def close(self) -> None:
        """Close the view, and end what reads long texts."""
        if self._long_texts is not None:
            self._long_texts.close()
            self._long_texts = None
        if self._database is not None:
            self._database.close()
            self._database = None


def _stamp(folder: Opened, name: str) -> bytes:
    try:
        seen = folder.look(name)
    except OSError as error:
        return b"?%d " % (error.errno or 0)
    if seen is None:
        return b""
    return b"%d %d %d %d " % (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def open_workspace(directory: str, ports: Ports) -> Workspace:
    """Return the workspace of the repository around `directory`; raise GitFailed without one."""
    return Workspace(discover(directory, ports.environ), ports)
