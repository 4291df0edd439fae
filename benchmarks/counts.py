"""The work that a job and a pass cost, counted: the same on every machine, so that CI can hold it to a limit.

``python -m benchmarks --check counts`` fails where one is above it. The limits leave room for a slow machine, where more looks are taken meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import psutil

from app.sandbox.outside import outside
from benchmarks.inside import Inside, inside
from benchmarks.measures import Measure
from benchmarks.place import POOLS, SEED, note_commands, running, started_log

JOBS = 10
PASSES = 10
LIMIT_SECONDS = 300.0
MINUTE = 60.0


async def measure(*, short: bool) -> list[Measure]:
    """Count with 10 and with 1,000 jobs that wait in a pool that is full, and over an idle minute (a third in the short form)."""
    found = [await _idle(MINUTE / 3 if short else MINUTE)]
    for backlog in (10, 1000):
        async with outside(SEED) as (model, api_url, place):
            note_commands(place)
            tart = {
                "CIDERMILL_TART_PATH": str(place / "bin" / "tart"),
                "CIDERMILL_TART_HOME": str(place / "tart"),
            }
            async with inside(model, api_url, place, POOLS, tart) as app:
                found += await _with(app, place, backlog)
    return found


async def _with(app: Inside, place: Path, backlog: int) -> list[Measure]:
    await app.queue(backlog, "acme/lib", ("busy",), 3600.0)
    await _until_recorded(app, backlog - 1)
    app.database.clear()
    for _ in range(PASSES):
        (await app.client.post("/api/v1/reconcile")).raise_for_status()
    for_passes = app.database.total() / PASSES
    app.github.clear()
    before = (await app.passes())["count"]
    started_log(place).write_text("", encoding="utf-8")
    await app.queue(JOBS, "acme/app", ("quick",), 0.0)
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await _is_through(app):
            await asyncio.sleep(0.2)
    lines = started_log(place).read_text(encoding="utf-8").splitlines()
    commands = Counter(line.split()[1] for line in lines)
    passes = (await app.passes())["count"] - before
    size = f"{backlog:,} queued"
    return [
        Measure(f"{size}: statements a pass", for_passes, "", "≤ 20"),
        Measure(f"{size}: passes a job", passes / JOBS, "", "≤ 40"),
        Measure(f"{size}: tart commands a job", (commands.total() - commands["list"]) / JOBS, "", "≤ 14"),
        Measure(f"{size}: GitHub calls a job", app.github.total() / JOBS, "", "≤ 8"),
    ]


async def _until_recorded(app: Inside, count: int) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while (await app.get("/api/v1/status"))["queued"] < count:
            await asyncio.sleep(0.2)


async def _is_through(app: Inside) -> bool:
    """Whether all jobs that are looked at ended, and their VMs are gone."""
    quick = [job for job in app.model.workflows.jobs.values() if "quick" in job.labels]
    if any(job.status != "completed" for job in quick):
        return False
    slots = await app.get("/api/v1/slots")
    return all(slot["runner"] is None or "-busy-" in slot["runner"] for slot in slots)


async def _idle(seconds: float) -> Measure:
    """Count how often an idle server wakes up: how often it gave its core back by itself."""
    async with running(POOLS) as (server, _, _):
        await asyncio.sleep(5)
        before = _woken(server.pid)
        await asyncio.sleep(seconds)
        woken = _woken(server.pid) - before
    return Measure("wake-ups in an idle minute", woken * MINUTE / seconds, "", "≤ 1500")


def _woken(pid: int) -> int:
    """Return how often the threads of a process waited for something so far."""
    threads = psutil.Process(pid).threads()
    return sum(psutil.Process(thread.id).num_ctx_switches().voluntary for thread in threads)
