"""The SQLite file: how it is opened, and the threads that touch it.

One writer thread, and every write is whole, in a ``BEGIN IMMEDIATE`` transaction on it: a read-then-write is atomic
without a lock, nobody waits in SQLite's busy handler, and the event loop never waits for a disk. Commits are
synced (``synchronous=FULL``): what was answered with a 202 survives a power cut. Reads have threads of their own,
so that a page of history does not hold up a webhook. A disk that is full, or a lock that another program holds, fails
every write until it is over, and is then over by itself: nothing is remembered of it but the sentence in ``trouble``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from app.db.trouble import trouble_of

R = TypeVar("R")
READERS = 2
BATCH = 128  # writes that share one transaction at the most
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=2000",  # ms; a webhook may wait for two of them, and GitHub for 10 s
    "foreign_keys=ON",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
)


# Changes nothing, and yet is written: SQLite does not compare.
TOUCH = text("UPDATE alembic_version SET version_num = version_num")

Work = Callable[[Connection], Any]  # its result goes to whoever asked for it
Batch = list[tuple[Work, "asyncio.Future[Any]"]]


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


def open_to_read(path: Path) -> Engine:
    """Open a database file that is there, beside a server that may use it; nothing in it can be changed."""
    engine = create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true")

    @event.listens_for(engine, "connect")
    def _on_connect(dbapi: Any, _record: object) -> None:  # sqlite3's, untyped here
        dbapi.execute("PRAGMA busy_timeout=2000")
        dbapi.execute("PRAGMA trusted_schema=OFF")

    return engine


class Database:
    """An engine with its writer thread and its readers. ``inline=True`` runs all on the caller's thread."""

    def __init__(self, engine: Engine, *, inline: bool = False) -> None:
        self.engine = engine
        self._writing = engine.execution_options(sqlite_begin="IMMEDIATE")
        self._writer = None if inline else ThreadPoolExecutor(1, thread_name_prefix="db-write")
        self._readers = None if inline else ThreadPoolExecutor(READERS, thread_name_prefix="db-read")
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self.trouble: str | None = None  # what kept the last write from being made, and the mend

    async def write(self, work: Callable[[Connection], R]) -> R:
        """Run *work* on the writer thread, and return once it is durable; it is whole, or it never was.

        What waits while a transaction is committed shares the next one, since syncing the disk is what takes time.
        """
        if self._writer is None:
            return self._transact(self._writing, work)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(self._writer))
        return await future

    async def trouble_now(self) -> str | None:
        """Return what keeps us from writing, as far as known; what was in the way is tried again first."""
        if self.trouble is not None:
            with suppress(SQLAlchemyError):
                await self.write(lambda connection: connection.execute(TOUCH))
        return self.trouble

    async def read(self, work: Callable[[Connection], R]) -> R:
        """Run *work* on a reader thread, on one consistent view of the database."""
        if self._readers is None:
            return self._transact(self.engine, work)
        return await self._on(self._readers, self.engine, work)

    async def _flush(self, writer: ThreadPoolExecutor) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            for (_, future), outcome in zip(batch, await self._commit(writer, batch), strict=True):
                if future.done():
                    continue  # nobody waits for it any more
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self._flushing = None

    async def _commit(self, writer: ThreadPoolExecutor, batch: Batch) -> list[Any]:
        """Return what became of each: all in one transaction, or, where one fails, each in its own.

        What no write can be made for now is not tried once more for each: each would wait as long as the first.
        """
        works = [work for work, _ in batch]

        def together(connection: Connection) -> list[Any]:
            return [work(connection) for work in works]

        if len(works) > 1:
            shared = self._on(writer, self._writing, together)
            outcome: list[Any] | BaseException
            (outcome,) = await asyncio.gather(shared, return_exceptions=True)
            if not isinstance(outcome, BaseException):
                self.trouble = None
                return outcome
            self.trouble = trouble_of(outcome)
            if self.trouble is not None:
                return [outcome] * len(works)
        each = (self._on(writer, self._writing, work) for work in works)
        outcomes = await asyncio.gather(*each, return_exceptions=True)
        for each_outcome in outcomes:
            self.trouble = trouble_of(each_outcome) if isinstance(each_outcome, BaseException) else None
        return outcomes

    async def _on(self, executor: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], R]) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, self._transact, engine, work)

    @staticmethod
    def _transact(engine: Engine, work: Callable[[Connection], R]) -> R:
        with engine.begin() as connection:
            return work(connection)

    def close(self) -> None:
        """Finish what is under way and close the file."""
        for executor in (self._writer, self._readers):
            if executor is not None:
                executor.shutdown(wait=True)
        self.engine.dispose()
