"""What every VM backend must do, run over the model host and over the tart backend on the stand-in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from app.clock import utcnow
from app.domain.pools import Names, Pool
from app.domain.world import VMState
from app.ports import JitConfig, Package, VMBackend, VMError, VMTimeout
from app.sandbox.host import ModelHost
from app.sandbox.image import install, make_image
from app.sandbox.runner import runner_archive
from app.vm.command import Tart
from app.vm.locks import owner_of
from app.vm.tart import TartBackend
from tests.builders import a_pool

A, B, C = (f"mini-mac-{letter * 8}" for letter in "abc")
PREPARING = "mini-base-aaaaaaaa"
IMAGE = "sequoia"
RUN_SH = "#!/bin/sh\necho 'Listening for Jobs'\nexec sleep 600\n"


class Bench:
    """A backend with its host."""

    def __init__(self, vms: VMBackend, home: Path | None = None, state: Path | None = None) -> None:
        self.vms, self.home, self.state = vms, home, state
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        vms.on_end(lambda name, ending: self.ended.put_nowait((name, ending)))

    def fault(self, kind: str, **settings: object) -> None:
        if self.home is not None:
            (self.home / "faults.json").write_text(json.dumps({"faults": [{"fault": kind, **settings}]}))

    async def states(self) -> dict[str, VMState]:
        return {vm.name: vm.state for vm in (await self.vms.look()).vms if vm.name != IMAGE}


def tart_backend(place: Path) -> TartBackend:
    tart = Tart(str(place / "bin" / "tart"), place / "tart", {"PATH": os.environ["PATH"]})
    state = place / "state"
    state.mkdir(exist_ok=True)
    return TartBackend(tart=tart, state_dir=state, names=Names("mini"), slots=2, clock=utcnow)


@pytest.fixture(params=["model", "tart"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "model":
        yield Bench(ModelHost(utcnow))
        return
    install(tmp_path / "bin")
    make_image(tmp_path / "tart", IMAGE, {"run.sh": (RUN_SH, 0o755)})
    made = Bench(tart_backend(tmp_path), tmp_path / "tart", tmp_path / "state")
    yield made
    for vm in (tmp_path / "tart" / "vms").iterdir():
        if vm.name != IMAGE:
            await made.vms.delete(vm.name)
    await made.vms.close()
    violations = tmp_path / "tart" / "violations.log"
    assert not violations.exists() or not violations.read_text()


def spec(**changes: object) -> Pool:
    return a_pool(boot_timeout=timedelta(seconds=15)).__class__(
        **{field: getattr(a_pool(), field) for field in a_pool().__slots__}
        | {"boot_timeout": timedelta(seconds=15)}
        | changes
    )


async def test_a_vms_life(bench: Bench) -> None:
    """Started it answers, without an identity; delivered it runs a runner, once; deleted it is absent."""
    facts = await bench.vms.start(A, spec())
    assert IMAGE in facts.image
    assert await bench.states() == {A: VMState.RUNNING}
    assert not (await bench.vms.probe(A)).delivered
    await bench.vms.deliver(A, spec(), JitConfig("blob"))
    look = await bench.vms.probe(A)
    assert (look.delivered, look.runner_alive, look.worker_alive) == (True, True, False)
    with pytest.raises(VMError):
        await bench.vms.deliver(A, spec(), JitConfig("another"))
    await bench.vms.delete(A)
    assert await bench.states() == {}
    with pytest.raises(VMError):
        await bench.vms.probe(A)


async def test_a_hold_is_told_and_taken_back(bench: Bench) -> None:
    """A guest that answers can be held and released, more than once; one that is not there cannot."""
    await bench.vms.start(A, spec())
    await bench.vms.hold(A, utcnow() + timedelta(minutes=5))
    await bench.vms.hold(A, utcnow() + timedelta(minutes=9))
    await bench.vms.hold(A, None)
    await bench.vms.hold(A, None)
    await bench.vms.delete(A)
    with pytest.raises(VMError):
        await bench.vms.hold(A, None)


async def test_start_goes_on_waiting_for_a_running_one(bench: Bench) -> None:
    """A second start of a VM that runs is no second VM."""
    await bench.vms.start(A, spec())
    await bench.vms.start(A, spec())
    assert await bench.states() == {A: VMState.RUNNING}


async def test_two_at_once_and_no_third(bench: Bench) -> None:
    """Two boot side by side; a third is refused as the host's limit."""
    await asyncio.gather(bench.vms.start(A, spec()), bench.vms.start(B, spec()))
    with pytest.raises(VMError) as refused:
        await bench.vms.start(C, spec())
    assert (refused.value.reason, refused.value.host_wide) == ("vm_limit", True)
    await bench.vms.delete(C)


async def test_absent_is_deleted(bench: Bench) -> None:
    """Deleting what is not there is success."""
    await bench.vms.delete(A)
    await bench.vms.delete(A)


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


async def test_a_preparation_that_is_broken_off(bench: Bench, tmp_path: Path) -> None:
    """Nothing is cloned of it, and its VM can be removed."""
    package = Package(version="2.337.0", archive=tmp_path / "nowhere", sha256="0" * 64)
    with pytest.raises(VMError):
        await bench.vms.make_base(PREPARING, spec(image="nothing"), package)
    await bench.vms.delete(PREPARING)
    assert (await bench.vms.look()).bases == ()


async def test_a_missing_image(bench: Bench) -> None:
    """An image that is not there is not clonable."""
    assert "nothing" not in (await bench.vms.look()).images
    assert IMAGE in (await bench.vms.look()).images


# -- the tart backend alone ----------------------------------------------------------------------------


@pytest.fixture
def tart(bench: Bench) -> Bench:
    if bench.home is None:
        pytest.skip("for the tart backend")
    return bench


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
    assert image not in (await tart.vms.look()).images
    await tart.vms.prepare(image)
    assert image in (await tart.vms.look()).images
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
