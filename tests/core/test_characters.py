"""Characters are judged by one version of Unicode, so that Pythons agree (spec/query.md)."""

import ast
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core import characters
from grit.core.escape import escape
from grit.core.lease import parse_resource
from grit.core.text import words
from grit.core.times import parse_duration_ms, parse_span

TOP = Path(__file__).resolve().parents[2] / "grit"
JUDGED = [
    *sorted(TOP.glob("core/*.py")),
    *sorted(TOP.glob("view/*.py")),
    *sorted(TOP.glob("services/beads_*.py")),
    *sorted(TOP.glob("services/import_*.py")),
    *sorted(TOP.glob("services/lease*.py")),
]
"""Where what counts, what is found and what an import makes is decided."""
JUDGING = {
    "isprintable", "isalnum", "isalpha", "isdigit", "isnumeric", "isdecimal", "casefold", "upper",
    "lower", "capitalize", "swapcase", "isidentifier", "isupper", "islower", "istitle",
    "splitlines", "normalize", "category", "isspace",
}  # fmt: skip
ALLOWED = {
    ("core/characters.py", "isprintable"): "what 14.0 does not assign is looked for as well",
    ("core/characters.py", "normalize"): "of assigned characters alone: never changes",
    ("core/characters.py", "casefold"): "of assigned characters alone: never changes",
    ("core/characters.py", "category"): "of assigned characters, with the one that changed",
    ("core/characters.py", "lower"): "ASCII",
    ("core/escape.py", "isprintable"): "ASCII",
    ("core/filter_text.py", "isspace"): "white space is pinned below",
    ("core/filter_text.py", "lower"): "of a key that is ASCII by its pattern",
    ("core/ids.py", "isprintable"): "ASCII",
    ("core/ids.py", "isdigit"): "ASCII",
    ("core/ids.py", "isalpha"): "hex digits",
    ("core/ids.py", "lower"): "only hex digits pass, and no other letter becomes one",
    ("core/lease.py", "isprintable"): "ASCII",
    ("core/lease.py", "lower"): "only hex digits pass, and no other letter becomes one",
    (
        "core/query.py",
        "lower",
    ): "ASCII, or compared with ASCII words, which no other letters become",
    ("core/text.py", "lower"): "ASCII",
    ("core/times.py", "lower"): "a unit that is ASCII by its pattern",
    ("services/import_log.py", "isprintable"): "a ref that somebody types: nothing is judged by it",
}
CLASSES = {
    ("core/escape.py", "[{_JOINERS}]|[^\\w\\x00-\\x7f]{{{MARKS_MAX + 1}}}"): (
        "marks are no word characters in any version; what it finds is looked at again"
    ),
    ("core/text.py", "(\\w{1,64})\\w*"): "ASCII",
    (
        "services/beads_record.py",
        r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-](\d\d):(\d\d))?",
    ): "ASCII",
    ("core/text.py", "(?=\\w)[{_CJK}]|[^\\W{_CJK}]+"): "of a text whose characters are assigned",
}
SPACES = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


def _judgements(path: Path) -> Iterator[tuple[str, str]]:
    name = str(path.relative_to(TOP))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in JUDGING:
            yield name, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "title":  # else it is that of an issue
                yield name, "title"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [one.name for one in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            if "unicodedata" in names and name != "core/characters.py":
                yield name, "unicodedata"


def _classes(path: Path) -> Iterator[tuple[str, str]]:
    name = str(path.relative_to(TOP))
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        text = ast.get_source_segment(source, node) if isinstance(node, ast.JoinedStr) else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        if text is None or len(text) > 200:
            continue
        text = (
            text.removeprefix("rf")
            .removeprefix("f")
            .removeprefix("r")
            .strip('"')
            .replace("\\\\", "\\")
        )
        if any(f"\\{letter}" in text for letter in "wWdDbB"):
            yield name, text
        elif isinstance(node, ast.JoinedStr):
            continue


def _folding_patterns(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            flags = {
                one.attr
                for part in node.args
                for one in ast.walk(part)
                if isinstance(one, ast.Attribute)
            }
            if flags & {"IGNORECASE", "I"} and not flags & {"ASCII", "A"}:
                yield f"{path.name}:{node.lineno}"


def test_nothing_but_what_is_listed_judges_characters() -> None:
    """Every method that asks Unicode is in the table with its reason, and nothing else is."""
    found = {one for path in JUDGED for one in _judgements(path)}
    assert found == set(ALLOWED)


def test_no_pattern_asks_for_words_or_digits_but_those_listed() -> None:
    """Classes of words and digits depend on the version; case is ignored in ASCII alone."""
    parts = {(name, text) for path in JUDGED for name, text in _classes(path)}
    whole = {one for one in parts if one in CLASSES}
    rest = {
        one
        for one in parts - whole
        if not any(one[0] == name and one[1] in text for name, text in CLASSES)
    }
    assert whole == set(CLASSES)
    assert rest == set()
    assert [one for path in JUDGED for one in _folding_patterns(path)] == []


def test_white_space_is_what_it_was() -> None:
    """`strip`, `split`, `isspace` and patterns agree on these in every version so far."""
    assert "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1)))) == SPACES


def test_the_table_is_unicode_14() -> None:
    """By a Python of that version the table is exact; a later one assigns more, and never less."""
    exact = unicodedata.unidata_version == "14.0.0"
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        listed = bool(characters.unassigned(char))
        known = unicodedata.category(char) != "Cn"
        assert listed != known if exact else listed or known, hex(code)


@pytest.mark.parametrize("later", ["\u1c89", "\U0001e4d0", "\U000323b0", "\ua7cb"])
def test_what_a_later_version_assigns_is_nothing_here(
    later: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letters of Unicode 15 and 16 are no words, have no case and do not print, as if a Python
    knew them; texts with them are kept and shown."""
    assert characters.unassigned(f"ä{later}b") == [later]
    assert words(f"Ä{later}b") == ["ä", "b"]
    assert characters.fold_case(f"Ä{later}") == f"ä{later}"
    assert characters.fold_case("AB") == "ab"
    assert characters.category(later) == "Cn"
    assert not characters.is_printable(later)
    assert escape(f"ä{later}") == f"ä{later}"
    with pytest.raises(Exception, match="do not print"):
        parse_resource(f"repo:{later}")


def test_a_unit_is_ascii() -> None:
    """A letter that only folds to a unit's is none, and no error."""
    assert parse_duration_ms("5\u017f") is None
    assert parse_duration_ms("5S") == 5_000
    assert parse_span("2020-01-01t00:00z") is not None


@given(st.text())
def test_folding_is_stable(text: str) -> None:
    """What is folded stays so, and holds nothing that is not assigned."""
    folded = characters.fold(text)
    assert characters.fold(folded) == folded
    assert characters.unassigned(folded) == []
