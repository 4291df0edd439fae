"""The SQLite file: how it is opened, and the threads that touch it.

One writer thread, and every write is one ``BEGIN IMMEDIATE`` transaction on it: a read-then-write is atomic
without a lock, nobody waits in SQLite's busy handler, and the event loop never waits for a disk. Commits are
synced (``synchronous=FULL``): what was answered with a 202 survives a power cut. Reads have threads of their own,
so that a page of history does not hold up a webhook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event

R = TypeVar("R")
READERS = 2
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "foreign_keys=ON",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
)


def open_engine(path: Path, *, foreign_keys: bool = True) -> Engine:
    """Open (or create) the database file, mode 0600, with our pragmas and explicit transactions.

    *foreign_keys* is off for migrations alone: Alembic's batch mode drops tables, and a cascade would empty
    their children.
    """
    path.touch(mode=0o600, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", pool_size=READERS + 1, max_overflow=2)

    @event.listens_for(engine, "connect")
    def _on_connect(dbapi: Any, _record: object) -> None:  # sqlite3's, untyped here
        dbapi.isolation_level = None  # sqlite3 stops opening transactions by itself
        for pragma in PRAGMAS:
            dbapi.execute(f"PRAGMA {pragma}")
        if not foreign_keys:
            dbapi.execute("PRAGMA foreign_keys=OFF")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


class Database:
    """An engine with its writer thread and its readers. ``inline=True`` runs all on the caller's thread."""

    def __init__(self, engine: Engine, *, inline: bool = False) -> None:
        self.engine = engine
        self._writing = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._writer = None if inline else ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = None if inline else ThreadPoolExecutor(READERS, thread_name_prefix="db-read")

    async def write(self, work: Callable[[Connection], R]) -> R:
        """Run *work* in one transaction on the writer thread, and return once it is durable."""
        return await self._run(self._writer, self._writing, work)

    async def read(self, work: Callable[[Connection], R]) -> R:
        """Run *work* on a reader thread, on one consistent view of the database."""
        return await self._run(self._readers, self.engine, work)

    async def _run(
        self, executor: ThreadPoolExecutor | None, engine: Engine, work: Callable[[Connection], R]
    ) -> R:
        def transact() -> R:
            with engine.begin() as connection:
                return work(connection)

        if executor is None:
            return transact()
        return await asyncio.get_running_loop().run_in_executor(executor, transact)

    def close(self) -> None:
        """Finish what is under way and close the file."""
        for executor in (self._writer, self._readers):
            if executor is not None:
                executor.shutdown(wait=True)
        self.engine.dispose()
