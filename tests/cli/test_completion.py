"""Completion in real shells, of names that attack them (spec/cli.md, Completion)."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from grit.cli.shells import SCRIPTS
from grit.core import codec
from grit.core import events as kinds
from grit.core.escape import escape
from grit.core.events import Draft, Event
from grit.core.ids import ActorId, IssueId
from tests.cli.shell_session import Shell, shell
from tests.hostile.plumbing import GRIT, NOW_MS, event, fresh_repository, git, push_chunks
from tests.hostile.texts import NASTY

ATTACKS: Final = (
    "$(touch PWNED)", "${IFS}`touch PWNED`", "`touch PWNED`", "$HOME", "$'\\x41'",
    ";touch PWNED", "|touch PWNED", "&touch PWNED", "&&touch PWNED", ">PWNED", "<(touch PWNED)",
    "(touch PWNED)", "'$(touch PWNED)'", "'; touch PWNED; '", '"$(touch PWNED)"',
    '"; touch PWNED; "', "\\", "\\'$(touch PWNED)", "\\n", "!!", "!touch", "^a^b", "a b",
    "  two  blanks", "trailing ", "*", "?[a-z]", "{a,b}", "~", "=ls", "#no", "%1", "it's",
    "été", "表", "a:b", "a=b", "a@b", "a,b", "a\N{NO-BREAK SPACE}b", "--help",
    "'\"'\"'$(touch PWNED)", "'\\''$(touch PWNED)", ")touch PWNED", "]]", "%F{red}", "\N{CRAB}",
)  # fmt: skip
NEVER: Final = (*NASTY.values(), "\nplain,made-up", "\n touch PWNED", "\t", "\r", "\x03", "\x16")
"""What no answer holds: controls, what is not seen, what turns the text around, a line's end."""
FEW: Final = (
    "$(touch PWNED)", ";touch PWNED", "'$(touch PWNED)'", '"; touch PWNED; "', "\\", "!!", "a b",
    "*", "it's", "a:b", "\nplain,made-up", "\x1b[31m\x1b[2J",
)  # fmt: skip
"""For kinds that take the same way as labels do."""


class Names(NamedTuple):
    """What is called how: by the beginning that is typed, the whole name."""

    labels: dict[str, str]
    milestones: dict[str, str]
    people: dict[str, str]
    remotes: dict[str, str]
    refs: dict[str, str]

    @property
    def commands(self) -> dict[str, Mapping[str, str]]:
        """What is typed before each."""
        return {
            "ls -l ": self.labels,
            "new x --milestone ": self.milestones,
            "actor trust ": self.people,
            "sync --remote ": self.remotes,
            "snapshot verify ": self.refs,
        }


def _named(letter: str, tails: tuple[str, ...]) -> dict[str, str]:
    return {
        f"{letter}{number:02}": f"{letter}{number:02}{tail}" for number, tail in enumerate(tails)
    }


def _fits_git(tail: str) -> bool:
    """Whether a ref may be called so."""
    done = subprocess.run(["git", "check-ref-format", f"refs/x/s{tail}"], capture_output=True)
    return done.returncode == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Names]:
    """A clone of a repository whose names attack whoever completes them."""
    folder = fresh_repository(tmp_path_factory.mktemp("completion") / "clone")
    every = (*ATTACKS, *NEVER)
    fits = tuple(tail for tail in ATTACKS if _fits_git(tail))
    names = Names(
        _named("l", every), _named("m", every), _named("p", every), _named("r", ATTACKS),
        {f"refs/grit/snapshots/s{at:02}": f"refs/grit/snapshots/s{at:02}{tail}"
         for at, tail in enumerate(fits)},
    )  # fmt: skip
    events: list[Event] = [event(kinds.ISSUE_CREATED, "Title", "", ())]
    for number, label in enumerate(names.labels.values()):
        events.append(event(kinds.LABEL_ADDED, label, ts=number))
    for number, (milestone, person) in enumerate(
        zip(names.milestones.values(), names.people.values(), strict=True)
    ):
        issue, who = IssueId(bytes([number]) * 16), ActorId(bytes([number, 0xEE]) * 8)
        text = every[number]
        drafts = [
            Draft(issue, kinds.ISSUE_CREATED, (text, "", ())),
            Draft(issue, kinds.FIELD_SET, ("milestone", milestone)),
            Draft(IssueId(bytes(who)), kinds.ACTOR_ANNOUNCED, (person, "", text, None)),
        ]
        events += [codec.seal(one, who, NOW_MS + at, None) for at, one in enumerate(drafts)]
    push_chunks(folder, [codec.encode_chunk(events)])
    head = git(folder, "rev-parse", "refs/grit/wal")
    for remote in names.remotes.values():
        git(folder, "config", f"remote.{remote}.url", "nowhere")
    for ref in names.refs.values():
        git(folder, "update-ref", ref, head)
    return folder, names


@pytest.fixture(params=SCRIPTS)
def session(request: pytest.FixtureRequest, place: tuple[Path, Names], tmp_path: Path) -> Shell:
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    opened = shell(name, place[0], tmp_path / "notes", SCRIPTS[name])
    found = opened.__enter__()
    request.addfinalizer(lambda: opened.__exit__(None, None, None))
    return found


def _try(session: Shell, line: str, name: str) -> bool:
    """Complete the line; where something is offered, Enter must run grit with exactly the name."""
    answer = session.complete(f"grit {line}")
    assert escape(answer, multiline=True) == answer
    begins = ("made-up", "plain,made-up", " touch", "touch")
    assert not any(one.startswith(begins) for one in answer.splitlines()), answer
    if not answer.strip():
        session.forget()
        return False
    words = session.enter()
    assert words[-1] == name, (session.name, line, answer)
    assert len(words) == len(line.split())
    return True


@pytest.mark.parametrize("kind", Names._fields)
def test_nothing_runs_at_tab_or_enter(kind: str, session: Shell, place: tuple[Path, Names]) -> None:
    """A name that is offered arrives whole, as one word; none with a control is offered."""
    folder, names = place
    begin, called = list(names.commands.items())[Names._fields.index(kind)]
    for typed, name in called.items():
        if name[len(typed) :] in FEW:
            offered = _try(session, begin + typed, name)
            assert offered == (name[len(typed) :] not in NEVER), (name, offered)
    assert [one.name for one in folder.iterdir()] == [".git"]


@pytest.mark.slow
def test_no_label_runs_at_tab_or_enter(session: Shell, place: tuple[Path, Names]) -> None:
    """The same for all that attacks any of the shells."""
    folder, names = place
    for typed, name in names.labels.items():
        offered = _try(session, f"ls -l {typed}", name)
        assert offered == (name[len(typed) :] not in NEVER), (name, offered)
    assert [one.name for one in folder.iterdir()] == [".git"]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_within_quotes(quote: str, session: Shell, place: tuple[Path, Names]) -> None:
    """Behind a quote that was opened by hand a name arrives whole, or is not offered."""
    folder, names = place
    for typed, name in names.labels.items():
        tail = name[len(typed) :]
        if tail in FEW and tail not in NEVER:
            offered = _try(session, f"ls -l {quote}{typed}", name)
            breaks = {"'": "'", '"': '"\\$`!'}[quote] if session.name == "bash" else ""
            assert offered == (not set(name) & set(breaks)), name
    assert [one.name for one in folder.iterdir()] == [".git"]


def test_titles_beside_ids(session: Shell, place: tuple[Path, Names]) -> None:
    """An id is completed; its issue's title stands beside it, made safe, and is no answer."""
    folder, _ = place
    for number, text in enumerate((*ATTACKS, *NEVER)):
        if text in FEW and number > 1:
            digits = f"{number:02x}" * 4
            assert _try(session, f"show {digits[:4]}", digits[:7])
    assert [one.name for one in folder.iterdir()] == [".git"]


WORDS: Final = {
    "ls -a @": ["ls", "-a", "@me"],
    "ls -a @m": ["ls", "-a", "@me"],
    "ls --label=l35": ["ls", "--label=l35a:b"],
    "ls -l l35a:": ["ls", "-l", "l35a:b"],
    "ls -l l36a=": ["ls", "-l", "l36a=b"],
    "ls -l l37a@": ["ls", "-l", "l37a@b"],
}


@pytest.mark.parametrize("line", WORDS)
def test_words_that_a_shell_breaks(line: str, session: Shell) -> None:
    """bash breaks words at ':', '=' and '@', and replaces what is behind; others do not."""
    session.complete(f"grit {line}")
    assert session.enter() == WORDS[line]


def test_an_answer_is_quoted_without_a_script_of_ours(place: tuple[Path, Names]) -> None:
    """What asks for answers alone, as an older script does, gets each on a line, and quoted."""
    folder, names = place
    asked = {"_GRIT_COMPLETE": "bash_complete", "COMP_WORDS": "grit ls -l ", "COMP_CWORD": "3"}
    done = subprocess.run(GRIT, cwd=folder, env={**os.environ, **asked}, capture_output=True)
    lines = done.stdout.decode().splitlines()
    wanted = [name for name in names.labels.values() if name[3:] in ATTACKS]
    kinds_said, words = zip(*(line.split(",", 1) for line in lines), strict=True)
    assert set(kinds_said) == {"plain"}
    script = f"printf '%s\\0' {' '.join(words)}"
    said = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, check=True)
    assert sorted(said.stdout.decode().split("\0")) == ["", *sorted(wanted)], lines
    assert [one.name for one in folder.iterdir()] == [".git"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_only_our_own_scripts_are_printed(name: str, place: tuple[Path, Names]) -> None:
    """`grit completion` and what click prints on request are the same; neither starts anything."""
    source = {"_GRIT_COMPLETE": f"{name}_source", "PATH": "/nonexistent"}
    for words, asked in (((), source), (("completion", name), {})):
        done = subprocess.run(
            [*GRIT, *words],
            cwd=place[0],
            env={**os.environ, **asked},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == SCRIPTS[name].strip()
