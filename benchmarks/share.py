"""Our own share of a job's wait: from the webhook to tart's first command, and from a VM's end to the next launch.

What the stand-in of tart takes is not ours and is not counted: these are control-plane times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from app.sandbox.github import ModelGitHub
from app.sandbox.github_values import Job
from app.sandbox.server import Server
from benchmarks.measures import Measure, percentile
from benchmarks.place import POOLS, running, started_log

BACKLOG = 1000
LIMIT_SECONDS = 120.0


async def measure(*, short: bool) -> list[Measure]:
    """Measure both with a backlog of jobs that wait in another pool."""
    jobs, backlog = (8, 100) if short else (30, BACKLOG)
    async with running(POOLS) as (server, model, place):
        for n in range(backlog):
            model.queue("acme/lib", f"long ({n})", ("busy",), seconds=600.0)
            await asyncio.sleep(0)
        await _until(lambda: _recorded(server), at_least=backlog - 1)
        starts = [await _one_alone(server, model, place) for _ in range(jobs)]
        turns = await _one_after_another(server, model, place, jobs)
    return [
        Measure(
            f"webhook → first tart command, {backlog} queued, p50",
            percentile(starts, 0.5) * 1000,
            "ms",
            "≤ 25",
        ),
        Measure(
            f"webhook → first tart command, {backlog} queued, p99",
            percentile(starts, 0.99) * 1000,
            "ms",
            "≤ 100",
        ),
        Measure(
            "VM ended → next launch, beyond tart's delete, p50", percentile(turns, 0.5) * 1000, "ms", "≤ 100"
        ),
        Measure("VM ended → next launch, beyond tart's delete, p99", percentile(turns, 0.99) * 1000, "ms"),
    ]


async def _recorded(server: Server) -> int:
    return int((await server.get("/api/v1/status"))["queued"])


async def _until(number: Callable[[], Awaitable[int]], *, at_least: int) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while await number() < at_least:
            await asyncio.sleep(0.2)


async def _one_alone(server: Server, model: ModelGitHub, place: Path) -> float:
    """Return the time from a webhook, received while the slot is free, to the launch's first command."""
    job = model.queue("acme/app", "alone", ("quick",), seconds=0.0)
    await _done([job])
    runner = await _gone(server, job)
    received = _time((await server.get(f"/api/v1/jobs/{job.id}"))["received_at"])
    return commands(place)["clone", runner] - received


async def _one_after_another(server: Server, model: ModelGitHub, place: Path, jobs: int) -> list[float]:
    """Return the times between the end of each VM and the next launch, less the time of tart's own delete."""
    queued = [model.queue("acme/app", f"turn ({n})", ("quick",), seconds=0.0) for n in range(jobs)]
    await _done(queued)
    names = [await _gone(server, job) for job in queued]
    ran = commands(place)
    order = sorted(names, key=lambda name: ran["clone", name])
    spans = []
    for name, following in pairwise(order):
        ended = (place / "state" / "runners" / name / "run.log").stat().st_mtime
        history = (await server.get(f"/api/v1/runners/{name}"))["history"]
        gone = next(_time(row["at"]) for row in history if row["to_state"] == "gone")
        deleting = gone - ran["delete", name]
        spans.append(ran["clone", following] - ended - deleting)
    return spans


def commands(place: Path) -> dict[tuple[str, str], float]:
    """Return when each VM's commands were first started: (verb, VM) → seconds of the epoch."""
    first: dict[tuple[str, str], float] = {}
    for line in started_log(place).read_text(encoding="utf-8").splitlines():
        at, verb, last, *_ = line.split()
        first.setdefault((verb, last), float(at))
    return first


async def _done(jobs: list[Job]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while any(job.status != "completed" for job in jobs):
            await asyncio.sleep(0.05)


async def _gone(server: Server, job: Job) -> str:
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            runner = await server.get(f"/api/v1/runners/{job.runner_name}")
            if runner["state"] == "gone":
                return str(runner["name"])
            await asyncio.sleep(0.05)


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
