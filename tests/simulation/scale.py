"""A large log in memory: many actors, a million events, replicas that get them in any order."""

import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

from grit.core import codec
from grit.core import events as kinds
from grit.core.clock import next_ts
from grit.core.events import Draft, Event, Payload
from grit.core.ids import ActorId, EventId, IssueId
from tests.simulation.view import View, state_parts

START_MS = 1_700_000_000_000
CHUNK_EVENTS = 100
"""A sync now and then, not one commit an event."""
BATCH_CHUNKS = 50
_TEXT = "The quick brown fox jumps over the lazy dog, and the log keeps all of it. "


class Shape(NamedTuple):
    """How large the tracker is."""

    actors: int
    events: int
    replicas: int
    seed: int

    @property
    def issues(self) -> int:
        """Ten events an issue, as trackers have."""
        return max(1, self.events // 10)


class Folded(NamedTuple):
    """What one replica found, and what it took."""

    digest: str
    events: int
    issues: int
    cpu_seconds: float
    peak_bytes: int


def generate(shape: Shape) -> list[bytes]:
    """Return the chunks that the actors of all replicas wrote, offline from each other.

    Actors and issues are chosen with Zipf's weights; clocks differ by hours between replicas.
    """
    pick = Random(shape.seed)
    actors = [ActorId(pick.randbytes(16)) for _ in range(shape.actors)]
    weights = list(accumulate(1 / rank for rank in range(1, shape.actors + 1)))
    issues = [IssueId(pick.randbytes(16)) for _ in range(shape.issues)]
    homes = {actor: pick.randrange(shape.replicas) for actor in actors}
    skews = [pick.randint(-7_200_000, 7_200_000) for _ in range(shape.replicas)]
    lasts: dict[ActorId, tuple[int, EventId]] = {}
    pending: list[list[Event]] = [[] for _ in range(shape.replicas)]
    chunks: list[bytes] = []
    for number in range(shape.events):
        actor = pick.choices(actors, cum_weights=weights)[0]
        home = homes[actor]
        last_ms, parent = lasts.get(actor, (None, None))
        ts = next_ts(START_MS + 600 * number + skews[home], last_ms)
        if number < len(issues) * 10 and number % 10 == 0:
            draft = Draft(issues[number // 10], kinds.ISSUE_CREATED, (f"Issue {number}", _TEXT, ()))
        else:
            recent = min(number // 10, int(pick.expovariate(1 / 500)))
            draft = _change(pick, issues, number // 10 - recent)
        event = codec.seal(draft, actor, ts, parent)
        lasts[actor] = (ts, event.event_id)
        pending[home].append(event)
        if len(pending[home]) == CHUNK_EVENTS:
            chunks.append(codec.encode_chunk(pending[home]))
            pending[home] = []
    return chunks + [codec.encode_chunk(rest) for rest in pending if rest]


def _change(pick: Random, issues: Sequence[IssueId], number: int) -> Draft:
    word = f"word{pick.randrange(30)}"
    target = issues[pick.randrange(number + 1)]
    changes: tuple[tuple[int, Payload], ...] = (
        (kinds.COMMENT_ADDED, (_TEXT * pick.randint(1, 6),)),
        (kinds.LABEL_ADDED, (word,)),
        (kinds.LABEL_REMOVED, (word,)),
        (kinds.STATE_CHANGED, (pick.choice(kinds.STATES),)),
        (kinds.FIELD_SET, ("priority", str(pick.randrange(5)))),
        (kinds.ASSIGNEE_ADDED, (word,)),
        (kinds.DEPENDENCY_ADDED, (target, "depends_on")),
    )
    tag, payload = pick.choices(changes, weights=(50, 12, 4, 16, 10, 6, 2))[0]
    return Draft(issues[number], tag, payload)


def fold_replica(chunks: Sequence[bytes], seed: int) -> Folded:
    """Fold the chunks in an order of this replica's own, some of them twice, batch by batch."""
    started = time.process_time()
    pick = Random(seed)
    order = list(range(len(chunks)))
    order += pick.sample(order, len(order) // 50)
    # Mostly as they were made, with delays of up to a tenth of the log.
    late = len(order) / 10
    order.sort(key=lambda at: at + pick.random() * late)
    view = View()
    for start in range(0, len(order), BATCH_CHUNKS):
        view.apply(_events(chunks, order[start : start + BATCH_CHUNKS]), str(start))
    digest = blake2b(digest_size=32)
    for part in state_parts(view):
        digest.update(part)
    cpu_seconds = time.process_time() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Folded(digest.hexdigest(), len(view.events), len(view.rows), cpu_seconds, peak_bytes)


def _events(chunks: Sequence[bytes], numbers: Sequence[int]) -> Iterator[Event]:
    for number in numbers:
        records, problems = codec.decode_chunk(chunks[number])
        assert not problems, problems
        yield from (event for event, _ in records)


def fold_all(shape: Shape, chunks: Sequence[bytes]) -> list[Folded]:
    """Fold every replica in a process of its own, one after the other."""
    return [
        Folded(*in_child(partial(fold_replica, chunks, seed)))
        for seed in range(shape.seed, shape.seed + shape.replicas)
    ]


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` gives in a forked child, as JSON brings it."""
    return join_child(start_child(work))


def start_child(work: Callable[[], Any]) -> tuple[int, int]:
    """Start `work` in a forked child; return its pid and where it will write its result."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid:
        os.close(sink)
        return pid, source
    status = 70
    try:
        os.close(source)
        with os.fdopen(sink, "w") as file:
            json.dump(work(), file)
        status = 0
    finally:
        # Whatever happened, this process must not go on as its parent would.
        if status:
            import traceback

            traceback.print_exc()
        os._exit(status)


def join_child(child: tuple[int, int]) -> Any:
    """Wait for a child and return its result."""
    pid, source = child
    with os.fdopen(source) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"a child failed with status {status}; see its traceback"
    return json.loads(text)
