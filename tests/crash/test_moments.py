"""The real process under load, killed at any moment or told to stop: VMs and their jobs go on."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
from functools import partial

import psutil
import pytest

from app.vm.locks import owner_of
from tests.crash.site import Site, a_site

MOMENTS = 50
ALL_SECONDS = 600.0
LONGEST = 60  # steps of a process; two jobs make some 150
REPOSITORIES = ("acme/app", "acme/lib")


def alive(site: Site) -> dict[str, int]:
    """Return the VMs that run, each with its process."""
    found = {name: owner_of(site.place / "tart" / "vms" / name) for name in site.vms()}
    return {name: pid for name, pid in found.items() if pid}


async def check(site: Site) -> None:
    assert {job.conclusion for job in site.jobs} == {"success"}
    assert not await site.problems()


@pytest.mark.crash
@pytest.mark.timeout(1200)
async def test_killed_at_any_moment() -> None:
    """However often it is killed, and whenever: every job runs once, and nothing is left."""
    seed = secrets.randbelow(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    async with a_site(seed) as site:
        for _ in range(MOMENTS):
            site.queue(rng.uniform(0.0, 4.0), rng.choice(REPOSITORIES))
            before = len(site.steps())
            await site.start()
            await site.until(partial(has_made, site, before + rng.randrange(1, LONGEST)))
            await site.kill()
        await site.start()
        await site.until(site.is_drained, within=ALL_SECONDS)  # most jobs still wait
        await check(site)


def has_made(site: Site, steps: int) -> bool:
    return len(site.steps()) >= steps or site.is_drained()


@pytest.mark.crash
async def test_a_running_job_never_notices() -> None:
    """Killed, or told to stop, under load: its VM and its worker go on, and the next process takes them up."""
    async with asyncio.TaskGroup() as side_by_side:
        for number in (signal.SIGKILL, signal.SIGTERM):
            side_by_side.create_task(ended_while_it_runs(number))


async def ended_while_it_runs(number: signal.Signals) -> None:
    async with a_site(3) as site:
        await site.start()
        job = site.queue(held=True)
        await site.until(lambda: site.runs(job))
        site.queue(repository="acme/lib")
        await site.until(lambda: len(site.vms()) == 2)  # the other is being cloned, or boots
        vm, worker = site.runs(job)[0].split()
        running = alive(site)[vm]
        await site.end(number)
        assert site.exit_code() in {0, -number}
        assert alive(site)[vm] == running
        assert psutil.pid_exists(int(worker))
        await site.start()
        await site.until(lambda: "vms.follow after" in site.steps())
        assert alive(site)[vm] == running
        assert job.status == "in_progress"
        site.let_go()
        await site.until(site.is_drained)
        await check(site)
