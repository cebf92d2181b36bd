"""What is on the disk before a write succeeds, and in which order: seen with strace."""

import re
from pathlib import Path

import pytest

from tests.faults.machine import git, ok

SYNCS = "fsync,fdatasync,sync_file_range,msync,rename,renameat,renameat2,link,linkat"


def _steps(folder: Path, trace: Path, *arguments: str) -> list[str]:
    """Return what a command synced and published, in order, without repetitions side by side."""
    before = ["strace", "-qq", "-f", "-y", "-s", "300", "-e", f"trace={SYNCS}", "-o", str(trace)]
    ok(folder, *arguments, before=before)
    found: list[str] = []
    for line in trace.read_text(errors="replace").splitlines():
        step = _step(line.partition(" ")[2].strip(), str(folder))
        if step and (not found or found[-1] != step):
            found.append(step)
    return found


def _step(call: str, folder: str) -> str | None:
    name = call.partition("(")[0]
    if folder not in call or name.startswith("+++"):
        return None
    # A name relative to an open folder is told as the path that it is.
    asked = _RELATIVE.sub(r'"\1/\2"', call.partition(" = ")[0])
    what = next((word for pattern, word in _PLACES if re.search(pattern, asked)), "other")
    if name.startswith(("fsync", "fdatasync", "sync_file_range", "msync")):
        return f"sync {what}"
    return f"publish {what}" if what in ("object", "ref") else None


_RELATIVE = re.compile(r'\d+<([^>]*)>, "([^"]*)"')
_PLACES = (
    (r"/objects/[0-9a-f]{2}/(tmp_obj_)?", "object"),
    (r"/objects(/[0-9a-f]{2})?>", "object folder"),
    (r"refs/grit/wal\.lock", "ref"),
    (r"/grit/swap-", "ref file"),
    (r"refs/grit>", "ref folder"),
    (r"/view/", "view"),
)
DEFAULT = ["publish object", "sync ref file", "publish ref", "sync view"]
WHOLE = [
    "sync object", "publish object", "sync object folder", "sync ref file", "publish ref",
    "sync ref folder", "sync view",
]  # fmt: skip
OBJECTS_ONLY = ["sync object", "publish object", "sync object folder", "publish ref", "sync view"]
NOTHING = ["publish object", "publish ref", "sync view"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, DEFAULT),
        ("committed", WHOLE),
        ("all", WHOLE),
        ("loose-object", WHOLE),
        ("loose-object,-reference", OBJECTS_ONLY),
        ("-reference", NOTHING),
        ("none", NOTHING),
    ],
)
def test_row_18_syncs_follow_core_fsync_in_order(
    tracker: Path, tmp_path: Path, traced: None, setting: str | None, expected: list[str]
) -> None:
    """Objects before the ref, the ref before its folder, each only where core.fsync asks for it."""
    if setting is not None:
        git(tracker, "config", "core.fsync", setting)
    steps = _steps(tracker, tmp_path / "trace", "new", "measured")
    assert "other" not in " ".join(steps)
    order = list(dict.fromkeys(steps))
    assert [step for step in order if step != "sync object folder"] == [
        step for step in expected if step != "sync object folder"
    ]
    folders = [at for at, step in enumerate(steps) if step == "sync object folder"]
    assert bool(folders) is ("sync object folder" in expected)
    # All objects and their folders come before the ref is published, and before it is written.
    ref = min(at for at, step in enumerate(steps) if "ref" in step)
    objects = [at for at, step in enumerate(steps) if "object" in step]
    assert max(objects) < ref


@pytest.mark.parametrize("method", ["fsync", "batch", "writeout-only"])
def test_every_fsync_method_is_answered_with_fsync(
    tracker: Path, tmp_path: Path, traced: None, method: str
) -> None:
    """core.fsyncMethod never makes a write less durable than that method does."""
    git(tracker, "config", "core.fsync", "committed")
    git(tracker, "config", "core.fsyncMethod", method)
    steps = _steps(tracker, tmp_path / "trace", "new", "measured")
    assert set(steps) >= set(WHOLE)
