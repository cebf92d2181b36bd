"""Every bound of the formats and rules, checked on encode and decode (spec/events.md, Bounds)."""

from typing import Final

ID_BYTES: Final = 16
EVENT_ID_BYTES: Final = 32
SHA256_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
PUBLIC_KEY_BYTES: Final = 32

TS_UNIX_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999; a later time is invalid everywhere."""

TITLE_CHARS_MAX: Final = 4_096
TEXT_BYTES_MAX: Final = 4 * 1024 * 1024
"""A body, a comment or a context summary, as UTF-8."""
TEXT_KEPT_BYTES: Final = 64 * 1024
"""Of a longer text the view keeps this beginning, which searches and pages know alone."""
TITLE_SORTED_CHARS: Final = 200
"""Titles that are alike so far come in the order of their ids."""
TEXTS_SEARCHED_BYTES: Final = TEXT_BYTES_MAX
"""Of all texts of an issue together."""
LABEL_CHARS_MAX: Final = 256
"""Also a user name, a field key, an actor label, a mime type, a language, a symbol kind."""
VALUE_CHARS_MAX: Final = 4_096
"""A field value, a link, a note, a reason, a symbol name, a path, an attachment name."""
LABELS_MAX: Final = 256
"""Labels of one creation."""
SYMBOLS_MAX: Final = 10_000
"""Symbols of one context record."""
OVERRULED_MAX: Final = 1_000
"""Events that one TimeOverruled names."""
OVERRULED_WRITE_MAX: Final = 100_000
"""Events of one issue that one write names; the next write names the rest."""

EVENT_BYTES_MAX: Final = 5 * 1024 * 1024
CHUNK_EVENTS_MAX: Final = 10_000
"""What a writer puts into one chunk; a reader takes any count within CHUNK_BYTES_MAX."""
CHUNK_TARGET_BYTES: Final = 4 * 1024 * 1024
"""A writer starts a new chunk beyond this size."""
CHUNK_BYTES_MAX: Final = 16 * 1024 * 1024
"""A reader sets a larger chunk aside without reading it."""
CBOR_DEPTH_MAX: Final = 8
CBOR_DEPTH_WALKED_MAX: Final = 1_000
"""Deeper nesting than this makes the rest of a chunk unreadable, not only its own record."""
CBOR_ITEMS_MAX: Final = 1_000_000
"""Items that the slow reading of a damaged or large chunk walks before it gives up."""
PROBLEMS_LISTED_MAX: Final = 16
"""Records of one chunk that are set aside one by one; more are counted by their reason."""
PROBLEM_REASONS_MAX: Final = 16
ASIDES_MAX: Final = 10_001
"""Chunks with something set aside that the view keeps: one more than a snapshot may name."""
RECORD_BYTES_MIN: Final = 74
"""The smallest record: header, three ids, time, null parent, kind, empty payload, no signature."""
TREE_DEPTH_MAX: Final = 8
"""Folders below a commit's own tree in which chunks are looked for."""
BATCH_BYTES_MAX: Final = 12 * 1024 * 1024
"""Records that are held at once where many are read or written; one more may be on its way."""
SEEN_OBJECTS_MAX: Final = 200_000
"""Trees and chunks that a reader of the log remembers, so as not to read them again."""
APPEND_CHUNKS_MAX: Final = 16
"""Chunks of one commit."""

SNAPSHOT_EVENTS_MIN: Final = 10_000
"""A shorter log gets no snapshot by itself; also the new events after which one is made."""
SNAPSHOT_DAYS: Final = 7
"""Days after which a newer snapshot is made when there are new events."""
SNAPSHOTS_KEPT: Final = 2
SNAPSHOTS_READ_MAX: Final = 16
"""Snapshots that are looked at, the newest by name; hostile remotes may hold thousands."""
SNAPSHOT_JSON_BYTES_MAX: Final = 8 * 1024 * 1024
SNAPSHOT_CHUNKS_MAX: Final = 10_000
SNAPSHOT_ASIDES_MAX: Final = 10_000
"""Chunks with something set aside that a snapshot names; with more, none is made."""

ATTACHMENT_BYTES_MAX: Final = 32 * 1024 * 1024
ATTACHMENT_NAME_BYTES_MAX: Final = 255

NUMBER_DIGITS_MAX: Final = 18
"""Digits of a number that comes as text: it fits 64 bits."""
JSON_DEPTH_MAX: Final = 100
"""Lists and objects within each other of a JSON document; Python gives up at ten times that."""
TOML_DOTS_MAX: Final = 64
"""Dots of one line of TOML: a key of many parts takes a time that grows by their square."""

PREFIX_CHARS_MIN: Final = 4
"""Fewest hex digits of an id that a person may type."""
SHORT_ID_CHARS_MIN: Final = 7
"""Fewest hex digits of an id that are shown."""

APPEND_RETRIES_MAX: Final = 64
QUEUE_BYTES_MAX: Final = 1024 * 1024
"""What waiting writers queue for one commit; who comes after that waits before deciding."""
QUEUE_ENTRY_EVENTS_MAX: Final = 64
QUEUE_ENTRY_BYTES_MAX: Final = 64 * 1024
"""A larger write is committed alone."""
LOCK_WAIT_MS_MAX: Final = 10_000
LOCK_STALE_MS: Final = 3_000
LOCK_LONG_STALE_MS: Final = 60_000
"""The same for packed-refs and shallow, which git holds while it rewrites all refs, or fetches."""
"""Git holds a lock file for milliseconds; an older one was left by a killed process."""
READER_WAIT_MS_MAX: Final = 500
"""How long a command that only reads waits for another that is bringing the view up to date."""
SYNC_ATTEMPTS_MAX: Final = 40
"""How often a sync fetches, joins and pushes while others are faster."""
SYNC_STANDSTILLS_MAX: Final = 6
"""How often a push is refused as too late while the remote does not move, before it is given up."""
SYNC_BACKOFF_MS_MIN: Final = 20
SYNC_BACKOFF_MS_MAX: Final = 30_000
SYNC_RETRY_MS_MIN: Final = 5_000
"""How long a background sync waits at most after its first failure."""
BACKGROUND_SYNC_S_MAX: Final = 600
"""A background sync that takes longer is ended: its remote hangs."""
CIRCUIT_FAILURES: Final = 5
"""Failures in a row after which background syncs pause for long."""
CIRCUIT_PAUSE_MS_MIN: Final = 5 * 60_000
CIRCUIT_PAUSE_MS_MAX: Final = 60 * 60_000
GATHERED_DEBOUNCES_MAX: Final = 5
"""Events that never end are answered after this many times the debounce."""
DEBOUNCE_MS_MIN: Final = 10
DEBOUNCE_MS_MAX: Final = 60_000
BACKGROUND_S_MAX: Final = 7 * 24 * 60 * 60
"""The longest idle time of the server, and interval of background syncs."""
HEALTH_MS: Final = 60_000
DISK_FREE_BYTES_MIN: Final = 100 * 1024 * 1024
"""With less than this the worker warns."""
FLUSH_MS_MAX: Final = 2_000
"""Within this time the worker is gone when it is told to leave."""
REMOTE_ASKED_S_MAX: Final = 10
"""How long doctor waits for the answer of a remote."""
REVOKED_ENDS_MAX: Final = 1_000
"""Ends of a revoked actor's chain that the settings keep."""
KEPT_S: Final = 3_600
"""How long new objects have a second name: longer than a collection of git is at work."""
KEPT_NAMES_MAX: Final = 100_000
"""With more of them the oldest go earlier, though not those of the last minutes."""
HEALS_MAX: Final = 5
"""How often in a row objects that a collection takes are put back."""
FILTER_CHARS_MAX: Final = 4_096
FILTER_TERMS_MAX: Final = 64
LIST_LIMIT_DEFAULT: Final = 50
BATCH_COMMANDS_MAX: Final = 100_000
CLOCK_AHEAD_MS_MAX: Final = 24 * 60 * 60 * 1000
"""What is further ahead of a writer's clock than this is from the future: its time is overruled by
who writes, refused by imports, and named by doctor. No reader ever uses it."""

LEASE_MS_MIN: Final = 1_000
LEASE_MS_MAX: Final = 7 * 24 * 60 * 60 * 1000
"""A lease that says it lasts longer is not believed."""
LEASE_MS_DEFAULT: Final = 30 * 60 * 1000
CLAIM_MS_DEFAULT: Final = 8 * 60 * 60 * 1000
LEASE_SKEW_MS: Final = 30_000
"""How much two clocks may differ: an expired lease is taken over only after this margin."""
LEASE_KEEP_MS: Final = 30 * 24 * 60 * 60 * 1000
"""A lease ref is removed after this time without a change: longer than any lease lasts."""
LEASES_SEEN_MAX: Final = 10_000
"""Leases that a clone remembers having seen."""
LEASES_SEEN_BYTES_MAX: Final = 1024 * 1024
LEASE_WAIT_MS_MAX: Final = 60_000
"""How long a command waits for another of this clone that is talking to the remote."""
LEASE_ROUNDS_MAX: Final = 16
RESOURCE_CHARS_MAX: Final = 1_024
CLAIMED_CHARS_MAX: Final = LABEL_CHARS_MAX
FENCE_MAX: Final = 2**53 - 1
LOCK_BYTES_MAX: Final = 32 * 1024
LOCK_OBJECT_BYTES_MAX: Final = 64 * 1024
"""The commit of a lease and its tree: what is larger is none, and is not read."""
LOCK_USUAL_BYTES: Final = 2 * 1024
LOCKS_BYTES_MAX: Final = 16 * 1024 * 1024
"""All lock.json together that are larger than usual; what goes beyond does not count."""
LOCKS_NAMED_MAX: Final = 10
"""Malformed lock refs that are named one by one; the rest are counted."""
LOCKS_AT_ONCE: Final = 500
"""Lock refs that are removed with one command."""

SERVER_CHILDREN_MAX: Final = 16
"""Commands that a server runs at once; more wait for a short time, then run on their own."""
SERVER_IDLE_S: Final = 300
SERVER_START_MS_MAX: Final = 10_000
SERVER_STOP_MS_MAX: Final = 5_000
SERVER_LOG_BYTES_MAX: Final = 256 * 1024
SERVER_REQUEST_BYTES_MAX: Final = 64 * 1024 * 1024
"""Arguments and environment of one command; the system's own limit is far below."""

SETTINGS_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of grit's own files in the git directory a larger one is not used."""
TOML_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of settings: a list of 60,000 ids, read in two seconds."""
MARK_BYTES_MAX: Final = 1_024
LOCK_FILE_BYTES_MAX: Final = 1_024
KEY_FILE_BYTES_MAX: Final = 4_096
REMOTES_BYTES_MAX: Final = 1024 * 1024
VERIFIED_BYTES_MAX: Final = 4 * 1024 * 1024
DRAFT_BYTES_MAX: Final = 2 * TEXT_BYTES_MAX
"""A text under the editor, with the instructions below it."""
AGENTS_BYTES_MAX: Final = 1024 * 1024
GIT_POINTER_BYTES_MAX: Final = 8192
"""A `.git` file or a `commondir` file holds one path."""
FOLDER_NAMES_MAX: Final = 1_000_000
"""Names of one folder that are looked at."""

REF_BYTES_MAX: Final = 4_096
PACKED_REFS_BYTES_MAX: Final = 256 * 1024 * 1024
"""A few million refs; git itself has no bound."""
PACKED_REFS_MAX: Final = 100_000
"""Records of what other places have that are looked at; more of them count as absent."""
HEADS_TAKEN_MAX: Final = 100
"""New heads of other places that one command takes in."""
SHALLOW_BYTES_MAX: Final = 16 * 1024 * 1024
GIT_CONFIG_BYTES_MAX: Final = 4 * 1024 * 1024
GIT_SETTINGS_BYTES_MAX: Final = 16 * 1024 * 1024
"""All that git has for its configuration, in which each value repeats its section."""
GIT_OUTPUT_BYTES_MAX: Final = 32 * 1024 * 1024
"""What one git command prints that is heard to its end; a ref takes about 100 bytes."""
GIT_WORDS_BYTES_MAX: Final = 4 * 1024 * 1024
"""Complaints of one git command; those beyond are dropped."""
