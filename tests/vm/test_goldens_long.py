"""Hundreds of launches of two slots from goldens on the stand-in tart, while all that can goes wrong, from a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from app.domain.goldens import Origin, unfit
from app.domain.pools import Pool, Start
from app.ports import VMError
from app.sandbox.image import make_image
from app.sandbox.tart.faults import Fault
from app.sandbox.tart.home import VM
from app.vm.tart import TartBackend
from tests.vm.faulty import IMAGE, JIT, Host
from tests.vm.test_goldens import backend_of, cleared, snapshot, stale

LAUNCHES = 200
RUN_SH = "#!/bin/sh\necho 'Listening for Jobs'\nexec sleep 600\n"
TROUBLES = ("restore_fails", "mac_taken", "restore_limit", "clone_fails", "suspend_fails")


@dataclass(slots=True)
class Shift:
    """One Mac at work: launches in pairs, and between them goldens are made and removed as the plan would have it."""

    host: Host
    rng: random.Random
    backend: TartBackend
    names: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    changes: int = 0

    def name(self, pool: str = "mac") -> str:
        """Return a name that none had."""
        self.names += 1
        letters = "abcdefghijklmnopqrstuvwxyz"
        return f"mini-{pool}-aaaaaa{letters[self.names // 26 % 26]}{letters[self.names % 26]}"

    async def tend(self, spec: Pool) -> None:
        """Remove the goldens that serve nothing, and make those that are missing; now and then one is broken off."""
        look = await self.backend.look()
        origin = Origin(source=IMAGE, digest=look.digests[IMAGE])
        good = [g for g in look.goldens if unfit(g, spec, origin, look.system) is None]
        for golden in look.goldens:
            if golden not in good[:2]:
                await self.backend.drop_golden(golden.name)
        for _ in range(2 - len(good)):
            await self.make(spec)

    async def make(self, spec: Pool) -> None:
        name = self.name("golden")
        making = asyncio.create_task(self.backend.make_golden(name, spec))
        if self.rng.random() < 0.2:
            await asyncio.wait([making], timeout=self.rng.uniform(0.1, 2.0))
            making.cancel()
        (outcome,) = await asyncio.gather(making, return_exceptions=True)
        self.seen["made" if outcome is None else "not made"] += 1
        assert outcome is None or isinstance(outcome, VMError | asyncio.CancelledError)
        if self.rng.random() < 0.2:
            self.backend = await self.again()
        await self.backend.delete(name)

    async def launch(self, spec: Pool) -> None:
        """Start one VM, deliver to it and remove it; it may be told to end at any moment, and we may die."""
        name = self.name()
        starting = asyncio.create_task(self.backend.start(name, spec))
        if self.rng.random() < 0.1:
            await asyncio.wait([starting], timeout=self.rng.uniform(0.05, 1.0))
            starting.cancel()
        (outcome,) = await asyncio.gather(starting, return_exceptions=True)
        if isinstance(outcome, BaseException):
            self.seen["failed"] += 1
            assert isinstance(outcome, VMError | asyncio.CancelledError)
        else:
            self.seen[outcome.start] += 1
            assert stale(self.host, name) == []
            await self.backend.deliver(name, spec, JIT)
        await self.backend.delete(name)

    async def change(self) -> None:
        """Have what goldens are made of, for or by be another one, or something go wrong soon."""
        self.changes += 1
        match self.rng.choice(("image", "tart", "trouble", "trouble", "trouble", "restart")):
            case "image":
                make_image(self.host.home, IMAGE, {"run.sh": (RUN_SH, 0o755)})
            case "tart":
                self.host.faults(version=f"2.{36 + self.changes}.0")
                self.host.program.touch()
            case "trouble":
                self.host.faults(Fault(self.rng.choice(TROUBLES), count=self.rng.choice((1, 2))))
                self.host.program.touch()  # its version is as before
            case _:
                self.backend = await self.again()

    async def again(self) -> TartBackend:
        """Return a backend as another start of ours would have it."""
        await self.backend.close()
        return backend_of(self.host)

    def macs(self) -> list[str]:
        vms = map(VM, (self.host.home / "vms").iterdir())
        return [vm.config()["macAddress"] for vm in vms if vm.is_whole and vm.owner]


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_a_long_shift(host: Host) -> None:
    """Nothing that a driver must not do, no golden that serves nothing, and in the end nothing is left."""
    shift = Shift(host, random.Random(7), backend_of(host))
    spec = snapshot()
    launched = 0
    while launched < LAUNCHES:
        await shift.tend(spec)
        for _ in range(shift.rng.randint(1, 4)):
            await asyncio.gather(shift.launch(spec), shift.launch(spec))
            assert shift.macs() == []
            launched += 2
        await shift.change()
    host.faults()
    host.program.touch()
    await shift.tend(spec)
    assert shift.seen[Start.SNAPSHOT] > LAUNCHES / 4
    assert min(shift.seen[Start.COLD], shift.seen["made"], shift.seen["not made"]) > 0
    await cleared(shift.backend)
