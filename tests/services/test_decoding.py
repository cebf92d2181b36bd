"""Helpers that check chunks of a whole log change its speed, and no answer."""

import os
import signal
from collections.abc import Callable

import pytest

from grit.core import codec
from grit.git.blob import Blob
from grit.services import decoding, forked
from tests.core.builders import NOW_MS, event


def blobs() -> list[Blob]:
    """Return chunks of one and of many records, some damaged, one missing, one empty."""
    found: list[Blob] = []
    for number in range(40):
        events = [
            event(3, f"Comment {number} {at}", ts=NOW_MS + 100 * number + at)
            for at in range(1 + 30 * (number % 2))
        ]
        data: bytes | None = codec.encode_chunk(events)
        if number % 7 == 3:
            data = (data or b"")[:-1] + b"\x00"
        if number == 11:
            data = None
        found.append(Blob(f"{number:040x}", data, "gone" if not data else None))
    return [*found, Blob("f" * 40, b"", None)]


def test_helpers_answer_as_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, events, records and problems are the same with helpers and without."""
    alone = list(decoding.decoded(blobs(), whole_log=False))
    monkeypatch.setattr(decoding, "PORTION_BYTES", 20_000)
    monkeypatch.setattr(decoding, "CHUNK_SENT_BYTES_MIN", 1_000)
    monkeypatch.setattr(forked, "can_fork", lambda: True)
    assert list(decoding.decoded(blobs(), whole_log=True)) == alone
    assert [oid for oid, _ in alone] == [blob.oid for blob in blobs()]
    assert sum(bool(chunk.problems) for _, chunk in alone) > 3


def test_what_a_dead_helper_had_is_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers that are killed before they answer, or between answers, cost only time."""
    alone = list(decoding.decoded(blobs(), whole_log=False))
    start = forked.start

    def killed(work: Callable[[bytes], bytes], count: int) -> list[forked.Helper]:
        helpers = start(work, count)
        for helper in helpers:
            os.kill(helper.pid, signal.SIGKILL)
        return helpers

    monkeypatch.setattr(decoding, "PORTION_BYTES", 20_000)
    monkeypatch.setattr(decoding, "CHUNK_SENT_BYTES_MIN", 1_000)
    monkeypatch.setattr(forked, "can_fork", lambda: True)
    monkeypatch.setattr(forked, "start", killed)
    assert list(decoding.decoded(blobs(), whole_log=True)) == alone


def test_helpers_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops in the middle leaves no process behind."""
    pids: list[int] = []
    start = forked.start

    def noted(work: Callable[[bytes], bytes], count: int) -> list[forked.Helper]:
        helpers = start(work, count)
        pids.extend(helper.pid for helper in helpers)
        return helpers

    monkeypatch.setattr(forked, "can_fork", lambda: True)
    monkeypatch.setattr(forked, "start", noted)
    stream = decoding.decoded(blobs(), whole_log=True)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert pids
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
