"""What is wrong with the database as a whole, from SQLite's own code: a sentence that names the mend.

Other errors are those of one statement, and are none of this module's.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError

LOCKED = "another program holds it locked: end that program (a `sqlite3` shell, or what copies the file)"
UNWRITABLE = (
    "it cannot be written: let this user write the file, its -wal and -shm, and the directory they are in"
)
FULL = "the disk is full: free some space"
FAILING = "the disk fails to read or write it: see whether the disk is full, or failing"
DAMAGED = (
    "it is damaged, or no SQLite database: restore a backup, or move it away, with its -wal and -shm, to start "
    "with an empty one"
)
SENTENCES = {
    "SQLITE_BUSY": LOCKED,
    "SQLITE_LOCKED": LOCKED,
    "SQLITE_READONLY": UNWRITABLE,
    "SQLITE_CANTOPEN": UNWRITABLE,
    "SQLITE_PERM": UNWRITABLE,
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR": FAILING,
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": DAMAGED,
}


def trouble_of(error: BaseException) -> str | None:
    """Return what is wrong with the database, and the mend; None: nothing that it would meet in any other statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "") if isinstance(cause, sqlite3.Error) else ""
    primary = "_".join(name.split("_")[:2])  # SQLITE_IOERR_WRITE is a kind of SQLITE_IOERR
    return SENTENCES.get(primary)
