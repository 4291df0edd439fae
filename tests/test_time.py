"""Waits, limits and a clock that jumps, between a simulated host and a simulated GitHub, on virtual time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from app.sandbox import github_faults as faults
from tests.builders import a_pool
from tests.simulation.site import VIRTUAL_TIME
from tests.test_reconcile import LONG, a_site, one_of_two_runs, queue

pytestmark = VIRTUAL_TIME


async def test_a_mint_that_must_wait(tmp_path: Path) -> None:
    """Where GitHub's limit let nothing be registered, the VM that is ready is kept for when it may."""
    async with a_site(tmp_path) as site:
        site.start()
        site.model.faults.add("mint", faults.secondary_limit(retry_after=30))
        job = queue(site)
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (job.conclusion, site.host.calls["start"], site.model.faults.calls["mint"]) == (
            "success",
            1,
            2,
        )


@pytest.mark.parametrize(
    ("hours", "away"),
    [
        pytest.param(8, True, id="ahead while we are away"),
        pytest.param(-8, False, id="back before our eyes"),
        pytest.param(8, False, id="ahead before our eyes", marks=pytest.mark.long),
        pytest.param(-8, True, id="back while we are away", marks=pytest.mark.long),
    ],
)
async def test_the_clock_jumps(tmp_path: Path, hours: int, *, away: bool) -> None:
    """A Mac that slept, or whose clock was set: the job that runs goes on, and the next one is served."""
    async with a_site(tmp_path, slots=1) as site:
        site.start()
        jobs = await one_of_two_runs(site, seconds=600)
        await site.pass_time(60)
        if away:
            await site.kill()
        site.skew = timedelta(hours=hours)
        if away:
            site.start()
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert {job.conclusion for job in jobs} == {"success"}
        assert site.host.calls["start"] == 2


async def test_time_limits(tmp_path: Path) -> None:
    """A boot that never ends and a job that never ends are ended by their limits, and others are served."""
    pool = a_pool(boot_timeout=timedelta(minutes=2), job_timeout=timedelta(minutes=10))
    async with a_site(tmp_path, pools=(pool,)) as site:
        site.start()
        endless, quick = queue(site, seconds=1e6), queue(site, "acme/lib")
        await site.until(lambda: quick.conclusion == "success", within=LONG)
        await site.until(site.is_drained, within=LONG)
        assert endless.conclusion not in {None, "success"}
        assert "job_timeout" in {runner.reason for runner in site.runners(gone=True)}


async def test_a_ghost_whose_guest_is_silent(tmp_path: Path) -> None:
    """GitHub does not know it and its guest says nothing: it may run a job, so it gets a job's time, and no more."""
    pool = a_pool(job_timeout=timedelta(minutes=30))
    async with a_site(tmp_path, pools=(pool,), slots=1) as site:
        site.start()
        site.model.runners.ghosts = 1
        job = queue(site)
        await site.until(site.runners)
        site.trouble.silent.add(site.runners()[0].name)
        await site.pass_time(1500)
        assert site.states() == ["busy"]
        await site.until(site.is_drained, within=LONG)
        assert job.conclusion == "success"
        assert {runner.reason for runner in site.runners(gone=True)} == {"job_timeout", "job_completed"}
