"""Bring the database file to the revision this program needs, or stop with a clear reason.

A file that has data is copied beside itself first (``cidermill.db.before-REVISION``), each migration is one
transaction, and broken references stop the start.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from app.db.database import open_engine

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).resolve().parent.parent


class DatabaseUnusable(Exception):
    """The database file cannot be used; the text says why, and what to do."""


def upgrade(path: Path) -> str:
    """Migrate the file at *path*, creating it if there is none; return the revision it is at now."""
    # Alembic costs 0.1 s and 10 MB, and most starts find nothing to do: it is imported when needed.
    try:
        at, wanted = current_revision(path), head_revision()
        if at != wanted:
            if at is not None:
                _back_up(path, wanted)
            _migrate(path, wanted)
    except sqlite3.DatabaseError as error:
        msg = (
            f"{path} is not a usable SQLite database ({error}): "
            "restore a backup, or move it away to start with an empty one"
        )
        raise DatabaseUnusable(msg) from error
    return wanted


def current_revision(path: Path) -> str | None:
    """Return the revision the file is at; None where it is missing or new."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as connection:
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(3)") if row[0] != "ok"]
        if damage:
            raise sqlite3.DatabaseError(damage[0])
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return str(row[0]) if row else None


def head_revision() -> str:
    """Return the newest revision this program knows, by the names of the migration files."""
    return max(file.stem for file in _directory().glob("versions/[0-9]*.py"))


def _directory() -> Path:
    packaged = HERE / "migrations"
    return packaged if packaged.is_dir() else HERE.parent / "migrations"


def _back_up(path: Path, wanted: str) -> None:
    copy = path.with_name(f"{path.name}.before-{wanted}")
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _migrate(path: Path, wanted: str) -> None:
    from alembic import command
    from alembic.util.exc import CommandError

    engine = open_engine(path, foreign_keys=False)
    try:
        with engine.connect() as connection:
            command.upgrade(alembic_config(connection), wanted)
            broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    except CommandError as error:
        msg = f"{path} was written by another version of CiderMill ({error}): upgrade CiderMill"
        raise DatabaseUnusable(msg) from error
    finally:
        engine.dispose()
    if broken:
        msg = f"{path} has {len(broken)} broken references after the migration: restore the copy beside it"
        raise DatabaseUnusable(msg)


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for our migrations on *connection*; there is no ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_directory()))
    config.attributes["connection"] = connection
    return config
