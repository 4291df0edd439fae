"""What the pages show beside the World: the jobs that wait, run and ran lately, and how it went over a time.

Every statement walks a partial index, whose condition stands here word for word so that SQLite sees that it applies; what
is read does not grow with history, but for the statistics, which grow with the time they are of.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from math import ceil, gcd

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
# Only jobs of a pool that a runner took: others never waited for us. Each row is a part of the time and all its waits in
# ms: SQLite holds up no other thread while it reads, and a Python object for each job would.
WAITS = text(
    """
    SELECT CAST((julianday(completed_at) - julianday(:since)) * 86400 / :seconds AS INTEGER) AS part,
           json_group_array(
               CAST(round(max(0, (julianday(started_at) - julianday(queued_at)) * 86400000)) AS INTEGER)
           ) AS waits
    FROM job INDEXED BY ix_job_completed_at
    WHERE status = 'completed' AND completed_at >= :since AND completed_at < :until
          AND pool IS NOT NULL AND runner IS NOT NULL AND started_at IS NOT NULL
    GROUP BY part
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
    """Return how it went in each of *spans* up to *until*; their widths are whole seconds."""
    seconds = gcd(*(int(span.width.total_seconds()) for span in spans))
    longest = max(span.length for span in spans)
    parts: list[list[int]] = [[] for _ in range(longest // timedelta(seconds=seconds))]
    for part, waits in connection.execute(
        WAITS, {"since": until - longest, "until": until, "seconds": seconds}
    ):
        parts[min(part, len(parts) - 1)] += json.loads(waits)  # a time so near to the end is rounded to it
    return [_count(span, parts, until, seconds) for span in spans]


def _count(span: Span, parts: list[list[int]], until: datetime, seconds: int) -> Statistics:
    """Count the waits, in ms, of the last *parts* of so many seconds each that *span* is made of."""
    each = int(span.width.total_seconds()) // seconds
    first = len(parts) - span.count * each
    intervals = [sorted(chain.from_iterable(parts[n : n + each])) for n in range(first, len(parts), each)]
    return Statistics(
        since=until - span.length,
        width=span.width,
        whole=_waits(sorted(chain.from_iterable(intervals))),
        intervals=[_waits(waits) for waits in intervals],
    )


def _waits(waits: list[int]) -> Waits:
    """Return the nearest ranks of *waits*, which are in order, in ms."""
    if not waits:
        return Waits()
    half, most = waits[ceil(len(waits) / 2) - 1], waits[ceil(len(waits) * 0.9) - 1]
    return Waits(len(waits), half / 1000, most / 1000)


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
