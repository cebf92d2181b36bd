"""Which stored events count, and what is doubted of signatures (spec/trust.md, In the view).

An event that the policy holds back has a HELD row instead of an ORDER row; whatever folds, lists
or searches reads ORDER rows, and so cannot show it by mistake. A signature that could not be
confirmed has a DOUBT row, by which it is found again when its key is announced.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, Protocol

from grit.core.events import Event
from grit.core.ids import ActorId, EventId
from grit.core.limits import SIGNATURE_BYTES
from grit.view import keys
from grit.view.database import Txn
from grit.view.rows import encode_event, get_event, scan, seal

_PLACE_BYTES: Final = 24
_STATUS_BYTE: Final = {"invalid": b"i", "unknown_key": b"u"}
_UNSURE: Final = tuple(_STATUS_BYTE)


class Stamp(NamedTuple):
    """What a view was folded under; kept in META."""

    policy: bytes = b""
    """`trust.encode_policy`."""
    settings: bytes = b""
    """What the settings file looked like when the policy was read from it."""
    missing: tuple[bytes, ...] = ()
    """Ids of events that would let more events of revoked actors count."""


class Judge(Protocol):
    """Answers what the view cannot know: which signatures are valid, and what must be held back."""

    stamp: Stamp
    looks: bool
    """Whether signatures are looked at; else nothing but `valid` and `unknown` is asked."""

    @property
    def keyed(self) -> Collection[ActorId]:
        """Actors whose key is announced by the records about to be written."""

    def valid(self, event: Event) -> bool:
        """Return whether the signature is valid, by looking at it."""

    def unknown(self, actor_id: ActorId) -> bool:
        """Return whether nobody has announced the actor's key yet."""

    def status(self, event: Event) -> str:
        """Return valid, invalid, unknown_key or none."""

    def held(self, event: Event, status: str) -> str | None:
        """Return why the event must not count, or None."""


class Standing:
    """The rows of what does not count, while records are applied in one transaction."""

    __slots__ = ("_judge", "_losers", "_txn", "held", "improved", "released")

    def __init__(self, txn: Txn, judge: Judge) -> None:
        """Begin with nothing held back, released or improved."""
        self._txn = txn
        self._judge = judge
        self._losers: dict[EventId, set[bytes]] = {}
        self.held: set[EventId] = set()
        """New events that do not count."""
        self.released: list[Event] = []
        """Events that were stored before and count from now on."""
        self.improved: list[Event] = []
        """Events whose stored copy was replaced by a better one."""

    @property
    def looks(self) -> bool:
        """Whether signatures are looked at."""
        return self._judge.looks

    def find(self, key: bytes) -> bytes | None:
        """Return the sequence number of the held event with that ORDER key, or None."""
        value = self._txn.get(keys.HELD + key[1:])
        return None if value is None else value[: keys.SEQ_BYTES]

    def admit(self, key: bytes, event: Event, seq: bytes) -> bool:
        """Return whether a new event counts; if not, keep it aside."""
        status = self._judge.status(event)
        if status in _UNSURE:
            self._doubt(event, status)
        reason = self._judge.held(event, status)
        if reason is None:
            return True
        self._txn.put(keys.HELD + key[1:], seq + reason.encode())
        self.held.add(event.event_id)
        return False

    def better(self, event: Event, than: Event) -> bool:
        """Return whether a copy is to be kept rather than another one of the same event.

        While nobody can tell which of two signatures is valid, the one that loses is remembered.
        """
        if event.sig == than.sig or event.sig is None:
            return False
        if than.sig is None:
            return True
        wins = event.sig < than.sig
        if self._judge.valid(event) != self._judge.valid(than):
            return self._judge.valid(event)
        if self._judge.unknown(event.actor_id):
            self._losers.setdefault(event.event_id, set()).add(than.sig if wins else event.sig)
            self._doubt(than, "unknown_key")
        return wins

    def improve(self, key: bytes, event: Event) -> None:
        """Judge a stored event again, whose copy was replaced by this better one."""
        self.improved.append(event)
        if self.looks:
            self._look_again(key, event)

    def take_keys(self) -> None:
        """Judge again what was signed by keys that are only now announced."""
        for actor_id in sorted(self._judge.keyed):
            for key, value in list(scan(self._txn, keys.DOUBT + actor_id)):
                doubt = _decode(value)
                if doubt.status != "unknown_key":
                    continue
                order_key = keys.ORDER + doubt.place + key[1:]
                seq = self._txn.get(order_key) or self.find(order_key)
                assert seq is not None, "only stored events are doubted"
                event = get_event(self._txn, seq)
                best = min(
                    (event._replace(sig=sig) for sig in (event.sig, *doubt.losers)),
                    key=lambda copy: (not self._judge.valid(copy), copy.sig or b""),
                )
                if best.sig != event.sig:
                    self._txn.put(keys.EVENT + seq, seal(encode_event(best)))
                    self.improved.append(best)
                if self.looks:
                    self._look_again(order_key, best)
                else:
                    self._txn.delete(key)

    def _look_again(self, key: bytes, event: Event) -> None:
        """Judge a stored event whose copy or key has become better."""
        status = self._judge.status(event)
        if status in _UNSURE:
            self._doubt(event, status)
        else:
            self._txn.delete(keys.DOUBT + event.actor_id + event.event_id)
        seq = self.find(key)
        if seq is None:
            return
        reason = self._judge.held(event, status)
        if reason is not None:
            self._txn.put(keys.HELD + key[1:], seq + reason.encode())
            return
        self._txn.delete(keys.HELD + key[1:])
        self._txn.put(key, seq)
        self.released.append(event)

    def _doubt(self, event: Event, status: str) -> None:
        key = keys.DOUBT + event.actor_id + event.event_id
        value = self._txn.get(key)
        losers = self._losers.get(event.event_id, set())
        if value is not None:
            losers = losers.union(_decode(value).losers)
        place = event.issue_id + keys.u64(event.ts_unix_ms)
        kept = sorted(losers) if status == "unknown_key" else ()
        self._txn.put(key, place + _STATUS_BYTE[status] + b"".join(kept))


class _Doubt(NamedTuple):
    """A DOUBT row: where the event stands, why, and the other signatures that were met."""

    place: bytes
    status: str
    losers: tuple[bytes, ...]


def _decode(value: bytes) -> _Doubt:
    sigs = value[_PLACE_BYTES + 1 :]
    losers = (sigs[at : at + SIGNATURE_BYTES] for at in range(0, len(sigs), SIGNATURE_BYTES))
    status = "invalid" if value[_PLACE_BYTES : _PLACE_BYTES + 1] == b"i" else "unknown_key"
    return _Doubt(value[:_PLACE_BYTES], status, tuple(losers))


def held_events(txn: Txn, issue_id: bytes = b"") -> Iterator[tuple[bytes, Event, str]]:
    """Yield place, event and reason of what is held back, of one issue or of all."""
    for key, value in scan(txn, keys.HELD + issue_id):
        yield key[1:], get_event(txn, value[: keys.SEQ_BYTES]), value[keys.SEQ_BYTES :].decode()


def wrong_signatures(txn: Txn) -> list[EventId]:
    """Return the ids of the events whose best copy has a wrong signature."""
    rows = scan(txn, keys.DOUBT)
    return [EventId(key[-32:]) for key, value in rows if _decode(value).status == "invalid"]


def has_unknown_key(txn: Txn, actor_id: ActorId) -> bool:
    """Return whether something signed by the actor waits for its key."""
    rows = scan(txn, keys.DOUBT + actor_id)
    return any(_decode(value).status == "unknown_key" for _, value in rows)
