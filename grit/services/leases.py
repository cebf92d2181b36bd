"""Use cases: take, renew, give back, show and clear away leases (spec/leases.md)."""

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, NoReturn

from grit.core import lease as rules
from grit.core.errors import Conflict, GritError, NotFound
from grit.core.ids import is_name
from grit.core.lease import Holder, Lease, Resource
from grit.core.limits import LEASE_KEEP_MS, LEASE_ROUNDS_MAX
from grit.git.leases import LockRef
from grit.services.actors import signer
from grit.services.find import resolve
from grit.services.lease_book import LeaseBook
from grit.services.lease_clock import check_clock, old_since
from grit.services.refresh import refresh
from grit.services.session import GRIT_SESSION, session_nonce
from grit.services.workspace import Workspace
from grit.view.reader import ViewReader

_NAP_MS_MAX: Final = 100
_PATIENT_ROUNDS: Final = 5
"""How often one who withdrew tries again while the other may be about to withdraw too."""
_ISSUE: Final = "issue:"


class Wish(NamedTuple):
    """What somebody wants: `claimed` as in Lease; not `again`: refused where one has it already."""

    resource: Resource
    who: Holder
    ttl_ms: int
    claimed: str | None = None
    again: bool = True


class Taken(NamedTuple):
    """A lease that was taken, and what its ref held before (None: nothing)."""

    lease: Lease
    before: Lease | None


class Status(NamedTuple):
    """The lock refs that this clone knows: leases, and refs that are none."""

    leases: list[LockRef]
    malformed: list[LockRef]


class Collected(NamedTuple):
    """What `gc` removed, by resource, and how many lock refs stay; some may go at the next time."""

    removed: list[str]
    kept: int
    waiting: int = 0


def parse(workspace: Workspace, text: str) -> Resource:
    """Return the resource that a person typed; a short issue id is resolved.

    Raises InvalidArgs, or NotFound for an issue that is not there.
    """
    if text.strip().startswith(_ISSUE):
        return rules.issue_resource(resolve(refresh(workspace), text.strip()[len(_ISSUE) :]))
    return rules.parse_resource(text)


def holder(workspace: Workspace, nonce: str | None = None) -> Holder:
    """Return who asks: the current actor in this session, or in the one of the nonce."""
    return Holder(signer(workspace).actor_id, nonce or session_nonce(workspace.ports.environ))


def acquire(workspace: Workspace, wish: Wish, *, local: bool = False) -> Taken:
    """Take a lease, or go on with it where this session has it.

    Raises Conflict, naming the holder, when somebody else has it or one that stands against it;
    GitFailed when the remote that decides refuses or does not answer.
    """
    rules.check_ttl(wish.ttl_ms)
    book = LeaseBook(workspace, local=local)
    patient = False
    for round_ in range(LEASE_ROUNDS_MAX):
        with book.locked():
            taken = _take(workspace, book, wish, patient=patient and round_ < _PATIENT_ROUNDS)
            if taken is not None:
                # Leases on other refs may have come at the same moment: who sees one goes back.
                alone = book.remote is None or not _blocker(workspace, book.look(ask=False), wish)
                if alone:
                    return taken
                patient = True
                _withdraw(book, wish)
        _nap(workspace, round_)
    raise Conflict(f"{wish.resource.short} was asked for by too many at once; try again")


def renew(
    workspace: Workspace, resource: Resource, who: Holder, ttl_ms: int, *, local: bool = False
) -> Lease:
    """Let a lease last until `ttl_ms` from now; raise Conflict when it is another's, NotFound."""
    rules.check_ttl(ttl_ms)

    def decide(locks: Sequence[LockRef]) -> Lease:
        now_ms = workspace.now_ms()
        known = _current(locks, resource, who)
        renewed = rules.renew(known, who, now_ms, ttl_ms)
        if known is None or renewed is None:
            _not_held(workspace, locks, resource, who)
        if not known.live(now_ms):
            wish = Wish(resource, who, ttl_ms)
            against = _blocker(workspace, locks, wish)
            if against is not None:
                _refuse(workspace, against, wish)
        return renewed

    return _change(LeaseBook(workspace, local=local), workspace, decide)


def release(workspace: Workspace, resource: Resource, who: Holder, *, local: bool = False) -> Lease:
    """Give a lease back; raise Conflict when it is another's, NotFound when there is none."""

    def decide(locks: Sequence[LockRef]) -> Lease:
        released = rules.release(_current(locks, resource, who), who)
        if released is None:
            _not_held(workspace, locks, resource, who)
        return released

    return _change(LeaseBook(workspace, local=local), workspace, decide)


def held(workspace: Workspace, resource: Resource, who: Holder, *, local: bool = False) -> Lease:
    """Return the lease that `who` holds; raise Conflict when it is another's, NotFound."""
    book = LeaseBook(workspace, local=local)
    with book.locked():
        locks = book.look()
    known = _current(locks, resource, who)
    if known is None or known.released or known.holder != who:
        _not_held(workspace, locks, resource, who)
    _spare(book, workspace, locks, known)
    return known


def status(workspace: Workspace, *, remote: bool = False) -> Status:
    """Return what is leased as this clone knows it; `remote`: after asking there, if it answers."""
    book = LeaseBook(workspace, local=not remote)
    try:
        if book.remote is not None:
            with book.locked():
                locks = book.look()
        else:
            locks = book.look()
    except GritError as failure:
        words = failure.message.partition("\n")[0]
        workspace.notice(f"not asked, and as this clone knew it before: {words}")
        locks = LeaseBook(workspace, local=True).look()
    known = [lock for lock in locks if lock.lease is not None]
    return Status(known, [lock for lock in locks if lock.lease is None])


def gc(workspace: Workspace, *, local: bool = False) -> Collected:
    """Remove lock refs that nobody has changed for LEASE_KEEP_MS, here and on the remote.

    An earlier run must have found them old too, longer ago than a lease lasts: a clock that has
    jumped removes no live lease. What is malformed stays.
    """
    now_ms = workspace.now_ms()
    check_clock(now_ms)
    book = LeaseBook(workspace, local=local)
    with book.locked():
        book.look()
        locks = book.all_locks()
        old = [lock for lock in locks if _is_old(lock, now_ms)]
        gone_before = old_since(workspace, locks, old)
        removed = book.remove([lock for lock in old if lock.oid in gone_before])
    gone = {(lock.remote, lock.ref) for lock in removed}
    kept = {lock.ref for lock in locks if (lock.remote, lock.ref) not in gone}
    texts = {lock.lease.resource.text for lock in removed if lock.lease is not None}
    waiting = {lock.ref for lock in old} & kept
    return Collected(sorted(texts), len(kept), len(waiting))


def name_of(reader: ViewReader, lease: Lease, person: str = "") -> str:
    """Return the holder's name: the actor's label, else the author of the commit, else the id."""
    known = reader.actor(lease.owner)
    name = (known.label or known.name if known else "") or person
    short = lease.owner.hex()[:8]
    return f"{name} ({short})" if is_name(name) else short


def _take(workspace: Workspace, book: LeaseBook, wish: Wish, *, patient: bool) -> Taken | None:
    """Try once; None when somebody was faster or, if `patient`, may be about to withdraw."""
    locks = book.look()
    now_ms = workspace.now_ms()
    against = _blocker(workspace, locks, wish)
    if against is not None:
        if patient and against.lease is not None and against.lease.resource != wish.resource:
            return None
        _refuse(workspace, against, wish)
    before = _current(locks, wish.resource, wish.who)
    own = before is not None and before.holder == wish.who and before.live(now_ms)
    if own and before is not None and not wish.again:
        raise Conflict(
            f"this session has {wish.resource.short} already; run the command without taking it "
            "again",
            **details_of(before),
        )
    lease = rules.acquire(wish.resource, wish.who, before, now_ms, wish.ttl_ms, wish.claimed)
    return Taken(lease, before) if book.publish(lease) else None


def _change(
    book: LeaseBook, workspace: Workspace, decide: Callable[[Sequence[LockRef]], Lease]
) -> Lease:
    for round_ in range(LEASE_ROUNDS_MAX):
        with book.locked():
            locks = book.look()
            lease = decide(locks)
            _spare(book, workspace, locks, lease)
            if book.publish(lease):
                return lease
        _nap(workspace, round_)
    raise Conflict("the lease changed too often meanwhile; try again")


def _spare(book: LeaseBook, workspace: Workspace, locks: Sequence[LockRef], lease: Lease) -> None:
    """Refuse to write over a live lease that the deciding remote gave somebody else meanwhile.

    One's own is then known to this clone alone: taken with --local, or lost by the remote.
    """
    for lock in locks:
        theirs = lock.lease
        if book.remote is None or lock.remote != book.remote.tracking or theirs is None:
            continue
        other = theirs.resource == lease.resource and theirs.holder != lease.holder
        if other and theirs.live(workspace.now_ms()):
            words = held_by(workspace, refresh(workspace), lock, lease.holder)
            raise Conflict(
                f"{lease.resource.short} {words}; yours is known to this clone alone, and ends "
                "here with 'grit lock release --local'",
                **details_of(theirs),
            )


def _withdraw(book: LeaseBook, wish: Wish) -> None:
    for _ in range(LEASE_ROUNDS_MAX):
        released = rules.release(_current(book.look(), wish.resource, wish.who), wish.who)
        if released is None or book.publish(released):
            return


def _nap(workspace: Workspace, round_: int) -> None:
    """Wait for a random while, so that racers do not meet again in step."""
    share = int.from_bytes(workspace.ports.entropy(2), "big") / 65_536
    time.sleep(min(_NAP_MS_MAX, 5 << round_) * share / 1000)


def _current(locks: Sequence[LockRef], resource: Resource, who: Holder) -> Lease | None:
    """Return what the resource's ref holds; where sides differ, one's own, then the newest."""
    found = [lock.lease for lock in locks if lock.lease and lock.lease.resource == resource]
    return max(
        found,
        key=lambda one: (one.holder == who and not one.released, one.fence, one.expires_unix_ms),
        default=None,
    )


def _blocker(workspace: Workspace, locks: Sequence[LockRef], wish: Wish) -> LockRef | None:
    leases = [lock.lease for lock in locks if lock.lease is not None]
    found = rules.blocker(wish.resource, wish.who, leases, workspace.now_ms())
    return next((lock for lock in locks if found is not None and lock.lease is found), None)


def _is_old(lock: LockRef, now_ms: int) -> bool:
    if lock.lease is None or lock.changed_ms == 0:
        return False
    return max(lock.changed_ms, lock.lease.expires_unix_ms) + LEASE_KEEP_MS < now_ms


def details_of(lease: Lease) -> dict[str, str | int]:
    """Return the lease in the JSON shape of `lock` (spec/json.md)."""
    return {
        "resource": lease.resource.text,
        "owner": lease.owner.hex(),
        "nonce": lease.nonce,
        "expires_unix_ms": lease.expires_unix_ms,
        "fence": lease.fence,
    }


def _refuse(workspace: Workspace, lock: LockRef, wish: Wish) -> NoReturn:
    assert lock.lease is not None
    what = lock.lease.resource.short
    if lock.lease.resource != wish.resource:
        what = f"{wish.resource.short} overlaps with {what}, which"
    raise Conflict(
        f"{what} {held_by(workspace, refresh(workspace), lock, wish.who)}", **details_of(lock.lease)
    )


def held_by(workspace: Workspace, reader: ViewReader, lock: LockRef, who: Holder) -> str:
    """Return "is held by NAME for another ..."; the ref holds a lease of somebody else."""
    lease = lock.lease
    assert lease is not None
    until = _until(lease.expires_unix_ms - workspace.now_ms())
    if lease.owner == who.owner:
        return (
            f"is held by you in another session {until}; {GRIT_SESSION} tells which commands "
            "belong together"
        )
    return f"is held by {name_of(reader, lease, lock.person)} {until}"


def _until(rest_ms: int) -> str:
    if rest_ms <= 0:
        return "and can be taken over in a moment"
    minutes, seconds = divmod(rest_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    words = f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
    return f"for another {words}"


def _not_held(
    workspace: Workspace, locks: Sequence[LockRef], resource: Resource, who: Holder
) -> NoReturn:
    """Say whose it is instead."""
    now_ms = workspace.now_ms()
    for lock in locks:
        lease = lock.lease
        if lease is not None and lease.resource == resource and lease.live(now_ms):
            name = name_of(refresh(workspace), lease, lock.person)
            words = f"is held by {name} {_until(lease.expires_unix_ms - now_ms)}, not by you"
            if lease.owner == who.owner:
                words = (
                    f"is held by you in session {lease.nonce}, not in this one; {GRIT_SESSION} or "
                    "--nonce names another session of yours"
                )
            raise Conflict(
                f"{resource.short} {words}",
                **details_of(lease),
            )
    raise NotFound(f"no lease of yours on {resource.short}; 'grit lock status' shows all")
