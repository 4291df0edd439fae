"""An image whose tag moves on while jobs come and our processes die, on virtual time."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.ports import VMError
from tests.builders import a_pool
from tests.simulation.site import VIRTUAL_TIME, Site

pytestmark = VIRTUAL_TIME
SPAN = 60.0  # s, between two questions to the registry
IMAGE = "ghcr.io/acme/macos:latest"
LABELS = ("self-hosted", "mac")


class Moving(Site):
    """A site with an image of a registry, asked about every SPAN."""

    def publish(self, number: int) -> str:
        digest = self.host.registry[IMAGE] = f"{number:064x}"[::-1]
        return digest

    async def begin(self) -> None:
        """Start a process that refreshes."""
        process = self.start()
        setup = replace(process.reconciler.setup, image_refresh=timedelta(seconds=SPAN))
        await process.reconciler.configure(setup)


def a_site(place: Path, seed: int = 0) -> Moving:
    site = Moving(place, seed=seed, pools=(a_pool(image=IMAGE),))
    site.model.accounts.add_repository("acme/app")
    site.model.accounts.install("acme")
    site.host.images.discard(IMAGE)
    site.publish(0)
    return site


@pytest.mark.parametrize("seed", range(2))
async def test_a_tag_that_moves_on_under_load(tmp_path: Path, seed: int) -> None:
    """However often it moves on and we die: every job is served, and the present digest and the one before are kept."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with a_site(tmp_path, seed) as site:
        await site.begin()
        jobs = []
        for number in range(1, 7):
            jobs.append(site.model.queue("acme/app", labels=LABELS, seconds=chance.uniform(30, SPAN)))
            newest = site.publish(number // 2)
            if chance.random() < 0.3:
                site.host.faults.prepare.append(VMError("the registry is away", reason="pull_failed"))
            await site.pass_time(chance.uniform(5, SPAN))
            if chance.random() < 0.5:
                await site.kill()
                await site.pass_time(chance.uniform(1, 60))
                await site.begin()
        await site.until(site.is_drained, within=600)
        await site.until(lambda: site.host.pulled[IMAGE][0] == newest, within=600)
        await site.until(lambda: len(site.host.pulled[IMAGE]) <= 2, within=600)
        site.check()
        assert {job.conclusion for job in jobs} == {"success"}


async def test_a_registry_that_is_away(tmp_path: Path) -> None:
    """Jobs are served from what is here for as long as the registry is away."""
    async with a_site(tmp_path) as site:
        await site.begin()
        await site.until(lambda: site.host.pulled, within=60)
        site.host.faults.prepare.extend(VMError("away", reason="pull_failed") for _ in range(200))
        await site.pass_time(3 * SPAN)
        job = site.model.queue("acme/app", labels=LABELS, seconds=30)
        await site.until(site.is_drained)
        assert job.conclusion == "success"
        assert 2 < site.host.calls["prepare"] < 20
        site.check()


async def test_a_job_does_not_wait_for_a_pull(tmp_path: Path) -> None:
    """A job that comes while a new image is pulled starts from the one that is here."""
    async with a_site(tmp_path) as site:
        await site.begin()
        await site.until(lambda: site.host.pulled, within=60)
        site.publish(1)
        site.host.pull_seconds = SPAN
        await site.until(lambda: site.host.calls["prepare"] == 2, within=600)
        job = site.model.queue("acme/app", labels=LABELS, seconds=30)
        await site.until(lambda: job.conclusion == "success", within=120)
        assert len(site.host.pulled[IMAGE]) == 1
        await site.until(lambda: len(site.host.pulled[IMAGE]) == 2, within=600)
        await site.until(site.is_drained)
        site.check()
