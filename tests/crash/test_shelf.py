"""Jobs on a real Orchard, end to end, each round with one thing that goes wrong: nothing is lost, nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.crash.shelf import ShelfSite, a_shelf

pytestmark = [pytest.mark.orchard, pytest.mark.timeout(300)]
JOBS = 8  # a round


async def lost_answers(site: ShelfSite) -> None:
    """Lose the answers to three VMs that the controller took in."""
    site.wire.to_cut = 3
    assert await site.start()
    queue(site, JOBS)
    await site.until(lambda: site.wire.was_cut == 3)


async def controller_restarted(site: ShelfSite) -> None:
    """Kill the controller while it has VMs made; it begins again."""
    assert await site.start()
    queue(site, JOBS)
    await site.until(lambda: is_pending(site))
    site.shelf.kill()
    await site.shelf.start()


async def worker_killed(site: ShelfSite) -> None:
    """Kill a worker under a job, which goes on without it; then it is back, and ends what it finds."""
    assert await site.start()
    job = site.queue(held=True)
    await site.until(lambda: job.status == "in_progress")
    worker = dict(site.rows("SELECT name, slot FROM runner"))[str(job.runner_name)].partition("/")[0]
    site.shelf.kill_worker(worker)
    queue(site, JOBS - 1)
    site.let_go()
    await site.until(lambda: job.status == "completed")
    await site.shelf.work(worker)
    await site.until(lambda: all(left.startswith("VM ") for left in site.left()))
    site.shelf.kill_worker(worker)  # what a worker lost track of it removes when it next begins
    await site.shelf.work(worker)


async def killed_before_delivery(site: ShelfSite) -> None:
    """Kill us with -9 once a runner is registered, and before its VM has the JIT config."""
    assert await site.start({"CRASH_AT": "vms.deliver before"})
    queue(site, JOBS)
    await site.until(site.has_ended)
    assert site.exit_code() == -signal.SIGKILL
    assert site.model.runners.registrations
    assert await site.start()


def queue(site: ShelfSite, jobs: int) -> None:
    for _ in range(jobs):
        site.queue()


async def is_pending(site: ShelfSite) -> bool:
    return any(vm["status"] == "pending" and vm.get("worker") for vm in await site.stored())


@pytest.mark.parametrize("fault", [lost_answers, controller_restarted, worker_killed, killed_before_delivery])
async def test_a_round_with_a_fault(fault: Callable[[ShelfSite], Awaitable[None]]) -> None:
    """Every job runs once and well; no VM, registration or process is left, and no secret is anywhere."""
    async with a_shelf(JOBS) as site:
        await fault(site)
        await site.until(site.is_drained)
        assert await site.problems() == []
        assert {job.conclusion for job in site.jobs} == {"success"}
