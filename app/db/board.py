"""What the pages show beside the World: the jobs that wait, run and ran lately, and how it went over a time.

Every statement walks a partial index, whose condition stands here word for word so that SQLite sees that it applies; what
is read does not grow with history, but for the statistics, which grow with the time they are of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

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
# Only jobs of a pool that a runner took: others never waited for us. SQLite sorts; all spans are then counted from one reading.
WAITS = text(
    """
    SELECT (julianday(completed_at) - julianday(:since)) * 86400 AS ended,
           max(0, (julianday(started_at) - julianday(queued_at)) * 86400) AS wait
    FROM job INDEXED BY ix_job_completed_at
    WHERE status = 'completed' AND completed_at >= :since AND completed_at < :until
          AND pool IS NOT NULL AND runner IS NOT NULL AND started_at IS NOT NULL
    ORDER BY wait
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
class Span:
    """A span of time up to now, cut into *count* intervals of one *width*."""

    width: timedelta
    count: int

    @property
    def length(self) -> timedelta:
        """All of it."""
        return self.width * self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How it went in a span, whole and by interval, oldest first."""

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


def statistics(connection: Connection, *, until: datetime, spans: Sequence[Span]) -> list[Statistics]:
    """Return how it went in each of *spans* up to *until*."""
    longest = max(span.length for span in spans)
    values = {"since": until - longest, "until": until}
    rows = [(row[0], row[1]) for row in connection.execute(WAITS, values)]
    return [_count(span, rows, until, longest) for span in spans]


def _count(span: Span, rows: list[tuple[float, float]], until: datetime, longest: timedelta) -> Statistics:
    """Count *rows*, which are in order of wait, and each say how long after the longest span's begin it ended."""
    begins, width = (longest - span.length).total_seconds(), span.width.total_seconds()
    whole: list[float] = []
    intervals: list[list[float]] = [[] for _ in range(span.count)]
    for ended, wait in rows:
        if ended >= begins:
            whole.append(wait)
            intervals[min(span.count - 1, int((ended - begins) / width))].append(wait)
    return Statistics(
        since=until - span.length,
        width=span.width,
        whole=_waits(whole),
        intervals=[_waits(waits) for waits in intervals],
    )


def _waits(waits: list[float]) -> Waits:
    """Return the nearest ranks of *waits*, which are in order."""
    if not waits:
        return Waits()
    return Waits(len(waits), waits[ceil(len(waits) / 2) - 1], waits[ceil(len(waits) * 0.9) - 1])


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
