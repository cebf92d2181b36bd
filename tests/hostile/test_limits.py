"""Faults rows 13, 17, 23: what is small and costly, times at the bounds, a starved environment."""

import json
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from hashlib import blake2b, sha1
from pathlib import Path

import pytest

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.errors import ERRORS
from tests.hostile.plumbing import (
    GRIT,
    HEADER,
    ISSUE,
    array,
    comment,
    event,
    forged,
    fresh_repository,
    git,
    log_head,
    push_chunks,
    run,
)

ID = ISSUE.hex()
GOOD = event(kinds.ISSUE_CREATED, "Still here", "", ())
COSTLY: dict[str, bytes] = {
    "100,000 nested arrays": HEADER + b"\x81" * 100_000,
    "10 MB of 0x80": HEADER + b"\x80" * 10_000_000,
    "10 MB of 0x80 without a header": b"\x80" * 10_000_000,
    "an array of 10^7 empty arrays": HEADER + b"\x9a\x00\x98\x96\x80" + b"\x80" * 10_000_000,
    "a chunk above the bound": HEADER + bytes(limits.CHUNK_BYTES_MAX),
}
MEASURE = """
import resource, sys, time
from grit.core.codec import decode_chunk
data = sys.stdin.buffer.read()
decode_chunk(b"GRITCHNK\\x01\\x00\\x07cbor-v1\\x81\\x01")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spent = []
for _ in range(5):
    started = time.process_time()
    found = decode_chunk(data)
    spent.append(time.process_time() - started)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(min(spent) * 1000, (after - before) / 1024, len(found.records), len(found.problems))
"""


@pytest.mark.parametrize("name", COSTLY)
def test_fault_13_costly_bytes_are_set_aside_at_once(name: str) -> None:
    """ASIDE within 10 ms and 100 MB, measured around the decoding in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], input=COSTLY[name], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    time_ms, memory_mb, records, problems = map(float, done.stdout.split())
    assert (records, problems) == (0, 1)
    assert time_ms < 10
    assert memory_mb < 100


def _push_bomb(folder: Path, size: int) -> int:
    """Add a blob of zeros as a loose object without ever holding it; return its packed bytes."""
    header = f"blob {size}\0".encode()
    digest, packer = sha1(header), zlib.compressobj(9)
    parts = [packer.compress(header)]
    block = bytes(1 << 20)
    for _ in range(size >> 20):
        digest.update(block)
        parts.append(packer.compress(block))
    packed = b"".join([*parts, packer.flush()])
    oid = digest.hexdigest()
    path = folder / ".git" / "objects" / oid[:2] / oid[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(packed)
    head = log_head(folder)
    name = blake2b(b"bomb", digest_size=32).hexdigest()
    tree = git(folder, "mktree", stdin=f"100644 blob {oid}\t{name}.bin\n".encode())
    commit = git(folder, "commit-tree", tree, "-p", head, "-m", "bomb")
    git(folder, "update-ref", "refs/grit/wal", commit)
    return len(packed)


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_fault_13_400_mb_of_zeros_are_never_unpacked(tmp_path: Path, packed: bool) -> None:
    """A blob of 408 KB that unpacks to 400 MB is reported, the rest is shown, memory stays low."""
    repository = fresh_repository(tmp_path / "repository")
    push_chunks(repository, [codec.encode_chunk([GOOD, comment("beside")])])
    assert _push_bomb(repository, 400 << 20) < 1 << 20
    if packed:
        pack = [  # `git gc` would need the memory that this is about
            "git", "-C", str(repository), "-c", "core.bigFileThreshold=1m", "repack", "-adq"
        ]  # fmt: skip
        subprocess.run(pack, check=True, timeout=60, capture_output=True)
    probe = (
        "import resource, sys\nfrom grit.cli.main import run\nstatus = run(sys.argv[1:])\n"
        "own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "git = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(status, own // 1024, git // 1024, file=sys.stderr)\n"
    )
    # A process begins with the peak of the one that it was started from: a shell lies between.
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", probe, "show", ID],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
    )
    status, own_mb, git_mb = map(int, done.stderr.splitlines()[-1].split())
    assert (status, "beside" in done.stdout) == (0, True)
    assert own_mb < 100
    assert git_mb < 100
    assert "larger than" in run(repository, "doctor").out


@pytest.mark.parametrize(
    ("ts", "kept"),
    [(0, True), (limits.TS_UNIX_MS_MAX, True), (2**53, False), (2**63, False), (2**64 - 1, False)],
)
def test_fault_17_times_at_the_bounds(ts: int, kept: bool, tmp_path: Path) -> None:
    """A time within the bound is shown, one beyond it is set aside, and a later edit still wins."""
    repository = fresh_repository(tmp_path / "repository")
    fields = (ISSUE, GOOD.actor_id, ts, None, kinds.STATE_CHANGED, ["closed"])
    push_chunks(repository, [array(codec.encode_record(GOOD), forged(*fields))])
    shown = json.loads(run(repository, "show", ID, "--json").out)["data"]["issue"]
    assert (shown["state"] == "closed") == kept
    done = run(repository, "issue", "reopen" if kept else "close", ID)
    assert done.status == 0
    assert ("clock" in done.err) == (ts == limits.TS_UNIX_MS_MAX)
    after = json.loads(run(repository, "show", ID, "--json").out)["data"]["issue"]
    assert after["state"] != shown["state"]


def test_fault_17_the_day_after_tomorrow_still_loses_to_a_later_edit(tmp_path: Path) -> None:
    """An event of the year 9998 does not wedge its issue: the next edit wins, in its own time."""
    repository = fresh_repository(tmp_path / "repository")
    far = limits.TS_UNIX_MS_MAX - 10**10
    late = (ISSUE, GOOD.actor_id, far, None, kinds.STATE_CHANGED, ["closed"])
    push_chunks(repository, [array(codec.encode_record(GOOD), forged(*late))])
    assert '"clock", "status": "warn"' in run(repository, "doctor", "--json").out
    assert run(repository, "issue", "reopen", ID).status == 0
    shown = json.loads(run(repository, "show", ID, "--json").out)["data"]["issue"]
    assert shown["state"] == "open"
    assert abs(shown["updated_ts"] - time.time() * 1000) < 60_000
    assert '"clock", "status": "ok"' in run(repository, "doctor", "--json").out


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tracker whose view is up to date."""
    repository = fresh_repository(tmp_path_factory.mktemp("starved") / "repository")
    comments = [comment(f"number {n} \N{CRAB}", ts=n) for n in range(1, 200)]
    push_chunks(repository, [codec.encode_chunk([GOOD, *comments])])
    assert run(repository, "ls").status == 0
    return repository


def _starved(
    folder: Path,
    *arguments: str,
    files: int | None = None,
    memory_mb: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[int, bytes, bytes]:
    """Run grit with few file descriptors, little address space or a bare environment."""

    def starve() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if memory_mb is not None:
            size = memory_mb << 20
            resource.setrlimit(resource.RLIMIT_AS, (size, size))

    done = subprocess.run(
        [*GRIT, *arguments],
        cwd=folder,
        capture_output=True,
        timeout=60,
        env=None if environ is None else dict(environ),
        preexec_fn=starve,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"bug in grit" not in done.stderr, done.stderr.decode()
    assert done.returncode >= 0, f"killed by a signal: {done.returncode}"
    return done.returncode, done.stdout, done.stderr


READS = (("show", ID, "--json"), ("ls", "--json"), ("export",), ("ready", "--json"))


def _same_or_refused(
    folder: Path,
    arguments: tuple[str, ...],
    files: int | None = None,
    memory_mb: int | None = None,
) -> None:
    plain = run(folder, *arguments)
    status, out, err = _starved(folder, *arguments, files=files, memory_mb=memory_mb)
    if status == 0:
        assert _without_clock(out) == _without_clock(plain.out.encode())
        return
    assert status in {row.exit_status for row in ERRORS.values()}
    assert err or b'"ok": false' in out


def _without_clock(out: bytes) -> bytes:
    head, mark, rest = out.partition(b'"generated_ts": ')
    return head + mark + rest.lstrip(b"0123456789")


@pytest.mark.parametrize("files", [8, 10, 12, 16, 20, 24, 32, 64])
@pytest.mark.parametrize("arguments", READS[:3], ids=lambda words: words[0])
def test_fault_23_few_file_descriptors(
    files: int, arguments: tuple[str, ...], tracker: Path
) -> None:
    """With 8 to 64 descriptors (Python itself needs 7): the same bytes, or refused."""
    _same_or_refused(tracker, arguments, files=files)
    if files >= 20:
        assert _starved(tracker, *arguments, files=files)[0] == 0


@pytest.mark.parametrize("files", [8, 20, 64])
def test_fault_23_writing_with_few_file_descriptors(files: int, tmp_path: Path) -> None:
    """A write either stores its event or leaves the log as it was."""
    repository = fresh_repository(tmp_path / "repository")
    push_chunks(repository, [codec.encode_chunk([GOOD])])
    before = log_head(repository)
    status, _, err = _starved(repository, "comment", ID, "--body", "starved", files=files)
    assert (log_head(repository) != before) == (status == 0), err
    assert ("starved" in run(repository, "show", ID).out) == (status == 0)
    if files >= 20:
        assert status == 0, err
    git(repository, "fsck", "--strict")


@pytest.mark.parametrize("arguments", READS, ids=lambda words: words[0])
def test_fault_23_200_mb_of_address_space(arguments: tuple[str, ...], tracker: Path) -> None:
    """In 200 MB a command works and prints the same, or is refused."""
    _same_or_refused(tracker, arguments, memory_mb=200)


def test_fault_23_writing_in_200_mb(tmp_path: Path) -> None:
    """In 200 MB a write is stored or refused, never half."""
    repository = fresh_repository(tmp_path / "repository")
    push_chunks(repository, [codec.encode_chunk([GOOD])])
    before = log_head(repository)
    status, _, err = _starved(repository, "comment", ID, "--body", "starved", memory_mb=200)
    assert (log_head(repository) != before) == (status == 0), err
    git(repository, "fsck", "--strict")


BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "no HOME, no TMPDIR": BARE,
    "C locale": {**BARE, "LC_ALL": "C"},
    "C locale without coercion": {**BARE, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
    "ASCII streams": {**BARE, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    "POSIX locale": {**BARE, "LANG": "POSIX"},
    "an unknown locale": {**BARE, "LC_ALL": "xx_XX.UTF-8"},
    "a far time zone": {**BARE, "TZ": "Pacific/Kiritimati"},
    "an unknown time zone": {**BARE, "TZ": "Nowhere/At_All"},
    "an odd time zone": {**BARE, "TZ": "ABC-25:59:59"},
    "HOME that is not there": {**BARE, "HOME": "/nonexistent"},
    "TMPDIR that is not there": {**BARE, "TMPDIR": "/nonexistent"},
    "hash seed 0": {**BARE, "PYTHONHASHSEED": "0"},
    "hash seed 1": {**BARE, "PYTHONHASHSEED": "1"},
    "hash seed 4294967295": {**BARE, "PYTHONHASHSEED": "4294967295"},
    "a dumb terminal": {**BARE, "TERM": "dumb", "COLUMNS": "0", "LINES": "-1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_fault_23_odd_environments_print_the_same_bytes(name: str, tracker: Path) -> None:
    """Home, temporary folder, locale, zone and hash seed change no byte of what scripts read."""
    for arguments in READS:
        plain = run(tracker, *arguments).out.encode()
        status, out, err = _starved(tracker, *arguments, environ=ENVIRONMENTS[name])
        assert status == 0, err
        assert _without_clock(out) == _without_clock(plain)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_fault_23_pages_for_people_work_everywhere(name: str, tracker: Path) -> None:
    """What people read is printed in any locale, with what it cannot show written out."""
    status, out, err = _starved(tracker, "show", ID, environ=ENVIRONMENTS[name])
    assert status == 0, err
    assert b"number 7" in out


@pytest.mark.parametrize("name", ["ASCII streams", "no HOME, no TMPDIR", "an unknown time zone"])
def test_fault_23_writing_in_odd_environments(name: str, tmp_path: Path) -> None:
    """A write needs neither HOME nor a locale, and what it stores is what was asked for."""
    folder = tmp_path / "repository"
    git(tmp_path, "init", "-q", str(folder))
    title = "Grüße \N{CRAB}"
    status, out, err = _starved(folder, "new", title, "--json", environ=ENVIRONMENTS[name])
    if name == "ASCII streams":  # Python was told not to understand the words of its command line
        assert status == ERRORS["invalid_args"].exit_status
        assert log_head(folder) == ""
        return
    assert status == 0, err
    issue = json.loads(out)["data"]["issue_id"]
    assert json.loads(run(folder, "show", issue, "--json").out)["data"]["issue"]["title"] == title
