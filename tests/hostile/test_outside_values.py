"""Numbers, hex, dates, JSON and TOML from outside: one safe way in each, and no internal error."""

import ast
from collections.abc import Iterator
from pathlib import Path

import grit

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
    ("git/transport.py", "int(found[2])"),
    ("git/transport.py", "int(found[3])"),
    ("git/objects.py", "int(mode, 8)"),
    ("git/kept.py", "int(name)"),
    ("view/keys.py", "bytes.fromhex(prefix.ljust(digits, '0'))"),
    ("view/keys.py", "bytes.fromhex(prefix.ljust(digits, 'f'))"),
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
