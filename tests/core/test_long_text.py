"""Texts of which no more than the beginning was read, and events found in their chunks again."""

import json

import pytest

from grit.core import codec, limits
from grit.core import events as kinds
from grit.core.codec import RECORD_HEAD
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, EventId, IssueId
from grit.core.long_text import Long, Text, beginning, utf8_bytes, whole_bytes
from grit.core.query import Term, texts_match
from grit.core.text import searched
from grit.core.walk import find_event


def event(tag: int, *payload: kinds.Value) -> Event:
    """Seal a valid event."""
    draft = Draft(IssueId(bytes(16)), tag, payload)
    return codec.seal(draft, ActorId(b"\xaa" * 16), 1_700_000_000_000, None)


def long(head: str = "head") -> Long:
    """Return a text of 100,000 bytes of which this was read."""
    return Long(EventId(bytes(32)), 1, head, 100_000, bytes(20))


def test_no_text_is_taken_for_a_beginning() -> None:
    """A long text is no str: no comparison, join or file takes its beginning for all of it."""
    text: Text = long()
    assert not isinstance(text, str)
    assert text != "head"
    assert text == long()
    assert hash(text) == hash(long())
    assert text != long("other")
    with pytest.raises(TypeError):
        json.dumps(text)
    with pytest.raises(TypeError):
        "".join([text])  # type: ignore[list-item]
    assert str(text) == beginning(text) == "head"


@pytest.mark.parametrize("letter", ["a", "é", "€", "🙂"])
@pytest.mark.parametrize("more", [-1, 0, 1, 70_000])
def test_a_beginning_ends_between_characters(letter: str, more: int) -> None:
    """It is as long as the bound allows, and no longer; a text within the bound is whole."""
    size = len(letter.encode())
    text = letter * (limits.TEXT_KEPT_BYTES // size + more)
    start = beginning(text)
    assert text.startswith(start)
    assert utf8_bytes(text) == whole_bytes(text) == size * len(text)
    assert whole_bytes(long()) == 100_000
    assert utf8_bytes(start) == min(utf8_bytes(text), limits.TEXT_KEPT_BYTES // size * size)


def test_the_search_knows_so_much_of_an_issue() -> None:
    """No text is searched in part because of those before it, and 4 MiB in all."""
    texts = ["x" * 200_000] * 100
    found = list(searched(texts))
    assert found == ["x" * limits.TEXT_KEPT_BYTES] * 64
    assert [beginning("é" * 40_000)] == list(searched(["é" * 40_000])) == ["é" * 32_768]


def test_terms_are_met_by_beginnings() -> None:
    """A word or phrase counts where it stands in what is searched; negation is applied last."""
    texts: list[Text] = [long("src wal"), "x " * limits.TEXT_KEPT_BYTES + "last"]
    for term, met in (
        *((Term("text", ("sr",)), True), (Term("text", ("last",)), False)),
        *((Term("phrase", ("src", "wal")), True), (Term("phrase", ("wal", "x")), False)),
    ):
        assert texts_match([term], texts) is met
        assert texts_match([term._replace(negated=True)], texts) is not met


def test_an_event_is_found_where_another_holds_its_bytes() -> None:
    """What looks like a record within another one is not taken for it."""
    wanted = event(kinds.COMMENT_ADDED, "wanted")
    decoy = event(999, (RECORD_HEAD + wanted.event_id) * 100_000)
    assert find_event(codec.encode_chunk([decoy, wanted]), wanted.event_id) == wanted
    header = codec.encode_chunk([wanted])[: codec.HEADER_BYTES]
    beside = header + b"\x82\x00" + codec.encode_record(wanted)
    assert find_event(beside, wanted.event_id) == wanted
    for chunk in (
        codec.encode_chunk([decoy]),
        codec.encode_chunk([decoy])[:-9],
        codec.encode_chunk([wanted._replace(payload=("another text",))]),
        codec.encode_chunk([wanted])[:-9],
        RECORD_HEAD + wanted.event_id,
        b"",
    ):
        assert find_event(chunk, wanted.event_id) is None
