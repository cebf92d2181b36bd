"""The ref of the log: strict reading, compare-and-swap, locks that killed processes leave."""

import errno
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from grit.core.errors import Busy, IoFailed, WalDamaged
from grit.files import private
from grit.files.private import Folder
from grit.git import reflock, refs
from grit.git.filelock import FileLock
from grit.git.refs import read_ref, swap_ref
from grit.git.repository import Repository, discover, git_folder

REF = "refs/grit/wal"
LOCK = "wal.lock-file"


@pytest.fixture
def repository(git_repository):
    return discover(str(git_repository), {})


@pytest.fixture
def heads(git_repository, git):
    """Two commits to point at."""
    tree = git(git_repository, "mktree")
    return [git(git_repository, "commit-tree", tree, "-m", str(n)) for n in range(2)]


def test_create_move_and_lose(repository, git_repository, git, heads):
    """A ref is created once, moves from the value it has, and never from another."""
    assert read_ref(repository, REF) is None
    assert swap_ref(repository, REF, None, heads[0])
    assert not swap_ref(repository, REF, None, heads[1])
    assert not swap_ref(repository, REF, heads[1], heads[1])
    assert swap_ref(repository, REF, heads[0], heads[1])
    assert read_ref(repository, REF) == heads[1] == git(git_repository, "rev-parse", REF)


def test_packed(repository, git_repository, git, heads):
    """A packed ref is read and moved like a loose one, and a prefix of a name is another name."""
    swap_ref(repository, REF, None, heads[0])
    git(git_repository, "update-ref", "refs/grit/wal2", heads[1])
    git(git_repository, "pack-refs", "--all", "--prune")
    assert not (git_repository / ".git" / REF).exists()
    assert read_ref(repository, REF) == heads[0]
    assert read_ref(repository, "refs/grit/wa") is None
    assert not swap_ref(repository, REF, None, heads[1])
    assert swap_ref(repository, REF, heads[0], heads[1])
    assert read_ref(repository, REF) == heads[1]


@pytest.mark.parametrize("number", [5, 13, 24])
def test_fault_1_ref_that_cannot_be_read(repository, git_repository, heads, number, monkeypatch):
    """EIO, EACCES and EMFILE are never taken for absent: an error, and the head unchanged."""
    swap_ref(repository, REF, None, heads[0])
    real = os.open

    def failing(path, flags, *rest, **more):
        if str(path).endswith(REF):
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(refs.os, "open", failing)
    for old in (None, heads[0]):
        with pytest.raises(IoFailed, match="head unchanged"):
            swap_ref(repository, REF, old, heads[1])
    with pytest.raises(IoFailed, match="head unchanged"):
        read_ref(repository, REF)
    monkeypatch.undo()
    assert read_ref(repository, REF) == heads[0]
    assert not (git_repository / ".git" / f"{REF}.lock").exists()


def test_fault_1_packed_refs_that_cannot_be_read(repository, git_repository, heads):
    """A packed-refs that cannot be read, or that was cut, is an error as well."""
    packed = git_repository / ".git" / "packed-refs"
    packed.mkdir()
    with pytest.raises(IoFailed):
        read_ref(repository, REF)
    with pytest.raises(IoFailed):
        swap_ref(repository, REF, None, heads[1])
    packed.rmdir()
    packed.write_text(f"{heads[0]} refs/grit/w")
    with pytest.raises(WalDamaged):
        read_ref(repository, REF)


@pytest.mark.parametrize(
    "content",
    ["", "\n", "garbage\n", "1234\n", "0" * 40 + "\n", "A" * 40, "ref: refs/heads/main\n"],
)
def test_fault_2_ref_damaged_or_symbolic(repository, git_repository, git, heads, content):
    """An empty, short, foreign or symbolic ref is refused by name, and the branch is untouched."""
    git(git_repository, "update-ref", "refs/heads/main", heads[0])
    path = git_repository / ".git" / REF
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for old in (None, heads[0]):
        with pytest.raises(WalDamaged, match=REF) as refused:
            swap_ref(repository, REF, old, heads[1])
        assert ("symbolic ref" in str(refused.value)) is content.startswith("ref:")
    assert path.read_text() == content
    assert git(git_repository, "rev-parse", "refs/heads/main") == heads[0]


def test_fault_2_ref_is_a_symbolic_link(repository, git_repository, heads):
    """A symbolic link in place of the ref is refused, even one that leads nowhere."""
    path = git_repository / ".git" / REF
    path.parent.mkdir(parents=True)
    path.symlink_to("nowhere")
    with pytest.raises(WalDamaged, match="symbolic link"):
        swap_ref(repository, REF, None, heads[1])
    assert path.is_symlink()


def test_refs_below_the_log_are_in_the_way(repository, git_repository, git, heads):
    """With refs below its name, loose or packed, the log's ref cannot be created: an error."""
    git(git_repository, "update-ref", f"{REF}/evil", heads[0])
    for _ in range(2):
        with pytest.raises((WalDamaged, IoFailed)):
            swap_ref(repository, REF, None, heads[1])
        git(git_repository, "pack-refs", "--all", "--prune")
    assert git(git_repository, "for-each-ref", "--format=%(refname)") == f"{REF}/evil"


def test_stale_lock_is_removed_with_a_notice(repository, git_repository, heads):
    """An old `.lock` goes, and the user hears of it; only the holder of grit's lock may do that."""
    swap_ref(repository, REF, None, heads[0])
    lock = git_repository / ".git" / f"{REF}.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    notices = []
    assert swap_ref(repository, REF, heads[0], heads[1], notices=notices)
    assert len(notices) == 1
    assert f"{REF}.lock" in notices[0]
    assert not lock.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")
@pytest.mark.parametrize("step", ["link", "read_ref", "publish", "unlink"])
def test_a_killed_swap_blocks_nobody(repository, git_repository, heads, monkeypatch, step):
    """Wherever a swap is killed, the next one goes on at once and leaves nothing behind."""
    swap_ref(repository, REF, None, heads[0])
    killed = os.fork()
    if killed == 0:
        place = {"read_ref": refs, "publish": reflock.RefLock}.get(step, reflock.os)
        real = getattr(place, step)

        def die(*arguments, **more):
            if step != "read_ref":
                real(*arguments, **more)
            os.kill(os.getpid(), 9)

        monkeypatch.setattr(place, step, die)
        swap_ref(repository, REF, heads[0], heads[1])
        os._exit(1)
    assert os.waitpid(killed, 0)[1] == 9
    moved = step in ("publish", "unlink")
    assert read_ref(repository, REF) == heads[moved]
    left = (git_repository / ".git" / f"{REF}.lock").exists()
    assert left is not moved
    notices = []
    start = time.monotonic()
    assert swap_ref(repository, REF, heads[moved], heads[not moved], notices=notices)
    assert time.monotonic() - start < 0.5
    assert len(notices) == left
    assert not (git_repository / ".git" / f"{REF}.lock").exists()
    own = list((git_repository / ".git" / "grit").glob("swap-*"))
    assert len(own) == (step == "publish"), "only a name that blocks nobody may stay"


def test_a_lock_of_a_live_swap_stays(repository, git_repository, heads):
    """A lock that a living process of grit holds is never removed, however old it is."""
    swap_ref(repository, REF, None, heads[0])
    folder, name = git_folder(repository.common_dir, REF)
    held = reflock.RefLock(folder, name, repository.private, b"x\n", 0, True)
    assert held.take()
    assert not reflock.RefLock(folder, name, repository.private, b"x\n", 0, True).remove_dead()
    held.drop()
    held.close()
    assert os.listdir(repository.grit_dir) == []
    assert read_ref(repository, REF) == heads[0]


def test_names_that_dead_swaps_left_are_cleared_away(repository, git_repository, heads):
    """Whoever meets a dead lock also removes what other dead swaps left, and nothing else."""
    swap_ref(repository, REF, None, heads[0])
    folder = git_repository / ".git" / "grit"
    path = git_repository / ".git" / f"{REF}.lock"
    for name in ("swap-1-aaaa", "swap-2-bbbb"):
        (folder / name).write_text("x")
    (folder / "config.toml").write_text("")
    os.link(folder / "swap-1-aaaa", path)
    assert swap_ref(repository, REF, heads[0], heads[1])
    assert os.listdir(folder) == ["config.toml"]


def test_without_hard_links_the_lock_is_made_as_git_makes_it(repository, heads, monkeypatch):
    """Where files cannot have two names the swap works all the same."""

    def refused(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(reflock.os, "link", refused)
    assert swap_ref(repository, REF, None, heads[0])
    assert not swap_ref(repository, REF, None, heads[1])
    assert swap_ref(repository, REF, heads[0], heads[1])
    assert os.listdir(repository.grit_dir) == []


def test_live_lock_is_waited_for(repository, git_repository, heads, monkeypatch):
    """A fresh `.lock` belongs to somebody: it is waited for, then reported, never removed."""
    swap_ref(repository, REF, None, heads[0])
    lock = git_repository / ".git" / f"{REF}.lock"
    lock.touch()
    threading.Timer(0.1, lock.unlink).start()
    assert swap_ref(repository, REF, heads[0], heads[1], notices=[])
    lock.touch()
    monkeypatch.setattr(refs, "LOCK_WAIT_MS_MAX", 50)
    with pytest.raises(Busy):
        swap_ref(repository, REF, heads[1], heads[0], notices=[])
    assert lock.exists()


def test_file_lock_excludes_and_names_its_holder(tmp_path):
    """A second holder waits no longer than its bound and then names the first one's pid."""
    folder = Folder(str(tmp_path), ("grit",))
    with FileLock(folder, LOCK):
        start = time.monotonic()
        with pytest.raises(Busy, match=str(os.getpid())), FileLock(folder, LOCK, wait_ms_max=60):
            pass
        assert 0.05 < time.monotonic() - start < 2
    with FileLock(folder, LOCK, wait_ms_max=0):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill")
def test_file_lock_dies_with_its_holder(tmp_path):
    """The kernel releases the lock of a killed process."""
    folder = Folder(str(tmp_path), ("grit",))
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        with FileLock(folder, LOCK):
            os.write(tell, b"x")
            time.sleep(60)
    os.read(told, 1)
    with pytest.raises(Busy, match=str(child)), FileLock(folder, LOCK, wait_ms_max=20):
        pass
    os.kill(child, 9)
    os.waitpid(child, 0)
    with FileLock(folder, LOCK, wait_ms_max=1000):
        pass
    os.close(told)
    os.close(tell)


def _start_to_wait(folder: Folder, number: int, tell: int) -> int:
    """Fork a process that waits for a lock, and return its pid once the kernel lists it."""
    child = os.fork()
    if child == 0:
        with FileLock(folder, LOCK):
            os.write(tell, b"%d" % number)
        os._exit(0)
    deadline = time.monotonic() + 10
    while f"-> FLOCK  ADVISORY  WRITE {child} " not in Path("/proc/locks").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return child


@pytest.mark.skipif(sys.platform != "linux", reason="waits in the kernel's line on Linux alone")
def test_file_lock_is_had_in_the_order_of_asking(tmp_path):
    """Who waits longest is next: the kernel keeps the line, and nobody has to look again."""
    folder = Folder(str(tmp_path), ("grit",))
    told, tell = os.pipe()
    with FileLock(folder, LOCK):
        children = [_start_to_wait(folder, number, tell) for number in range(5)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    assert os.read(told, 9) == b"01234"
    os.close(told)
    os.close(tell)


@pytest.mark.skipif(sys.platform != "linux", reason="waits in the kernel's line on Linux alone")
def test_waiting_for_a_file_lock_leaves_the_alarm_clock_as_it_was(tmp_path):
    """The wait ends by an alarm; one that is used, blocked or ignored is not touched."""
    folder = Folder(str(tmp_path), ("grit",))
    rung = []

    def busy() -> None:
        start = time.monotonic()
        with pytest.raises(Busy), FileLock(folder, LOCK, wait_ms_max=60):
            pass
        assert 0.05 < time.monotonic() - start < 2

    with FileLock(folder, LOCK):
        busy()
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        busy()
        assert rung == [1]
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 60)
        busy()
        assert signal.setitimer(signal.ITIMER_REAL, 0)[0] > 50
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        busy()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        thread = threading.Thread(target=lambda: (busy(), rung.append(2)))
        thread.start()
        thread.join(10)
        assert rung == [1, 2]


def test_file_lock_on_a_folder_that_refuses(tmp_path):
    """A lock that cannot be opened is an I/O error, not a busy one."""
    (tmp_path / "grit").touch()
    with pytest.raises(IoFailed), FileLock(Folder(str(tmp_path), ("grit",)), LOCK):
        pass


def packed_file(repository: Repository) -> Path:
    return Path(repository.common_dir) / "packed-refs"


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_packed_refs_are_read_in_parts(repository, heads, size, monkeypatch):
    """Wherever a part ends, in a name or beside a newline, each line is seen whole."""
    monkeypatch.setattr(private, "_PART_BYTES", size)
    names = [f"refs/grit-remotes/r{number}/wal" for number in range(20)]
    lines = [f"{heads[0]} {name}\n" for name in names]
    packed_file(repository).write_text("".join([*lines, f"{heads[1]} {REF}\n"]))
    assert read_ref(repository, REF) == heads[1]
    assert read_ref(repository, names[7]) == heads[0]
    assert read_ref(repository, "refs/grit-remotes/r7/wa") is None
    assert sorted(refs.refs_below(repository, "refs/grit-remotes/").ids) == sorted(names)
    with packed_file(repository).open("a") as file:
        file.write(heads[0][:9])
    with pytest.raises(WalDamaged, match="ends in the middle of a line"):
        read_ref(repository, REF)
    packed_file(repository).write_text(f"{'x' * 20_000}\n{heads[1]} {REF}\n")
    assert read_ref(repository, REF) == heads[1]


def test_packed_refs_above_the_bound_are_refused(repository, heads, monkeypatch):
    """And of records of other places only so many are looked at."""
    packed_file(repository).write_text(
        "".join(f"{heads[0]} refs/grit-remotes/r{number}/wal\n" for number in range(20))
    )
    monkeypatch.setattr(refs, "PACKED_REFS_MAX", 5)
    assert len(refs.refs_below(repository, "refs/grit-remotes/").ids) == 5
    monkeypatch.setattr(refs, "PACKED_REFS_BYTES_MAX", 100)
    with pytest.raises(IoFailed, match="is larger than 100 bytes"):
        read_ref(repository, REF)
