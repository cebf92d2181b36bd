"""The commands export, import and batch, as real processes (spec/exchange.md)."""

import json
import subprocess
import sys
from pathlib import Path

GRIT = [sys.executable, "-c", "from grit.cli.main import main; main()"]
LINE = '{"id": "bd-1", "title": "T", "created_at": "2025-01-01T00:00:00Z"}\n'


def grit(folder: Path, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GRIT, *args], cwd=folder, input=stdin, capture_output=True, text=True, timeout=60
    )


def test_exit_status_says_whether_lines_were_set_aside(git_repository: Path) -> None:
    """0 when all of the source is kept, 1 when something was left out; the rest is stored."""
    assert grit(git_repository, "import", "beads", "-", stdin=LINE).returncode == 0
    more = LINE.replace("bd-1", "bd-2") + "nonsense\n"
    found = grit(git_repository, "import", "beads", "-", "--json", stdin=more)
    data = json.loads(found.stdout)["data"]
    assert (found.returncode, data["issues"], data["findings"][0]["line"]) == (1, 1, 2)
    assert grit(git_repository, "import", "beads", "nowhere").returncode == 5


def test_export_goes_through_a_pipe_into_import(git_repository: Path, tmp_path: Path) -> None:
    """The text of export, wrapped by --json or not, is what import takes."""
    grit(git_repository, "import", "beads", "-", stdin=LINE)
    for number, options in enumerate([(), ("--json",)]):
        other = tmp_path / str(number)
        subprocess.run(["git", "init", "-q", str(other)], check=True, timeout=30)
        text = grit(git_repository, "export", *options).stdout
        assert grit(other, "import", "json", "-", stdin=text).returncode == 0
        assert "T" in grit(other, "ls").stdout


def test_batch_results_and_errors(git_repository: Path) -> None:
    """A result a line; an error keeps the exit status of its command."""
    lines = '{"op":"create","title":"A","as":"a"}\n{"op":"close","issue":"$a"}\n'
    found = grit(git_repository, "batch", "--json", stdin=lines)
    results = json.loads(found.stdout)["data"]["results"]
    assert [one["op"] for one in results] == ["create", "close"]
    bad = grit(git_repository, "batch", stdin='{"op":"close","issue":"ffff"}\n')
    assert bad.returncode == 3 and "line 1:" in bad.stderr
