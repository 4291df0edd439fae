"""Migrations: from empty, with a copy first, and a clear stop on a file that cannot be used."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from app.db.database import open_engine
from app.db.migrate import DatabaseUnusable, alembic_config, current_revision, head_revision, upgrade


def test_from_empty(tmp_path: Path) -> None:
    """A new file gets every table, is private, and a second start finds nothing to do."""
    path = tmp_path / "cidermill.db"
    assert upgrade(path) == head_revision() == current_revision(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    upgrade(path)
    assert [p.name for p in tmp_path.iterdir() if "before" in p.name] == []


def test_tables_match_the_models(tmp_path: Path) -> None:
    """The migrations make exactly what the models say."""
    path = tmp_path / "cidermill.db"
    upgrade(path)
    engine = open_engine(path, foreign_keys=False)
    with engine.connect() as connection:
        command.check(alembic_config(connection))
    engine.dispose()


def test_a_copy_is_made_before_an_upgrade(tmp_path: Path) -> None:
    """A file with data is copied beside itself before it is changed."""
    path = tmp_path / "cidermill.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0000')")
        connection.commit()
    with pytest.raises(DatabaseUnusable, match="another version"):
        upgrade(path)
    copy = path.with_name(f"cidermill.db.before-{head_revision()}")
    assert current_revision(copy) == "0000"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_runner_of_the_first_version_is_kept(tmp_path: Path) -> None:
    """From 0001 on, rows survive each step; a runner of then is held by nobody."""
    path = tmp_path / "cidermill.db"
    engine = open_engine(path, foreign_keys=False)
    with engine.connect() as connection:
        command.upgrade(alembic_config(connection), "0001")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO runner (name, slot, pool, spec, state, since, created_at, reason, delivered, deregistered)"
                " VALUES ('mini-mac-a', '1', 'mac', '{}', 'busy', '2026-01-01', '2026-01-01', '', 1, 0)"
            )
        )
    engine.dispose()
    upgrade(path)
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT name, state, held_until, guest_held_until FROM runner").fetchone()
    assert row == ("mini-mac-a", "busy", None, None)


def test_not_a_database(tmp_path: Path) -> None:
    """A file that is no database stops the start with the mend, and is left as it was."""
    path = tmp_path / "cidermill.db"
    path.write_bytes(b"not a database, but somebody's notes" * 100)
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match="move it away"):
        upgrade(path)
    assert path.read_bytes() == before
