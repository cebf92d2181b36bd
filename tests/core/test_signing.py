"""Signatures: made by the actor's key over the event's id, judged the same everywhere."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import codec, signing
from grit.core import events as kinds
from grit.core.events import Event
from tests.core.builders import ACTOR, event

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "signatures.json"
SEED = bytes(range(32))
KEY = signing.public_key(SEED)
OWNER = signing.actor_id_of(KEY)


def _signed(text: str = "text") -> Event:
    return signing.sign(event(kinds.COMMENT_ADDED, text, actor=OWNER), SEED)


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=40), st.binary(min_size=32, max_size=32)
)
def test_what_an_actor_signs_is_valid_after_the_log(text: str, seed: bytes) -> None:
    """A signature survives a chunk, and says valid under the key that certifies the actor."""
    key = signing.public_key(seed)
    one = event(kinds.COMMENT_ADDED, text, actor=signing.actor_id_of(key))
    signed = signing.sign(one, seed)
    assert signed._replace(sig=None) == one
    read = codec.decode_chunk(codec.encode_chunk([signed])).records[0][0]
    assert read == signed
    assert signing.signature_status(read, key) == "valid"


@pytest.mark.parametrize("at", [0, 31, 32, 63])
def test_fault_15_a_changed_signature_is_invalid(at: int) -> None:
    """One flipped bit anywhere in the signature makes it invalid."""
    signed = _signed()
    assert signed.sig is not None
    changed = signed.sig[:at] + bytes([signed.sig[at] ^ 1]) + signed.sig[at + 1 :]
    assert signing.signature_status(signed._replace(sig=changed), KEY) == "invalid"


def test_fault_15_a_signature_of_another_event_is_invalid() -> None:
    """A signature cannot be moved to another event of the same actor."""
    moved = _signed("one")._replace(event_id=_signed("two").event_id)
    assert signing.signature_status(moved, KEY) == "invalid"


def test_fault_15_foreign_and_missing_keys_are_unknown() -> None:
    """No key, or a key that does not certify the actor, proves nothing either way."""
    other = signing.public_key(bytes(32))
    assert signing.signature_status(_signed(), None) == "unknown_key"
    assert signing.signature_status(_signed(), other) == "unknown_key"
    foreign = signing.sign(event(kinds.COMMENT_ADDED, "text", actor=ACTOR), SEED)
    assert signing.signature_status(foreign, KEY) == "unknown_key"


def test_fault_15_a_stripped_signature_is_none() -> None:
    """An event without signature is `none`, whether or not its actor has a key."""
    stripped = _signed()._replace(sig=None)
    assert signing.signature_status(stripped, KEY) == "none"
    assert signing.signature_status(stripped, None) == "none"


def test_the_id_of_an_actor_is_the_hash_of_its_key() -> None:
    """Nobody can take an actor's id without its key: the id is BLAKE2b-128 of it."""
    assert len(OWNER) == 16
    assert len({signing.actor_id_of(signing.public_key(bytes([n]) * 32)) for n in range(8)}) == 8


@pytest.mark.parametrize("row", json.loads(VECTORS.read_text()), ids=lambda row: str(row["name"]))
def test_vectors(row: dict[str, str]) -> None:
    """Key, actor and signature of every vector follow from its seed."""
    seed = bytes.fromhex(row["seed"])
    if row["public_key"]:
        assert signing.public_key(seed).hex() == row["public_key"]
    if row["status"] == "valid":
        assert signing.actor_id_of(signing.public_key(seed)).hex() == row["actor"]


def test_many_signatures_are_verified_as_one_by_one() -> None:
    """Each key, signature and event_id has its own answer, in the order given."""
    good, other = _signed("one"), _signed("two")
    assert good.sig is not None and other.sig is not None
    rows = [
        KEY + good.sig + good.event_id,
        KEY + other.sig + good.event_id,
        signing.public_key(bytes(32)) + good.sig + good.event_id,
        KEY + other.sig + other.event_id,
    ]
    assert signing.are_valid(b"".join(rows)) == b"\x01\x00\x00\x01"
    assert signing.are_valid(b"") == b""
