"""Fixtures that more than one folder uses."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app.db.database import Database, open_engine
from app.db.reader import Reader
from app.db.store import Store
from tests.builders import NOW, a_pool
from tests.databases import new_database


def pytest_configure() -> None:
    # Said once, no loop is made by merely asking for one (Python < 3.14), which nobody would close.
    asyncio.set_event_loop(None)
    os.umask(0o077)  # the files that tests write hold secrets, and those must be their owner's alone


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # thousands of tests, which live as long as the run: they need not be looked through again and again


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run side by side: one more than there are cores, since many wait for other processes."""
    return (os.cpu_count() or 1) + 1


@dataclass(slots=True)
class Clock:
    """A clock that a test sets."""

    now: datetime = field(default=NOW)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **span: float) -> None:
        """Let time pass: ``clock.pass_(seconds=5)``."""
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Open a migrated database in a file, on the caller's thread."""
    database = Database(open_engine(new_database(tmp_path / "cidermill.db")), inline=True)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, [a_pool()])


@pytest.fixture
def reader(database: Database) -> Reader:
    return Reader(database)
