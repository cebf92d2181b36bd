"""The settings of the server: bad values never stop it, and are never stored."""

from pathlib import Path

import pytest

from grit.core.errors import InvalidArgs
from grit.git.actors import _mark
from grit.git.repository import discover
from grit.services.background import Background, checked, load_background


def _load(folder: Path, text: str) -> Background:
    grit_dir = folder / ".git/grit"
    grit_dir.mkdir(exist_ok=True)
    path = grit_dir / "config.toml"
    path.write_text(text)
    repository = discover(str(folder), {})
    with repository.private.open() as private:
        path.with_suffix(".toml.mark").write_bytes(_mark(private))  # as if grit had written it
    return load_background(repository)


def test_without_settings_the_defaults_count(git_repository: Path) -> None:
    """Nothing is synced unasked."""
    found = load_background(discover(str(git_repository), {}))
    assert found == Background()
    assert (found.auto, found.pulls, found.pushes) == ("off", False, False)


def test_good_values_count(git_repository: Path) -> None:
    """Each key has its effect."""
    text = (
        "[daemon]\nautostart = false\nidle_s = 9\ndebounce_ms = 20\n"
        '[sync]\nauto = "both"\ninterval_s = 7\n'
    )
    found = _load(git_repository, text)
    assert found == Background(False, 9, 20, "both", 7)
    assert found.pulls
    assert found.pushes


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("daemon.debounce_ms = 0", "daemon.debounce_ms is a whole number from 10 to 60000"),
        ("daemon.debounce_ms = true", "daemon.debounce_ms is a whole"),
        ('daemon.debounce_ms = "500"', "default, 500, is in force"),
        ("daemon.idle_s = -1", "daemon.idle_s"),
        ("daemon.autostart = 1", "daemon.autostart is true or false"),
        ('sync.auto = "on"', "sync.auto is off, pull, push or both; the default, off, is"),
        ("sync.auto = ['push']", "sync.auto"),
        ("sync.interval_s = 1e3", "sync.interval_s"),
        ("daemon = [", "cannot be read"),
    ],
)
def test_a_wrong_value_is_told_and_the_default_counts(
    text: str, word: str, git_repository: Path
) -> None:
    """What a hand wrote wrongly into the file stops nobody."""
    found = _load(git_repository, text)
    assert found._replace(problems=()) == Background()
    assert len(found.problems) == 1
    assert word in found.problems[0]


def test_one_wrong_value_spoils_no_other(git_repository: Path) -> None:
    """The rest of the settings counts."""
    found = _load(git_repository, '[sync]\nauto = "push"\ninterval_s = "x"\n')
    assert (found.auto, found.interval_s, len(found.problems)) == ("push", 300, 1)


@pytest.mark.parametrize(
    ("key", "text", "stored"),
    [
        ("daemon.autostart", "true", True),
        ("daemon.idle_s", "604800", 604_800),
        ("sync.auto", "pull", "pull"),
        ("daemon.idle_s", "604801", None),
        ("daemon.idle_s", "0" * 20, None),
        ("daemon.idle_s", "٣", None),
        ("daemon.autostart", "True", None),
        ("sync.auto", "", None),
    ],
)
def test_what_config_set_takes(key: str, text: str, stored: object) -> None:
    """A wrong value is refused before it is stored."""
    if stored is None:
        with pytest.raises(InvalidArgs, match=key):
            checked(key, text)
    else:
        assert checked(key, text) == stored
