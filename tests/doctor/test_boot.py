"""A VM that is booted for the doctor: what is said of it, and that nothing of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.doctor.boot import Tried, boot_here, boot_there, one_a_image, told
from app.domain.runners import RunnerState
from app.domain.world import VMState
from app.ports import VMError
from app.sandbox.host import ModelHost
from app.sandbox.hostparts import ModelVM
from tests.api.conftest import Server, serving
from tests.builders import NOW, a_pool
from tests.conftest import Clock
from tests.databases import new_database
from tests.doctor.seen import expect

POOL = a_pool()
SILENT = VMError(
    "mini-mac-x ended before its guest was ready: the guest agent must start", reason="guest_silent"
)

TABLE = [
    pytest.param("guest", "ok", Tried(pool=POOL, runner="2.336.0", seconds=14), id="a good image"),
    pytest.param("guest", "ok", Tried(pool=POOL, runner=None), id="a runner that does not tell its version"),
    pytest.param("guest", "failed", Tried(pool=POOL, trouble=str(SILENT)), id="no guest agent"),
    pytest.param("guest", "failed", Tried(pool=POOL, trouble="boot_timeout"), id="a bare reason"),
    pytest.param("guest", "left", Tried(pool=POOL, name="mini-mac-x", left="it hangs"), id="a VM that stays"),
    pytest.param("guest", "no_slot", Tried(pool=POOL, no_slot="every slot is taken"), id="no slot"),
    pytest.param("guest", "old_runner", Tried(pool=POOL, runner="2.330.0"), id="an old runner"),
    pytest.param(
        "guest",
        "no_runner",
        Tried(pool=POOL, trouble="it holds none: set it", reason="runner_missing"),
        id="no runner: one is installed",
    ),
    pytest.param(
        "guest",
        "failed",
        Tried(pool=a_pool(prepare=False), trouble="it holds none: set it", reason="runner_missing"),
        id="no runner, and none may be installed",
    ),
]


@pytest.mark.parametrize(("check", "code", "tried"), TABLE)
def test_what_is_said_of_it(check: str, code: str, tried: Tried) -> None:
    """Each outcome has its finding, with its mend."""
    found = told(tried, ["", "2.336.0"])
    assert found.check == check
    expect(found, code)


def test_each_image_is_tried_once() -> None:
    """Pools that share an image share a VM."""
    pools = (POOL, a_pool(name="other"), a_pool(name="big", image="tahoe"))
    assert [pool.name for pool in one_a_image(pools)] == ["mac", "big"]


async def here(vms: ModelHost) -> Tried:
    return await boot_here(vms, POOL, "mini", min_free_gb=30)


async def test_without_a_server_it_is_booted_and_removed() -> None:
    """The VM bears a name of ours, and is gone afterwards."""
    vms = ModelHost(lambda: NOW)
    tried = await here(vms)
    assert (tried.runner, tried.trouble, tried.left) == ("2.336.0", "", "")
    assert tried.name.startswith("mini-mac-")
    assert vms.vms == {}


async def test_a_vm_that_does_not_come_up_is_removed_too() -> None:
    """What went wrong is told, and nothing stays."""
    vms = ModelHost(lambda: NOW)
    vms.boot_seconds = 60
    slow = replace(POOL, boot_timeout=POOL.boot_timeout / 1e6)
    tried = await boot_here(vms, slow, "mini", min_free_gb=30)
    assert "did not answer in time" in tried.trouble
    assert vms.vms == {}


@pytest.mark.parametrize(
    ("running", "free", "why"),
    [
        pytest.param(("a", "b"), 100.0, "a and b run already", id="two VMs run"),
        pytest.param((), 10.0, "only 10 GB are free", id="little room"),
    ],
)
async def test_without_room_nothing_is_booted(running: tuple[str, ...], free: float, why: str) -> None:
    """A full Mac is left as it is."""
    vms = ModelHost(lambda: NOW)
    vms.free_disk_gb = free
    vms.vms = {name: ModelVM(name, state=VMState.RUNNING) for name in running}
    assert (await here(vms)).no_slot == why
    assert vms.calls["start"] == 0


@pytest.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncIterator[Server]:
    async with serving(new_database(tmp_path / "cidermill.db"), clock) as server:
        await server.passes(3)
        yield server


async def there(site: Server) -> Tried:
    trying = asyncio.create_task(
        boot_there(
            site.reconciler, site.context.reader, site.reconciler.setup.pools[0], clock=site.clock, every=0.01
        )
    )
    while not trying.done():
        await site.passes(1)
        await asyncio.sleep(0.01)
    return trying.result()


async def test_in_a_server_it_is_a_runner_that_no_job_asked_for(site: Server) -> None:
    """It holds a slot, is known with its reason, and the loop removes it."""
    tried = await there(site)
    assert (tried.runner, tried.trouble, tried.no_slot) == ("2.336.0", "", "")
    found = await site.context.reader.runner(tried.name)
    assert found is not None
    assert (found[0].state, found[1][0].reason) == (RunnerState.READY, "doctor")
    assert await site.context.reader.runners(live=True, limit=10)
    await site.passes(8, seconds=15)
    assert site.vms.vms == {}
    assert await site.context.reader.runners(live=True, limit=10) == []


async def test_in_a_server_a_failure_is_told_in_its_words(site: Server) -> None:
    """What is told is what was recorded."""
    site.vms.faults.start.append(SILENT)
    assert (await there(site)).trouble == str(SILENT)
    await site.passes(4, seconds=5)
    assert site.vms.vms == {}


async def test_a_job_that_waits_comes_first(site: Server) -> None:
    """Where every slot has its runner nothing is booted for the doctor."""
    site.vms.boot_seconds = 0.0
    await site.deliver(id=1)
    await site.deliver(id=2)
    await site.passes(2, seconds=1)
    assert (await there(site)).no_slot == "every slot is taken"


async def test_a_server_that_drains_boots_nothing(site: Server) -> None:
    """Nothing new starts while it drains, the doctor's VM either."""
    await site.context.store.set_draining(True)
    await site.passes(1)
    assert (await there(site)).no_slot == "the server is draining"


async def test_an_image_that_is_not_ready_is_not_booted(site: Server) -> None:
    """A missing image is told by its own check, and no failure is recorded for it."""
    site.vms.images.clear()
    site.vms.faults.prepare = [VMError("the registry is down", reason="pull_failed")] * 9
    site.reconciler.host_changed()
    await site.passes(2, seconds=1)
    assert (await there(site)).no_slot == "the image sequoia is not ready (see image)"
    assert site.vms.calls["start"] == 0
