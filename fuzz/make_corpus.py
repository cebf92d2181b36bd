"""Makes fuzz/corpus from spec/vectors and a few hostile texts; run after the vectors change.

python fuzz/make_corpus.py
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fuzz.raw_corpus import RAW

FOLDER = Path(__file__).resolve().parent
VECTORS = FOLDER.parent / "spec" / "vectors"
HEADER_BYTES = 18
INPUT_BYTES_MAX = 2_000

FILTERS = (
    "", "crash", '"exact phrase" crash', "label:bug -label:wip assignee:ann updated:>7d crash",
    'label:"needs triage"', "label:a,b", "-crash", "author:@me", "created:<2025-01-31",
    "created:2025-01-01..2025-02-01", "priority:<2", "priority:0..2", "is:ready -is:blocked",
    "no:assignee", "type:bug milestone:v1", "parent:4f2a", "id:4f2a91c", "field.team:core",
    "sort:created", "sort:-priority", "state:all", "is:deleted", "due:<3mo", "estimate:>=3",
    "updated:>1y", "label:", "nolabel:x", '"open', "a:b:c", "created:>9999999d", "updated:>",
    "created:0000-00-00", "label:,,", "-", "--", "-label:-x", '""', "id:zzzz", "field.:x", ":",
    "created:2025-01-31T12:30", "priority:\u0661", "label:\U0001f980", "\x00", "a\nb", "..",
    "x" * 300,
)  # fmt: skip
TEXTS = (
    "plain", "tab\there\nnew line", "\x1b]52;c;aGk=\x07", "\x9b31m", "\u202eabc\u202c", "a\rb",
    "e" + "\u0301" * 200, "\u2066x\u2069", "\u2028\u2029", "\u200b\u200d\ufeff",
    "\U0001f468\u200d\U0001f469",
    "\x7f\x80\x9f", "\\x1b", "\U000e0001\U000e0041", "\u061c\u200e\u200f",
)  # fmt: skip


BEADS: tuple[dict[str, object], ...] = (
    {"id": "a-1", "title": "One", "status": "open", "priority": 1, "issue_type": "bug"},
    {"id": "a-2", "title": "Two", "status": "closed", "closed_at": "2025-11-03T20:56:22-08:00"},
    {"id": "a-3", "title": "", "priority": "high", "labels": ["x", 1, None, "x"]},
    {"id": 7, "title": None, "dependencies": {}, "comments": "no"},
    {"id": "a-4", "title": "T" * 5_000, "created_at": "9999-99-99T00:00:00Z"},
    {"id": "a-5", "title": "Five", "created_at": "2025-11-02T21:58:07.295058-08:00",
     "dependencies": [{"issue_id": "a-5", "depends_on_id": "a-1", "type": "blocks"},
                      {"depends_on_id": "a-5", "type": "parent-child"}, 3, {}]},
    {"id": "a-6", "title": "Six", "assignee": "ann", "created_by": "bob", "notes": "n",
     "comments": [{"id": 1, "author": "ann", "text": "Hi", "created_at": "2025-11-02T21:58:07Z"},
                  {"author": 3, "text": None}, "x"]},
    {"id": "\ud800", "title": "\x1b]0;x\x07", "status": "tombstone", "deleted_at": "2025-01-01"},
)  # fmt: skip
EXPORTS = (
    '{}', '[]', '', '{"meta": {}, "issues": [], "events": []}', '{"meta": 1, "events": {}}',
    '{"meta": {"schema_version": 99}, "issues": [], "events": [{}]}',
    '{"meta": {"schema_version": 1},\n"issues": [\n],\n"events": [\n{"event_id": "00"}\n]}',
    '{"meta": {"schema_version": 1},\n"events": [\n1,\nnull,\n"x"\n]}', '{"meta": ' * 50,
    '{"meta": {"schema_version": 1},\n"attachments": [\n{"sha256": "00", "content": "!"}\n]}',
    '\ufeff{}', '{"meta": {}', 'null',
)  # fmt: skip


def save(target: str, number: int, data: bytes) -> None:
    """Write one input."""
    folder = FOLDER / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:03}").write_bytes(data)


def main() -> None:
    """Write the corpus of every target."""
    rows = json.loads((VECTORS / "chunks.json").read_text())
    hostile = json.loads((VECTORS / "hostile.json").read_text())
    chunks = [bytes.fromhex(row["bytes"]) for row in rows + hostile[::3] if "bytes" in row]
    chunks = [data for data in chunks if len(data) <= INPUT_BYTES_MAX]
    for number, data in enumerate(chunks):
        save("chunk", number, data)
    records = [row["record"] for row in json.loads((VECTORS / "events.json").read_text())]
    payloads = [data[HEADER_BYTES + 1 :].hex() for data in chunks[::4]]
    for number, text in enumerate(records + payloads):
        save("event", number, bytes.fromhex(text))
    for number, text in enumerate(FILTERS):
        save("filter", number, text.encode())
    lines = [json.dumps(row) for row in BEADS]
    broken = ["", "{", "[]", "null", '{"id": "a"}', "[" * 2_000]
    for number, text in enumerate((*lines, *broken, "\n".join(lines))):
        save("beads", number, text.encode())
    for number, text in enumerate(EXPORTS):
        save("export", number, text.encode())
    for name, inputs in RAW.items():
        for number, data in enumerate(inputs):
            save(name, number, data)
    for number, text in enumerate(TEXTS):
        save("terminal", number, text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
