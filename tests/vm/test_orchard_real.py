"""What only a real Orchard can show: its controller goes and comes back under a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.clock import utcnow
from app.domain.pools import Names
from app.domain.world import VMState
from app.ports import JitConfig, UnknownHost, VMError
from app.sandbox.image import make_image
from app.vm.orchard.backend import Limits, OrchardBackend
from app.vm.orchard.controller import Controller
from app.vm.orchard.view import PAUSED
from tests.builders import a_pool
from tests.vm.orchard_bench import IMAGE, RUN_SH
from tests.vm.real_orchard import KIND, RealShelf, real_shelf

pytestmark = [pytest.mark.orchard, pytest.mark.timeout(240)]
A, B = "mini-mac-aaaaaaaa", "mini-mac-bbbbbbbb"
SPEC = a_pool(kind=KIND, boot_timeout=timedelta(seconds=30))


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[RealShelf]:
    async with real_shelf(tmp_path) as made:
        make_image(tmp_path / "workers" / "mini1", IMAGE, {"run.sh": (RUN_SH, 0o755)}, os="linux")
        yield made


async def test_a_controller_that_is_away_under_a_job(shelf: RealShelf) -> None:
    """The job goes on, nothing is asked for while a worker with VMs was not heard of, and the end is told."""
    backend = OrchardBackend(
        Controller(shelf.access()),
        state_dir=shelf.place / "state",
        names=Names("mini"),
        clock=utcnow,
        limits=Limits(every=0.2, wait=5),
    )
    ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    backend.on_end(lambda name, how: ended.put_nowait((name, how)))
    await backend.start(A, SPEC)
    await backend.deliver(A, SPEC, JitConfig("the-jit-config-of-this-test"))
    shelf.kill()
    with pytest.raises(VMError) as away:
        await backend.look()
    assert (away.value.reason, away.value.host_wide) == ("orchard_unreachable", True)
    await shelf.start()
    async with asyncio.timeout(40):
        while any(host.closed for host in (await backend.look()).hosts):
            await asyncio.sleep(0.5)
        while not await works(backend):
            await asyncio.sleep(0.5)
    assert [(vm.name, vm.state) for vm in (await backend.look()).vms] == [(A, VMState.RUNNING)]
    (home,) = shelf.place.glob(f"workers/mini1/vms/orchard-{A}-*/guest/Users/admin")
    (home / "code").write_text("0")
    async with asyncio.timeout(20):
        assert await ended.get() == (A, "runner_ended")
    await backend.delete(A)
    assert (await backend.look()).vms == ()
    await backend.close()


async def works(backend: OrchardBackend) -> bool:
    """Whether the guest says that its runner lives; commands need the worker's next session with the controller."""
    try:
        return (await backend.probe(A)).runner_alive
    except VMError:
        return False


async def test_a_worker_is_chosen_and_pulls(shelf: RealShelf) -> None:
    """A worker with a label of its own pulls an image when it is told to, and gets the VM that is meant for it."""
    spec = replace(SPEC, image="ghcr.io/acme/linux:1")
    make_image(
        shelf.place / "workers" / "mini1", spec.image, {"run.sh": (RUN_SH, 0o755)}, os="linux", oci=True
    )
    backend = OrchardBackend(
        Controller(shelf.access()),
        state_dir=shelf.place / "state",
        names=Names("mini"),
        clock=utcnow,
        limits=Limits(every=0.2, wait=5),
    )
    assert [host.can_be_chosen for host in (await backend.look()).hosts] == [True]
    assert (await backend.fetch(A, spec, host="mini1")).host == "mini1"
    assert (await shelf.ask("GET", f"/vms/{A}")).json()["imagePullPolicy"] == "Always"
    await backend.delete(A)
    facts = await backend.start(B, spec, host="mini1")
    assert (facts.host, facts.image.startswith("ghcr.io/acme/linux")) == ("mini1", True)
    assert (await shelf.ask("GET", f"/vms/{B}")).json()["labels"] == {"host": "mini1"}
    await backend.delete(B)
    await backend.close()


async def test_a_worker_is_paused(shelf: RealShelf) -> None:
    """A worker that is paused takes nothing new, and is as fresh as before; one that is not there cannot be paused."""
    backend = OrchardBackend(
        Controller(shelf.access()), state_dir=shelf.place / "state", names=Names("mini"), clock=utcnow
    )
    for paused in (True, False):
        await backend.pause("mini1", paused=paused)
        assert [host.closed for host in (await backend.look()).hosts] == [PAUSED if paused else ""]
    with pytest.raises(UnknownHost):
        await backend.pause("mini9", paused=True)
    await backend.close()
