"""Random trees as anybody may push them, and a model of what a log of them holds.

The model is written from spec/wal.md ("What a log holds") alone, and shares nothing with grit.
"""

import random
import zlib
from hashlib import sha1, sha256
from pathlib import Path
from typing import NamedTuple

NAMES = (
    b"x.bin", b"y.bin", b".bin", b"a\nb.bin", b"\nc.bin", b"d.bin\n", b"e.BIN", b"f.bin.gz",
    b"\xff\xfe.bin", b"g \xe2\x80\xa8.bin", b"h\t.bin", b"-i.bin", b"attachments.bin", b"README",
    b"attachments", b"events", b"meta.json", b"events\n", b"0" * 64 + b".bin", b"j\x1b[31m.bin",
    b"attachments\nx.bin", b'"q".bin', b"k.bin ", b"l.bin\\", b"~" * 40 + b".bin",
)  # fmt: skip
FILE_MODES = (b"100644", b"100755", b"0100644", b"100600", b"000100664")
FOLDER_MODES = (b"40000", b"040000", b"0040000")
OTHER_MODES = (b"120000", b"160000")
DEPTH_MAX = 8


class Entry(NamedTuple):
    """One entry: its mode and name, and the blob's bytes, the entries below, or a foreign id."""

    mode: bytes
    name: bytes
    content: "bytes | list[Entry] | None"


class Store:
    """Writes loose objects with a few lines of its own."""

    def __init__(self, folder: Path, *, wide: bool = False) -> None:
        self.objects = folder / ".git" / "objects"
        self._hash = sha256 if wide else sha1

    def write(self, kind: str, content: bytes) -> str:
        framed = b"%b %d\0%b" % (kind.encode(), len(content), content)
        oid = self._hash(framed).hexdigest()
        path = self.objects / oid[:2] / oid[2:]
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(zlib.compress(framed))
        return oid

    def tree(self, entries: list[Entry]) -> str:
        """Write a tree with all that is below it."""
        lines = []
        for mode, name, content in entries:
            if content is None:
                oid = self._hash(name).hexdigest()
            elif isinstance(content, bytes):
                oid = self.write("blob", content)
            else:
                oid = self.tree(content)
            lines.append(mode + b" " + name + b"\0" + bytes.fromhex(oid))
        return self.write("tree", b"".join(lines))

    def commit(self, tree: str, parents: list[str], time_s: int) -> str:
        """Write a commit."""
        words = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        words += [f"{who} A <a@b> {time_s} +0000" for who in ("author", "committer")]
        return self.write("commit", "\n".join([*words, "", "x", ""]).encode())


def chunks_of(entries: list[Entry], depth: int = 0) -> set[bytes]:
    """Return the contents of the chunk files that a tree names."""
    found: set[bytes] = set()
    for mode, name, content in entries:
        kind = int(mode, 8) & 0o170000
        if kind == 0o100000 and name.endswith(b".bin") and isinstance(content, bytes):
            found.add(content)
        folder = kind == 0o040000 and (depth > 0 or name != b"attachments")
        if folder and isinstance(content, list) and depth < DEPTH_MAX:
            found |= chunks_of(content, depth + 1)
    return found


class Shapes:
    """Draws trees; blobs and folders come again under other names, as hostile ones would."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._blobs = [b"", b"GRITCHNK not really"]
        self._folders: list[list[Entry]] = [[]]

    def tree(self, depth: int = 0) -> list[Entry]:
        """Return a random tree; deeper ones are as likely as the bound needs to be met."""
        draw = self.random
        if self._folders and draw.random() < 0.15:
            return draw.choice(self._folders)
        entries = [self._entry(depth) for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 6)))]
        if draw.random() < 0.1:  # the bound on depth, on either side
            for _ in range(draw.randrange(6, 11) - depth):
                entries = [Entry(draw.choice(FOLDER_MODES), draw.choice(NAMES), entries)]
        self._folders.append(entries)
        return entries

    def _entry(self, depth: int) -> Entry:
        draw, name = self.random, self.random.choice(NAMES)
        lot = draw.random()
        if lot < 0.1:
            # Of a submodule nothing is here; a link is a blob.
            mode = draw.choice(OTHER_MODES)
            return Entry(mode, name, None if mode == b"160000" else self._blob())
        if lot < 0.4 and depth < 4:
            return Entry(draw.choice(FOLDER_MODES), name, self.tree(depth + 1))
        return Entry(draw.choice(FILE_MODES), name, self._blob())

    def _blob(self) -> bytes:
        draw = self.random
        if draw.random() < 0.7:
            self._blobs.append(b"GRITCHNK" + draw.randbytes(draw.randrange(60)))
        return draw.choice(self._blobs[-12:])


class History(NamedTuple):
    """Commits from the first to the head, and what each adds to the log."""

    commits: list[str]
    parents: dict[str, list[str]]
    chunks: dict[str, set[bytes]]

    def held(self, head: str, old: str | None = None) -> set[bytes]:
        """Return the chunk files of the commits reachable from `head` and not from `old`."""
        reached = self._reached(head) - (self._reached(old) if old else set())
        return set().union(*(self.chunks[commit] for commit in reached))

    def _reached(self, head: str) -> set[str]:
        reached: set[str] = set()
        waiting = [head]
        while waiting:
            commit = waiting.pop()
            if commit not in reached:
                reached.add(commit)
                waiting += self.parents[commit]
        return reached


def history(store: Store, seed: int, count: int, *, line: bool = False) -> History:
    """Write commits with random trees and times, in a line or with forks and merges."""
    shapes = Shapes(seed)
    draw = shapes.random
    made = History([], {}, {})
    tips: list[str] = []
    for number in range(count):
        parents = tips[-1:]
        if not line and tips and draw.random() < 0.3:
            parents = [draw.choice(made.commits)]  # a fork
        if number == count - 1:
            parents = list(dict.fromkeys(tips))  # the head holds all
        elif not line and len(tips) > 1 and draw.random() < 0.3:
            parents = tips[-2:]
        entries = shapes.tree()
        commit = store.commit(store.tree(entries), parents, draw.randrange(1, 2_000_000_000))
        if commit in made.parents:
            continue
        made.commits.append(commit)
        made.parents[commit] = parents
        made.chunks[commit] = chunks_of(entries)
        tips = [tip for tip in tips if tip not in parents] + [commit]
    return made
