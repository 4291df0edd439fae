"""Memory over a simulated week: the reconciler and its store on virtual time, against the sandbox's models.

What is counted is what the code of CiderMill and of its libraries holds; the models and the witnesses of a simulation, which
keep all that ever was, are not.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import looptime

from app import logs
from benchmarks.measures import Measure
from tests.test_reconcile import a_site, queue

SEED = 1
DAY, HOUR = 86_400.0, 3600.0  # s
BETWEEN = 600.0  # s, from one job to the next
PARTS = 7
COUNTED = (
    tracemalloc.Filter(inclusive=True, filename_pattern="*/app/*"),
    tracemalloc.Filter(inclusive=True, filename_pattern="*/site-packages/*"),
)
LEFT_OUT = tracemalloc.Filter(inclusive=False, filename_pattern="*/app/sandbox/*")


async def measure(*, short: bool) -> list[Measure]:
    """Measure seven days, and in the short form seven hours."""
    held = await asyncio.to_thread(lived, HOUR if short else DAY)
    what = "hour" if short else "day"
    return [
        Measure(f"held after a simulated {what}", held[0], "MiB"),
        Measure(f"grown from the first of seven {what}s to the last", held[-1] - held[0], "MiB", "≤ 1"),
    ]


def lived(part: float) -> list[float]:
    """Return the MiB held at the end of each of seven parts of a time, so many seconds each."""
    logs.configure("error", "json", ())
    tracemalloc.start()
    try:
        with TemporaryDirectory() as place:
            loop = looptime.new_event_loop()
            try:
                return loop.run_until_complete(_live(Path(place), part))
            finally:
                loop.close()
    finally:
        tracemalloc.stop()


async def _live(place: Path, part: float) -> list[float]:
    chance = random.Random(SEED)  # noqa: S311  # a simulation's
    held: list[float] = []
    async with a_site(place) as site:
        site.start()
        for _ in range(PARTS):
            for _ in range(int(part / BETWEEN)):
                queue(site, chance.choice(("acme/app", "acme/lib")), seconds=chance.uniform(60, 900))
                await site.pass_time(BETWEEN)
            held.append(_held())
    return held


def _held() -> float:
    gc.collect()
    counted = tracemalloc.take_snapshot().filter_traces(COUNTED).filter_traces([LEFT_OUT])
    return sum(trace.size for trace in counted.traces) / 2**20
