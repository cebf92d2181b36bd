"""The log: a chain of commits behind one ref, appended to and read (spec/wal.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from grit.core.errors import Conflict, InvalidArgs, WalDamaged
from grit.core.limits import ATTACHMENT_BYTES_MAX, HEALS_MAX, LOCK_WAIT_MS_MAX
from grit.files.private import sync_folder
from grit.git.refs import GRIT_REF, GRITE_REF, is_absent, read_ref, swap_ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from grit.git.blob import Blob
    from grit.git.dialects import Dialect, Plan, Request
    from grit.git.filelock import FileLock
    from grit.git.gitconfig import GitConfig
    from grit.git.log_reader import Known
    from grit.git.objects import ObjectWriter
    from grit.git.repository import Repository

# What only a writer needs is imported where it is used: reading the head must be quick.

T = TypeVar("T")

StoredObject = tuple[str, bytes]
"""(kind, content) of a git object; its id is the hash of both."""

_FILE_MODE: Final = 0o100644
_TREE_MODE: Final = 0o40000


class HeadMoved(Conflict):
    """Another writer was faster: refresh, decide again, append again."""


class Appended(NamedTuple):
    """A finished append: the new head, what was written, and what the user should hear."""

    head: str
    objects: tuple[StoredObject, ...]
    """Commits, trees and chunks, for a journal; attachments are not among them."""
    notices: tuple[str, ...] = ()
    durable: bool = True
    """False: stored and visible, but the system did not confirm that it is on the disk."""
    untidy: bool = False
    """Whether `tidy` should be called when there is time: what is kept has grown older."""


class Wal:
    """The log of one repository."""

    __slots__ = ("_config", "_dialect", "_environ", "_notice", "hidden_ref", "ref", "repository")

    def __init__(
        self,
        repository: Repository,
        environ: Mapping[str, str] | None = None,
        notice: Callable[[str], object] = str,
    ) -> None:
        """Choose the ref; `environ` is where git's identity variables are looked up.

        `notice` hears of objects that were put back.

        Raises WalDamaged, IoFailed or GitFailed when it cannot be told which one is the log.
        """
        self.repository = repository
        self.ref = GRIT_REF
        self.hidden_ref: str | None = None
        """The ref of another log that is not shown, where there may be one."""
        if read_ref(repository, GRITE_REF) is not None:
            from grit.git.detection import choose_log

            self.ref, self.hidden_ref = choose_log(repository)
        elif is_absent(repository, GRIT_REF):
            from grit.git.detection import choose_fetched

            self.ref = choose_fetched(repository)
        self._environ = environ or {}
        self._notice = notice
        self._config: GitConfig | None = None
        self._dialect: tuple[str, Dialect] | None = None
        """The head that was looked at last, and what it is written in."""

    @property
    def config(self) -> GitConfig:
        """Git's configuration, read when it is first needed."""
        if self._config is None:
            from grit.git.gitconfig import load_git_config

            self._config = load_git_config(self.repository, self._environ)
        return self._config

    @property
    def dialect(self) -> Dialect:
        """How this log is written; raises WalDamaged when its head cannot be read."""
        return self._dialect[1] if self._dialect is not None else self.dialect_at(self.head())

    def dialect_at(self, head: str | None) -> Dialect:
        """Return how the log is written whose newest commit that is; raises WalDamaged."""
        from grit.git.detection import detect_dialect, unborn

        if head is None:
            return unborn(self.ref)
        if self._dialect is None or self._dialect[0] != head:
            found = self._whole(lambda: detect_dialect(self.repository, self.ref, head))
            self._dialect = head, found
        return self._dialect[1]

    def head(self) -> str | None:
        """Return the newest commit of the log, or None; raises WalDamaged, IoFailed."""
        return read_ref(self.repository, self.ref)

    def lock(self, wait_ms_max: int = LOCK_WAIT_MS_MAX) -> FileLock:
        """Return the lock that a writer holds around refresh and append."""
        from grit.git.filelock import FileLock

        return FileLock(self.repository.private, "wal.lock-file", wait_ms_max)

    def read(self, head: str, old: str | None, known: Known | None = None) -> Iterator[Blob]:
        """Yield the chunk files of `head` that `old` does not have, oldest first.

        Those in `known` are not read: it is only noted there that the log lists them.
        Raises HeadUnknown when `old` is gone, WalDamaged for a missing commit, GitFailed for a
        shallow log (spec/wal.md, Reading).
        """
        if head == old:
            return iter(())
        return self._read(head, old, known)

    def _read(self, head: str, old: str | None, known: Known | None) -> Iterator[Blob]:
        from grit.git.log_reader import read_log

        for attempt in range(HEALS_MAX):
            looked = attempt + 1 == HEALS_MAX
            try:
                for blob in read_log(self.repository, head, old, known):
                    if blob.data is None:
                        back = not looked and blob.oid in self._healed()
                        if back or self._is_back(attempt, blob.oid):
                            break  # what was delivered comes twice, as after any damage
                        looked = True
                    yield blob
                else:
                    return
            except WalDamaged as error:
                if not self._worth_another(attempt, error):
                    raise

    def _is_back(self, attempt: int, oid: str) -> bool:
        """Return whether another process was faster: the object is there, and may be read now."""
        from grit.git.kept import names
        from grit.git.objects import read_loose

        if attempt + 1 == HEALS_MAX or read_loose(self.repository, oid) is None:
            return False
        return attempt == 0 or oid in names(self.repository)

    def heal(self) -> int:
        """Put back what a collection of git took while it was new; return how many objects.

        Tells of it. Never fails.
        """
        return len(self._healed())

    def _healed(self) -> list[str]:
        from grit.git.kept import restore

        restored = restore(self.repository)
        self._tell(restored)
        return restored

    def tidy(self) -> None:
        """Forget second names that are no longer needed. Never fails."""
        from grit.git.kept import tidy

        self._tell(tidy(self.repository))

    def _tell(self, restored: Sequence[str]) -> None:
        if restored:
            what = "an object" if len(restored) == 1 else f"{len(restored)} objects"
            self._notice(f"put back {what} that 'git prune' or 'git gc' took while it was new")

    def _whole(self, work: Callable[[], T]) -> T:
        """Return what `work` does; again, when an object was missing that could be put back."""
        attempt = 0
        while True:
            try:
                return work()
            except WalDamaged as error:
                if not self._worth_another(attempt, error):
                    raise
                attempt += 1

    def _worth_another(self, attempt: int, error: WalDamaged | None = None) -> bool:
        """Heal; return whether what failed for damage may go well now."""
        from grit.git.kept import names

        if attempt + 1 >= HEALS_MAX:
            return False
        if self.heal():
            return True
        # Another process may have put it back just before.
        kept = names(self.repository)
        return bool(kept) and (attempt == 0 or (error and error.details.get("object")) in kept)

    def join(self, theirs: str, notices: list[str]) -> str | None:
        """Move the log forward to a head that holds `theirs` too; return how, None when it did.

        "adopted", "forwarded" or "joined". The caller holds `lock()`.
        Raises HeadMoved when another writer was faster,
        WalDamaged when `theirs` is not a log or cannot be compared, IoFailed, Busy, GitFailed.
        """
        return self._whole(lambda: self._join(theirs, notices))

    def _join(self, theirs: str, notices: list[str]) -> str | None:
        from grit.git.joins import check_dialect, check_is_log, standing, write_join

        old = self.head()
        self._check_alone(old)
        try:
            how = "behind" if old is None else standing(self.repository, old, theirs)
        except WalDamaged:
            check_is_log(self.repository, theirs)
            raise
        if how in ("same", "ahead"):
            return None
        has_meta = check_is_log(self.repository, theirs)
        self._check_commits(theirs, old)
        check_dialect(self, old, theirs, has_meta=has_meta, apart=how == "apart")
        self._keep_fetched(theirs, old)
        new = theirs if old is None or how == "behind" else write_join(self, old, theirs)
        moved = swap_ref(
            self.repository,
            self.ref,
            old,
            new,
            shared_mode=self.config.shared_mode,
            notices=notices,
            sync=self.config.durable_refs,
        )
        if not moved:
            raise HeadMoved("another writer moved the log; try again")
        self._look_after([new])
        self.sync_ref()
        self._dialect = None
        if old is None:
            return "adopted"
        return "joined" if how == "apart" else "forwarded"

    def _check_alone(self, old: str | None) -> None:
        """Raise Conflict where a log would begin beside another one, which came a moment ago."""
        other = GRITE_REF if self.ref == GRIT_REF else GRIT_REF
        if old is None and read_ref(self.repository, other) is not None:
            raise Conflict(f"a log at {other} came meanwhile; run the command again", ref=other)

    def _check_commits(self, theirs: str, old: str | None) -> None:
        """Raise what reading `theirs` would raise: behind a ref of ours it could not be undone."""
        from grit.git.log_reader import commit_trees
        from grit.git.loose_tail import is_loose_ancestor

        if old is None or not is_loose_ancestor(self.repository, theirs, old):
            commit_trees(self.repository, theirs, old)

    def _keep_fetched(self, theirs: str, old: str | None) -> None:
        from grit.git.fetched import keep_fetched
        from grit.git.joins import HeadIncomplete

        if not keep_fetched(self.repository, theirs, old, self.config.shared_mode):
            raise HeadIncomplete(
                f"objects of {theirs[:12]} are gone again: a 'git prune' or 'git gc' beside the "
                "fetch took them; 'grit sync' fetches them again",
                object=theirs,
            )

    def append(
        self,
        chunks: Sequence[bytes],
        *,
        old: str | None,
        message: str,
        trailers: Sequence[str],
        ts_unix_ms: int,
        actor_id: bytes,
        event_count: int,
        attachments: Mapping[str, bytes] | None = None,
        author: str | None = None,
    ) -> Appended:
        """Write chunks and attachments (by SHA-256 in hex) as commits on `old`, then move the ref.

        `author` is `Name <email>`, when it is not who acts here (`person`). The caller holds
        `lock()`. Raises HeadMoved when the ref is not at `old` any more, with nothing visible;
        IoFailed, Busy, WalDamaged or GitFailed with the head unchanged.
        """
        if read_ref(self.repository, self.ref) != old:
            raise HeadMoved("another writer moved the log; try again")
        self._check_base(old)
        from grit.git.dialects import Request

        people = (author or self.person("author", actor_id), self.person("committer", actor_id))
        request = Request(
            tuple(chunks),
            message,
            tuple(trailers),
            ts_unix_ms,
            actor_id,
            event_count,
            _checked(attachments or {}),
            people,
        )
        return self._publish(request, old)

    def _check_base(self, old: str | None) -> None:
        """Raise where a commit on `old` would be of another dialect than that or its chunks."""
        from grit.git.detection import check_parent

        self._check_alone(old)
        if old is None:
            if self.ref == GRITE_REF:
                raise WalDamaged("the log that was fetched is not taken in yet: run 'grit sync'")
            return
        known = self._dialect
        if known is not None and known[1] != self.dialect_at(old):
            raise HeadMoved("the log is another one now; try again")
        check_parent(self, old)

    def person(self, role: str, actor_id: bytes) -> str:
        """Return `Name <email>` of the "author" or the "committer", as git would name them."""
        from grit.git.gitconfig import identity

        name, email = identity(self.config, self._environ, role, actor_id)
        return f"{name} <{email}>"

    def _publish(self, request: Request, old: str | None) -> Appended:
        from grit.git.objects import ObjectWriter

        config = self.config
        writer = ObjectWriter(self.repository, config.durable, config.shared_mode)
        journal: list[StoredObject] = []
        head = old
        dialect = self.dialect_at(old)
        for group in dialect.groups(request.chunks):
            plan = dialect.plan(request, group, head)
            head = write_commit(writer, plan, (head,) if head else (), journal)
            request = request._replace(attachments={})
        writer.sync()
        notices: list[str] = []
        assert head is not None
        moved = swap_ref(
            self.repository,
            self.ref,
            old,
            head,
            shared_mode=config.shared_mode,
            notices=notices,
            sync=config.durable_refs,
        )
        if not moved:
            raise HeadMoved("another writer moved the log; try again")
        self._look_after(writer.keeper.oids)
        self._dialect = head, dialect
        durable = self.sync_ref()
        return Appended(head, tuple(journal), tuple(notices), durable, writer.keeper.begun)

    def _look_after(self, oids: Sequence[str]) -> None:
        from grit.git.kept import look_after

        self._tell(look_after(self.repository, oids))

    def sync_ref(self) -> bool:
        """Make the ref's name durable too, where objects are; False when that fails."""
        config = self.config
        hardened = config.durable and config.durable_refs
        if not hardened or self.repository.ref_storage != "files":
            return True
        try:
            sync_folder(os.path.dirname(f"{self.repository.common_dir}/{self.ref}"))
        except OSError:
            return False
        return True

    def restore(self, objects: Iterable[StoredObject]) -> list[str]:
        """Write journal objects again, bit for bit, and return their ids; raises IoFailed."""
        from grit.git.objects import ObjectWriter

        writer = ObjectWriter(self.repository, True, self.config.shared_mode)
        written = [writer.write(kind, content, replace=True) for kind, content in objects]
        writer.sync()
        return written

    def attachment(self, sha256_hex: str) -> bytes | None:
        """Return the contents with that SHA-256, or None when the log does not hold them."""
        head = self.head()
        if head is None:
            return None
        found = self._attachment(head, sha256_hex)
        if found is None and self.heal():
            found = self._attachment(head, sha256_hex)
        return found

    def _attachment(self, head: str, sha256_hex: str) -> bytes | None:
        from grit.git.attached import contents

        found = contents(self.repository, head, {sha256_hex})
        return next((content for _, content in found), None)

    def contains(self, head: str, old: str) -> bool:
        """Return whether `old` is `head` or among its ancestors; False when it is gone.

        A short way of loose commits is walked without starting git.
        """
        from grit.git.loose_tail import is_loose_ancestor
        from grit.git.process import run

        if is_loose_ancestor(self.repository, head, old):
            return True
        words = ("merge-base", "--is-ancestor", old, head)
        done = run(self.repository.git_dir, *words)
        for attempt in range(HEALS_MAX):
            # A commit that is missing is told in words, and not by the status of every git.
            if done.status == 0 or not done.stderr or not self._worth_another(attempt):
                break
            done = run(self.repository.git_dir, *words)
        return done.status == 0

    def missing_objects(self, head: str) -> list[str]:
        """Return the ids of the log's objects that are missing or broken (for doctor)."""
        from grit.git.log_reader import missing_objects

        found = missing_objects(self.repository, head)
        return missing_objects(self.repository, head) if found and self.heal() else found


def _checked(attachments: Mapping[str, bytes]) -> Mapping[str, bytes]:
    if not attachments:
        return attachments
    import hashlib

    for name, data in attachments.items():
        if len(data) > ATTACHMENT_BYTES_MAX:
            raise InvalidArgs(f"an attachment is larger than {ATTACHMENT_BYTES_MAX} bytes")
        if hashlib.sha256(data).hexdigest() != name:
            raise InvalidArgs(f"the attachment {name} has another SHA-256")
    return attachments


def write_commit(
    writer: ObjectWriter, plan: Plan, parents: tuple[str, ...], journal: list[StoredObject]
) -> str:
    """Write the objects of one commit, note them in `journal`, and return the commit's id."""
    from dulwich.objects import Commit, ObjectID

    commit = Commit()
    commit.tree = ObjectID(_write_tree(writer, plan.files, journal).encode())
    commit.parents = [ObjectID(parent.encode()) for parent in parents]
    commit.author, commit.committer = (p.encode(errors="replace") for p in plan.people)
    commit.author_time = commit.commit_time = plan.time_s
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = plan.message.encode(errors="replace")
    content = commit.as_raw_string()
    journal.append(("commit", content))
    return writer.write("commit", content)


def _write_tree(
    writer: ObjectWriter,
    files: Mapping[str, bytes],
    journal: list[StoredObject],
    keep: bool = True,
) -> str:
    """Write the files and folders below one tree; blobs go to the journal when `keep` says so."""
    from dulwich.objects import ObjectID, Tree

    tree = Tree()
    from grit.git.dialects import ATTACHMENTS

    folders: dict[str, dict[str, bytes]] = {}
    for path, data in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(name, {})[rest] = data
            continue
        if keep:
            journal.append(("blob", data))
        tree.add(name.encode(), _FILE_MODE, ObjectID(writer.write("blob", data).encode()))
    for name, inside in folders.items():
        below = _write_tree(writer, inside, journal, name != ATTACHMENTS)
        tree.add(name.encode(), _TREE_MODE, ObjectID(below.encode()))
    content = tree.as_raw_string()
    journal.append(("tree", content))
    return writer.write("tree", content)
