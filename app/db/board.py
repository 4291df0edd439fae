"""What the pages show beside the World: the jobs that wait, run and ran lately, and how it went over a time.

Every statement walks a partial index, whose condition stands here word for word so that SQLite sees that it applies; what
is read does not grow with history, but for the statistics, which grow with the time they are of.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, text

from app.db.rows import HISTORY, JOB, RUNNER, Transition, job_from, runner_from, transition_from
from app.domain.jobs import Job
from app.domain.runners import Runner

WAITING = text(
    "SELECT * FROM job INDEXED BY ix_job_open WHERE status IN ('queued', 'waiting') AND status != 'completed' "
    "ORDER BY status, queued_at, id LIMIT :limit"
).columns(*JOB.c)
RUNNING = text(
    "SELECT * FROM job INDEXED BY ix_job_open WHERE status = 'in_progress' AND status != 'completed' "
    "ORDER BY started_at, id LIMIT :limit"
).columns(*JOB.c)
ENDED = text(
    "SELECT * FROM job INDEXED BY ix_job_completed_at WHERE status = 'completed' "
    "ORDER BY completed_at DESC LIMIT :limit"
).columns(*JOB.c)
RUNNERS = select(RUNNER).where(RUNNER.c.name.in_(bindparam("names", expanding=True)))
HISTORIES = (
    select(HISTORY).where(HISTORY.c.runner.in_(bindparam("names", expanding=True))).order_by(HISTORY.c.id)
)
# By nearest rank; interval -1 is the whole time. Only jobs of a pool that a runner took: others never waited for us.
WAITS = text(
    """
    WITH ended AS (
        SELECT CAST((julianday(completed_at) - julianday(:since)) * 86400 / :width AS INTEGER) AS interval,
               max(0, (julianday(started_at) - julianday(queued_at)) * 86400) AS wait
        FROM job INDEXED BY ix_job_completed_at
        WHERE status = 'completed' AND completed_at >= :since AND completed_at < :until
              AND pool IS NOT NULL AND runner IS NOT NULL AND started_at IS NOT NULL
    ), ranked AS (
        SELECT interval, wait, row_number() OVER (PARTITION BY interval ORDER BY wait) AS place,
               count(*) OVER (PARTITION BY interval) AS total
        FROM (SELECT interval, wait FROM ended UNION ALL SELECT -1, wait FROM ended)
    )
    SELECT interval, total, min(CASE WHEN place * 2 >= total THEN wait END) AS half,
           min(CASE WHEN place * 10 >= total * 9 THEN wait END) AS most
    FROM ranked GROUP BY interval
    """
).bindparams(
    bindparam("since", type_=JOB.c.completed_at.type), bindparam("until", type_=JOB.c.completed_at.type)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A job, and the runner that took it with its history, where it was ours."""

    job: Job
    runner: Runner | None
    history: list[Transition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Jobs by where they stand: those that wait, oldest first; those that run; those that ended, newest first."""

    waiting: list[Job]
    running: list[Course]
    ended: list[Course]


@dataclass(frozen=True, slots=True)
class Waits:
    """How many jobs ended, and how long half and nine in ten of them at most had waited."""

    jobs: int = 0
    half: float = 0.0  # s
    most: float = 0.0  # s


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A span of time, whole and cut into intervals of one length, oldest first."""

    since: datetime
    width: timedelta
    whole: Waits
    intervals: list[Waits]


def read(connection: Connection, *, waiting: int, running: int, ended: int) -> Board:
    """Return up to so many jobs of each kind."""
    runs = [job_from(row) for row in connection.execute(RUNNING, {"limit": running})]
    over = [job_from(row) for row in connection.execute(ENDED, {"limit": ended})]
    courses = _courses(connection, [*runs, *over])
    return Board(
        waiting=[job_from(row) for row in connection.execute(WAITING, {"limit": waiting})],
        running=courses[: len(runs)],
        ended=courses[len(runs) :],
    )


def statistics(connection: Connection, *, until: datetime, width: timedelta, count: int) -> Statistics:
    """Return how it went in the *count* intervals of *width* up to *until*."""
    since = until - width * count
    values = {"since": since, "until": until, "width": width.total_seconds()}
    found = {row.interval: Waits(row.total, row.half, row.most) for row in connection.execute(WAITS, values)}
    return Statistics(
        since=since,
        width=width,
        whole=found.get(-1, Waits()),
        intervals=[found.get(n, Waits()) for n in range(count)],
    )


def _courses(connection: Connection, jobs: list[Job]) -> list[Course]:
    names = {"names": [job.runner for job in jobs if job.runner]}
    runners = {row.name: runner_from(row) for row in connection.execute(RUNNERS, names)}
    histories: dict[str, list[Transition]] = defaultdict(list)
    for row in connection.execute(HISTORIES, names):
        histories[row.runner].append(transition_from(row))
    return [
        Course(job=job, runner=runners.get(job.runner or ""), history=histories[job.runner or ""])
        for job in jobs
    ]
