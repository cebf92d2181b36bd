"""Starts the server of a clone: `python -m grit.daemon <common dir>/grit`."""

import sys
from contextlib import suppress
from importlib import import_module

with suppress(ImportError):
    # OpenSSL takes three megabytes: where Python can hash without it, the server does.
    for name in ("_md5", "_sha1", "_sha3", "_blake2"):
        import_module(name)
    for name in ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512"):
        import_module(name)
    sys.modules["_hashlib"] = None  # type: ignore[assignment]

from grit.daemon.server import main

sys.exit(main(sys.argv[1:]))
