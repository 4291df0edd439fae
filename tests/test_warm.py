"""Warm VMs while jobs come, go and contend, on virtual time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.runners import Runner, RunnerState
from app.domain.warm import LASTS
from tests.builders import a_pool
from tests.simulation.layers import Fuse
from tests.simulation.site import VIRTUAL_TIME, Site
from tests.simulation.trouble import Latency
from tests.test_reconcile import a_site, queue

pytestmark = VIRTUAL_TIME
LONG = 4000.0  # virtual seconds
BOOT = 12.0
MINE, THEIRS = ("mac",), ("other",)


def warm_site(place: Path, *, mine: int = 1, theirs: int | None = None, **options: Any) -> Site:
    """Return a site with one pool, or two that share its slots, each keeping so many warm."""
    pools = [a_pool(min_ready=mine)]
    if theirs is not None:
        pools.append(a_pool(name="other", labels=THEIRS, min_ready=theirs))
    return a_site(place, pools=pools, latency=Latency(boot=(BOOT, BOOT), verb=(0.1, 0.1)), **options)


def warm(site: Site, pool: str = "mac") -> list[Runner]:
    return [r for r in site.runners() if r.pool == pool and r.state is RunnerState.READY]


def reasons(site: Site) -> list[str]:
    return sorted(runner.reason for runner in site.runners(gone=True))


async def end(site: Site) -> None:
    """Keep none any more: then nothing may be left."""
    await site.configure(*(a_pool(name=pool.name, labels=pool.labels) for pool in site.pools))
    await site.until(site.is_drained, within=LONG)
    site.check()


async def test_a_burst_after_idle(tmp_path: Path) -> None:
    """The first two jobs wait for no boot; each slot boots once for each job, and is warm again afterwards."""
    async with warm_site(tmp_path, mine=2) as site:
        site.start()
        await site.until(lambda: len(warm(site)) == 2)
        await site.pass_time(600)
        assert not site.model.runners.registrations  # no identity before there is a job
        jobs = [queue(site, seconds=20) for _ in range(4)]
        began = site.clock()
        await site.until(lambda: all(job.conclusion for job in jobs), within=LONG)
        waits = sorted((job.started_at - began).total_seconds() for job in jobs if job.started_at)
        assert waits[1] < BOOT < waits[2]
        await site.until(lambda: len(warm(site)) == 2)
        assert site.host.calls["start"] == 2 + 4
        await end(site)


async def test_two_pools_contend(tmp_path: Path) -> None:
    """Both want both slots: each keeps one, nobody is put out for the other's sake, and no job starves."""
    async with warm_site(tmp_path, mine=2, theirs=2) as site:
        site.start()
        await site.until(lambda: warm(site) and warm(site, "other"))
        await site.pass_time(600)
        assert site.host.calls["start"] == 2
        jobs = [queue(site, labels=labels, seconds=20) for labels in (MINE, THEIRS) * 3]
        await site.until(lambda: all(job.conclusion for job in jobs), within=LONG)
        await site.pass_time(600)
        assert len(warm(site)) + len(warm(site, "other")) == 2
        await end(site)


async def test_it_yields_to_another_class(tmp_path: Path) -> None:
    """With one slot a job of another pool has it at once, and the warm VM is back once it is over."""
    async with warm_site(tmp_path, theirs=0, slots=1) as site:
        site.start()
        await site.until(lambda: warm(site))
        began = site.clock()
        job = queue(site, labels=THEIRS)
        await site.until(lambda: job.started_at)
        assert job.started_at
        assert job.started_at - began < timedelta(seconds=BOOT + 12)
        await site.until(lambda: warm(site))
        assert (site.host.calls["start"], reasons(site)) == (3, ["guest_answers", "job_completed", "yielded"])
        await end(site)


async def test_a_burst_that_is_cancelled(tmp_path: Path) -> None:
    """Ten jobs of another pool come and are cancelled: each slot boots once for them, and once to be warm again."""
    async with warm_site(tmp_path, mine=2, theirs=0) as site:
        site.start()
        await site.until(lambda: len(warm(site)) == 2)
        jobs = [queue(site, labels=THEIRS) for _ in range(10)]
        await site.pass_time(5)
        for job in jobs:
            site.model.cancel(job)
        await site.until(lambda: len(warm(site)) == 2, within=LONG)
        await site.pass_time(600)
        assert site.host.calls["start"] <= 2 + 2 + 2
        await end(site)


async def test_a_job_that_is_cancelled_costs_no_boot(tmp_path: Path) -> None:
    """One that goes before its runner is minted leaves the warm VM as it was."""
    async with warm_site(tmp_path) as site:
        site.start()
        await site.until(lambda: warm(site))
        site.model.cancel(queue(site))
        await site.pass_time(600)
        assert (site.host.calls["start"], len(warm(site))) == (1, 1)
        await end(site)


async def test_the_image_changes(tmp_path: Path) -> None:
    """Both are renewed, one at a time, and jobs that come meanwhile are served."""
    async with warm_site(tmp_path, mine=2) as site:
        site.start()
        await site.until(lambda: len(warm(site)) == 2)
        old = {runner.name for runner in warm(site)}
        site.host.built["sequoia"] = 1
        fewest = 2
        while {runner.name for runner in warm(site)} & old or len(warm(site)) < 2:
            fewest = min(fewest, len(warm(site)))
            await site.pass_time(1)
            assert site.elapsed() < LONG
        assert (fewest, site.host.calls["start"]) == (1, 4)
        await end(site)


async def test_they_age(tmp_path: Path) -> None:
    """An old one is replaced, and the new one is up before the old one goes where there is room for both."""
    async with warm_site(tmp_path) as site:
        site.start()
        await site.until(lambda: warm(site))
        (old,) = warm(site)
        await site.kill()
        await site.pass_time(LASTS.total_seconds())
        site.start()
        while old in warm(site):
            await site.pass_time(1)
        assert len(warm(site)) == 1
        await site.until(lambda: reasons(site) == ["aged", "guest_answers"])
        await end(site)


async def test_a_crash_forgets_nothing(tmp_path: Path) -> None:
    """The next process takes warm VMs up as they are, and hands out what is there."""
    async with warm_site(tmp_path, mine=2) as site:
        site.start()
        await site.until(lambda: len(warm(site)) == 2)
        await site.kill()
        job = queue(site, seconds=20)
        site.start()
        await site.until(lambda: job.conclusion == "success", within=LONG)
        await site.until(lambda: len(warm(site)) == 2)
        assert site.host.calls["start"] == 3
        await end(site)


@pytest.mark.long
@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after its effect"])
async def test_crash_between_any_two_steps(tmp_path: Path, after: bool) -> None:
    """From the claim of a warm VM over its job to the next one: wherever our process ends, the next one goes on."""
    n = 0
    while True:
        n += 1
        async with warm_site(tmp_path / str(n), slots=1, seed=n) as site:
            fuse = Fuse(at=n, after=after)
            site.start(fuse)
            await site.until(lambda site=site, fuse=fuse: fuse.burnt or warm(site), within=LONG)
            job = queue(site, seconds=20.0)
            await site.until(
                lambda site=site, fuse=fuse, job=job: fuse.burnt or (job.conclusion and warm(site)),
                within=LONG,
            )
            burnt = fuse.burnt
            await site.kill()
            await site.pass_time(15)
            site.start()
            await site.until(lambda site=site, job=job: job.conclusion and warm(site), within=LONG)
            await end(site)
            assert job.conclusion == "success", f"ended at call {n}: {fuse.trail}"
            if not burnt:
                break
    assert n > 15
