"""Databases as the migrations make them, which are carried out once a process: every test works on a copy."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from app.db.migrate import upgrade


def new_database(path: Path) -> Path:
    """Write a migrated database with nothing in it to *path*, its owner's alone, and return that."""
    path.touch(mode=0o600)
    path.write_bytes(_template())
    return path


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "cidermill.db"
        upgrade(path)
        return path.read_bytes()
