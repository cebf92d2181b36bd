"""Inputs for the targets of fuzz/files.py and fuzz/outputs.py: what a file or git may say."""

from grit.core.codec import pack
from grit.git.spool import Entry, _encode

OID, HASH = b"a" * 40, b"b" * 64
DIGITS = b"9" * 5_000
NUMBERS = (b"", b"0", DIGITS, b"\xc2\xb2", b"-1", b"0x10", b"10k", b"1e9", b" 1 ", b"08")
TOML = (
    b"default_actor = '%s'\nverify = 'warn'\n[sync]\nremote = 'o'\nauto = 'both'\n" % (b"ab" * 16),
    b"trusted = ['%s']\n[revoked]\n%s = ['%s']\n" % (b"ab" * 16, b"ab" * 16, HASH),
    b"[daemon]\nautostart = false\nidle_s = 300\n[snapshot]\nevents = 0\n",
    b"actor_id = '%s'\nlabel = 'a'\ncreated_ts = 7\npublic_key = '%s'\n" % (b"ab" * 16, HASH),
    b"[newest]\nevent_count = 1\ncreated_ts = 2\n[checked]\n%s = 'made'\n" % OID,
    b"a = 1979-05-27T07:32:00Z\nb = 07:32:00\nc = nan\nd = inf\ne = 1e400\n",
    b"f = 0x" + b"f" * 5_000 + b"\n", b"a = [[[[{b = [1, 'x']}]]]]\n'' = 1\n'a.b' = 2\n",
    b"[a]\n[a]\n", b"[[a]]\nb = 1\n[[a]]\n", b'a = """\n\\u0041"""\n', b"a = " + b"[" * 400,
    b"a.b.c.d = 1\n", b'verify = "\\u0000\\ud800"\n', b"\xff", b"a = " + DIGITS, b"",
    b".".join([b"a"] * 200) + b" = 1\n",
)  # fmt: skip
LINES = (
    OID + b" 7 origin\n", OID + b" 7 my fork\n" + OID + b" 8 a\n", b"x 5" + DIGITS + b" origin\n",
    OID + b" \xc2\xb2 origin\n", OID + b" 7 \xff\n", b"\n\n", b"  \n", OID, b"a b c d\n", b"\0\n",
    OID + b" refs/grit/wal\n", OID + b"\trefs/grit/wal\n", b"refs/grit/wal " + OID + b" \n",
    b"refs/grit/locks/" + HASH + b" " + OID + b" \n", b"refs/grit/wal " + OID + b" refs/heads/x\n",
    OID + b" refs/grit-remotes/a\xe2\x80\xa8b/wal\n", b"x" * 9_000, OID + b"\n",
    OID + b" refs/grit-remotes/a\x0cb\x1c/wal\n", OID + b" refs/grit/snapshots/1700000000000\n",
    OID + b" refs/grit-lost/" + OID + b"\n", b"ref: refs/heads/main\n", b"\xff \xff \xff\n",
    b"# pack-refs with: peeled\n" + OID + b" refs/grit-remotes/o/wal\n^" + OID + b"\n",
    b"warning: ignoring broken ref refs/grit/locks/x\n",
)  # fmt: skip
CONFIG = (
    b"user.name\nAnn\0user.email\na@b\0gc.auto\n10k\0core.sharedrepository\n0660\0",
    b"remote.origin.url\n../o\0remote.origin.fetch\n+refs/grit/*:refs/grit-remotes/origin/*\0",
    b"remote.a b.url\nx\0remote.a b.fetch\n+refs/grit/*:refs/grit-remotes/a b/*\0", b"\0\0\0",
    b"remote..url\nx\0remote.url\ny\0remote.a.b.url\n-x\0", b"url.x.pushinsteadof\ny\0", b"\n",
    b"gc.auto\0core.fsync\n,none,-all,added\0", b"file:.git/config\0include.path\n~/x\0",
    b"local\0vi\0global\0ed\0", b"a\nb\nc\0", b"\xff\n\xfe\0", b"includeif.x.path\n%\0",
    b"core.fsync\nall\0core.fsyncobjectfiles\ntrue\0remote.o.fetch\n:\0remote.o.fetch\n+*:*\0",
    b'[core]\n\tbare = true\n[remote "x"]\n\tpromisor = 1\n[extensions]\nobjectformat = x\\\n',
    b"/a/.git\n/a/.git\n/a/.git/objects\nfalse\ntrue\nsha1\n",
    *(b"gc.auto\n%s\0core.sharedrepository\n0%s\0" % (one, one) for one in NUMBERS),
)  # fmt: skip
OBJECTS = (
    OID + b" blob 3\nabc\n", OID + b" missing\n", OID + b" tree 0\n\n", OID + b" commit 5\nab",
    OID + b" blob " + DIGITS + b"\n", OID + b" blob \xc2\xb2\n", OID + b" blob -1\n", b"\n", b"",
    OID + b" blob 3 4\nabc\n", OID + b" ambiguous\n", b"\xff \xff 1\n\n\n", OID + b" blob 1\na",
    OID + b" \xff 1\na\n", b"100644 a\0" + b"\1" * 20 + b"40000 b\0" + b"\2" * 20,
    b"0" * 5_000 + b"100644 a\0" + b"\1" * 20, b"tree x\n",
    b"tree " + OID + b"\nparent " + OID + b"\ncommitter a <b> 1700000000 +0000\n\nx",
    b"tree " + OID + b"\ncommitter a <b> " + DIGITS + b" +0000\n\nx",
    b"tree " + OID + b"\ncommitter a <b> \xc2\xb2 +0000\n\nx",
)  # fmt: skip
COMMITS = (
    b"0\t0\n", b"3\t1\n", b"3 1\n", b"\t\n", b"7\n", OID + b"\n", OID + b" " + OID + b"\n", b"x\n",
    b"-" + OID + b"\n", b"?" + OID + b"\n", OID + b" missing\n", b"%s\n%s\n" % (OID, b"b" * 40),
    b"\xff\t\xfe\n", *NUMBERS,
)  # fmt: skip
TALK = (
    b"To x\n=\t%s:refs/grit/wal\t[up to date]\nDone\n" % OID, b"!\t\t\n", b"\t\n", b"\t",
    b"!\ta:refs/grit/wal\t[rejected] (fetch first)\n", b"*\trefs/grit/wal\n", b"hung up",
    b" \t%s:refs/grit/wal\ta..b\nDone\n" % OID, b"\r\r\n", b"x" * 9_000, b"\x1b[31m\xff\0\n",
    b"remote: Counting objects:  50% (1/2)\rremote: Counting objects: 100% (2/2), done.\n",
    b"Receiving objects: 100% (999999999999999/999999999999999)\n", b"fatal: x\n",
    b"Receiving objects:  \xd9\xa5\xd9\xa0% (\xd9\xa1/\xd9\xa2)\n",
    b"fatal: couldn't find remote ref x\n", b"a\xe2\x80\xa8b\tc\n",
    b"error: cannot lock ref 'x': Unable to create 'x.lock': File exists\n",
)  # fmt: skip
MARKS = (b"grit-view-7 1 2 3 4 5 00000000", b"123 rebuilding", b"\xc2\xb2 x", b"ref: refs/x\n")
KEYS = (b"ab" * 32 + b"\n", b"AB" * 32, b"a b" * 32, b"ab" * 31, HASH)


def _queues() -> tuple[bytes, ...]:
    """Return queues: whole entries, cut and broken ones."""
    packed = pack((b"i" * 16, b"s", b"A <a@b>", b"chunk"))
    entry = Entry(3, 1, False, b"", b"p" * 72, packed)
    whole = _encode(entry)
    follows = _encode(entry._replace(after=b"q" * 72, announces=True, packed=b"\xff"))
    cuts = (whole[:at] for at in (1, 4, 8, 20, len(whole) - 1))
    flips = (whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in (0, 3, 5, 9, 30))
    return b"", whole, whole + follows, follows, *cuts, *flips, b"\0" * 64, b"\xff" * 64


RAW: dict[str, tuple[bytes, ...]] = {
    "file-settings": TOML,
    "file-actor": TOML,
    "file-key": (*KEYS, *NUMBERS),
    "file-remotes": LINES,
    "file-queue": _queues(),
    "file-record": TOML,
    "file-mark": (*MARKS, *NUMBERS, OID + b"\n", OID),
    "git-config": CONFIG,
    "git-refs": LINES,
    "git-objects": OBJECTS,
    "git-commits": COMMITS,
    "git-talk": TALK,
}
