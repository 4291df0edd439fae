"""Everything that is read: what one pass needs, and the pages of the API.

Each method is one consistent view. What a pass reads does not grow with history: waiting jobs are counted by the
database and only the heads of each queue are fetched.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, text

from app.boot_session import ClockMark
from app.db import board
from app.db.board import Board, Span, Statistics
from app.db.database import Database
from app.db.past import Ways, ended, launches, resumed, ways
from app.db.rows import (
    COOLDOWN,
    DELIVERY,
    FLAG,
    HISTORY,
    JOB,
    RUNNER,
    Transition,
    cooldown_from,
    job_from,
    runner_from,
    transition_from,
)
from app.db.writing import CLOCK, DRAINING, LOG_REACHED
from app.domain.drift import Launch
from app.domain.jobs import Job, JobStatus
from app.domain.pools import Target, host_of
from app.domain.runners import Purpose, Runner, RunnerState
from app.domain.world import Cooldown, Demand, Head

# One walk along ix_job_line to count, and one short one a group for its heads; the index holds all that is asked.
# A fork's job is no demand of a pool that denies forks.
WAITS = """status = 'queued' AND pool IS NOT NULL
           AND (fork IS NOT 1 OR pool NOT IN (SELECT value FROM json_each(:denying)))"""
LINE = text(
    f"""
    SELECT job.pool, job.repository, organization, private, id, queued_at, received_at, checked_at, fork, total
    FROM (SELECT pool, repository, count(*) AS total FROM job WHERE {WAITS} GROUP BY pool, repository) AS line
    JOIN job ON job.id IN (
        SELECT id FROM job AS head
        WHERE {WAITS} AND head.pool = line.pool AND head.repository = line.repository
        ORDER BY queued_at, id LIMIT :heads
    )
    ORDER BY line.pool, line.repository, queued_at, id
    """  # noqa: S608  # no value is put in: WAITS is ours
).columns(
    JOB.c.pool,
    JOB.c.repository,
    JOB.c.organization,
    JOB.c.private,
    JOB.c.id,
    JOB.c.queued_at,
    JOB.c.received_at,
    JOB.c.checked_at,
    JOB.c.fork,
)

# Two walks along partial indexes, whose conditions stand here word for word so that SQLite sees that they apply.
LIVE_OR_OWED = text(
    """
    SELECT * FROM (
        SELECT * FROM runner INDEXED BY uq_runner_live_slot WHERE state != 'gone'
        UNION ALL
        SELECT * FROM runner INDEXED BY ix_runner_debt
        WHERE target IS NOT NULL AND NOT deregistered AND state = 'gone'
    )
    ORDER BY created_at, name
    """
).columns(*RUNNER.c)


# What a pass reads is built once: building a statement costs more than running it.
HELD_AT_ONCE = 8  # jobs to be asked about in one pass
UNSETTLED = (
    # By GitHub's word they run, on a runner of ours that is gone.
    select(JOB)
    .join(RUNNER, RUNNER.c.name == JOB.c.runner)
    .where(JOB.c.status == JobStatus.IN_PROGRESS, RUNNER.c.state == RunnerState.GONE),
    # Held back, those never asked about first: "queued" and "waiting" alternate, and the last to arrive may be the older.
    select(JOB)
    .where(JOB.c.status == JobStatus.WAITING, JOB.c.pool.is_not(None))
    .order_by(JOB.c.checked_at, JOB.c.received_at)
    .limit(HELD_AT_ONCE),
)
WORK = select(JOB).where(JOB.c.runner.in_(bindparam("names", expanding=True))).order_by(JOB.c.received_at)
COOLDOWNS = select(COOLDOWN)
IS_DRAINING = select(FLAG.c.name).where(FLAG.c.name == DRAINING)
UNKNOWN = text("SELECT value FROM json_each(:guids) WHERE value NOT IN (SELECT guid FROM delivery)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What the database contributes to a World."""

    demand: tuple[Demand, ...]
    runners: tuple[Runner, ...]
    work: dict[str, Job]
    unsettled: tuple[Job, ...]
    cooldowns: tuple[Cooldown, ...]
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a page shows; None shows all."""

    status: JobStatus | None = None
    repository: str | None = None
    pool: str | None = None


class Reader:
    """Reads of the service's state."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def records(self, *, denying: str, heads: int) -> Records:
        """Return what a pass needs. *denying*: a JSON list of the pools that serve no forks."""

        def work(connection: Connection) -> Records:
            runners = _runners(connection)
            return Records(
                demand=_demand(connection, denying, heads),
                runners=runners,
                work=_work(connection, [runner.name for runner in runners]),
                unsettled=_unsettled(connection),
                cooldowns=tuple(map(cooldown_from, connection.execute(COOLDOWNS))),
                draining=connection.execute(IS_DRAINING).first() is not None,
            )

        return await self._db.read(work)

    async def job(self, job_id: int) -> Job | None:
        """Return one job."""

        def work(connection: Connection) -> Job | None:
            row = connection.execute(select(JOB).where(JOB.c.id == job_id)).first()
            return job_from(row) if row else None

        return await self._db.read(work)

    async def jobs(
        self, wanted: JobFilter, *, limit: int, after: tuple[datetime, int] | None = None
    ) -> list[Job]:
        """Return up to *limit* jobs, newest first, from behind *after* (time received and id) on."""

        def work(connection: Connection) -> list[Job]:
            query = select(JOB).order_by(JOB.c.received_at.desc(), JOB.c.id.desc()).limit(limit)
            if wanted.status:
                query = query.where(JOB.c.status == wanted.status)
            if wanted.repository:
                query = query.where(func.lower(JOB.c.repository) == wanted.repository.lower())
            if wanted.pool:
                query = query.where(JOB.c.pool == wanted.pool)
            if after:
                at, job_id = after
                older = JOB.c.received_at < at
                query = query.where(older | ((JOB.c.received_at == at) & (JOB.c.id < job_id)))
            return [job_from(row) for row in connection.execute(query)]

        return await self._db.read(work)

    async def board(self, *, waiting: int, running: int, ended: int) -> Board:
        """Return up to so many jobs that wait, run and ended last."""
        return await self._db.read(
            lambda connection: board.read(connection, waiting=waiting, running=running, ended=ended)
        )

    async def statistics(self, *, until: datetime, spans: Sequence[Span]) -> list[Statistics]:
        """Return how it went in each of *spans* up to *until*."""
        return await self._db.read(lambda connection: board.statistics(connection, until=until, spans=spans))

    async def past(self, *, since: datetime, runners: int) -> tuple[list[Job], Ways, frozenset[str]]:
        """Return the jobs that ended since then, the ways of so many of the latest runners, and which were resumed."""

        def work(connection: Connection) -> tuple[list[Job], Ways, frozenset[str]]:
            return ended(connection, since), ways(connection, runners), resumed(connection, runners)

        return await self._db.read(work)

    async def runners(self, *, live: bool, limit: int) -> list[Runner]:
        """Return up to *limit* runners, newest first; *live* leaves out those that are gone."""

        def work(connection: Connection) -> list[Runner]:
            query = select(RUNNER).order_by(RUNNER.c.created_at.desc(), RUNNER.c.name).limit(limit)
            if live:
                query = query.where(RUNNER.c.state != RunnerState.GONE)
            return [runner_from(row) for row in connection.execute(query)]

        return await self._db.read(work)

    async def runner(self, name: str) -> tuple[Runner, list[Transition]] | None:
        """Return one runner with its history, oldest transition first."""

        def work(connection: Connection) -> tuple[Runner, list[Transition]] | None:
            row = connection.execute(select(RUNNER).where(RUNNER.c.name == name)).first()
            if row is None:
                return None
            query = select(HISTORY).where(HISTORY.c.runner == name).order_by(HISTORY.c.id)
            return runner_from(row), [transition_from(found) for found in connection.execute(query)]

        return await self._db.read(work)

    async def targets(self) -> frozenset[Target]:
        """Return everywhere a runner of ours, within retention, was ever registered."""

        def work(connection: Connection) -> frozenset[Target]:
            query = select(RUNNER.c.target).where(RUNNER.c.target.is_not(None)).distinct()
            return frozenset(Target.parse(str(row.target)) for row in connection.execute(query))

        return await self._db.read(work)

    async def repositories(self) -> frozenset[str]:
        """Return every repository of which a job is known."""

        def work(connection: Connection) -> frozenset[str]:
            return frozenset(connection.execute(select(JOB.c.repository).distinct()).scalars())

        return await self._db.read(work)

    async def clock(self) -> ClockMark | None:
        """Return how the wall clock stood to the monotonic one when it was last noted; None: never."""

        def work(connection: Connection) -> ClockMark | None:
            row = connection.execute(select(FLAG).where(FLAG.c.name == CLOCK)).first()
            return ClockMark.parse(row.value) if row else None

        return await self._db.read(work)

    async def log_reached(self) -> datetime | None:
        """Return up to when GitHub's delivery log was read; None: never."""

        def work(connection: Connection) -> datetime | None:
            row = connection.execute(select(FLAG).where(FLAG.c.name == LOG_REACHED)).first()
            return datetime.fromisoformat(row.value) if row else None

        return await self._db.read(work)

    async def unknown_deliveries(self, guids: Iterable[str]) -> frozenset[str]:
        """Return those of *guids* that were never recorded."""
        wanted = json.dumps(list(guids))

        def work(connection: Connection) -> frozenset[str]:
            return frozenset(connection.execute(UNKNOWN, {"guids": wanted}).scalars())

        return await self._db.read(work)

    async def last_webhook(self) -> datetime | None:
        """Return when a webhook last arrived, not counting those fetched from GitHub's log; None: never."""

        def work(connection: Connection) -> datetime | None:
            arrived = select(DELIVERY.c.received_at).where(DELIVERY.c.hook_id.is_not(None))
            return connection.execute(
                arrived.order_by(DELIVERY.c.received_at.desc()).limit(1)
            ).scalar_one_or_none()

        return await self._db.read(work)

    async def runner_versions(self) -> dict[str, str]:
        """Return, by pool, the actions runner that its image was last seen to hold."""

        def work(connection: Connection) -> dict[str, str]:
            query = (
                select(RUNNER.c.pool, RUNNER.c.runner_version)
                .where(RUNNER.c.runner_version.is_not(None))
                .order_by(RUNNER.c.created_at)
            )
            return {row.pool: row.runner_version for row in connection.execute(query)}

        return await self._db.read(work)

    async def launches(self) -> list[tuple[str, Launch]]:
        """Return the latest launches of all pools, each with its pool, oldest first."""
        return await self._db.read(launches)

    async def images_at(self) -> dict[tuple[str, str], datetime]:
        """Return, by host and image, when the host last fetched it, as far as is known; of hosts that have names.

        The first VM of an image had it fetched, unless it was there; those after it had nothing fetched.
        """

        def work(connection: Connection) -> dict[tuple[str, str], datetime]:
            image = func.json_extract(RUNNER.c.spec, "$.image").label("image")
            first, last = func.min(RUNNER.c.created_at), func.max(RUNNER.c.created_at)
            query = (
                select(RUNNER.c.slot, image, RUNNER.c.purpose, first.label("first"), last.label("last"))
                .where(RUNNER.c.image.is_not(None), RUNNER.c.slot.contains("/"))
                .group_by(RUNNER.c.slot, image, RUNNER.c.purpose)
            )
            made: dict[tuple[str, str], datetime] = {}
            pulled: dict[tuple[str, str], datetime] = {}
            for row in connection.execute(query):
                place = host_of(row.slot), row.image
                if row.purpose == Purpose.PULL:
                    pulled[place] = max(row.last, pulled.get(place, row.last))
                else:
                    made[place] = min(row.first, made.get(place, row.first))
            return made | pulled

        return await self._db.read(work)

    async def counts(self) -> dict[JobStatus, int]:
        """Return how many jobs are open, by status; those that ended are not counted."""

        def work(connection: Connection) -> dict[JobStatus, int]:
            query = (
                select(JOB.c.status, func.count())
                .where(JOB.c.status != JobStatus.COMPLETED)
                .group_by(JOB.c.status)
            )
            return {JobStatus(status): count for status, count in connection.execute(query)}

        return await self._db.read(work)

    async def is_intact(self) -> bool:
        """Whether the database answers."""
        return await self._db.read(lambda connection: connection.execute(text("SELECT 1")).scalar() == 1)


def _demand(connection: Connection, denying: str, heads: int) -> tuple[Demand, ...]:
    groups: dict[tuple[str, str], list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(LINE, {"denying": denying, "heads": heads}):
        groups[row.pool, row.repository].append(row)
    return tuple(
        Demand(
            pool=pool,
            repository=repository,
            organization=rows[0].organization,
            private=rows[0].private,
            count=rows[0].total,
            heads=tuple(map(_head, rows)),
        )
        for (pool, repository), rows in groups.items()
    )


def _head(row: Row[Any]) -> Head:
    return Head(
        id=row.id,
        queued_at=row.queued_at,
        received_at=row.received_at,
        checked_at=row.checked_at,
        fork=row.fork,
    )


def _runners(connection: Connection) -> tuple[Runner, ...]:
    return tuple(map(runner_from, connection.execute(LIVE_OR_OWED)))


def _work(connection: Connection, names: Sequence[str]) -> dict[str, Job]:
    if not names:
        return {}
    return {str(row.runner): job_from(row) for row in connection.execute(WORK, {"names": names})}


def _unsettled(connection: Connection) -> tuple[Job, ...]:
    return tuple(job_from(row) for query in UNSETTLED for row in connection.execute(query))
