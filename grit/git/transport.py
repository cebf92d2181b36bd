"""Fetching from and pushing to remotes with the git program (spec/sync.md, Transport).

Git does the talking, so that ssh settings, credential helpers, proxies and `insteadOf` are the
user's own. What the other side said is kept: the caller shows it, escaped.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from grit.core.limits import GIT_OUTPUT_BYTES_MAX
from grit.core.progress import SILENT, ProgressReporter
from grit.git.process import end_detached, hear, start_talking, text_lines
from grit.git.remotes import without_credentials
from grit.git.repository import Repository

if TYPE_CHECKING:
    from subprocess import Popen

    from grit.git.leftovers import Lock

WORDS_CHARS_MAX: Final = 2_000
"""How much of what the other side said is kept."""
_PROGRESS: Final = re.compile(r"(?:remote: )?(\w[\w ]*):\s+\d+% \((\d{1,15})/(\d{1,15})\)")
_CHATTER: Final = re.compile(
    r"(hint:|To |From |remote: *$|(fatal: )?Could not read from remote repository"
    r"|Please make sure you have the correct|and the repository exists"
    r"|error: failed to push some refs|Everything up-to-date"
    r"|(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Unpacking|Writing|Total)\b)"
)
_MISSING: Final = re.compile(r"couldn't find remote ref|remote ref does not exist", re.IGNORECASE)
_MOVED: Final = (
    "non-fast-forward",
    "fetch first",
    "stale info",
    "needs force",
    "already exists",
    "cannot lock ref",
    "failed to update ref",
    "failed to lock",
    "incorrect old value",
    "atomic push failed",
    "remote ref updated since checkout",
)
"""Reasons for a refusal that mean: somebody else was faster."""
_CLOSED: Final = "the other side closed the connection"
_BROKEN: Final = (_CLOSED, "hung up", "disconnect")
"""What git says when the other side left without an answer."""
_DEPTH_MAX: Final = 2**31 - 2
"""One more would stand for `--unshallow`, which also fetches the whole history of the code."""
_SIGPIPE: Final = 13
_GRACE_S: Final = 2.0
"""How long a git that is told to stop has for it."""
_LOCKED: Final = ".lock': File exists"
"""Git's word for a lock that somebody holds, or a killed process left."""
_LINE_BYTES_MAX: Final = 4_096
_PART_BYTES: Final = 1 << 16
_LINES_MAX: Final = 1_000
"""How many lines are kept while the other side talks: the last ones, since git ends the talk."""


class Update(NamedTuple):
    """One ref to move on the remote."""

    oid: str | None
    """The object to move it to; None removes it."""
    ref: str
    expected: str | None = None
    """The object that it must stand at, "" for no such ref; None: forward only."""


class Fetched(NamedTuple):
    """How a fetch ended."""

    failed: str | None
    """The other side's or git's words when it failed; None when it is done."""
    missing: bool = False
    """It failed because the remote has no such ref."""
    said: str = ""
    removed: tuple[str, ...] = ()
    """Notices about locks that a killed process had left here."""


class Pushed(NamedTuple):
    """How a push of one ref ended."""

    ref: str
    done: bool
    moved: bool
    """Not done, because the ref stands elsewhere: fetch, and try again."""
    words: str
    """Why it was not done."""
    broken: bool = False
    """The other side left without a word of this ref: it may be done, or somebody was faster."""
    removed: tuple[str, ...] = ()
    """Notices about locks that a killed process had left at a remote on this machine."""
    same: bool = False
    """Done, because the ref stood there already."""


class _Talk(NamedTuple):
    status: int
    stdout: str
    words: str
    missing: bool
    """Git said, in whatever company, that the remote has no such ref."""
    removed: tuple[str, ...] = ()


def fetch(
    repository: Repository,
    remote: str,
    refspecs: Sequence[str],
    environ: Mapping[str, str],
    progress: ProgressReporter = SILENT,
    *,
    prune: bool = False,
    whole: bool = False,
    again: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Fetched:
    """Fetch exactly these refspecs, with all objects, whatever the remote's own settings say.

    `prune` drops the records, below the right sides of the refspecs, of refs that are gone; `whole`
    completes what was cut off by an earlier shallow fetch, and leaves other history as it is;
    `again` fetches also what git takes to be here (git 2.36). `meanwhile` is called once git works;
    when it raises, git is ended.

    Raises GitFailed when git is missing, IoFailed when no process can be started.
    """
    talk = _talk(
        repository,
        (
            "fetch",
            *_shown(progress),
            "--no-tags",
            "--prune" if prune else "--no-prune",
            *((f"--depth={_DEPTH_MAX}",) if whole else ()),
            *(("--refetch",) if again else ()),
            "--no-filter",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
            "--no-show-forced-updates",
            "--recurse-submodules=no",
            "--refmap=",
            "--",
            remote,
            *refspecs,
        ),
        environ,
        progress,
        f"fetching from {without_credentials(remote)}",
        lambda: _locks(repository.common_dir, (spec.rpartition(":")[2] for spec in refspecs)),
        meanwhile,
    )
    if talk.status == 0:
        return Fetched(None, False, talk.words, talk.removed)
    words = talk.words or _silent_end(talk.status)
    return Fetched(words, talk.missing, removed=talk.removed)


def fetch_objects(
    repository: Repository,
    remote: str,
    ids: Iterable[str],
    environ: Mapping[str, str],
    progress: ProgressReporter = SILENT,
) -> Fetched:
    """Fetch exactly these objects, and what they need; no ref moves.

    Raises GitFailed when git is missing, IoFailed when no process can be started.
    """
    import tempfile

    with tempfile.TemporaryFile() as names:
        names.writelines(f"{oid}\n".encode() for oid in ids)
        talk = _talk(
            repository,
            (
                # What is here lacks something: nothing may be concluded from its commits.
                *("-c", "fetch.negotiationAlgorithm=noop"),
                "fetch",
                *_shown(progress),
                *("--no-tags", "--no-prune", "--no-filter", "--no-auto-maintenance"),
                *("--no-write-fetch-head", "--recurse-submodules=no", "--refmap="),
                *("--stdin", "--", remote),
            ),
            environ,
            progress,
            f"fetching what is missing from {without_credentials(remote)}",
            lambda: _locks(repository.common_dir, ()),
            stdin=names,
        )
    failed = None if talk.status == 0 else talk.words or _silent_end(talk.status)
    return Fetched(failed, talk.missing, talk.words, talk.removed)


def push(
    repository: Repository,
    remote: str,
    updates: Sequence[Update],
    environ: Mapping[str, str],
    progress: ProgressReporter = SILENT,
) -> list[Pushed]:
    """Move refs of the remote; the outcomes are in the order of `updates`.

    Raises GitFailed when git is missing, IoFailed when no process can be started.
    """
    leases = [
        f"--force-with-lease={update.ref}:{update.expected}"
        for update in updates
        if update.expected is not None
    ]
    talk = _talk(
        repository,
        (
            # Ids and signatures have no deltas: looking for them is a seventh of a large push.
            *("-c", "pack.window=0", *_no_mirror(remote)),
            "push",
            "--porcelain",
            *_shown(progress),
            "--no-verify",
            "--no-follow-tags",
            "--no-signed",
            "--recurse-submodules=no",
            *leases,
            "--",
            remote,
            *(f"{update.oid or ''}:{update.ref}" for update in updates),
        ),
        environ,
        progress,
        f"pushing to {without_credentials(remote)}",
        lambda: _locks(_folder(repository, remote), (update.ref for update in updates)),
    )
    outcomes = dict(_outcome(line, talk.words) for line in talk.stdout.split("\n") if "\t" in line)
    words = talk.words or _silent_end(talk.status)
    done = talk.status == 0
    broken = not done and any(sign in words for sign in _BROKEN)
    untold = Pushed("", done, False, words, broken)
    pushed = [outcomes.get(one.ref) or untold._replace(ref=one.ref) for one in updates]
    return [outcome._replace(removed=talk.removed) for outcome in pushed]


def _folder(repository: Repository, remote: str) -> str | None:
    from grit.git.leftovers import local_remote

    return local_remote(repository, remote)


def _locks(common_dir: str | None, refs: Iterable[str]) -> "Iterable[Lock]":
    from grit.git.leftovers import locks_of_refs

    return () if common_dir is None else locks_of_refs(common_dir, refs)


def _shown(progress: ProgressReporter) -> tuple[str, ...]:
    return () if progress is SILENT else ("--progress",)


def _no_mirror(remote: str) -> tuple[str, ...]:
    """Return the flags that let a mirror be told what to push."""
    named = re.fullmatch(r"\w[\w./-]*", remote)
    return ("-c", f"remote.{remote}.mirror=false") if named else ()


def remote_refs(
    repository: Repository,
    remote: str,
    patterns: Sequence[str],
    environ: Mapping[str, str],
    timeout_s: float | None = None,
) -> dict[str, str] | str:
    """Return the remote's refs (name to object) that match, or the words of a failure.

    Never asks anybody for a password; gives up after `timeout_s`.
    """
    from subprocess import TimeoutExpired

    silent = {**environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    arguments = ("ls-remote", "--quiet", "--", remote, *patterns)
    process = start_talking(repository, arguments, silent, detached=True)
    try:
        words = "git ls-remote"
        stdout, stderr = hear(process, words, GIT_OUTPUT_BYTES_MAX, timeout_s=timeout_s)
        process.wait(timeout_s)
    except TimeoutExpired:
        end_detached(process)
        return f"no answer within {timeout_s:.0f} s"
    except BaseException:
        end_detached(process)
        raise
    if process.returncode != 0:
        return _words(stderr.decode(errors="replace").split("\n")) or "git ls-remote failed"
    refs = (line.partition("\t") for line in text_lines(stdout))
    return {name: oid for oid, _, name in refs if name}


def _talk(
    repository: Repository,
    arguments: tuple[str, ...],
    environ: Mapping[str, str],
    progress: ProgressReporter,
    label: str,
    locks: "Callable[[], Iterable[Lock]]",
    meanwhile: Callable[[], None] | None = None,
    stdin: IO[bytes] | None = None,
) -> _Talk:
    """Run git to its end; once more when it met locks, and those of dead processes are removed."""
    # Git's own words are looked at, so they must be in one language; the server's are as they are.
    english = {**environ, "LC_ALL": "C"}
    talk = _talk_once(repository, arguments, english, progress, label, meanwhile, stdin)
    if talk.status == 0 or _LOCKED not in talk.words:
        return talk
    from grit.git.leftovers import clear

    removed = tuple(clear(locks()))
    talk = _talk_once(repository, arguments, english, progress, label, stdin=stdin)
    return talk._replace(removed=removed)


def _talk_once(
    repository: Repository,
    arguments: tuple[str, ...],
    environ: Mapping[str, str],
    progress: ProgressReporter,
    label: str,
    meanwhile: Callable[[], None] | None = None,
    stdin: IO[bytes] | None = None,
) -> _Talk:
    """Run git to its end and report its progress; it reads `stdin` from the beginning."""
    # What it reports on its standard output: a fetch nothing, so that nobody has to listen there.
    reports = "--porcelain" in arguments
    if stdin is not None:
        stdin.seek(0)
    process = start_talking(repository, arguments, environ, stdin=stdin, reports=reports)
    assert process.stderr is not None
    said: deque[str] = deque(maxlen=_LINES_MAX)
    progress.start(label)
    stdout = b""
    try:
        if meanwhile is not None:
            _call(meanwhile, process.stderr)
        if process.stdout is not None:
            stdout = _hear_both(process.stdout, process.stderr, said, progress)
        else:
            _listen(process.stderr, said, progress)
        status = process.wait()
    finally:
        _end(process)
        progress.done()
    missing = any(map(_MISSING.search, said))
    return _Talk(status, stdout.decode(errors="surrogateescape"), _words(said), missing)


def _call(meanwhile: Callable[[], None], complaints: IO[bytes]) -> None:
    try:
        meanwhile()
    except BaseException:
        complaints.close()  # nobody will read it
        raise


def _hear_both(
    reports: IO[bytes], complaints: IO[bytes], said: deque[str], progress: ProgressReporter
) -> bytes:
    """Listen to both streams of a process; return what came from the first."""
    import threading

    listener = threading.Thread(target=_listen, args=(complaints, said, progress), daemon=True)
    listener.start()
    heard = reports.read(GIT_OUTPUT_BYTES_MAX)
    while reports.read(_PART_BYTES):
        pass  # more than a line for each ref that was asked for
    listener.join()
    return heard


def _silent_end(status: int) -> str:
    """Return what is known of a git that ended without a word."""
    if status == -_SIGPIPE:
        return _CLOSED
    return f"git was ended by signal {-status}" if status < 0 else f"git ended with status {status}"


def _end(process: "Popen[bytes]") -> None:
    """Leave no process behind, also after Ctrl-C."""
    from subprocess import TimeoutExpired

    if process.poll() is None:
        # Asked politely, git removes its lock files, which would stop the next fetch.
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _listen(source: IO[bytes], said: deque[str], progress: ProgressReporter) -> None:
    """Turn git's progress lines into reports, and keep the last of the other lines."""
    doing, count = "", 0
    rest = b""
    # Who reads it closes it: closing it elsewhere would wait for whatever git left running.
    with source:
        while part := source.read1(4096):  # type: ignore[attr-defined]
            *lines, rest = re.split(rb"[\r\n]", rest + part)
            rest = rest[:_LINE_BYTES_MAX]
            for line in [one[:_LINE_BYTES_MAX].decode(errors="replace") for one in lines]:
                found = _PROGRESS.match(line)
                if found is None:
                    said.append(line)
                    continue
                what, now = found[1], int(found[2])
                if what != doing:
                    doing, count = what, 0
                    progress.start(what.lower(), int(found[3]))
                progress.advance(now - count)
                count = now
    said.append(rest.decode(errors="replace"))


def _words(lines: Iterable[str]) -> str:
    """Return what was said without progress, hints and the names of both sides.

    Of much, the beginning and the end: git's own reason comes last, behind a server's banner.
    """
    kept: list[str] = []
    for line in lines:
        text = line.strip()
        if not text or _CHATTER.match(text) or _PROGRESS.match(text):
            continue
        for prefix in ("remote: ", "fatal: ", "error: "):
            text = text.removeprefix(prefix)
        if text.strip() and text not in kept:
            kept.append(text.rstrip())
    words = "\n".join(kept)
    if len(words) <= WORDS_CHARS_MAX:
        return words
    half = WORDS_CHARS_MAX // 2
    return f"{words[:half]}\n...\n{words[-half:]}"


def _outcome(line: str, words: str) -> tuple[str, Pushed]:
    """Read a line of `git push --porcelain`: flag, from:to, summary (reason)."""
    flag, _, rest = line.partition("\t")
    places, _, summary = rest.partition("\t")
    ref = places.rpartition(":")[2]
    if flag != "!":
        return ref, Pushed(ref, True, False, "", same=flag == "=")
    moved = any(sign in summary for sign in _MOVED) or (
        "remote rejected" in summary and any(sign in words for sign in _MOVED)
    )
    return ref, Pushed(ref, False, moved, "\n".join(filter(None, (summary, words))))
