"""What every VM backend must do: the model host, tart on the stand-in, and Orchard on the model controller."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.clock import utcnow
from app.domain.pools import Kind, Names, Pool
from app.domain.world import VMState
from app.ports import JitConfig, Package, VMBackend, VMError, VMTimeout
from app.sandbox.host import ModelHost
from app.sandbox.image import install, make_image
from app.sandbox.orchard.server import shelf
from app.sandbox.runner import runner_archive
from app.sandbox.tart import faults
from app.vm.command import Tart
from app.vm.locks import owner_of
from app.vm.orchard.backend import Limits, OrchardBackend
from app.vm.orchard.controller import Controller
from app.vm.orchard.execute import Access
from app.vm.tart import TartBackend
from tests.builders import a_pool
from tests.vm.orchard_bench import access_to
from tests.vm.real_orchard import KIND, real_shelf

A, B, C = (f"mini-mac-{letter * 8}" for letter in "abc")
PREPARING = "mini-base-aaaaaaaa"
IMAGE = "sequoia"
RUN_SH = "#!/bin/sh\necho 'Listening for Jobs'\nexec sleep 600\n"


class Bench:
    """A backend with its host."""

    def __init__(
        self,
        vms: VMBackend,
        home: Path | None = None,
        state: Path | None = None,
        *,
        full: str = "vm_limit",
        kind: Kind | None = None,
    ) -> None:
        self.vms, self.home, self.state, self.full = vms, home, state, full
        self.kind = kind or Kind()
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        vms.on_end(lambda name, ending: self.ended.put_nowait((name, ending)))

    def fault(self, kind: str, **settings: Any) -> None:
        if self.home is not None:
            faults.write(self.home, faults.Fault(kind, **settings))

    def spec(self) -> Pool:
        return spec(kind=self.kind)

    async def states(self) -> dict[str, VMState]:
        return {vm.name: vm.state for vm in (await self.vms.look()).vms if vm.name != IMAGE}


def tart_backend(place: Path) -> TartBackend:
    tart = Tart(str(place / "bin" / "tart"), place / "tart", {"PATH": os.environ["PATH"]})
    state = place / "state"
    state.mkdir(exist_ok=True)
    return TartBackend(tart=tart, state_dir=state, names=Names("mini"), slots=2, clock=utcnow)


def orchard_backend(access: Access, state: Path) -> OrchardBackend:
    return OrchardBackend(
        Controller(access),
        state_dir=state,
        names=Names("mini"),
        clock=utcnow,
        limits=Limits(placed=1.0, every=0.1, wait=2),
    )


@asynccontextmanager
async def on_tart(place: Path) -> AsyncIterator[Bench]:
    install(place / "bin")
    make_image(place / "tart", IMAGE, {"run.sh": (RUN_SH, 0o755)})
    made = Bench(tart_backend(place), place / "tart", place / "state")
    yield made
    for vm in (place / "tart" / "vms").iterdir():
        if vm.name != IMAGE:
            await made.vms.delete(vm.name)
    await made.vms.close()
    violations = place / "tart" / "violations.log"
    assert not violations.exists() or not violations.read_text()


@asynccontextmanager
async def on_orchard(place: Path) -> AsyncIterator[Bench]:
    async with shelf(place, utcnow, macs=("mini1",)) as made:
        make_image(made.workers["mini1"].home, IMAGE, {"run.sh": (RUN_SH, 0o755)})
        backend = orchard_backend(access_to(made), place / "state")
        yield Bench(backend, full="unplaced")
        await backend.close()


@asynccontextmanager
async def on_real_orchard(place: Path) -> AsyncIterator[Bench]:
    async with real_shelf(place) as made:
        make_image(place / "workers" / "mini1", IMAGE, {"run.sh": (RUN_SH, 0o755)}, os="linux")
        backend = orchard_backend(made.access(), place / "state")
        yield Bench(backend, full="unplaced", kind=KIND)
        await backend.close()


@asynccontextmanager
async def on_model(_place: Path) -> AsyncIterator[Bench]:
    yield Bench(ModelHost(utcnow))


REAL = pytest.param(on_real_orchard, marks=[pytest.mark.orchard, pytest.mark.timeout(240)])


@pytest.fixture(params=[on_model, on_tart, pytest.param(on_orchard, marks=pytest.mark.long), REAL])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with request.param(tmp_path) as made:
        yield made


def spec(**changes: Any) -> Pool:
    return a_pool(**{"boot_timeout": timedelta(seconds=15)} | changes)


@pytest.mark.parametrize("bench", [on_model, on_tart, on_orchard, REAL], indirect=True)
async def test_a_vms_life(bench: Bench) -> None:
    """Started it answers, without an identity; delivered it runs a runner, once; deleted it is absent."""
    facts = await bench.vms.start(A, bench.spec())
    assert IMAGE in facts.image
    assert await bench.states() == {A: VMState.RUNNING}
    assert not (await bench.vms.probe(A)).delivered
    await bench.vms.deliver(A, bench.spec(), JitConfig("blob"))
    look = await bench.vms.probe(A)
    assert (look.delivered, look.runner_alive, look.worker_alive) == (True, True, False)
    with pytest.raises(VMError):
        await bench.vms.deliver(A, bench.spec(), JitConfig("another"))
    await bench.vms.delete(A)
    assert await bench.states() == {}
    with pytest.raises(VMError):
        await bench.vms.probe(A)


async def test_a_hold_is_told_and_taken_back(bench: Bench) -> None:
    """A guest that answers can be held and released, more than once; one that is not there cannot."""
    await bench.vms.start(A, bench.spec())
    await bench.vms.hold(A, utcnow() + timedelta(minutes=5))
    await bench.vms.hold(A, utcnow() + timedelta(minutes=9))
    await bench.vms.hold(A, None)
    await bench.vms.hold(A, None)
    await bench.vms.delete(A)
    with pytest.raises(VMError):
        await bench.vms.hold(A, None)


async def test_start_goes_on_waiting_for_a_running_one(bench: Bench) -> None:
    """A second start of a VM that runs is no second VM."""
    await bench.vms.start(A, bench.spec())
    await bench.vms.start(A, bench.spec())
    assert await bench.states() == {A: VMState.RUNNING}


async def test_two_at_once_and_no_third(bench: Bench) -> None:
    """Two boot side by side; a third is refused as the host's limit."""
    await asyncio.gather(bench.vms.start(A, bench.spec()), bench.vms.start(B, bench.spec()))
    with pytest.raises(VMError) as refused:
        await bench.vms.start(C, bench.spec())
    assert refused.value.reason == bench.full
    await bench.vms.delete(C)


async def test_absent_is_deleted(bench: Bench) -> None:
    """Deleting what is not there is success."""
    await bench.vms.delete(A)
    await bench.vms.delete(A)


@pytest.mark.parametrize("bench", [on_model, on_tart], indirect=True)
async def test_a_prepared_base(bench: Bench, tmp_path: Path) -> None:
    """Made in a VM that is gone then; launches clone it from that moment, where their pool wants it."""
    version = "2.337.0"
    (tmp_path / "runner.tar.gz").write_bytes(runner_archive(version))
    digest = hashlib.sha256(runner_archive(version)).hexdigest()
    package = Package(version=version, archive=tmp_path / "runner.tar.gz", sha256=digest)
    await bench.vms.make_base(PREPARING, spec(), package)
    look = await bench.vms.look()
    (base,) = look.bases
    assert base.made is not None
    assert (base.image, base.age, base.digest) == (IMAGE, 0, look.digests[IMAGE])
    assert (base.made.runner_version, base.made.script) == (version, None)
    assert Names("mini").is_base(base.name)
    assert PREPARING not in await bench.states()
    assert (await bench.vms.start(A, spec())).runner_version == version
    assert (await bench.vms.start(B, spec(prepare=False))).runner_version != version
    with pytest.raises(VMError, match="launches from"):
        await bench.vms.drop_base(base.name, frozenset({IMAGE}))
    await bench.vms.drop_base(base.name, frozenset())
    assert (await bench.vms.look()).bases == ()
    await bench.vms.delete(A)
    await bench.vms.delete(B)


@pytest.mark.parametrize("bench", [on_model, on_tart], indirect=True)
async def test_a_preparation_that_is_broken_off(bench: Bench, tmp_path: Path) -> None:
    """Nothing is cloned of it, and its VM can be removed."""
    package = Package(version="2.337.0", archive=tmp_path / "nowhere", sha256="0" * 64)
    with pytest.raises(VMError):
        await bench.vms.make_base(PREPARING, spec(image="nothing"), package)
    await bench.vms.delete(PREPARING)
    assert (await bench.vms.look()).bases == ()


async def test_a_missing_image(bench: Bench) -> None:
    """An image that is not there is not clonable, as far as the backend knows."""
    images = (await bench.vms.look()).images
    assert images is None or (IMAGE in images and "nothing" not in images)


# -- the tart backend alone ----------------------------------------------------------------------------


@pytest.fixture
async def tart(tmp_path: Path) -> AsyncIterator[Bench]:
    async with on_tart(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "ending"),
    [("guest_crash", "guest_crashed"), ("network_lost", "network_lost")],
)
async def test_an_end_is_told(tart: Bench, fault: str, ending: str) -> None:
    """However a VM ends, it is told at once, with the cause, and the list agrees."""
    await tart.vms.start(A, spec())
    tart.fault(fault, vm=A, count=1)
    async with asyncio.timeout(10):
        assert await tart.ended.get() == (A, ending)
    (vm,) = [vm for vm in (await tart.vms.look()).vms if vm.name == A]
    assert (vm.state, vm.ending) == (VMState.STOPPED, ending)


async def test_a_failed_list_raises(tart: Bench) -> None:
    """A list that fails twice is an error, never an empty one; once is asked again."""
    tart.fault("list_fails", count=1)
    await tart.vms.look()
    tart.fault("list_fails")
    with pytest.raises(VMError):
        await tart.vms.look()
    assert tart.home is not None
    (tart.home / "faults.json").unlink()


async def test_a_boot_that_never_answers(tart: Bench) -> None:
    """The boot's time limit ends the wait, and delete removes what is there."""
    tart.fault("agent_never_answers", vm=A)
    with pytest.raises(VMTimeout):
        await tart.vms.start(A, spec(boot_timeout=timedelta(seconds=1.5)))
    await tart.vms.delete(A)
    assert await tart.states() == {}


async def test_adopted_after_a_restart(tart: Bench, tmp_path: Path) -> None:
    """Another backend finds the VM that runs, goes on with it, and is told of its end."""
    await tart.vms.start(A, spec())
    await tart.vms.close()
    again = Bench(tart_backend(tmp_path), tart.home, tart.state)
    assert await again.states() == {A: VMState.RUNNING}
    await again.vms.start(A, spec())
    assert tart.home is not None
    pid = owner_of(tart.home / "vms" / A)
    assert pid
    os.kill(pid, 2)
    async with asyncio.timeout(10):
        assert (await again.ended.get())[0] == A
    await again.vms.delete(A)
    await again.vms.close()


async def test_cancelled_while_it_starts(tart: Bench) -> None:
    """A start that is cancelled leaves nothing that delete does not remove."""
    task = asyncio.create_task(tart.vms.start(A, spec()))
    assert tart.home is not None
    while not (tart.home / "vms" / A).exists():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await tart.vms.delete(A)
    assert await tart.states() == {}
    assert not (tart.home / "vms" / A).exists()


async def test_an_oci_image_becomes_a_base(tart: Bench) -> None:
    """An image of a registry is pulled once into a base named by its digest, and clones come from that."""
    image = "ghcr.io/acme/macos:latest"
    assert tart.home is not None
    make_image(tart.home, image, {"run.sh": (RUN_SH, 0o755)}, oci=True)
    assert image not in ((await tart.vms.look()).images or ())
    await tart.vms.prepare(image)
    assert image in ((await tart.vms.look()).images or ())
    facts = await tart.vms.start(A, spec(image=image))
    assert facts.image.startswith("ghcr.io/acme/macos")
    assert "@sha256:" in facts.image
    await tart.vms.delete(A)
    for vm in (tart.home / "vms").iterdir():
        if vm.name.startswith("mini-base-"):
            assert len(vm.name) == len("mini-base-") + 12
            await Tart(str(tart.home.parent / "bin" / "tart"), tart.home, {}).delete(vm.name)


async def test_strangers_are_never_touched(tart: Bench) -> None:
    """A name that is not ours is refused."""
    with pytest.raises(VMError, match="no name of ours"):
        await tart.vms.delete(IMAGE)
