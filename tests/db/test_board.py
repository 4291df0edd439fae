"""What the pages read: every job where it belongs, and percentiles as one would count them by hand."""

from __future__ import annotations

import random
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from math import ceil

import pytest
from sqlalchemy import text
from sqlalchemy.dialects.sqlite import insert

from app.db.board import ENDED, RUNNING, WAITING, WAITS, Span, Waits
from app.db.database import Database
from app.db.reader import Reader
from app.db.rows import JOB, job_values
from app.db.store import Store
from app.domain.jobs import Job, JobStatus
from app.domain.runners import RunnerState
from tests.builders import NOW, a_job, a_runner, ago

S = JobStatus


async def put(database: Database, *jobs: Job) -> None:
    await database.write(lambda c: c.execute(insert(JOB), [job_values(job) for job in jobs]))


def ended(job_id: int, at: datetime, waited: float, **changes: object) -> Job:
    """Return a job that ended at *at*, a minute after it had waited so many seconds."""
    started = at - timedelta(minutes=1)
    job = a_job(S.COMPLETED, id=job_id, runner="mini-mac-aaaaaaaa", started_at=started, completed_at=at)
    return replace(job, queued_at=started - timedelta(seconds=waited), **changes)  # type: ignore[arg-type]


async def test_jobs_by_where_they_stand(database: Database, reader: Reader, store: Store) -> None:
    """Those that wait come oldest first, those that ended newest first, and each brings its runner's way."""
    runner = a_runner(RunnerState.CLAIMED)
    await store.claim(runner)
    await put(
        database,
        a_job(S.QUEUED, id=1, queued_at=ago(seconds=5)),
        a_job(S.QUEUED, id=2, queued_at=ago(seconds=9)),
        a_job(S.WAITING, id=3),
        a_job(S.IN_PROGRESS, id=4, runner=runner.name, started_at=NOW),
        a_job(S.IN_PROGRESS, id=5, runner="somebody else's", started_at=ago(seconds=1)),
        *(ended(6 + n, ago(seconds=n), 1.0) for n in range(4)),
    )
    board = await reader.board(waiting=9, running=9, ended=3)
    assert [job.id for job in board.waiting] == [2, 1, 3]
    assert [course.job.id for course in board.running] == [5, 4]
    assert [course.job.id for course in board.ended] == [6, 7, 8]
    assert board.running[0].runner is None
    assert board.running[1].runner == runner
    assert [step.to_state for step in board.running[1].history] == [RunnerState.CLAIMED]


async def test_percentiles(database: Database, reader: Reader) -> None:
    """Half and nine in ten of the jobs are what sorting and counting says, in every interval and in the whole."""
    seed = 7
    print(f"seed {seed}")
    chance = random.Random(seed)
    width, count = timedelta(hours=6), 28
    since = NOW - width * count
    jobs = [
        ended(n, since + timedelta(seconds=chance.uniform(0, (width * count).total_seconds() - 1)), float(chance.randrange(900)))
        for n in range(400)
    ]  # fmt: skip
    others = [
        ended(1001, since - timedelta(seconds=1), 9e5),
        ended(1002, NOW, 9e5),
        ended(1003, ago(hours=1), 9e5, pool=None),
        ended(1004, ago(hours=1), 9e5, runner=None),
        ended(1005, ago(hours=1), 9e5, started_at=None),
    ]
    await put(database, *jobs, *others)
    spans = (Span(width=width, count=count), Span(width=timedelta(hours=1), count=24))
    found, day = await reader.statistics(until=NOW, spans=spans)
    assert astuple(day.whole) == pytest.approx(
        astuple(by_hand([job for job in jobs if job.completed_at and job.completed_at >= ago(hours=24)]))
    )
    assert astuple(found.whole) == pytest.approx(astuple(by_hand(jobs)))
    for n in range(count):
        begins = since + n * width
        mine = [job for job in jobs if job.completed_at and begins <= job.completed_at < begins + width]
        assert astuple(found.intervals[n]) == pytest.approx(astuple(by_hand(mine))), n


def by_hand(jobs: list[Job]) -> Waits:
    waits = sorted((job.started_at - job.queued_at).total_seconds() for job in jobs if job.started_at)
    if not waits:
        return Waits()
    return Waits(len(waits), waits[ceil(len(waits) / 2) - 1], waits[ceil(len(waits) * 0.9) - 1])


@pytest.mark.parametrize(
    "statement", [WAITING, RUNNING, ENDED, WAITS], ids=["waiting", "running", "ended", "waits"]
)
async def test_no_walk_through_history(database: Database, statement: object) -> None:
    """Every statement goes by an index, never over all jobs."""
    explained = text(f"EXPLAIN QUERY PLAN {statement}")
    values = {"limit": 5, "since": "2026-01-01", "until": "2026-01-02", "seconds": 3600}
    used = {name: value for name, value in values.items() if f":{name}" in str(statement)}
    plan = await database.read(lambda c: [row.detail for row in c.execute(explained, used)])
    over_jobs = [step for step in plan if " job" in step]
    assert over_jobs
    assert all("USING INDEX ix_job_" in step for step in over_jobs)
