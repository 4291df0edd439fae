"""Goldens that are made, resumed and renewed while jobs come and our processes die, on virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.domain.pools import Start
from app.domain.runners import Purpose, Runner
from app.ports import VMError
from tests.builders import a_pool
from tests.simulation.site import VIRTUAL_TIME, Site
from tests.test_bases import AtFirst
from tests.test_reconcile import a_site, queue

pytestmark = VIRTUAL_TIME
LONG = 4000.0  # virtual seconds
TAKES = 60.0  # to make a golden
MORE = pytest.mark.long  # a variant of a row beside it
POOL = a_pool(start=Start.SNAPSHOT)


def makings(site: Site, *, live: bool = False) -> list[Runner]:
    return [runner for runner in site.runners(gone=not live) if runner.purpose is Purpose.GOLDEN]


def golden_site(place: Path, **options: Any) -> Site:
    site = a_site(place, pools=(POOL,), **options)
    site.host.prepare_seconds = TAKES
    return site


async def settled(site: Site, count: int = 2) -> None:
    """Wait until all goldens are there, and nothing is under way."""
    await site.until(lambda: len(site.host.goldens) == count and site.is_drained(), within=LONG)


def starts(site: Site, start: Start) -> float:
    assert site.process is not None
    labels = {"pool": "mac", "start": start}
    return site.process.metrics.registry.get_sample_value("cidermill_starts_total", labels) or 0.0


async def test_jobs_run_on_clones_of_them(tmp_path: Path) -> None:
    """One for each slot is made while nothing waits; then jobs run on clones of them, and no more are made."""
    async with golden_site(tmp_path) as site:
        site.start()
        await settled(site)
        assert [runner.reason for runner in makings(site)] == ["golden_made"] * 2
        for _ in range(3):
            jobs = [queue(site) for _ in range(2)]
            await site.until(site.is_drained)
            assert [job.conclusion for job in jobs] == ["success"] * 2
        assert (starts(site, Start.SNAPSHOT), starts(site, Start.COLD)) == (6, 0)
        assert (site.host.calls["make_golden"], sum(site.host.resumes.values())) == (2, 6)
        site.check()


async def test_jobs_never_wait_for_one(tmp_path: Path) -> None:
    """A job that comes while one is made in the only slot has that slot at once, and boots."""
    async with golden_site(tmp_path, slots=1) as site:
        site.start()
        await site.until(lambda: makings(site, live=True), within=LONG)
        job = queue(site)
        await site.until(lambda: job.conclusion, within=TAKES)
        assert starts(site, Start.COLD) == 1
        await settled(site, 1)
        assert [runner.reason for runner in makings(site)] == ["yielded", "golden_made"]
        site.check()


async def test_a_resume_that_fails(tmp_path: Path) -> None:
    """Its job boots, its golden is made anew, and however often that happens the waits grow."""
    async with golden_site(tmp_path) as site:
        site.start()
        await settled(site)
        for _ in range(3):
            site.host.faults.resume.append(VMError("it fails", reason="restore_failed"))
            job = queue(site)
            await site.until(site.is_drained)
            assert job.conclusion == "success"
        assert (starts(site, Start.COLD), site.host.calls["start"]) == (3, 3)
        await settled(site)
        queue(site)
        await site.until(site.is_drained)
        assert starts(site, Start.SNAPSHOT) == 1
        world = site.reconciler.world
        assert world is not None
        assert not [cooldown for cooldown in world.cooldowns if cooldown.scope == "golden:mac"]
        site.check()


async def test_what_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    """Launches boot, however often it fails; the waits grow."""
    async with golden_site(tmp_path) as site:
        site.host.faults.make_golden.extend(VMError("it fails", reason="suspend_failed") for _ in range(4))
        site.start()
        await site.until(lambda: site.host.calls["make_golden"] >= 2, within=LONG)
        job = queue(site)
        await site.until(lambda: job.conclusion, within=TAKES)
        await settled(site)
        assert site.host.calls["make_golden"] == 6
        site.check()


async def test_they_are_made_anew(tmp_path: Path) -> None:
    """When the image was built anew, tart was upgraded or the pool changed, what serves nothing goes first."""
    async with golden_site(tmp_path) as site:
        site.start()
        await settled(site)
        for change in ("image", "system", "pool"):
            before = set(site.host.goldens)
            if change == "image":
                site.host.built["sequoia"] = 1
            elif change == "system":
                site.host.system = "another"
            else:
                await site.configure(a_pool(start=Start.SNAPSHOT, cpu=8))
            await site.until(lambda before=before: not before & set(site.host.goldens), within=LONG)
            await settled(site)
        await site.configure(a_pool())
        await settled(site, 0)
        site.check()


@pytest.mark.parametrize(
    ("verb", "after"),
    [
        pytest.param("claim", True, id="after the claim"),
        pytest.param("advance", True, id="after the first state", marks=MORE),
        pytest.param("make_golden", False, id="before it is made", marks=MORE),
        pytest.param("make_golden", True, id="after it is made"),
        pytest.param("delete", False, id="before its VM is removed", marks=MORE),
        pytest.param("delete", True, id="after its VM was removed", marks=MORE),
    ],
)
async def test_whenever_we_die(tmp_path: Path, verb: str, *, after: bool) -> None:
    """Whatever step of it a process dies at, the next one goes on: as many as are wanted, and nothing else."""
    async with golden_site(tmp_path) as site:
        process = site.start(AtFirst(verb=verb, after=after))
        await site.until(process.ended.is_set, within=LONG)
        await site.kill()
        site.start()
        await settled(site)
        queue(site)
        await site.until(site.is_drained)
        assert starts(site, Start.SNAPSHOT) == 1
        site.check()
