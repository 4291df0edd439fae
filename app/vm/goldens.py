"""Goldens on tart: suspended VMs, each made once off the job path and cloned by launches, which resume the clones.

docs/contracts/tart.md §6 is binding. A golden is booted from what launches clone, suspendable and with the very flags
that its clones will run with; no job and no GitHub identity was ever in it. Once it is suspended it is renamed, and a
clone of it is resumed: only one that this worked with is written down, and from that moment launches clone it. What
broke off before that is a VM like any other that ended, or a golden that nobody knows.

Two clones of one have one MAC address, so it is cloned only while no other VM has that. Nothing is ever set on a
golden or a clone. A clone that is not resumed leaves the launch to a cold start, and its golden is forgotten.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from app.domain.goldens import Origin, unfit
from app.domain.pools import Names, Pool, Start
from app.domain.world import Golden, VMState
from app.ports import VMError, VMTimeout
from app.vm import goldenfile, settling
from app.vm.bases import Bases
from app.vm.booting import Booting, boot_timeout
from app.vm.command import Listed, Tart
from app.vm.golden_system import System
from app.vm.images import SHORT
from app.vm.runlog import MAC_TAKEN, RESUMED, SUSPENDED, cause_of, says
from app.vm.trouble import told_as_vm_error
from app.vm.watch import Watched

log = structlog.get_logger(__name__)

BETWEEN_LOOKS = 0.05  # s, at what the process of a VM that is being restored prints


class Goldens:
    """Makes goldens, and resumes clones of them."""

    def __init__(
        self,
        tart: Tart,
        names: Names,
        state_dir: Path,
        bases: Bases,
        booting: Booting,
        clock: Callable[[], datetime],
    ) -> None:
        self._tart, self._limits, self._names = tart, tart.limits, names
        self._vms, self._file = tart.home / "vms", state_dir / "goldens.json"
        self._bases, self._booting, self._clock = bases, booting, clock
        self._system = System(tart)
        self._known = goldenfile.load(self._file)
        self._spoken_for: set[str] = set()  # goldens of which a clone is just being made

    # -- what is there ---------------------------------------------------------------------------

    def listed(self, vms: Iterable[Listed]) -> tuple[Golden, ...]:
        """Return the goldens among what the host lists; those that nobody knows are of no pool."""
        whole = {vm.name: vm for vm in vms if self._names.is_golden(vm.name)}
        known = {
            golden.name: golden
            for golden in self._known
            if golden.name in whole and whole[golden.name].state is VMState.SUSPENDED
        }
        return tuple(
            replace(known.get(name) or self._unknown(name), size_gb=vm.size_gb + self._memory_gb(name))
            for name, vm in whole.items()
        )

    def _unknown(self, name: str) -> Golden:
        return Golden(name=name, pool="", at=self._clock(), source="", digest="", shape="", system="")

    def _memory_gb(self, name: str) -> float:
        with suppress(OSError):
            return (self._vms / name / "state.vzvmsave").stat().st_size / 1e9
        return 0.0

    async def system(self) -> str:
        """Return what the goldens there are can be resumed by and on; empty: there are none, or tart does not tell."""
        with suppress(VMError):
            return await self._system.now() if self._known else ""
        return ""

    async def drop(self, name: str) -> None:
        """Remove a golden; absent is success. A VM that is a clone of it goes on. Raises VMError."""
        if not self._names.is_golden(name):
            msg = f"{name} is no golden of ours: it is left alone"
            raise VMError(msg, reason="not_ours")
        async with self._tart.changing:
            self._forget(name)
            if not await self._tart.delete(name):
                msg = f"{name} is running, which no golden should: `tart stop {name}`, and it is removed"
                raise VMError(msg, reason="golden_running")

    # -- one launch ------------------------------------------------------------------------------

    async def free(self, spec: Pool) -> Golden | None:
        """Return a golden that a launch of *spec* may resume a clone of now; None: it boots."""
        if spec.start is not Start.SNAPSHOT or not self._known:
            return None
        with suppress(VMError):
            system = await self._system.now()
            origin = self._bases.origin(spec)
            fitting = (g for g in self._known if unfit(g, spec, origin, system) is None)
            return next((golden for golden in fitting if self._is_free(golden)), None)
        return None

    async def clone(self, golden: Golden, name: str) -> None:
        """Make VM *name* a clone of *golden*. Raises VMError, also where that is none to resume."""
        with self._speaking_for(golden):
            await self._booting.copy(lambda: golden.name, name)
        await self._check_suspended(name)

    async def resume(self, name: str, spec: Pool) -> Watched:
        """Return the process of a clone once it runs on, or boots all the same.

        It boots where a VM that we do not know has its MAC address. Raises VMError where it ended, or is neither.
        """
        process = self._booting.launch(name, spec, suspendable=True)
        await self._booting.while_it_lives(name, process, self._until_restored(name))
        return process

    def was_resumed(self, name: str) -> bool:
        """Whether VM *name* runs on from a snapshot, so that its guest must be told of the time it slept."""
        return says(self._booting.run_log(name), RESUMED)

    def give_up(self, golden: Golden) -> None:
        """Forget a golden of which a clone was not resumed: another one is made."""
        self._forget(golden.name)

    def _is_free(self, golden: Golden) -> bool:
        """Whether no VM has the MAC address that clones of *golden* have, and it is there."""
        if golden.name in self._spoken_for:
            return False
        mac = _mac(self._vms / golden.name)
        others = (vm for vm in self._vms.iterdir() if not self._names.is_golden(vm.name))
        return mac is not None and all(_mac(vm) != mac for vm in others)

    @contextmanager
    def _speaking_for(self, golden: Golden) -> Iterator[None]:
        if golden.name in self._spoken_for:
            msg = f"another launch clones {golden.name} just now"
            raise VMError(msg, reason="golden_taken")
        self._spoken_for.add(golden.name)
        try:
            yield
        finally:
            self._spoken_for.discard(golden.name)

    async def _check_suspended(self, name: str) -> None:
        state = next((vm.state for vm in await self._tart.vms() if vm.name == name), None)
        if state is not VMState.SUSPENDED:
            msg = f"{name} is a clone of a suspended VM and {state or 'is not there'}: another one is made"
            raise VMError(msg, reason="not_suspended")

    async def _until_restored(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._limits.restore):
                while not self.was_resumed(name):
                    if says(self._booting.run_log(name), MAC_TAKEN):
                        log.warning("mac_taken", runner=name)
                        return
                    await asyncio.sleep(BETWEEN_LOOKS)
        except TimeoutError as error:
            msg = f"{name} was not restored within {self._limits.restore:.0f} s: look at the load of the Mac"
            raise VMTimeout(msg, reason="restore_timeout") from error

    # -- one more --------------------------------------------------------------------------------

    async def make(self, name: str, spec: Pool) -> None:
        """Make a golden of *spec* in a VM called *name*, in which a clone of it runs in the end. Raises VMError."""
        system, origins = await self._system.now(), list[Origin]()
        await self._boot(name, spec, origins)
        await self._settle(name, spec)
        await self._suspend(name)
        with told_as_vm_error(f"cannot write out {self._vms / name}"):
            await asyncio.to_thread(_write_out, self._vms / name)
        at = self._clock()
        mark = hashlib.sha256(f"{name} {at.isoformat()}".encode()).hexdigest()[:SHORT]
        golden = Golden(
            name=self._names.golden(mark),
            pool=spec.name,
            at=at,
            source=origins[0].source,
            digest=origins[0].digest,
            shape=spec.shape,
            system=system,
        )
        async with self._tart.changing:
            await self._tart.rename(name, golden.name)
        await self._try(golden, name, spec)
        self._remember((golden, *self._known))

    async def _boot(self, name: str, spec: Pool, origins: list[Origin]) -> None:
        def source() -> str:
            origins.append(self._bases.origin(spec))
            return origins[-1].source

        troubles: list[VMError] = []
        try:
            async with asyncio.timeout(spec.boot_timeout.total_seconds()):
                await self._booting.clone(source, name, spec)
                process = self._booting.launch(name, spec, suspendable=True)
                answering = self._booting.until_it_answers(name, troubles)
                await self._booting.while_it_lives(name, process, answering)
        except TimeoutError as error:
            if troubles:
                raise troubles[-1] from error
            raise boot_timeout(name, "boot", spec) from error

    async def _settle(self, name: str, spec: Pool) -> None:
        """Let the guest come to rest, warm the runner up, and leave nothing in it that its clones must not share."""
        process = self._booting.running(name)
        await self._booting.while_it_lives(name, process, asyncio.sleep(self._limits.settle))
        running = self._tart.exec(
            name, settling.settle_command(spec), timeout=self._limits.finish, stdin=settling.settle_input()
        )
        result = await self._booting.while_it_lives(name, process, running)
        settling.check_settled(result.out)

    async def _suspend(self, name: str) -> None:
        process = self._booting.running(name)
        await self._tart.suspend(name)
        try:
            async with asyncio.timeout(self._limits.suspend):
                await process.ended.wait()
        except TimeoutError as error:
            msg = f"{name} was not suspended within {self._limits.suspend:.0f} s: look at the load of the Mac"
            raise VMTimeout(msg, reason="suspend_timeout") from error
        run_log = self._booting.run_log(name)
        if not says(run_log, SUSPENDED):
            cause = cause_of(run_log)
            raise VMError(
                f"{name} was not suspended: {cause.detail}", reason=cause.code, host_wide=cause.host_wide
            )
        await self._check_suspended(name)
        self._booting.begin_log(name)

    async def _try(self, golden: Golden, name: str, spec: Pool) -> None:
        """See that a clone of a new golden is resumed and answers."""
        await self.clone(golden, name)
        process = await self.resume(name, spec)
        if not self.was_resumed(name):
            msg = f"{name} has the MAC address of a VM that runs, although that was made up for it: it is tried again"
            raise VMError(msg, reason="mac_taken")
        await self.until_it_answers(name, process)

    async def until_it_answers(self, name: str, process: Watched) -> None:
        """Wait for the guest of a VM that was resumed. Raises VMError."""
        try:
            async with asyncio.timeout(self._limits.resumed):
                await self._booting.while_it_lives(name, process, self._booting.until_it_answers(name, []))
        except TimeoutError as error:
            msg = f"{name} was resumed, and its guest did not answer within {self._limits.resumed:.0f} s"
            raise VMTimeout(msg, reason="resume_silent") from error

    def _forget(self, name: str) -> None:
        if any(golden.name == name for golden in self._known):
            self._remember(tuple(golden for golden in self._known if golden.name != name))

    def _remember(self, known: tuple[Golden, ...]) -> None:
        goldenfile.save(self._file, known)
        self._known = known


def _write_out(vm: Path) -> None:
    """Have a VM on the disk itself: it ran as one whose disk need not outlive a power cut. Raises OSError."""
    for file in vm.iterdir():
        if file.is_file():
            with file.open("rb") as opened:
                # On macOS fsync(2) leaves it in the disk's own memory.
                full = getattr(fcntl, "F_FULLFSYNC", None)
                os.fsync(opened.fileno()) if full is None else fcntl.fcntl(opened, full)


def _mac(vm: Path) -> str | None:
    """Return a VM's MAC address; None: it is not there, or is just being made or removed."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((vm / "config.json").read_text(encoding="utf-8"))["macAddress"])
    return None
