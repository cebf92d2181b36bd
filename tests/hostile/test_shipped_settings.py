"""Settings that come with a folder do not make anything run (spec/threat-model.md)."""

import subprocess
from pathlib import Path

import pytest

from grit.git.actors import is_config_ours, set_config
from grit.git.repository import Repository, discover
from grit.services.background import load_background


@pytest.fixture
def repository(git_repository: Path) -> Repository:
    """A repository in which `sync.auto` was set."""
    found = discover(str(git_repository), {})
    set_config(found, "sync.auto", "both")
    return found


def test_what_grit_wrote_counts(repository: Repository) -> None:
    """Set here: in force, also after other settings were changed."""
    set_config(repository, "daemon.debounce_ms", 100)
    assert load_background(repository).auto == "both"


@pytest.mark.parametrize("how", ["cp -a", "tar"])
def test_a_shipped_repository_does_not_sync(
    repository: Repository, git_repository: Path, tmp_path: Path, how: str
) -> None:
    """A copy or an archive of the whole folder, mark and all: off, and it says so."""
    target = tmp_path / "shipped"
    target.mkdir()
    if how == "tar":
        command = f"tar -C {git_repository} -cf - . | tar -C {target} -xpf -"
    else:
        command = f"cp -a {git_repository}/. {target}"
    subprocess.run(["sh", "-c", command], check=True, timeout=60)
    found = load_background(discover(str(target), {}))
    assert found.auto == "off"
    assert "grit config set sync.auto both" in found.problems[0]


def test_an_edited_file_waits_for_a_confirmation(repository: Repository) -> None:
    """What a hand wrote counts once grit has written it, too."""
    with open(f"{repository.grit_dir}/config.toml", "a", encoding="utf-8") as file:
        file.write("\n")
    assert not is_config_ours(repository)
    assert load_background(repository).auto == "off"
    set_config(repository, "sync.auto", "both")
    assert load_background(repository).auto == "both"


def test_another_setting_confirms_nothing(repository: Repository, tmp_path: Path) -> None:
    """Whoever sets something else, or writes for the first time, has not asked for a sync."""
    with open(f"{repository.grit_dir}/config.toml", "a", encoding="utf-8") as file:
        file.write("\n")
    set_config(repository, "default_actor", "00" * 16)
    set_config(repository, "daemon.debounce_ms", 100)
    found = load_background(repository)
    assert (found.auto, found.debounce_ms) == ("off", 100)
    set_config(repository, "sync.auto", "pull")
    set_config(repository, "daemon.debounce_ms", 200)
    assert load_background(repository).auto == "pull"


def test_other_settings_count_wherever_they_come_from(repository: Repository) -> None:
    """They make nothing run."""
    with open(f"{repository.grit_dir}/config.toml", "a", encoding="utf-8") as file:
        file.write("[daemon]\ndebounce_ms = 100\n")
    assert load_background(repository).debounce_ms == 100
