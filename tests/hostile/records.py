"""The table of hostile records and chunks: each is set aside, whatever stands beside it is kept."""

import struct
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import cbor2

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.events import kind_name
from tests.core.builders import EXAMPLES
from tests.hostile.plumbing import ACTOR, HEADER, ISSUE, NOW_MS, array, comment, forged


class Hostile(NamedTuple):
    """A chunk, and whether the good comment in it (its text is the name) survives."""

    name: str
    chunk: bytes
    kept: bool


WRONG_FIELDS: tuple[tuple[str, int, tuple[object, ...]], ...] = (
    ("issue_id", 0, (None, 7, -7, "0" * 16, "0" * 32, b"", bytes(15), bytes(17), [], {}, 1.5)),
    ("actor_id", 1, (None, 7, "aa" * 16, b"", bytes(15), bytes(17), [bytes(16)])),
    ("ts_unix_ms", 2, (None, -1, 1.5, "1", b"1", True, [], 2**48, 2**53, 2**63, 2**64 - 1)),
    ("ts_unix_ms", 2, (2**64, 2**200, -(2**64), float("nan"), float("inf"), float("-inf"))),
    ("parent", 3, (0, "", b"", bytes(16), bytes(31), bytes(33), False, [], "0" * 32)),
    ("kind_tag", 4, (None, 0, -1, 2**32, 2**64 - 1, 2**70, "3", 3.0, True, [])),
    ("payload", 5, (None, "Hi", b"Hi", 1, True, {}, {"body": "Hi"}, [], ["Hi", "Hi"], [None])),
    ("payload", 5, ([["Hi"]], [b"Hi"], [7], [7.5], [float("nan")], [{}], [[]], [False])),
)

WRONG_VALUES: tuple[tuple[str, int, list[object]], ...] = (
    ("an empty title", kinds.ISSUE_CREATED, ["", "", []]),
    ("a title of 10^7 characters", kinds.ISSUE_CREATED, ["x" * 10**7, "", []]),
    ("a title one too long", kinds.ISSUE_CREATED, ["x" * (limits.TITLE_CHARS_MAX + 1), "", []]),
    ("a body of 10 MB", kinds.ISSUE_CREATED, ["T", "x" * 10_000_000, []]),
    ("a comment of 10 MB", kinds.COMMENT_ADDED, ["x" * 10_000_000]),
    ("100,000 labels", kinds.ISSUE_CREATED, ["T", "", [f"{n:06}" for n in range(100_000)]]),
    ("labels not in order", kinds.ISSUE_CREATED, ["T", "", ["b", "a"]]),
    ("a label that is a number", kinds.ISSUE_CREATED, ["T", "", [1]]),
    ("an empty new title", kinds.ISSUE_UPDATED, ["", None]),
    ("an empty label", kinds.LABEL_ADDED, [""]),
    ("a long label", kinds.LABEL_ADDED, ["x" * (limits.LABEL_CHARS_MAX + 1)]),
    ("an unknown state", kinds.STATE_CHANGED, ["done"]),
    ("a state in capitals", kinds.STATE_CHANGED, ["OPEN"]),
    ("an empty link", kinds.LINK_ADDED, ["", None]),
    ("a long link", kinds.LINK_ADDED, ["x" * (limits.VALUE_CHARS_MAX + 1), None]),
    ("an empty assignee", kinds.ASSIGNEE_ADDED, [""]),
    ("an attachment without name", kinds.ATTACHMENT_ADDED, ["", bytes(32), ""]),
    ("an attachment hashed by SHA-1", kinds.ATTACHMENT_ADDED, ["a", bytes(20), ""]),
    ("an attachment hashed in hex", kinds.ATTACHMENT_ADDED, ["a", "0" * 64, ""]),
    ("an attachment of a long type", kinds.ATTACHMENT_ADDED, ["a", bytes(32), "x" * 257]),
    ("a target that is text", kinds.DEPENDENCY_ADDED, ["02" * 16, "blocks"]),
    ("a short target", kinds.DEPENDENCY_ADDED, [bytes(15), "blocks"]),
    ("an unknown edge", kinds.DEPENDENCY_ADDED, [bytes(16), "duplicates"]),
    ("a line beyond 2^32", kinds.CONTEXT_UPDATED, ["a", "", [["f", "", 0, 2**32]], "", bytes(32)]),
    ("a negative line", kinds.CONTEXT_UPDATED, ["a", "", [["f", "", -1, 0]], "", bytes(32)]),
    ("a short public key", kinds.ACTOR_ANNOUNCED, ["a", "b", "c", bytes(31)]),
    ("a public key in hex", kinds.ACTOR_ANNOUNCED, ["a", "b", "c", "0" * 64]),
    ("a field without key", kinds.FIELD_SET, ["", "x"]),
    ("a field that is a number", kinds.FIELD_SET, ["priority", 1]),
    ("an edit of a short id", kinds.COMMENT_EDITED, [bytes(16), "x"]),
    ("a redaction without reason", kinds.COMMENT_REDACTED, [bytes(32), None]),
    ("an unknown kind that is text", 4242, []),
)


def _records() -> Iterator[tuple[str, bytes]]:
    for name, at, values in WRONG_FIELDS:
        for value in values:
            fields: list[object] = [ISSUE, ACTOR, NOW_MS, None, kinds.COMMENT_ADDED, ["Hi"]]
            fields[at] = value
            yield f"{name} = {value!r:.40}", forged(*fields)
    for tag, example in EXAMPLES.items():
        for words, payload in (("short", example[:-1]), ("long", (*example, None))):
            yield f"{kind_name(tag)} is {words}", forged(ISSUE, ACTOR, NOW_MS, None, tag, payload)
    for name, tag, values in WRONG_VALUES:
        shape: object = values or "text"
        yield name, forged(ISSUE, ACTOR, NOW_MS, None, tag, shape)


def _encodings() -> Iterator[tuple[str, bytes]]:
    good = codec.encode_record(comment("never shown: Hi"))
    head, rest = good[1:35], good[35:]
    payload = cbor2.dumps(["never shown: Hi"])
    yield "an array of indefinite length", b"\x9f" + head + rest + b"\xff"
    yield "a long head of the record", b"\x98\x08" + head + rest
    yield "a longer head of the record", b"\x9b" + bytes(7) + b"\x08" + head + rest
    yield "a long head of an id", b"\x88\x59\x00\x20" + head[2:] + rest
    yield "an id in pieces", b"\x88\x5f" + head + b"\xff" + rest
    yield "a tag around the id", b"\x88\xc2" + head + rest
    yield "a tag that makes a date", b"\x88\xc1" + head + rest
    yield "a tag that makes a shared value", b"\x88\xd8\x1c" + head + rest
    yield "a reference to a shared value", b"\x88" + head + rest[:-1] + b"\xd8\x1d\x00"
    yield "an unknown tag", b"\x88\xd9\xff\x00" + head + rest
    yield "seven fields", b"\x87" + head + rest[:-1]
    yield "nine fields", b"\x89" + head + rest + b"\xf6"
    yield "a NaN for the signature", b"\x88" + head + rest[:-1] + b"\xf9\x7e\x00"
    yield "undefined for the signature", b"\x88" + head + rest[:-1] + b"\xf7"
    yield "a simple value", b"\x88" + head + rest[:-1] + b"\xf8\xff"
    yield "a signature of 63 bytes", good[:-1] + b"\x58\x3f" + bytes(63)
    yield "a signature of 65 bytes", good[:-1] + b"\x58\x41" + bytes(65)
    yield "a signature that is text", good[:-1] + b"\x78\x40" + b"x" * 64
    yield "an id that is not the hash", good[:3] + bytes([good[3] ^ 1]) + good[4:]
    yield "a body that the id does not cover", good.replace(b"Hi", b"Ho")
    yield "text that is not UTF-8", good.replace(payload, b"\x81\x62\xff\xfe")
    yield "text with an overlong slash", good.replace(payload, b"\x81\x62\xc0\xaf")
    yield "text with a surrogate", good.replace(payload, b"\x81\x63\xed\xa0\x80")
    yield "text beyond Unicode", good.replace(payload, b"\x81\x64\xf4\x90\x80\x80")
    yield "text in pieces", good.replace(payload, b"\x81\x7f\x61H\x61i\xff")
    yield "a payload of indefinite length", good.replace(payload, b"\x9f\x62Hi\xff")
    yield "a map with a doubled key", good.replace(payload, b"\xa2\x01\x02\x01\x02")
    yield "a map of arrays as keys", good.replace(payload, b"\xa1\x81\x01\x02")
    yield "nested ten deep", good.replace(payload, b"\x81" * 10 + b"\x62Hi")
    yield "nested a hundred deep", good.replace(payload, b"\x81" * 100 + b"\x62Hi")
    yield "a non-minimal kind", good.replace(b"\x03" + payload, b"\x18\x03" + payload)
    yield "a bignum for the kind", good.replace(b"\x03" + payload, b"\xc2\x41\x03" + payload)
    yield "a small bignum", good.replace(payload, b"\x81\xc2\x41\x01")
    yield "a regular expression", good.replace(payload, b"\x81\xd8\x23\x65(a+)+")
    yield "only null", b"\xf6"
    yield "only an empty array", b"\x80"
    yield "only a map", b"\xa0"


def _self_consistent() -> Iterator[tuple[str, bytes]]:
    """Yield records whose id is the hash of their own bytes, which are not canonical."""
    head = b"\x50" + ISSUE + b"\x50" + ACTOR
    ts = cbor2.dumps(NOW_MS) + b"\xf6"
    early = b"\x1b" + bytes(7) + b"\x05\xf6"
    comment_tag, later = cbor2.dumps(kinds.COMMENT_ADDED), cbor2.dumps(4242)
    for name, rest in (
        ("a long head of a text", ts + comment_tag + b"\x81\x78\x02Hi"),
        ("a longer head of a text", ts + comment_tag + b"\x81\x79\x00\x02Hi"),
        ("a long head of the payload", ts + comment_tag + b"\x98\x01\x62Hi"),
        ("a kind in two bytes", ts + b"\x18\x03\x81\x62Hi"),
        ("a kind in nine bytes", ts + b"\x1b" + bytes(7) + b"\x03\x81\x62Hi"),
        (
            "a small time in nine bytes",
            early + comment_tag + b"\x81\x62Hi",
        ),
        ("a text that is not UTF-8", ts + comment_tag + b"\x81\x62\xff\xfe"),
        ("a text with a surrogate", ts + comment_tag + b"\x81\x63\xed\xa0\x80"),
        ("an undefined parent", ts[:-1] + b"\xf7" + comment_tag + b"\x81\x62Hi"),
        ("NaN in an unknown kind", ts + later + b"\x81\xf9\x7e\x00"),
        ("NaN in 64 bits", ts + later + b"\x81\xfb\x7f\xf8" + bytes(6)),
        ("a float in 16 bits", ts + later + b"\x81\xf9\x3e\x00"),
        ("a bignum in an unknown kind", ts + later + b"\x81\xc2\x49\x01" + bytes(8)),
        ("a date in an unknown kind", ts + later + b"\x81\xc1\x00"),
        ("a map with a doubled key", ts + later + b"\x81\xa2\x61a\x01\x61a\x01"),
        ("a map out of order", ts + later + b"\x81\xa2\x61b\x01\x61a\x01"),
        ("undefined in an unknown kind", ts + later + b"\x81\xf7"),
        ("a simple value in an unknown kind", ts + later + b"\x81\xf8\xff"),
        ("nested nine deep", ts + later + b"\x81" * 9 + b"\x80"),
    ):
        digest = blake2b(b"\x87\x01" + head + rest, digest_size=32).digest()
        yield f"by its own id: {name}", b"\x88\x58\x20" + digest + head + rest + b"\xf6"


def _broken_chunks() -> Iterator[tuple[str, bytes]]:
    good = codec.encode_record(comment("never shown: chunk"))
    magic = codec.MAGIC
    yield "nothing", b""
    yield "only a magic", magic
    yield "another magic", b"GRITXXXX" + HEADER[8:] + b"\x81" + good
    yield "version 2", magic + b"\x02\x00\x07cbor-v1\x81" + good
    yield "version 256", magic + b"\x00\x01\x07cbor-v1\x81" + good
    yield "another codec", magic + b"\x01\x00\x07cbor-v2\x81" + good
    yield "a codec beyond the end", magic + b"\x01\x00\xffcbor-v1"
    yield "no body", HEADER
    yield "a map", HEADER + b"\xa1\x01" + good
    yield "text", HEADER + b"\x78\xff" + good
    yield "a record without its array", HEADER + good
    yield "2^32 records", HEADER + b"\x9b" + struct.pack(">Q", 2**32) + good
    yield "2^64-1 records", HEADER + b"\x9b" + b"\xff" * 8
    yield "an indefinite array", HEADER + b"\x9f" + good + b"\xff"
    yield "a reserved head", HEADER + b"\x9c" + good
    yield "a break", HEADER + b"\xff"
    yield "100,000 nested arrays", HEADER + b"\x81" * 100_000
    yield "10 MB of empty arrays", HEADER + b"\x80" * 10_000_000
    yield "a record of 10^7 items", HEADER + b"\x81\x9a\x00\x98\x96\x80" + b"\x80" * 10**7
    yield "a string of 2^63 bytes", HEADER + b"\x81\x5b" + struct.pack(">Q", 2**63)
    yield "a chunk above the bound", HEADER + bytes(limits.CHUNK_BYTES_MAX)


def hostile_chunks() -> list[Hostile]:
    """Return the whole table; names are unique, and are the text of the comment beside."""
    found: list[Hostile] = []
    for number, (name, record) in enumerate(hostile_records()):
        good = codec.encode_record(comment(f"beside {name} ({number})", ts=number + 1))
        found.append(Hostile(f"beside {name} ({number})", array(good, record), True))
    found += [Hostile(name, data, False) for name, data in _broken_chunks()]
    good = codec.encode_record(comment("before the end", ts=5000))
    found.append(Hostile("before the end", array(good) + b"\x00", True))
    good = codec.encode_record(comment("before a missing one", ts=5001))
    found.append(Hostile("before a missing one", HEADER + b"\x82" + good, True))
    good = codec.encode_record(comment("before a cut", ts=5002))
    found.append(Hostile("before a cut", array(good, good)[:-20], True))
    return found


def hostile_records() -> list[tuple[str, bytes]]:
    """Return the records of the table alone, with their names."""
    return [*_records(), *_encodings(), *_self_consistent()]
