"""Valid events with megabytes of text: whatever reads them takes bounded memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.events import Event
from grit.core.ids import IssueId
from tests.hostile.plumbing import ISSUE, comment, event, fresh_repository, push_chunks

MEMORY_MB = 200
PROBE = """
import resource, sys, threading, time
peak = 0
def watch():
    global peak
    while True:
        with open("/proc/self/status") as status:
            peak = max(peak, *(int(line.split()[1]) for line in status if "RssAnon" in line))
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
from grit.cli.main import run
status = run(sys.argv[1:])
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(status, peak // 1024, children // 1024, file=sys.stderr)
"""
CREATED = event(kinds.ISSUE_CREATED, "Still here", "", ())
FULL = limits.TEXT_BYTES_MAX
FEW = 40
"""Events of 4 MiB: held at once they would take more than twice what is allowed."""


def _issue(number: int) -> IssueId:
    return IssueId(number.to_bytes(16, "big"))


def _body(number: int, *, of: int, wide: bool = False) -> Event:
    """Return an issue with a long body; one wide character lets each take four bytes in memory."""
    text = f"{number} " + "a" * (of - 100) + "\N{GRINNING FACE}" * wide
    return event(kinds.ISSUE_CREATED, f"Issue {number}", text, (), issue=_issue(number))


def _titled(number: int) -> Event:
    title = f"{number:05}" + "t" * 4_000 + "\N{GRINNING FACE}"
    return event(kinds.ISSUE_CREATED, title, "", (), issue=_issue(number))


def _labelled(number: int) -> Event:
    return event(kinds.LABEL_ADDED, f"{number:06}" + "l" * 250)


SHAPES: dict[str, Callable[[], Iterator[bytes]]] = {
    "comments of 4 MiB on one issue": lambda: (
        codec.encode_chunk([comment(f"{n} " + "a" * (FULL - 100), n + 1)]) for n in range(FEW)
    ),
    "bodies in chunks of 12 MiB": lambda: (
        codec.encode_chunk([_body(3 * n + k + 1, of=FULL) for k in range(3)])
        for n in range(FEW // 3)
    ),
    "wide bodies in chunks of 12 MiB": lambda: (
        codec.encode_chunk([_body(3 * n + k + 1, of=FULL, wide=True) for k in range(3)])
        for n in range(FEW // 3)
    ),
    "comments of 60 KB on one issue": lambda: (
        codec.encode_chunk([comment(f"{n} {k} " + "b" * 60_000, 70 * n + k + 1) for k in range(68)])
        for n in range(FEW)
    ),
    "loose objects": lambda: (
        codec.encode_chunk(
            [comment(f"{n} {k} " + "b" * 60_000, 70 * n + k + 1) for k in range(250)]
        )
        for n in range(FEW // 4)
    ),
    "titles of wide characters": lambda: (
        codec.encode_chunk([_titled(1_000 * n + k + 1) for k in range(1_000)]) for n in range(14)
    ),
    "50,000 labels on one issue": lambda: (
        codec.encode_chunk(
            [_labelled(10_000 * n + k) for k in range(10_000)],
        )
        for n in range(5)
    ),
    "each chunk before the last one": lambda: (
        codec.encode_chunk([comment(f"{n} {k} " + "d" * 60_000, 9_999 - n) for k in range(68)])
        for n in range(FEW)
    ),
    "events of a kind to come": lambda: (
        codec.encode_chunk([event(999, f"{n} " + "c" * FULL)]) for n in range(FEW)
    ),
}
CUT = (
    "comments of 4 MiB on one issue",
    "bodies in chunks of 12 MiB",
    "wide bodies in chunks of 12 MiB",
    "events of a kind to come",
)
"""What the view keeps only the beginnings of."""
ISSUE_WORDS = ISSUE.hex()
READS = (
    ("ls",),
    ("ls", "--sort", "title"),
    ("show", ISSUE_WORDS),
    ("show", ISSUE_WORDS, "--json"),
    ("log", "--all", "--json"),
    ("search", "aa"),
    ("export", "--format", "json"),
    ("doctor",),
    ("rebuild",),
)


def anonymous_mb(folder: Path, *words: str) -> tuple[int, int]:
    """Run grit; return its most memory, pages of the view left out, and that of its children."""
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", PROBE, *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=300,
    )
    err = done.stderr.decode()
    assert "Traceback" not in err, err[-2000:]
    status, own, children = map(int, err.split("\n")[-2].split())
    assert status == 0, err
    return own, children


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_valid_events_are_bounded(tmp_path: Path, shape: str) -> None:
    """Whatever is read of 160 MB of texts, and however, takes less than 200 MB of memory."""
    folder = fresh_repository(tmp_path / "repository")
    push_chunks(folder, [codec.encode_chunk([CREATED]), *SHAPES[shape]()])
    for words in READS:
        own, children = anonymous_mb(folder, *words)
        assert own < MEMORY_MB, words
        assert children < MEMORY_MB, words
    size = sum(file.stat().st_size for file in (folder / ".git/grit/view").iterdir())
    if shape in CUT:
        assert size < FEW * 2 * limits.TEXT_KEPT_BYTES
