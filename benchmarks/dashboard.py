"""The dashboard after a busy week: how soon it is there, counted anew and while a count stands."""

from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter

import httpx

from app.sandbox.server import Server
from app.web.lately import FRESH
from benchmarks.measures import Measure, percentile
from benchmarks.place import POOLS, running
from benchmarks.scale import fill

QUEUED = 100


async def measure(*, short: bool) -> list[Measure]:
    """Measure with 10,000 and with 100,000 jobs that ended in the last week (in the short form with the former)."""
    anew, looks = (2, 20) if short else (5, 100)
    measures = []
    for ended in (10_000,) if short else (10_000, 100_000):
        async with running(POOLS, before=partial(fill, queued=QUEUED, ended=ended)) as (
            server,
            _,
            _,
        ):
            counted, stands = await _looks(server, anew=anew, looks=looks)
        target = "≤ 100" if ended == 10_000 else ""
        measures += [
            Measure(f"dashboard, {ended:,} ended, counted anew, slowest", 1000 * max(counted), "ms", target),
            Measure(f"dashboard, {ended:,} ended, p50", 1000 * percentile(stands, 0.5), "ms"),
            Measure(f"dashboard, {ended:,} ended, p99", 1000 * percentile(stands, 0.99), "ms", target),
        ]
    return measures


async def _looks(server: Server, *, anew: int, looks: int) -> tuple[list[float], list[float]]:
    """Return how long looks took that had to count, and looks that came while the count stood."""
    once = httpx.Limits(max_keepalive_connections=0)  # the server closes those that rest
    async with httpx.AsyncClient(
        base_url=server.url, follow_redirects=True, limits=once, timeout=30.0
    ) as browser:
        (await browser.get(server.link)).raise_for_status()  # also reads the templates, which is done once
        counted = []
        for _ in range(anew):
            await asyncio.sleep(FRESH.total_seconds() + 1)
            counted.append(await _look(browser))
        return counted, [await _look(browser) for _ in range(looks)]


async def _look(browser: httpx.AsyncClient) -> float:
    began = perf_counter()
    (await browser.get("/")).raise_for_status()
    return perf_counter() - began
