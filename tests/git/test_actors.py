"""Actors, keys and settings on disk: nothing is lost, nothing is reset, nothing is guessed."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grit.core.errors import Conflict, IoFailed, NotFound
from grit.git import actors
from grit.git.actors import (
    ActorFile,
    ConfigDamaged,
    create_actor,
    is_config_ours,
    list_actors,
    load_actor,
    load_config,
    read_signing_key,
    save_config,
    set_config,
)
from grit.git.repository import discover

ID = bytes(range(16))
SEED = bytes(range(32))
KEY = bytes(range(32, 64))


@pytest.fixture
def repository(git_repository):
    return discover(str(git_repository), {})


@pytest.fixture
def key_path(git_repository):
    return git_repository / ".git" / "grit" / "actors" / ID.hex() / "keys" / "signing.key"


def test_nothing_there_and_nothing_created(repository, git_repository):
    """Reading settings and actors of a fresh repository creates no file."""
    assert load_config(repository) == {}
    assert list_actors(repository) == []
    with pytest.raises(NotFound):
        load_actor(repository, ID)
    assert not (git_repository / ".git" / "grit").exists()


def test_actor_round_trip(repository, key_path):
    """An actor is read as it was created; the key file is for its owner alone."""
    made = create_actor(repository, ID, 'a "label"\n\x1b ü', 1234, KEY, SEED)
    assert load_actor(repository, ID) == made == ActorFile(ID, 'a "label"\n\x1b ü', 1234, KEY)
    assert read_signing_key(repository, ID) == SEED
    assert stat.S_IMODE(os.stat(key_path).st_mode) == 0o600
    other = create_actor(repository, bytes(16), "keyless", 1, None, None)
    assert list_actors(repository) == [other, made]
    with pytest.raises(Conflict):
        create_actor(repository, ID, "again", 1, None, None)


def test_regression_13_key_files(repository, key_path):
    """A final newline is optional; a missing or malformed key is an error that names the file."""
    create_actor(repository, ID, "a", 1, KEY, SEED)
    for text in (SEED.hex(), SEED.hex() + "\n", SEED.hex().upper() + "\r\n"):
        key_path.write_text(text)
        assert read_signing_key(repository, ID) == SEED
    for text in ("", "zz" * 32, SEED.hex()[:-1], SEED.hex() + "00"):
        key_path.write_text(text)
        with pytest.raises(ConfigDamaged, match=r"signing\.key"):
            read_signing_key(repository, ID)
    key_path.unlink()
    with pytest.raises(ConfigDamaged, match="missing"):
        read_signing_key(repository, ID)


def test_damaged_files_are_named_and_kept(repository, git_repository):
    """A file that is not TOML is an error with its name; setting a key does not reset it."""
    path = git_repository / ".git" / "grit" / "config.toml"
    path.parent.mkdir()
    for content in (b"a = ", b"\xff", b"[" * 2000, b"a = 1\na = 2\n"):
        path.write_bytes(content)
        with pytest.raises(ConfigDamaged, match=r"config\.toml"):
            load_config(repository)
        with pytest.raises(ConfigDamaged):
            set_config(repository, "verify", "warn")
        assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    with pytest.raises(IoFailed):
        load_config(repository)


@pytest.mark.parametrize(
    "line", ['actor_id = "00"', f'actor_id = "{ID.hex()}"\npublic_key = "zz"', "created_ts = 1"]
)
def test_damaged_actor_files_are_named(repository, git_repository, line):
    """An actor whose file does not fit its folder or its types is not believed."""
    folder = git_repository / ".git" / "grit" / "actors" / ID.hex()
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(line + "\n")
    with pytest.raises(ConfigDamaged, match=r"config\.toml"):
        load_actor(repository, ID)


def test_unknown_keys_survive(repository, git_repository):
    """Keys, tables and types of a later version are still there after a key was set."""
    path = git_repository / ".git" / "grit" / "config.toml"
    path.parent.mkdir()
    path.write_text(
        'new = [1, "x"]\ndate = 2020-01-01T00:00:00Z\n[snapshot]\nevery = 5\n[z]\nq={a=1.5}\n'
    )
    before = load_config(repository)
    set_config(repository, "verify", "require")
    set_config(repository, "snapshot.keep", 3)
    set_config(repository, "snapshot.every", None)
    after = load_config(repository)
    assert after == {**before, "verify": "require", "snapshot": {"keep": 3}}
    with pytest.raises(Conflict):
        set_config(repository, "snapshot", 1)
    with pytest.raises(Conflict):
        set_config(repository, "verify.x", 1)


SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
TABLES = st.dictionaries(KEYS, VALUES, max_size=3)


@given(
    st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=3)), max_size=5)
)
def test_settings_round_trip(settings):
    """Whatever settings hold, TOML gives it back."""
    import tomllib

    assert tomllib.loads(actors.dump_toml(settings)) == settings


def test_concurrent_settings(repository):
    """Commands that set different keys at once all succeed."""
    threads = [threading.Thread(target=set_config, args=(repository, f"k{n}", n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert load_config(repository) == {f"k{n}": n for n in range(8)}


def test_a_failed_write_keeps_the_old_file(repository, git_repository, monkeypatch):
    """When the disk refuses, the settings are what they were and no temporary file stays."""
    save_config(repository, {"a": 1})

    def failing(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(IoFailed, match="No space"):
        save_config(repository, {"a": 2})
    monkeypatch.undo()
    assert load_config(repository) == {"a": 1}
    files = sorted(os.listdir(git_repository / ".git" / "grit"))
    assert files == ["config.toml", "config.toml.mark"]


def test_settings_that_cannot_be_marked_are_stored(git_repository: Path) -> None:
    """The mark comes second: when it cannot be written, the settings are there all the same."""
    repository = discover(str(git_repository), {})
    set_config(repository, "a", 1)
    os.unlink(f"{repository.grit_dir}/config.toml.mark")
    os.mkdir(f"{repository.grit_dir}/config.toml.mark")
    set_config(repository, "a", 2)
    assert load_config(repository) == {"a": 2}
    assert not is_config_ours(repository)
