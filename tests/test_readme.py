"""The tour of the README is true, and the documents hold together."""

import re
from pathlib import Path

import pytest

from tests.console import check_file

TOP = Path(__file__).resolve().parent.parent
DOCUMENTS = [TOP / "README.md", *sorted((TOP / "spec").rglob("*.md"))]
SOURCES = sorted((TOP / "grit").rglob("*.py"))
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_SECTION = re.compile(r"\(spec/([a-z-]+\.md)((?:, [A-Z][a-z]+(?: [a-z]+)*(?: and [A-Z][a-z]+)*)*)")


def test_tour(tmp_path: Path) -> None:
    """Every command of the README's tour prints what the README shows."""
    check_file(TOP / "README.md", tmp_path)


def test_readme_leads_with_the_two_commands() -> None:
    """The two commands that show and check everything come before any heading but the first."""
    head = (TOP / "README.md").read_text().split("\n## ")[0]
    assert "sh tools/demo.sh" in head
    assert "sh tools/test.sh" in head


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document names a file or folder that exists."""
    targets = _LINK.findall(path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_code_names_sections_that_exist(path: Path) -> None:
    """A section of the spec that a module follows is there, under that heading."""
    for name, tail in _SECTION.findall(path.read_text()):
        text = (TOP / "spec" / name).read_text().lower()
        for heading in re.split(r", | and ", tail):
            assert not heading or f"# {heading.lower()}" in text, f"{name} has no '{heading}'"
