"""Events from a beads export: a pure function of its lines, earlier imports, and a latest time.

Rules and reasons: spec/exchange.md, Beads. No clock, no randomness; ids come from the source.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from grit.core import codec
from grit.core import events as kinds
from grit.core.dependencies import edges_of, topological_order
from grit.core.errors import InvalidArgs
from grit.core.events import Draft, Event, Payload
from grit.core.fold import counted_ts, fold, overruled_times
from grit.core.ids import ActorId, IssueId
from grit.core.issue import Comment, Issue
from grit.core.limits import ID_BYTES, LABELS_MAX, TS_UNIX_MS_MAX, VALUE_CHARS_MAX
from grit.core.long_text import Text
from grit.services.beads_record import Comment as SourceComment
from grit.services.beads_record import Record, clean_id, parse_line, read_record

IMPORTER: Final = "beads"
"""The actor of what the source ascribes to nobody."""
_ANNOUNCED_TS: Final = 0
"""The same in every export, so that a person is announced once."""
_MIRRORED: Final = ("related", "relates-to")
"""Kinds of the source that `related_to` says in full."""
_KNOWN_KINDS: Final = (
    "blocks", "parent-child", "related", "relates-to", "discovered-from", "supersedes",
    "duplicates", "replies-to",
)  # fmt: skip
_CYCLES_SHOWN: Final = 20

Told = Callable[[IssueId], Sequence[Event]]
"""The events that earlier imports stored of an issue, in their order."""


class Finding(NamedTuple):
    """Something that was adapted, or with `dropped` left out, and where it stands."""

    line: int
    source_id: str | None
    reason: str
    dropped: bool


class Translation(NamedTuple):
    """Sealed events in (ts, actor, event_id) order, what was read, and what to tell."""

    events: list[Event]
    lines: int
    issues: int
    comments: int
    dependencies: int
    findings: list[Finding]


def issue_id_of(source_id: str) -> IssueId:
    """Return the id that every clone derives for an issue of the source."""
    return IssueId(_digest(b"grit:import:beads:issue:", source_id))


def actor_id_of(name: str) -> ActorId:
    """Return the id that every clone derives for a person of the source."""
    return ActorId(_digest(b"grit:import:beads:actor:", name))


def _digest(prefix: bytes, text: str) -> bytes:
    return blake2b(prefix + text.encode(), digest_size=ID_BYTES).digest()


def _nothing(_issue_id: IssueId) -> Sequence[Event]:
    return ()


def translate(
    lines: Iterable[bytes], told: Told = _nothing, latest_ms: int = TS_UNIX_MS_MAX
) -> Translation:
    """Return the events that bring the log up to the export.

    Raises InvalidArgs for a time after `latest_ms`, and for nothing else that lines hold.
    """
    return _Translator(told, latest_ms).run(lines)


class _Sealer:
    """Collects the events of one issue; what cannot be sealed is told to `note`."""

    def __init__(self, record: Record, note: Callable[[str, bool], None]) -> None:
        self.issue_id = issue_id_of(record.source_id)
        self.note = note
        self.names: set[str] = set()
        self.events: list[Event] = []
        self.source_ts: dict[bytes, int] = {}
        """Of each comment the time that the source states."""

    def add(self, ts_unix_ms: int, name: str, tag: int, payload: Payload) -> None:
        event = self.seal(ts_unix_ms, name, tag, payload)
        if event is not None:
            self.keep(name, event)

    def seal(self, ts_unix_ms: int, name: str, tag: int, payload: Payload) -> Event | None:
        draft = Draft(self.issue_id, tag, payload)
        try:
            return codec.seal(draft, actor_id_of(name or IMPORTER), ts_unix_ms, None)
        except InvalidArgs as error:
            self.note(error.message, True)
            return None

    def keep(self, name: str, event: Event) -> None:
        self.names.add(name or IMPORTER)
        self.events.append(event)

    def ordered(self) -> list[Event]:
        return sorted(set(self.events), key=lambda event: event.order)


class _Translator:
    def __init__(self, told: Told, latest_ms: int) -> None:
        self.told = told
        self.latest_ms = latest_ms
        self.found: dict[IssueId, dict[bytes, Event]] = {}
        self.names: set[str] = set()
        self.seen: dict[str, int] = {}
        self.targets: list[tuple[int, str, str]] = []
        self.desired: dict[IssueId, Issue] = {}
        self.findings: list[Finding] = []
        self.lines = self.comments = self.dependencies = 0

    def run(self, lines: Iterable[bytes]) -> Translation:
        for number, line in enumerate(lines, 1):
            self.lines = number
            if line.strip():
                self._line(number, line)
        self._check_edges()
        events = [event for by_id in self.found.values() for event in by_id.values()]
        # Only who wrote something new is announced: an import of nothing new adds nothing.
        writers = {event.actor_id for event in events}
        events += [announce(name) for name in self.names if actor_id_of(name) in writers]
        events.sort(key=lambda event: event.order)
        self.findings.sort(key=lambda one: (one.line, one.reason))
        return Translation(
            events, self.lines, len(self.seen), self.comments, self.dependencies, self.findings
        )

    def _line(self, number: int, line: bytes) -> None:
        try:
            shape = parse_line(line)
            source_id = clean_id(shape)
            notes: list[tuple[str, bool]] = []
            record = read_record(shape, lambda *told: notes.append(told), self.latest_ms)
        except ValueError as error:
            self.findings.append(Finding(number, None, f"line set aside: {error}", True))
            return

        def note(reason: str, dropped: bool) -> None:
            self.findings.append(Finding(number, source_id, reason, dropped))

        for reason, dropped in dict.fromkeys(notes):
            note(reason, dropped)
        if source_id in self.seen:
            note(f"also on line {self.seen[source_id]}; taken as a newer version of it", False)
        self.seen[source_id] = number
        self.comments += len(record.comments)
        self.dependencies += len(record.edges)
        self.targets += [(number, source_id, edge.target) for edge in record.edges]
        self._issue(record, note)

    def _issue(self, record: Record, note: Callable[[str, bool], None]) -> None:
        sealer = _Sealer(record, note)
        _describe(sealer, record)
        wanted = sealer.ordered()
        desired = fold(wanted)
        if desired is None:
            return
        issue_id = sealer.issue_id
        self.desired[issue_id] = desired
        mine = self.found.setdefault(issue_id, {})
        known = {event.event_id: event for event in self.told(issue_id)} | mine
        fresh = wanted
        told = sorted(known.values(), key=lambda event: event.order)
        prior = fold(told)
        if prior is not None:
            fresh = _changes(sealer, prior, desired, wanted, told)
        self.names |= sealer.names
        mine.update((event.event_id, event) for event in fresh if event.event_id not in known)

    def _check_edges(self) -> None:
        for number, source_id, target in self.targets:
            if target not in self.seen:
                reason = "depends on an issue that the file does not hold; kept"
                self.findings.append(Finding(number, source_id, reason, False))
        created = {issue_id: one.summary.created_ts for issue_id, one in self.desired.items()}
        edges = edges_of(
            (issue_id, one.summary.dependencies) for issue_id, one in self.desired.items()
        )
        names = {issue_id_of(source_id): source_id for source_id in self.seen}
        for cycle in topological_order(created, edges).cycles[:_CYCLES_SHOWN]:
            first = names[cycle[0]]
            reason = "a cycle of dependencies, kept: " + " -> ".join(names[one] for one in cycle)
            self.findings.append(Finding(self.seen[first], first, reason, False))


def announce(name: str) -> Event:
    """Return the keyless announcement of a person of the source."""
    actor_id = actor_id_of(name)
    email = name if "@" in name else ""
    payload = (name, "", email, None)
    draft = Draft(IssueId(actor_id), kinds.ACTOR_ANNOUNCED, payload)
    return codec.seal(draft, actor_id, _ANNOUNCED_TS, None)


def _describe(sealer: _Sealer, record: Record) -> None:
    """Add every event of a first import."""
    created, updated = record.created_ts, record.updated_ts
    labels = record.labels[:LABELS_MAX]
    payload = (record.title, record.body, labels)
    sealer.add(created, record.author, kinds.ISSUE_CREATED, payload)
    for label in record.labels[LABELS_MAX:]:
        sealer.add(created, record.author, kinds.LABEL_ADDED, (label,))
    if record.assignee:
        sealer.add(updated, IMPORTER, kinds.ASSIGNEE_ADDED, (record.assignee,))
    fields = {**dict(record.fields), **_edge_fields(sealer, record)}
    for key, value in fields.items():
        sealer.add(updated, IMPORTER, kinds.FIELD_SET, (key, value))
    _add_comments(sealer, record)
    for edge in record.edges:
        if edge.kind != "parent-child" or fields["parent"] != issue_id_of(edge.target).hex():
            dep_type = "depends_on" if edge.kind == "blocks" else "related_to"
            edge_payload = (issue_id_of(edge.target), dep_type)
            sealer.add(edge.ts_unix_ms, edge.author, kinds.DEPENDENCY_ADDED, edge_payload)
    external = dict(record.fields).get("external_ref", "")
    if external.startswith(("https://", "http://")):
        sealer.add(created, record.author, kinds.LINK_ADDED, (external, None))
    if record.closed:
        sealer.add(record.closed_ts, IMPORTER, kinds.STATE_CHANGED, ("closed",))
    if record.deletion is not None:
        ts_unix_ms, name, reason = record.deletion
        sealer.add(ts_unix_ms, name, kinds.ISSUE_DELETED, (reason,))


def _add_comments(sealer: _Sealer, record: Record) -> None:
    """Add the comments, and the reason for closing, so that they stay in the source's order.

    The source knows seconds: one that would not stand behind the one before it gets the next
    millisecond.
    """
    comments = list(record.comments)
    if record.close_reason.strip():
        comments.append(SourceComment(record.closed_ts, IMPORTER, record.close_reason))
    last: Event | None = None
    for comment in sorted(comments, key=lambda one: one.ts_unix_ms):
        payload = (comment.text,)
        ts_unix_ms = max(comment.ts_unix_ms, last.ts_unix_ms if last is not None else 0)
        event = sealer.seal(ts_unix_ms, comment.author, kinds.COMMENT_ADDED, payload)
        if event and last and event.order <= last.order:
            event = sealer.seal(ts_unix_ms + 1, comment.author, kinds.COMMENT_ADDED, payload)
        if event is not None:
            last = event
            sealer.keep(comment.author, event)
            sealer.source_ts[event.event_id] = comment.ts_unix_ms


def _edge_fields(sealer: _Sealer, record: Record) -> dict[str, str]:
    """Return what an edge of grit cannot say: the parent, and kinds that it does not have."""
    found: dict[str, list[str]] = {}
    for edge in record.edges:
        name = edge.kind
        if name not in _KNOWN_KINDS:
            sealer.note(f"dependency kind '{name[:40]}' kept as related_to and a field", False)
            name = f"beads.{name}"
        elif name == "blocks" or name in _MIRRORED:
            continue
        elif name == "parent-child":
            name = "beads.parents" if "parent" in found else "parent"
        found.setdefault(name, []).append(issue_id_of(edge.target).hex())
    if "beads.parents" in found:
        sealer.note("more than one parent: the first is the parent, all are related", False)
    fields: dict[str, str] = {}
    for name, targets in found.items():
        value = " ".join(dict.fromkeys(targets))
        if len(value) > VALUE_CHARS_MAX:
            sealer.note(f"too many dependencies of kind '{name[:40]}' for a field", True)
            continue
        fields[name] = value
    return fields


def _changes(
    sealer: _Sealer, prior: Issue, desired: Issue, wanted: list[Event], told: list[Event]
) -> list[Event]:
    """Return what a newer version of the source adds to what earlier ones told."""
    needed = list(_differences(prior, desired))
    comments, edits = _comment_changes(prior, desired, sealer.source_ts)
    needed += edits
    if not needed and not comments:
        return []
    times = overruled_times(told)
    own = [event for event in told if event.tag != kinds.TIME_OVERRULED]
    last_ts = max(counted_ts(event, times) for event in own)
    newest_ts = wanted[-1].ts_unix_ms
    if newest_ts < last_ts:
        sealer.note("older than what was imported before; left as it is", False)
        return []
    sealer.events = [event for event in wanted if event.event_id in comments]
    deletion = next((one.payload for one in wanted if one.tag == kinds.ISSUE_DELETED), ("",))
    stated = {(event.tag, event.payload): event for event in wanted}
    for tag, change in needed:
        payload = deletion if tag == kinds.ISSUE_DELETED else change
        event = stated.get((tag, payload))
        if event is not None and event.ts_unix_ms > last_ts:
            sealer.events.append(event)
        else:
            # Later than all that was told, or it might lose against it.
            sealer.add(max(newest_ts, last_ts + 1), IMPORTER, tag, payload)
    return sealer.events


def _differences(prior: Issue, desired: Issue) -> Iterable[tuple[int, Payload]]:
    """Yield the changes of registers and sets that lead from one issue to the other."""
    old, new = prior.summary, desired.summary
    title = new.title if new.title != old.title else None
    body = desired.body if desired.body != prior.body else None
    if title is not None or body is not None:
        yield kinds.ISSUE_UPDATED, (title, body)
    yield from _set_changes(old.labels, new.labels, kinds.LABEL_ADDED, kinds.LABEL_REMOVED)
    tags = (kinds.ASSIGNEE_ADDED, kinds.ASSIGNEE_REMOVED)
    yield from _set_changes(old.assignees, new.assignees, *tags)
    before: Mapping[str, str] = dict(old.fields)
    after: Mapping[str, str] = dict(new.fields)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield kinds.FIELD_SET, (key, after.get(key))
    for edge in sorted(set(new.dependencies) - set(old.dependencies)):
        yield kinds.DEPENDENCY_ADDED, tuple(edge)
    for edge in sorted(set(old.dependencies) - set(new.dependencies)):
        yield kinds.DEPENDENCY_REMOVED, tuple(edge)
    known_urls = {link.url for link in prior.links}
    for link in desired.links:
        if link.url not in known_urls:
            yield kinds.LINK_ADDED, (link.url, link.note)
    if new.state != old.state:
        yield kinds.STATE_CHANGED, (new.state,)
    if new.deleted != old.deleted:
        yield kinds.ISSUE_DELETED if new.deleted else kinds.ISSUE_RESTORED, ("",)


def _set_changes(
    old: tuple[str, ...], new: tuple[str, ...], add: int, remove: int
) -> Iterable[tuple[int, Payload]]:
    for name in sorted(set(new) - set(old)):
        yield add, (name,)
    for name in sorted(set(old) - set(new)):
        yield remove, (name,)


def _comment_changes(
    prior: Issue, desired: Issue, source_ts: Mapping[bytes, int]
) -> tuple[set[bytes], list[tuple[int, Payload]]]:
    """Return the ids of comments to add, and edits of those whose text the source changed.

    A comment of the same person at the same time of the source is the same comment: it may stand
    a few milliseconds later, behind others of that time.
    """
    spread_ms = max(len(desired.comments), len(prior.comments))
    left = list(prior.comments)
    by_text: dict[tuple[bytes, Text], list[Comment]] = {}
    for one in left:
        by_text.setdefault((one.actor, one.body), []).append(one)
    unknown: list[Comment] = []
    matched: set[bytes] = set()
    for one in desired.comments:
        same = by_text.get((one.actor, one.body), [])
        first_ts = source_ts[one.event_id]
        at = next((at for at, old in enumerate(same) if _is_near(old, first_ts, spread_ms)), None)
        if at is None:
            unknown.append(one)
        else:
            matched.add(same.pop(at).event_id)
    gone: dict[bytes, list[Comment]] = {}
    for one in left:
        if one.event_id not in matched:
            gone.setdefault(one.actor, []).append(one)
    added: set[bytes] = set()
    edits: list[tuple[int, Payload]] = []
    for one in unknown:
        same = gone.get(one.actor, [])
        first_ts = source_ts[one.event_id]
        at = next((at for at, old in enumerate(same) if _is_near(old, first_ts, spread_ms)), None)
        if at is None:
            added.add(one.event_id)
        else:
            edits.append((kinds.COMMENT_EDITED, (same.pop(at).event_id, one.body)))
    return added, edits


def _is_near(comment: Comment, first_ts: int, spread_ms: int) -> bool:
    return first_ts <= comment.ts_unix_ms <= first_ts + spread_ms
