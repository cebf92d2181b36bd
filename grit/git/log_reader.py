"""Reading the log in bulk with git's plumbing (spec/wal.md, Reading).

`rev-list --objects` names the chunks between two heads, `cat-file --batch` delivers them; both run
beside this process, and nothing but the blob in hand is kept in memory.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from grit.core.errors import GitFailed, WalDamaged
from grit.core.limits import CHUNK_BYTES_MAX
from grit.git.catfile import stop
from grit.git.dialects import CHUNK_SUFFIX, META_NAME
from grit.git.process import output, run, start
from grit.git.repository import Repository
from grit.git.salvage import LogBlob, salvage
from grit.git.objects import tree_entries

if TYPE_CHECKING:
    from subprocess import Popen

_SUFFIX: Final = CHUNK_SUFFIX.encode()


class HeadUnknown(WalDamaged):
    """The head that a reader stood at is not in the repository any more: read the whole log."""
