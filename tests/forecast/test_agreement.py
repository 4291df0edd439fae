"""A forecast agrees with what really happened: the same jobs through the sandbox and through a replay.

The sandbox's GitHub gives a free runner any of the jobs that wait, the forecast the one that waits longest: the starts are
compared in their order, as if the first job that was queued had started first. Bounds: the mean wait, that of half of the jobs
and that of nine in ten differ by less than a tenth and two seconds; in real time, on a machine that does other things too, by a
quarter. A forecast has one length for each stage: by how much the lengths of the run itself scattered comes on top.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, median

import pytest

from app.clock import utcnow
from app.db.reader import Reader
from app.domain.jobs import Job, JobStatus
from app.domain.pools import Pool, pool_for
from app.domain.runners import RunnerState
from app.forecast.history import history
from app.forecast.outcome import Setup
from app.forecast.replay import replay
from app.forecast.sources import own
from app.forecast.timings import Timings, Way, measured
from app.sandbox.outside import IMAGE, outside
from app.sandbox.server import Server
from tests.builders import a_pool
from tests.test_reconcile import a_site, queue

CONFIG = f"""\
slots = 2
host_name = "mini"
min_free_disk_gb = 0

[[pool]]
name = "mac"
labels = ["mac"]
image = "{IMAGE}"
repositories = ["acme/*"]
"""
LABELS = ("self-hosted", "mac")


def assert_agreement(jobs: Sequence[Job], ways: dict[str, Way], pool: Pool, share: float = 0.1) -> None:
    timings, found = measured(Timings(), jobs, ways)
    assert found == {"hear", "boot", "pick_up", "end"}
    outcome = replay(history(jobs, [pool]), Setup(), timings)
    assert outcome is not None
    queued, started = (
        sorted(job.queued_at for job in jobs),
        sorted(j.started_at for j in jobs if j.started_at),
    )
    real = sorted((end - begin).total_seconds() for begin, end in zip(queued, started, strict=True))
    told = [wait.total_seconds() for wait in outcome.waits]
    assert len(told) == len(real) == len(jobs)
    rank = {share: int(len(jobs) * share) for share in (0.5, 0.9)}
    slack = 2.0 + scatter(ways)
    bounds = [
        (fmean(told), fmean(real)),
        (told[rank[0.5]], real[rank[0.5]]),
        (told[rank[0.9]], real[rank[0.9]]),
    ]
    for one, other in bounds:
        assert one == pytest.approx(other, abs=slack + share * other), (bounds, slack)


def scatter(ways: dict[str, Way]) -> float:
    """Return how much longer than half of the ways from claim to registration one in ten was."""
    spans = sorted(
        (way[RunnerState.REGISTERED] - way[RunnerState.CLAIMED]).total_seconds()
        for way in ways.values()
        if way.keys() >= {RunnerState.CLAIMED, RunnerState.REGISTERED}
    )
    return spans[int(len(spans) * 0.9)] - median(spans)


@pytest.mark.looptime
@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param(16, id="some"),
        pytest.param(150, id="many", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_on_virtual_time(tmp_path: Path, jobs: int) -> None:
    """Bursts and lulls, on the real reconciler, its database and the sandbox's GitHub."""
    chance = random.Random(jobs)
    async with a_site(tmp_path) as site:
        site.start()
        left = jobs
        while left:
            for _ in range(min(left, chance.choice((1, 1, 2, 5)))):
                queue(site, chance.choice(("acme/app", "acme/lib")), seconds=chance.uniform(5, 120))
                left -= 1
            await site.pass_time(chance.uniform(10, 300))
        await site.until(site.is_drained, within=20_000)
        past, ways, _ = await Reader(site.database).past(
            since=datetime.min.replace(tzinfo=utcnow().tzinfo), runners=1000
        )
    assert_agreement(past, {**ways}, a_pool())


@pytest.mark.long
@pytest.mark.parametrize("jobs", [pytest.param(8, id="short"), pytest.param(40, id="longer")])
@pytest.mark.timeout(300)
async def test_on_the_real_server(jobs: int) -> None:
    """The server as a process, with the simulated tart, in real time; the database is read beside it."""
    chance = random.Random(jobs)
    begun = utcnow() - timedelta(minutes=1)
    async with outside(1) as (model, api_url, place), Server(place, api_url, model, CONFIG) as server:
        model.point_hook(f"{server.url}/webhooks/github")
        made = []
        for _ in range(jobs):
            made.append(model.queue("acme/app", labels=LABELS, seconds=chance.uniform(1.0, 3.0)))
            await asyncio.sleep(chance.uniform(0.0, 2.0))
        while any(job.status != "completed" for job in made) or server.vms() != [IMAGE]:
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)  # the last transition is written
        read = await own(place / "state", begun)
    assert all(job.status is JobStatus.COMPLETED for job in read.jobs)
    pool = a_pool(image=IMAGE)
    assert pool_for(LABELS, "acme/app", [pool]) is pool
    assert_agreement(read.jobs, read.ways, pool, share=0.25)  # other tests run beside it
