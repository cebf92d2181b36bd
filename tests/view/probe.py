"""A process that uses a view as grit does, for tests that damage it or kill its writer.

python -m tests.view.probe VIEW CHUNK read|rebuild|write|hold|grow
"""

import os
import sys
import time

from grit.core.codec import Event, decode_chunk
from grit.files.private import Folder
from grit.view.database import Database
from grit.view.reader import ViewReader
from grit.view.trust import ViewDoubt
from grit.view.writer import rebuilding, writing

HEAD = "f" * 40


def answer(database: Database) -> str:
    """Return what every question together says."""
    from grit.core.query import Query, Term

    reader = ViewReader(database)
    rows = list(reader.all_rows())
    pages = [
        list(reader.page(query, limit=None).rows)
        for query in (Query(), Query((Term("label", ("bug",)),)), Query((Term("text", ("cra",)),)))
    ]
    events = [event.event_id.hex() for event in reader.all_events()]
    return repr((reader.head(), rows, pages, events))


def heal(database: Database, records: list[tuple[Event, bytes]]) -> str:
    """Return what the view says, rebuilt when it is in doubt, and whether that was needed."""
    try:
        return "trusted " + answer(database)
    except ViewDoubt as doubt:
        with rebuilding(database) as writer:
            writer.apply(records, HEAD)
        return f"{doubt.reason} " + answer(database)


def main(folder: str, chunk: str, verb: str) -> None:
    """Do as the verb says, and print the answer."""
    with open(chunk, "rb") as file:
        records = decode_chunk(file.read()).records
    database = Database(Folder(os.path.dirname(folder), (os.path.basename(folder),), "grit"))
    if verb == "read":
        print(heal(database, records))
    elif verb == "rebuild":
        with rebuilding(database, force=True) as writer:
            writer.apply(records, HEAD)
        print("rebuilt", answer(database))
    elif verb == "write":
        for at in range(0, len(records), 2):
            with writing(database) as writer:
                writer.apply(records[at : at + 2], f"{at:040x}")
            print(at, flush=True)
    elif verb == "hold":
        with writing(database):
            print("holding", flush=True)
            time.sleep(60)
    elif verb == "grow":
        with writing(database) as writer:
            writer.apply(records, HEAD)
        print("grown")


if __name__ == "__main__":
    main(*sys.argv[1:])
