"""Images that the Macs of a fleet are had fetch while jobs come and our processes die, on virtual time."""

from __future__ import annotations

from pathlib import Path

from app.domain.runners import Purpose, Runner
from app.ports import VMError
from tests.builders import a_pool
from tests.simulation.site import VIRTUAL_TIME, Site
from tests.test_reconcile import a_site, queue

pytestmark = VIRTUAL_TIME
IMAGE = "ghcr.io/acme/mac:1"
LONG = 4000.0  # virtual seconds
TAKES = 300.0  # for a Mac to fetch an image


def pulls(site: Site, *, live: bool = False) -> list[Runner]:
    return [runner for runner in site.runners(gone=not live) if runner.purpose is Purpose.PULL]


async def a_fleet_site(place: Path) -> Site:
    """Return a site whose one Mac is one of a fleet, with a pool of a registry's image."""
    site = a_site(place)
    site.host.name, site.host.fetches, site.host.pull_seconds = "mini2", True, TAKES
    await site.configure(a_pool(image=IMAGE))
    return site


async def test_an_image_is_fetched_ahead_of_jobs(tmp_path: Path) -> None:
    """It is once, in a slot beside the one in which a job runs, and known over a restart; asked for, it is again."""
    site = await a_fleet_site(tmp_path)
    async with site:
        site.start()
        await site.until(lambda: pulls(site, live=True))
        job = queue(site, seconds=10)
        await site.until(lambda: job.conclusion, within=TAKES)
        assert job.conclusion == "success"
        assert pulls(site, live=True)
        await site.until(site.is_drained, within=LONG)
        assert [(runner.reason, runner.image) for runner in pulls(site)] == [
            ("fetched", f"{IMAGE}@sha256:model")
        ]
        await site.kill()
        site.start()
        await site.pass_time(600)
        assert site.host.calls["fetch"] == 1
        site.reconciler.tend_images(refresh=[IMAGE])
        await site.until(lambda: site.host.calls["fetch"] == 2)
        await site.until(site.is_drained, within=LONG)
        site.check()


async def test_a_pull_that_fails_or_is_cut_off(tmp_path: Path) -> None:
    """It is begun anew after a while, and nothing is left of the one before."""
    site = await a_fleet_site(tmp_path)
    async with site:
        site.host.faults.fetch.append(VMError("the registry is away", reason="pull_failed"))
        site.start()
        await site.until(lambda: len(pulls(site)) == 1)
        await site.until(lambda: pulls(site, live=True), within=LONG)
        await site.kill()
        site.start()
        await site.until(lambda: len(pulls(site)) == 3, within=LONG)
        await site.until(site.is_drained, within=LONG)
        assert [runner.reason for runner in pulls(site)] == ["pull_failed", "interrupted", "fetched"]
        site.check()
