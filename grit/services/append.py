"""Use case: events that are sealed into the log, and from there into the view."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from grit.core import codec
from grit.core.errors import Conflict, GitFailed, InvalidArgs, IoFailed
from grit.core.events import ACTOR_ANNOUNCED, SHARED_TAG_MAX, Event, kind_name
from grit.core.ids import ActorId, EventId
from grit.core.limits import APPEND_RETRIES_MAX
from grit.services.actors import Signer
from grit.services.refresh import show_append
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader


class Label(NamedTuple):
    """What the log says of an append: its line, its author (None: as git names the actor)."""

    subject: str
    actor_id: ActorId
    author: str | None = None
    trailers: Sequence[str] = ()


def append_events(
    workspace: Workspace,
    old: str | None,
    events: Sequence[Event],
    label: Label,
    attachments: Mapping[str, bytes] | None = None,
    own: Collection[EventId] = (),
    *,
    alone: bool = False,
) -> str | None:
    """Append in one or several commits; None when the ref had moved before the first.

    What this process has just signed is `own`, and is not verified again. `alone`: nobody waits
    to see the events in the view, which may take them in later.
    The caller holds the log's lock. Raises Busy, IoFailed, WalDamaged, GitFailed: nothing stored.
    """
    from grit.git.wal import HeadMoved

    if old is None:
        from grit.services.two_logs import refuse_second

        refuse_second(workspace)
    wal = workspace.wal
    events = _fit_dialect(workspace, events)
    chunks = list(codec.split_chunks(events, wal.dialect.magic))
    try:
        appended = wal.append(
            chunks,
            old=old,
            message=label.subject,
            trailers=label.trailers,
            ts_unix_ms=events[-1].ts_unix_ms,
            actor_id=label.actor_id,
            author=label.author,
            event_count=len(events),
            attachments=attachments,
        )
    except HeadMoved:
        return None
    for notice in appended.notices:
        workspace.notice(notice)
    if not appended.durable:
        tell_not_durable(workspace)

    def show() -> None:
        show_append(workspace, events, old, appended.head, appended.objects, own=own)

    if alone:
        workspace.ports.later(show)
    else:
        show()
    if appended.untidy:
        workspace.ports.later(wal.tidy)
    _invite_gc(workspace)
    return appended.head


def append_contents(workspace: Workspace, contents: Mapping[str, bytes], label: Label) -> None:
    """Append contents of attachments whose events the log holds, by SHA-256 in hex.

    Raises Conflict, Busy, IoFailed, WalDamaged, GitFailed: nothing stored.
    """
    from grit.core.times import clamp_ms
    from grit.git.wal import HeadMoved

    wal = workspace.wal
    with wal.lock():
        for _ in range(APPEND_RETRIES_MAX):
            try:
                wal.append(
                    (),
                    old=wal.head(),
                    message=label.subject,
                    trailers=label.trailers,
                    ts_unix_ms=clamp_ms(workspace.now_ms()),
                    actor_id=label.actor_id,
                    event_count=0,
                    attachments=contents,
                )
                return
            except HeadMoved:
                continue
    raise Conflict("the log moved too often while appending; try again")


def check_policy(workspace: Workspace, events: Sequence[Event], author: Signer) -> None:
    """Hold a write to the leases of others, as lock_policy says; raise Conflict where it must."""
    if author.lock_policy != "off":
        from grit.services.lease_policy import check_leases

        check_leases(workspace, events, author)


def refuse_author(workspace: Workspace, author: Signer) -> None:
    """Raise InvalidArgs when the policy for signatures would hold back what this actor writes."""
    meta = ViewReader(workspace.database).meta()
    changed = meta.settings != workspace.settings_stamp(actors=bool(meta.policy))
    if meta.policy or changed:
        from grit.core.trust import decode_policy
        from grit.services import policy

        found = policy.load_policy(workspace) if changed else decode_policy(meta.policy)
        policy.refuse_author(found, author)


def tell_not_durable(workspace: Workspace) -> None:
    """Say that an append is visible, and that a power loss may still take it."""
    workspace.notice("stored, but the system did not confirm that it is on the disk")


def _invite_gc(workspace: Workspace) -> None:
    try:
        from grit.git.upkeep import invite_gc

        invite_gc(workspace.repository, workspace.wal.config)
    except (GitFailed, IoFailed, OSError) as failure:
        workspace.notice(f"stored; git gc could not be started ({failure})")


def _fit_dialect(workspace: Workspace, events: Sequence[Event]) -> Sequence[Event]:
    """Leave out or refuse what the log's dialect cannot hold."""
    if not workspace.wal.dialect.shared:
        return events
    fitting = [event for event in events if event.tag != ACTOR_ANNOUNCED]
    for event in fitting:
        if event.tag > SHARED_TAG_MAX:
            raise InvalidArgs(
                f"this log is shared with a tool that does not know {kind_name(event.tag)}; "
                "grit does not write it here"
            )
    return fitting
