"""A long queue and a long history: what a pass costs, how fast a page comes, how much memory it takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import psutil
from sqlalchemy import Connection

from app.clock import utcnow
from app.db.database import open_engine
from app.db.migrate import upgrade
from app.db.rows import HISTORY, JOB, RUNNER, job_values, runner_values
from app.domain.jobs import Job, JobStatus
from app.domain.pools import Pool
from app.domain.runners import Runner, RunnerState
from app.sandbox.server import Server
from benchmarks.measures import PASSES, Measure, percentile
from benchmarks.place import POOLS, running

WEEK = timedelta(days=7)
SHOWN = 20  # jobs that the dashboard shows of those that ended


async def measure(*, short: bool) -> list[Measure]:
    """Measure with 10,000 jobs queued and 100,000 ended (a tenth in the short form)."""
    queued, ended = (1000, 10_000) if short else (10_000, 100_000)
    async with running(POOLS, before=lambda place: fill(place, queued, ended)) as (server, _, _):
        await asyncio.sleep(2)
        before = await _passes(server)
        pages = [await _page(server) for _ in range(20 if short else 100)]
        await asyncio.sleep(12)
        count, seconds = (after - then for after, then in zip(await _passes(server), before, strict=True))
        resident = psutil.Process(server.pid).memory_info().rss / 2**20
    size = f"{queued:,} queued, {ended:,} ended"
    return [
        Measure(f"a pass, {size}, mean", 1000 * seconds / count, "ms", "≤ 50"),
        Measure(f"/api/v1/jobs, {size}, p99", 1000 * percentile(pages, 0.99), "ms", "≤ 50"),
        Measure(f"resident, {size}", resident, "MiB", "≤ 120"),
    ]


def fill(place: Path, queued: int, ended: int) -> None:
    """Write a database with that many jobs; the queued ones are of a pool that has no slot left for them.

    Those that ended did so over a week, each on a runner of its own; only the newest have a row of it, as only their way
    is shown.
    """
    state = place / "state"
    state.mkdir(mode=0o700)
    path = state / "cidermill.db"
    upgrade(path)
    now = utcnow()
    pattern = Job(
        id=0, run_id=0, run_attempt=1, name="build", workflow="CI", repository="acme/old", repository_id=1,
        organization=False, private=True, labels=("busy",), status=JobStatus.COMPLETED, conclusion="success",
        runner="", url="", queued_at=now, received_at=now, started_at=now, completed_at=now, pool="busy",
    )  # fmt: skip
    jobs = []
    for n in range(ended):
        at = now - WEEK * n / ended
        queued_at, started_at = at - timedelta(seconds=600 + n % 900), at - timedelta(seconds=500)
        jobs.append(replace(
            pattern, id=n + 1, run_id=n + 1, runner=f"bench-busy-{n:08}", queued_at=queued_at, received_at=queued_at,
            started_at=started_at, completed_at=at,
        ))  # fmt: skip
    for n in range(ended, ended + queued):
        at = now - timedelta(seconds=n)
        jobs.append(replace(
            pattern, id=n + 1, run_id=n + 1, status=JobStatus.QUEUED, conclusion=None, runner=None, queued_at=at,
            received_at=at, started_at=None, completed_at=None, repository=f"acme/r{n % 50}", checked_at=now,
        ))  # fmt: skip
    engine = open_engine(path)
    with engine.begin() as connection:
        connection.execute(JOB.insert(), [job_values(job) for job in jobs])
        for job in jobs[:SHOWN]:
            _write_runner(connection, job)
    engine.dispose()


def _write_runner(connection: Connection, job: Job) -> None:
    """Write the runner that took *job*, and its way from claim to end."""
    pool = Pool(name="busy", labels=("busy",), image="sequoia", repositories=("acme/*",))
    states = [state for state in RunnerState if state is not RunnerState.READY]
    runner = Runner(
        name=str(job.runner), slot="1", spec=pool, state=RunnerState.GONE, since=job.received_at,
        created_at=job.received_at,
    )  # fmt: skip
    connection.execute(RUNNER.insert(), runner_values(runner))
    way = [
        {"runner": runner.name, "from_state": None, "to_state": state, "at": job.received_at + timedelta(seconds=n), "reason": ""}
        for n, state in enumerate(states)
    ]  # fmt: skip
    connection.execute(HISTORY.insert(), way)


async def _passes(server: Server) -> tuple[float, float]:
    found = dict(PASSES.findall(await server.text("/metrics")))
    return float(found["count"]), float(found["sum"])


async def _page(server: Server) -> float:
    began = perf_counter()
    await server.get("/api/v1/jobs?limit=50")
    return perf_counter() - began
