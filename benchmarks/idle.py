"""What the service costs while nothing happens."""

from __future__ import annotations

import asyncio

import psutil

from benchmarks.measures import Measure
from benchmarks.place import POOLS, running


async def measure(*, short: bool) -> list[Measure]:
    """Measure processor time and memory of an idle server; what it starts (looks at the host) counts as well."""
    seconds = 15 if short else 60
    async with running(POOLS) as (server, _, _):
        process = psutil.Process(server.pid)
        await asyncio.sleep(5)
        before = _spent(process)
        await asyncio.sleep(seconds)
        spent, resident = _spent(process) - before, process.memory_info().rss / 2**20
    return [
        Measure("idle, share of one core", 100 * spent / seconds, "%", "≤ 0.5"),
        Measure("idle, resident", resident, "MiB", "≤ 120"),
    ]


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
