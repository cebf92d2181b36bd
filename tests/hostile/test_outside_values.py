"""Numbers, hex, dates, JSON and TOML from outside: one safe way in each, and no internal error."""

import ast
import contextlib
import io
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import grit
from grit.cli.main import run as cli
from grit.core import codec
from grit.core import events as kinds
from grit.core.events import Draft
from grit.files.names import NAMES
from tests.hostile.plumbing import ACTOR, ISSUE, NOW_MS, fresh_repository, git, push_chunks, run

SOURCES = Path(grit.__file__).parent
WAYS_IN = {
    "core/codec.py": {"cbor2.loads"},
    "core/documents.py": {"json.loads"},
    "core/ids.py": {"bytes.fromhex", "int", "text.isdigit"},
    "git/actors.py": {"tomllib.loads"},
}
"""The modules that hold the one way in for a format."""
OTHERS = {
    # What the kernel says.
    ("cli/daemon.py", "int(x.split()[1])"),
    ("cli/daemon.py", "int(fields[11])"),
    ("cli/daemon.py", "int(fields[12])"),
    # What processes of one program say to each other, over a pipe or memory that only they have.
    ("cli/foreground.py", "int(os.read(self._reply, 16) or 1)"),
    ("daemon/board.py", "json.loads(data)"),
    ("daemon/run_process.py", "json.loads(data)"),
    ("daemon/sync_process.py", "json.loads(answer)"),
    ("daemon/sync_process.py", "int(data['events_received'])"),
    ("daemon/sync_process.py", "int(data['events_sent'])"),
    ("daemon/server.py", "int(pid)"),
    ("daemon/server.py", "int(spent_us)"),
    # Text that is no number ends the connection: what reads it refuses ValueError as a whole.
    ("daemon/child.py", "int(number)"),
    ("daemon/child.py", "map(int, head.split())"),
    # The launcher imports nothing of grit; it has looked at the digits and their count.
    ("launch.py", "digits.isdigit()"),
    ("launch.py", "int(digits)"),
    ("launch.py", "answer.isdigit()"),
    ("launch.py", "int(answer)"),
    # Digits that a pattern of ASCII has bounded.
    ("core/times.py", "int(found[1])"),
    ("core/times.py", "int(part or 0)"),
    ("git/log_reader.py", "unhexlify(tree)"),
    # A table of the program's own.
    ("core/characters.py", "int(a, 16)"),
    ("core/characters.py", "int(b or a, 16)"),
    ("git/transport.py", "int(found[2])"),
    ("git/transport.py", "int(found[3])"),
    ("git/objects.py", "int(mode, 8)"),
    ("git/kept.py", "int(name)"),
    ("view/keys.py", "bytes.fromhex(prefix.ljust(digits, '0'))"),
    ("view/keys.py", "bytes.fromhex(prefix.ljust(digits, 'f'))"),
    # The id of an object that was read under it.
    ("view/long_rows.py", "bytes.fromhex(blob)"),
    # Only asked, not converted.
    ("services/issues.py", "base[3:].isdigit()"),
    # No text: a float, a number, a status, a time within the bounds of events.
    ("cli/lock.py", "int(str(row['expires_unix_ms']))"),
    ("cli/main.py", "int(exit_.code or 0)"),
    ("cli/progress.py", "float('inf')"),
    ("cli/terminal.py", "time.localtime(ts_unix_ms // 1000)"),
    ("cli/terminal.py", "time.strftime(shape, time.localtime(ts_unix_ms // 1000))"),
    ("core/pacing.py", "int(most * (1 + noise) / 2)"),
    ("daemon/server.py", "time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())"),
    ("daemon/server.py", "time.gmtime()"),
    ("daemon/troubles.py", "time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())"),
    ("daemon/troubles.py", "time.gmtime()"),
    ("daemon/worker.py", "int(FLUSH_MS_MAX * _FLUSH_SHARE)"),
    ("git/kept.py", "int(time.time())"),
    # Caught where it stands: what is no base64 is no attachment.
    ("services/import_json.py", "b64decode(fields['content'], validate=True)"),
}
"""Every other call, each with its reason."""
CONVERTERS = {"int", "float", "complex", "unhexlify", "b64decode"}
METHODS = {
    "fromhex", "unhexlify", "a2b_hex", "isdigit", "isdecimal", "isnumeric", "literal_eval",
    "fromisoformat", "fromtimestamp", "strptime", "localtime", "gmtime", "strftime", "b64decode",
    "raw_decode", "JSONDecoder",
}  # fmt: skip
LOADERS = {"json", "tomllib", "cbor2", "pickle", "marshal", "ast", "yaml", "plistlib"}


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    """Yield what turns text into something else: converters, also given to `map`, and loaders."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        handed = {one.id for one in node.args if isinstance(one, ast.Name)}
        handed |= {one.value.id for one in node.keywords if isinstance(one.value, ast.Name)}
        named = isinstance(node.func, ast.Name)
        if named and node.func.id in {"cast", "isinstance"}:
            continue
        if (named and node.func.id in CONVERTERS) or handed & CONVERTERS:
            yield node
        elif isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            loads = node.func.attr in {"load", "loads"} and owner in LOADERS
            if loads or node.func.attr in METHODS:
                yield node


def test_outside_values_go_through_one_way_in() -> None:
    """Every conversion in the code is in a way in, or in the table with its reason."""
    met = set()
    for path in sorted(SOURCES.rglob("*.py")):
        name = str(path.relative_to(SOURCES))
        for call in _calls(ast.parse(path.read_text())):
            if ast.unparse(call.func) in WAYS_IN.get(name, ()):
                continue
            met.add((name, ast.unparse(call)))
    assert met == OTHERS


def test_dates_are_reckoned_without_the_module_that_knows_no_year_10000() -> None:
    """Nothing imports datetime or calendar: `core/times` has no bounds to overflow."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"datetime", "calendar", "dateutil"} & set(names), path


DIGITS = b"9" * 5_000
CONTENTS = {
    "nothing": b"",
    "NULs": bytes(64),
    "no UTF-8": b"\xff\xfe\xed\xa0\x80\n",
    "digits without end": DIGITS,
    "digits of other scripts": "² ١ ９\n".encode(),
    "deep lists": b"[" * 900,
    "a deep value": b"a = " + b"[" * 200 + b"]" * 200 + b"\n",
    "a number of 5,000 digits": b"verify = " + DIGITS + b"\n",
    "a number of 40,000 bits": b"created_ts = 0x" + b"f" * 10_000 + b"\n",
    "a key of 10,000 parts": b".".join([b"a"] * 10_000) + b" = 1\n",
    "one long line": b"a b c\n" + b"x" * 60_000,
    "three words": b"x 5" + DIGITS + b" origin\nx \xc2\xb2 origin\n x  1  origin \n",
    "a mark": b"grit 1 2 3 4 5 00000000",
}
SETTINGS = [
    f"{key} = {value}\n"
    for key in ("default_actor", "verify", "trusted", "lock_policy", "sync", "daemon", "revoked")
    for value in (
        "'xyz'", "''", "7", "true", "nan", "inf", "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00",
        "[]", "[[1]]", "['x', 7]", "{}", "{remote = 7}", "{remote = ''}", "{a = {b = [{}]}}",
        "'²'", "'\\u0000'", '"\\u0000\\u001b[31m"', f"'{'0' * 31} '", "-1", "1e400",
    )
]  # fmt: skip
GIT_SETTINGS = {
    "gc.auto": ("²", "10k", "0x10", "-1", "", "9" * 5_000, "1.5", "true"),
    "core.sharedRepository": ("0²", "0668", "0" + "7" * 5_000, "²", "-0660"),
    "remote.origin.fetch": ("x", "+", ":", "+refs/*:refs/*"),
    "user.name": ("\x1b[31m", " ", "<>", "\u202e"),
    "fetch.prune": ("²",),
}
READS = (("ls",), ("show", "ID"), ("log",), ("doctor",), ("config", "list", "--json"))
WRITES = (("comment", "ID", "-b", "x"), ("sync",))


class Clone:
    """A clone with a remote and one issue, in which commands run within this process."""

    def __init__(self, top: Path) -> None:
        git(top, "init", "-q", "--bare", "origin.git")
        self.folder = fresh_repository(top / "clone")
        git(self.folder, "remote", "add", "origin", "../origin.git")
        self.issue = json.loads(run(self.folder, "new", "One", "--json").out)["data"]["issue_id"]
        assert run(self.folder, "sync").status == 0

    def check(self, what: str, commands: Iterable[tuple[str, ...]]) -> None:
        """Run commands; each ends as it should, with a word about what is wrong."""
        for words in commands:
            status, said = self.run(*words)
            assert status in (0, 1, 2, 3, 4, 5), (what, words, status)
            assert "bug in grit" not in said, (what, words, said)
            assert "Traceback" not in said, (what, words, said)
            assert status == 0 or len(said) < 5_000, (what, words)
            assert said or status == 0, (what, words)

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command in this process; return its exit status and what it printed."""
        args = [self.issue if word == "ID" else word for word in words]
        said = io.BytesIO()
        with io.TextIOWrapper(said, "utf-8", write_through=True) as stream:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                status = cli(["-C", str(self.folder), *args])
            return status, said.getvalue().decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """One clone for all: each test puts back what it changes."""
    return Clone(tmp_path_factory.mktemp("outside"))


@pytest.fixture
def clone(shared: Clone) -> Iterator[Clone]:
    """The same, whose settings are put back."""
    paths = [shared.folder / ".git" / name for name in ("config", "grit/config.toml")]
    before = [path.read_bytes() for path in paths]
    yield shared
    for path, data in zip(paths, before, strict=True):
        path.write_bytes(data)


def _files(clone: Clone) -> list[Path]:
    """Return a file for each name of the table that grit reads something of."""
    actor = next((clone.folder / ".git/grit/actors").iterdir()).name
    found = []
    for heading, names in NAMES.items():
        if heading in ("refs", "objects", "worktree"):
            continue
        folder = clone.folder / ".git" / heading.replace("*", actor)
        found += [
            folder / name.replace("*", "1-aa")
            for name, named in names.items()
            if named.kind == "file" and named.bytes_max
        ]
    return found


@pytest.mark.parametrize("what", CONTENTS)
def test_no_content_of_a_private_file_is_an_internal_error(what: str, clone: Clone) -> None:
    """Whatever stands in a file of grit's, every command says what is wrong, or does without."""
    for path in _files(clone):
        before = path.read_bytes() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[what])
        clone.check(f"{what} in {path.name}", (READS[0], READS[1], WRITES[0]))
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)


@pytest.mark.parametrize("line", SETTINGS)
def test_no_setting_is_an_internal_error(line: str, clone: Clone) -> None:
    """A setting of a wrong type or without meaning is named, or does not count."""
    path = clone.folder / ".git/grit/config.toml"
    before = path.read_text().splitlines(keepends=True)
    key = line.partition(" ")[0]
    path.write_text(line + "".join(one for one in before if not one.startswith(key)))
    clone.check(line, (READS[0], *READS[3:], *WRITES[:2]))
    path.write_bytes(b"".join([line.encode(), b"deep = ", b"[" * 90, b"]" * 90, b"\n"]))
    clone.check(f"{line} alone", READS[:1])


def test_no_setting_of_git_is_an_internal_error(clone: Clone) -> None:
    """A number, a mode or a refspec that git itself would refuse stops no command of grit's own."""
    path = clone.folder / ".git/config"
    before = path.read_bytes()
    for key, values in GIT_SETTINGS.items():
        for value in values:
            section, _, name = key.rpartition(".")
            section, _, middle = section.partition(".")
            header = f'[{section} "{middle}"]' if middle else f"[{section}]"
            path.write_bytes(before + f'\n{header}\n\t{name} = "{value}"\n'.encode())
            clone.check(f"{key} = {value[:9]}", (*READS[:4], WRITES[0]))


VALUES = ("9" * 5_000, "²", "١", "\udcff", "\ud800", "-", "--", "", " ", "x" * 100_000, "\x1b[31m")
PLACES = (
    ("log", "--since"), ("log", "--actor"), ("log", "-n"), ("ls", "--limit"), ("ls",), ("show",),
    ("close",), ("export", "--since"), ("ls", "--sort"), ("issue", "comment-edit", "ID"),
    ("issue", "dep", "remove", "ID", "--type", "blocks", "--target"), ("snapshot", "show"),
    ("issue", "update", "ID", "--parent"), ("issue", "update", "ID", "--priority"),
    ("config", "set", "snapshot.days"), ("config", "set", "daemon.idle_s"), ("config", "get"),
    ("config", "set", "sync.remote"), ("config", "set", "default_actor"), ("actor", "use"),
    ("actor", "trust"), ("actor", "show"), ("sync", "--remote"), ("search",), ("-C",),
    ("lock", "acquire", "x", "--ttl"), ("lock", "acquire"), ("lock", "status"), ("import", "json"),
    ("import", "beads"), ("batch",), ("completion",), ("issue", "attachment", "get", "ID"),
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_no_argument_is_an_internal_error(place: tuple[str, ...], clone: Clone) -> None:
    """A number of 5,000 digits, a lone surrogate and so on, wherever a value is typed."""
    for value in VALUES:
        clone.check(repr(value[:20]), [(*place, value)])


def test_no_field_of_another_tool_is_an_internal_error(clone: Clone) -> None:
    """A `parent`, a priority, a due date and an estimate may hold anything that an event can."""
    texts = ("z" * 32, "Z" * 32, "0" * 31 + " ", "²" * 32, "9" * 4_000, "\u202e" * 32, "0" * 32)
    keys = ("parent", "priority", "due", "estimate", "source", "type")
    drafts = [
        (ISSUE, kinds.ISSUE_CREATED, ("T", "", ())),
        *((ISSUE, kinds.FIELD_SET, (key, text)) for text in texts for key in keys),
    ]
    for at, draft in enumerate(drafts):
        event = codec.seal(Draft(*draft), ACTOR, NOW_MS + at, None)
        push_chunks(clone.folder, [codec.encode_chunk([event])])
        if at % len(keys) == 0:
            shows = (("show", ISSUE.hex()), ("issue", "history", ISSUE.hex()), ("ready",))
            exports = [("export", "--format", one) for one in ("md", "html", "csv", "json")]
            clone.folder.joinpath("out").mkdir(exist_ok=True)
            exports = [(*one, "-o", f"{clone.folder}/out/{one[-1]}") for one in exports]
            clone.check(f"field {at}", (*READS[:1], *shows, *exports))


def test_a_clock_a_thousand_years_ahead_is_named(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python reads no clock beyond 2262: every command says so, in whatever module it is read."""

    def beyond() -> int:
        raise OverflowError("timestamp too large to convert to C _PyTime_t")

    for name in ("time_ns", "time", "monotonic"):
        with monkeypatch.context() as patch:
            patch.setattr(time, name, beyond)
            patch.setattr(time, "time_ns", beyond)
            for words in (("ls",), ("comment", clone.issue, "-b", "x"), ("sync",)):
                status, said = clone.run(*words)
                assert status == 0 or "beyond the year 2262" in said, (name, words, said)
