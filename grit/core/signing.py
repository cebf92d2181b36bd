"""Ed25519 signatures and self-certifying actors; the only door to nacl (spec/events.md, Actors)."""

from hashlib import blake2b
from typing import Final

from nacl import bindings
from nacl.exceptions import BadSignatureError

from grit.core.events import Event
from grit.core.ids import ActorId
from grit.core.limits import ID_BYTES


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte public key of a 32-byte secret seed."""
    return bindings.crypto_sign_seed_keypair(seed)[0]


def actor_id_of(key: bytes) -> ActorId:
    """Return the actor id that a public key certifies: BLAKE2b-128 of it."""
    return ActorId(blake2b(key, digest_size=ID_BYTES).digest())


def sign(event: Event, seed: bytes) -> Event:
    """Return the event with a signature over its raw event_id."""
    secret = bindings.crypto_sign_seed_keypair(seed)[1]
    signed = bindings.crypto_sign(event.event_id, secret)
    return event._replace(sig=signed[: bindings.crypto_sign_BYTES])


def signature_status(event: Event, key: bytes | None) -> str:
    """Return valid, invalid, unknown_key or none for the key announced by the event's actor.

    A key that does not certify the actor id is no key of that actor: unknown_key.
    """
    if event.sig is None:
        return "none"
    if key is None or actor_id_of(key) != event.actor_id:
        return "unknown_key"
    try:
        bindings.crypto_sign_open(event.sig + event.event_id, key)
    except BadSignatureError:
        return "invalid"
    return "valid"


SIGNED_BYTES: Final = 128
"""Key, signature and event_id, one after the other."""


def are_valid(signed: bytes) -> bytes:
    """Return a byte for each key, signature and event_id in `signed`: 1 when it is valid, else 0.

    The keys must certify their actors already. Pure, for many at once and in other processes.
    """
    check = bindings.crypto_sign_open
    answers = bytearray(len(signed) // SIGNED_BYTES)
    for number in range(len(answers)):
        start = number * SIGNED_BYTES
        try:
            check(signed[start + 32 : start + SIGNED_BYTES], signed[start : start + 32])
            answers[number] = 1
        except BadSignatureError:
            pass
    return bytes(answers)
