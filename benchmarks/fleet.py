"""A fleet behind a real Orchard controller: how soon all its places are taken, and what a job costs as it grows.

The workers are synthetic and the guests are played (:mod:`tests.vm.synthetic`). All but Orchard itself is one process here, so
that a pass shares its time with the load.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import pytest

from app.clock import utcnow
from app.domain.plan import plan
from app.domain.world import World
from app.sandbox.outside import IMAGE, outside
from benchmarks.inside import inside
from benchmarks.measures import Measure
from tests.vm.real_orchard import TOKENS, located
from tests.vm.synthetic import Guests, synthetic_fleet

SEED = 1
SCHEDULER = 5.0  # s, between two passes of the controller's scheduler
LOOK = 0.5  # s
PLANS = 21
JOB = 10.0  # s
LIMIT = 3600.0  # s
LABELS = ("self-hosted", "Linux", "mac")
CONFIG = f"""\
host_name = "bench"

[[pool]]
name = "mac"
labels = ["mac"]
image = "{IMAGE}"
repositories = ["acme/*"]
cpu = 4
memory_mib = 4096

[pool.orchard]
os = "linux"
arch = "amd64"
runtime = "vetu"
resources = {{ "org.cirruslabs.tart-vms" = 1 }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a number of jobs took."""

    jobs: int
    well: int  # of them that ended so
    full: float  # s, from the first job until every place was taken
    seconds: float  # until all was over
    passes: float
    pass_seconds: float  # all of them
    plan: float  # s, of one plan while every place was taken and the other jobs waited
    orchard: Counter[str]  # calls, by what was asked
    github: Counter[str]

    @property
    def scheduler_passes(self) -> int:
        """How many passes of the controller's scheduler went by until every place was taken."""
        return int(self.full // SCHEDULER) + 1

    def for_a_job(self, *, lists: bool) -> float:
        """Return the calls to the controller that a job cost; the *lists* are of the whole fleet, whoever it is for."""
        counted = {what: n for what, n in self.orchard.items() if (what in LISTS) is lists}
        return sum(counted.values()) / self.jobs


LISTS = frozenset({"GET /v1/vms", "GET /v1/workers", "GET /v1/controller/info"})


async def measure(*, short: bool) -> list[Measure]:
    """Measure with 10 and with 50 workers, 20 jobs for each place (4 in the short form). Without a binary, nothing."""
    try:
        located()
    except pytest.skip.Exception as reason:
        print(f"fleet: skipped, {reason}")  # a benchmark's report
        return []
    found: list[Measure] = []
    for workers in (10, 50):
        work = await worked(workers, 2 * workers * (4 if short else 20))
        size = f"{workers} workers, {work.jobs:,} jobs"
        found += [
            Measure(f"{size}: passes of its scheduler until full", work.scheduler_passes, "", "≤ 6"),
            Measure(f"{size}: a pass, mean", 1000 * work.pass_seconds / work.passes, "ms"),
            Measure(f"{size}: of it a plan, all places taken", 1000 * work.plan, "ms"),
            Measure(f"{size}: calls to Orchard a job", work.for_a_job(lists=False), ""),
            Measure(f"{size}: lists of the fleet a job", work.for_a_job(lists=True), ""),
            Measure(f"{size}: calls to GitHub a job", work.github.total() / work.jobs, ""),
            Measure(f"{size}: jobs a minute", 60 * work.jobs / work.seconds, ""),
        ]
    return found


async def worked(workers: int, jobs: int) -> Work:
    """Run *jobs* on a fleet to their end."""
    loop = asyncio.get_running_loop()
    places = 2 * workers
    async with AsyncExitStack() as stack:
        model, api_url, place = await stack.enter_async_context(outside(SEED))
        (place / "fleet").mkdir()
        guests = Guests(await stack.enter_async_context(synthetic_fleet(place / "fleet", workers)), model)
        await stack.enter_async_context(guests.serving())
        backend = {
            "CIDERMILL_BACKEND": "orchard",
            "CIDERMILL_ORCHARD_URL": guests.url,
            "CIDERMILL_ORCHARD_ACCOUNT": "cidermill",
            "CIDERMILL_ORCHARD_TOKEN": TOKENS["cidermill"],
        }
        app = await stack.enter_async_context(inside(model, api_url, place, CONFIG, backend))
        guests.calls.clear()
        app.github.clear()
        before = await app.passes()
        began = loop.time()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as side_by_side:
            side_by_side.create_task(app.queue(jobs, "acme/app", LABELS, JOB))
            while await guests.placed() < places:
                await asyncio.sleep(LOOK)
            full, planning = loop.time() - began, plan_seconds(app.world())
        async with asyncio.timeout(LIMIT):
            while (
                any(job.status != "completed" for job in model.workflows.jobs.values())
                or await guests.placed()
            ):
                await asyncio.sleep(LOOK)
        after = await app.passes()
        return Work(
            jobs=jobs,
            well=sum(job.conclusion == "success" for job in model.workflows.jobs.values()),
            full=full,
            seconds=loop.time() - began,
            passes=after["count"] - before["count"],
            pass_seconds=after["sum"] - before["sum"],
            plan=planning,
            orchard=guests.calls,
            github=app.github,
        )


def plan_seconds(world: World) -> float:
    """Return how long half of a few plans for one world take at the most."""
    spans = []
    for _ in range(PLANS):
        began = perf_counter()
        plan(world, now=utcnow())
        spans.append(perf_counter() - began)
    return median(spans)
