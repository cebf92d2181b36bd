"""Leases: what can be leased, what conflicts, who may take it, and lock.json (spec/leases.md)."""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from grit.core.errors import InvalidArgs, InvalidLease
from grit.core.ids import ActorId, IssueId, parse_hex
from grit.core.limits import (
    CLAIMED_CHARS_MAX,
    FENCE_MAX,
    ID_BYTES,
    LEASE_MS_MAX,
    LEASE_MS_MIN,
    LEASE_SKEW_MS,
    LOCK_BYTES_MAX,
    RESOURCE_CHARS_MAX,
    SHORT_ID_CHARS_MIN,
    TS_UNIX_MS_MAX,
)

LOCK_NAME_CHARS: Final = 16
"""Hex digits of the SHA-256 of a resource that name its ref."""
TOP: Final = "."
"""The path that stands for the whole working tree."""
_HEX_ID: Final = re.compile(rf"[0-9a-f]{{{ID_BYTES * 2}}}")
_NONCE: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_KEYS: Final = ("owner", "nonce", "expires_unix_ms", "resource", "fence", "claimed")


class Resource(NamedTuple):
    """What a lease is for; `space` is repo, path or issue, `name` is in its one spelling."""

    space: str
    name: str

    @property
    def text(self) -> str:
        """`space:name`, as it is typed, stored and hashed."""
        return f"{self.space}:{self.name}"

    @property
    def short(self) -> str:
        """As people read it: of an issue's id the first digits."""
        if self.space == "issue":
            return f"{self.space}:{self.name[:SHORT_ID_CHARS_MIN]}"
        return self.text

    @property
    def lock_name(self) -> str:
        """The last part of the ref that holds the lease: 16 hex digits."""
        return sha256(self.text.encode()).hexdigest()[:LOCK_NAME_CHARS]


class Holder(NamedTuple):
    """Who holds or asks: an actor in one session; both tell holders apart."""

    owner: ActorId
    nonce: str


class Lease(NamedTuple):
    """One lease as its ref holds it; `expires_unix_ms` 0 says that it was given back.

    `claimed` is the assignee that the claim added to its issue; `extra` are keys of later
    versions, (name, JSON text) each.
    """

    resource: Resource
    owner: ActorId
    nonce: str
    expires_unix_ms: int
    fence: int
    claimed: str | None = None
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def holder(self) -> Holder:
        """Who holds it."""
        return Holder(self.owner, self.nonce)

    @property
    def released(self) -> bool:
        """Whether it was given back."""
        return self.expires_unix_ms == 0

    def plausible(self, now_ms: int) -> bool:
        """Whether it ends within what any lease may last.

        One that does not was written by hand or under a clock that is far off: it would block a
        team for years, so it blocks nobody.
        """
        return self.expires_unix_ms <= now_ms + LEASE_MS_MAX + LEASE_SKEW_MS

    def live(self, now_ms: int) -> bool:
        """Whether others must respect it: until its end and the clocks' margin are past."""
        return self.plausible(now_ms) and now_ms < self.expires_unix_ms + LEASE_SKEW_MS


def parse_resource(text: str) -> Resource:
    """Return the resource in its one spelling; an issue must be given by its full id.

    Raises InvalidArgs for any other form, for characters that do not print, and beyond the bound.
    """
    space, colon, name = text.strip().partition(":")
    if not colon or space not in _SPACES:
        raise InvalidArgs(f"'{text}' is no resource: write repo:NAME, path:PATH or issue:ID")
    if not _prints(name):
        raise InvalidArgs(f"the resource {name[:80]!r} has characters that do not print")
    if not name.isascii():
        from grit.core.characters import nfc

        # One file has two spellings where accents can be letters of their own (macOS).
        name = nfc(name)
    if len(name) > RESOURCE_CHARS_MAX:
        raise InvalidArgs(f"a resource has at most {RESOURCE_CHARS_MAX} characters")
    return Resource(space, _SPACES[space](name))


def _repo_name(name: str) -> str:
    if not name.strip():
        raise InvalidArgs("the resource has no name: write repo:NAME, as in repo:global")
    return " ".join(name.split())


def _path_name(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", TOP)]
    if name.startswith("/") or "\\" in name or ".." in parts or not name:
        raise InvalidArgs(
            f"'path:{name}' is no path of the repository: give it from its top folder, with '/', "
            f"without '..'; path:{TOP} is everything"
        )
    return "/".join(parts) or TOP


def _issue_name(name: str) -> str:
    if not _HEX_ID.fullmatch(name.lower()):
        raise InvalidArgs(f"'issue:{name}' does not give the full id of an issue")
    return name.lower()


_SPACES: Final = {"repo": _repo_name, "path": _path_name, "issue": _issue_name}


def issue_resource(issue_id: IssueId) -> Resource:
    """Return the resource of an issue."""
    return Resource("issue", issue_id.hex())


def conflicts(one: Resource, other: Resource) -> bool:
    """Return whether two holders may not have these at once (spec/leases.md, Resources)."""
    if one.space == "repo" or other.space == "repo":
        return True
    if one.space != other.space:
        return False
    if one.space == "issue":
        return one.name == other.name
    return _holds(one.name, other.name) or _holds(other.name, one.name)


def _holds(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or lies below it, by whole components."""
    return folder in (TOP, path) or path.startswith(f"{folder}/")


def blocker(
    resource: Resource, holder: Holder, leases: Iterable[Lease], now_ms: int
) -> Lease | None:
    """Return a live lease of another holder that stands against this one, or None.

    The one on the very resource comes first: it is the one to name.
    """
    found = [
        lease
        for lease in leases
        if lease.live(now_ms) and lease.holder != holder and conflicts(lease.resource, resource)
    ]
    return min(found, key=lambda lease: (lease.resource != resource, lease.resource), default=None)


def check_ttl(ttl_ms: int) -> int:
    """Return the duration; raise InvalidArgs when a lease may not last that long or short."""
    if not LEASE_MS_MIN <= ttl_ms <= LEASE_MS_MAX:
        raise InvalidArgs(
            f"a lease lasts from {LEASE_MS_MIN // 1000} s to {LEASE_MS_MAX // 86_400_000} days"
        )
    return ttl_ms


def acquire(
    resource: Resource,
    holder: Holder,
    known: Lease | None,
    now_ms: int,
    ttl_ms: int,
    claimed: str | None = None,
) -> Lease:
    """Return the lease that the holder gets, where `blocker` found nobody in the way.

    `known` is what the resource's ref holds. Who still holds it goes on under the same fence;
    else the fence counts up, from its bound to 1. Raises InvalidArgs for a duration out of bounds.
    """
    expires_ms = now_ms + check_ttl(ttl_ms)
    if known is None:
        return Lease(resource, *holder, expires_ms, 1, claimed)
    own = known.holder == holder and known.live(now_ms)
    # Another session of the same actor takes over what the claim had added, and gives it back.
    kept = known.claimed if known.owner == holder.owner and not known.released else None
    return known._replace(
        owner=holder.owner,
        nonce=holder.nonce,
        expires_unix_ms=expires_ms,
        # A fence that cannot count up was set by hand: nobody counts that far.
        fence=known.fence if own else known.fence + 1 if known.fence < FENCE_MAX else 1,
        claimed=claimed or kept,
    )


def renew(known: Lease | None, holder: Holder, now_ms: int, ttl_ms: int) -> Lease | None:
    """Return the lease with a later end; None when it is not, or no longer, the holder's.

    One that has expired may be renewed as long as nobody else took it.
    """
    expires_ms = now_ms + check_ttl(ttl_ms)
    if known is None or known.released or known.holder != holder:
        return None
    return known._replace(expires_unix_ms=expires_ms)


def release(known: Lease | None, holder: Holder) -> Lease | None:
    """Return the lease given back; None when it is not, or no longer, the holder's."""
    if known is None or known.released or known.holder != holder:
        return None
    return known._replace(expires_unix_ms=0, claimed=None)


def encode_lock(lease: Lease) -> bytes:
    """Return the bytes of `lock.json`; unknown keys follow the known ones."""
    import json

    from grit.core.documents import parse_json

    values: dict[str, object] = {
        "owner": lease.owner.hex(),
        "nonce": lease.nonce,
        "expires_unix_ms": lease.expires_unix_ms,
        "resource": lease.resource.text,
        "fence": lease.fence,
    }
    if lease.claimed is not None:
        values["claimed"] = lease.claimed
    values.update((key, parse_json(text)) for key, text in lease.extra)
    return json.dumps(values, indent=2).encode() + b"\n"


def parse_lock(data: bytes, lock_name: str | None = None) -> Lease:
    """Return the lease that a ref of that name, or of the right one, holds.

    Raises InvalidLease, with the reason, for whatever an implementation would not have written.
    """
    if len(data) > LOCK_BYTES_MAX:
        raise InvalidLease(f"lock.json has over {LOCK_BYTES_MAX} bytes")
    values = _json_object(data)
    owner, nonce = values.get("owner"), values.get("nonce")
    owner_id = parse_hex(owner, ID_BYTES)
    if owner_id is None or owner != str(owner).lower():
        raise InvalidLease("owner is not an actor id")
    if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise InvalidLease("nonce is not a word")
    expires_ms = _number(values, "expires_unix_ms", TS_UNIX_MS_MAX)
    # The tools before grit count no fence.
    fence = _number(values, "fence", FENCE_MAX) if "fence" in values else 0
    claimed = values.get("claimed")
    if claimed is not None and not (isinstance(claimed, str) and _is_line(claimed)):
        raise InvalidLease("claimed is not a name")
    resource = _stored_resource(values.get("resource"))
    if lock_name is not None and resource.lock_name != lock_name:
        raise InvalidLease("the resource belongs to another ref")
    return Lease(resource, ActorId(owner_id), nonce, expires_ms, fence, claimed, _extra(values))


def _is_line(text: str) -> bool:
    return 0 < len(text) <= CLAIMED_CHARS_MAX and _prints(text)


def _prints(text: str) -> bool:
    if text.isascii():
        return text.isprintable()
    from grit.core.characters import is_printable

    return is_printable(text)


def _json_object(data: bytes) -> dict[str, object]:
    from grit.core.documents import NotJson, parse_json

    try:
        values = parse_json(data, strict=True)
    except NotJson as error:
        raise InvalidLease(f"lock.json cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise InvalidLease("lock.json is no object")
    return values


def _number(values: dict[str, object], key: str, number_max: int) -> int:
    number = values.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= number_max:
        raise InvalidLease(f"{key} is not a number within its bounds")
    return number


def _stored_resource(text: object) -> Resource:
    if not isinstance(text, str):
        raise InvalidLease("resource is no text")
    try:
        resource = parse_resource(text)
    except InvalidArgs as error:
        raise InvalidLease(error.message) from error
    if resource.text != text:
        raise InvalidLease("the resource is not in its one spelling")
    return resource


def _extra(values: dict[str, object]) -> tuple[tuple[str, str], ...]:
    import json

    return tuple((key, json.dumps(value)) for key, value in values.items() if key not in _KEYS)
