"""What the service costs while nothing happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from app.db.migrate import upgrade
from benchmarks.measures import Measure
from benchmarks.place import POOLS, running


async def measure(*, short: bool) -> list[Measure]:
    """Measure processor time and memory of an idle server; what it starts (looks at the host) counts as well.

    Its database is there, as at any start but the first, which keeps what migrates it in memory: 10 MiB.
    """
    seconds = 15 if short else 60
    async with running(POOLS, before=_migrated) as (server, _, _):
        process = psutil.Process(server.pid)
        await asyncio.sleep(5)
        before = _spent(process)
        await asyncio.sleep(seconds)
        spent, resident = _spent(process) - before, process.memory_info().rss / 2**20
    return [
        Measure("idle, share of one core", 100 * spent / seconds, "%", "≤ 0.5"),
        Measure("idle, resident", resident, "MiB", "≤ 120"),
    ]


def _migrated(place: Path) -> None:
    state = place / "state"
    state.mkdir(mode=0o700)
    upgrade(state / "cidermill.db")


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
