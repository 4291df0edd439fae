"""The Orchard backend: VMs on a shelf of Macs, behind ``ports.VMBackend`` (docs/contracts/orchard.md).

The controller chooses the Mac. A VM is asked for with a startup script that knows no secret and ends when the runner
has ended; the guest is prepared, handed its JIT config and asked about its runner by short commands over the
controller. A VM ends by "failing", which is told by a list, and is gone once the controller has forgotten it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from app.domain.pools import Names, Pool
from app.domain.world import GuestLook, HostLook
from app.ports import GuestFacts, JitConfig, Package, UnknownHost, VMError, VMTimeout
from app.vm import guest
from app.vm.causes import GUEST_SILENT
from app.vm.copies import forget, kept
from app.vm.orchard import request
from app.vm.orchard.answers import Machine, Status
from app.vm.orchard.controller import Controller, Fleet
from app.vm.orchard.endings import (
    CONTROLLER_TROUBLE,
    EXEC_BROKEN,
    SLOW_IMAGE,
    STALLED,
    UNPLACED,
    UNREACHABLE,
    ending,
)
from app.vm.orchard.follow import Follower
from app.vm.orchard.view import host_look
from app.vm.orchard.watch import Watch
from app.vm.process import Result
from app.vm.trouble import told_as_vm_error

log = structlog.get_logger(__name__)

AWAY = timedelta(seconds=30)  # that its workers get to come back after the controller was away
LINES = 200  # of the startup script's output that are kept
DELIVERIES = 3  # tries, of the same JIT config
ASKED = 3  # times, for a VM


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds; the controller itself sets no limit to anything."""

    chosen: float = 12.0  # for the worker that was chosen to take a VM: two passes of the scheduler
    placed: float = 60.0  # for any worker to take it
    image: float = 3600.0  # for the worker to have it made, the pull of its image included
    every: float = 1.0  # between two looks at a VM that is being made
    wait: int = 10  # for a guest to be reached
    probe: float = 10.0
    set_up: float = 60.0
    deliver: float = 30.0


class OrchardBackend:
    """The VMs that a controller runs for us."""

    def __init__(
        self,
        controller: Controller,
        *,
        state_dir: Path,
        names: Names,
        clock: Callable[[], datetime],
        limits: Limits | None = None,
    ) -> None:
        self._controller, self._limits = controller, limits or Limits()
        self._runners, self._names, self._clock = state_dir / "runners", names, clock
        self._tell: Callable[[str, str], None] = lambda _name, _ending: None
        self._watch = Watch(names, self._fleet, lambda name, how: self._tell(name, how))
        self._follower = Follower(controller.access)
        self._about: dict[str, list[str]] = {}
        self._pins: dict[str, Mapping[str, str]] = {}  # by worker, as last looked at
        self._is_known = False  # the controller told its version
        self._away_until: datetime | None = None  # by its own clock; None: not asked yet

    async def look(self) -> HostLook:
        """List the workers and the VMs; those of ours that run are watched from now on, whoever asked for them."""
        at = self._clock()
        if not self._is_known:
            await self._controller.version()
            self._is_known = True
        fleet = await self._fleet()
        self._watch.saw(fleet)
        self._pins = {worker.name: worker.pin for worker in fleet.workers}
        if self._away_until is None:
            self._away_until = fleet.at + AWAY
        return host_look(fleet, self._names, at=at, settling=fleet.at < self._away_until)

    async def _fleet(self) -> Fleet:
        try:
            fleet = await self._controller.fleet()
        except VMError:
            self._away_until = None
            raise
        return fleet

    async def prepare(self, image: str) -> str:
        """Refuse: each worker fetches the images of its VMs itself."""
        msg = f"{image} is fetched by each worker when it first makes a VM of it: pull it there, `tart pull {image}`"
        raise VMError(msg, reason="images_are_the_workers")

    async def make_base(self, name: str, spec: Pool, package: Package) -> None:
        """Refuse: images are cloned as they are."""
        del spec, package
        msg = f"{name} cannot be prepared: the Macs of the fleet clone images as they are"
        raise VMError(msg, reason="images_are_the_workers")

    async def fetch(self, name: str, spec: Pool, *, host: str) -> GuestFacts:
        """Have a worker make a VM that pulls its image first, as none pulls by itself (docs/contracts/orchard.md §2.2)."""
        pin = self._pins.get(host)
        if not pin:
            msg = f"{host} cannot be chosen: start its `orchard worker run` with `--labels host={host}`"
            raise VMError(msg, reason="worker_unnamed")
        await self._ask_for(request.pulling(name, spec, pin=pin))
        machine = await self._until_it_runs(name, spec)
        return GuestFacts(image=machine.exact_image or spec.image, runner_version=None, host=machine.worker)

    async def drop_base(self, name: str, in_use: frozenset[str]) -> None:
        """Refuse: there are no bases here."""
        del in_use
        msg = f"{name} is on no Mac that we may remove it from: remove it there, `tart delete`"
        raise VMError(msg, reason="images_are_the_workers")

    async def make_golden(self, name: str, spec: Pool) -> None:
        """Refuse: a VM is on one Mac alone suspended, and Orchard says not on which the next one will be."""
        del spec
        msg = f"{name} cannot be made: the Macs of the fleet boot every VM"
        raise VMError(msg, reason="no_goldens")

    async def drop_golden(self, name: str) -> None:
        """Refuse: there are no goldens here."""
        msg = f"{name} is on no Mac that we may remove it from: remove it there, `tart delete`"
        raise VMError(msg, reason="no_goldens")

    async def start(self, name: str, spec: Pool, *, host: str = "") -> GuestFacts:
        """Have a VM made, or go on waiting for one of that name."""
        now = asyncio.get_running_loop().time
        began = now()
        await self._have_placed(name, spec, self._pins.get(host, {}))
        self._watch.expect(name)
        machine = await self._until_it_runs(name, spec)
        made = now()
        version = await self._until_set_up(name, spec)
        image = machine.exact_image or spec.image
        self._about[name] = [
            f"VM {name} on {machine.worker}, a fresh clone of {image}",
            f"made in {made - began:.1f} s, ready {now() - made:.1f} s later",
        ]
        return GuestFacts(image=image, runner_version=version, host=machine.worker)

    async def _have_placed(self, name: str, spec: Pool, pin: Mapping[str, str]) -> None:
        """Ask for a VM on the worker that *pin* names. Where that takes it not soon, any other may have it.

        A name is asked for twice only while no worker knows it.
        """
        now = asyncio.get_running_loop().time
        began = now()
        await self._ask_for(request.vm(name, spec, pin=pin))
        while pin and now() - began < self._limits.chosen:
            machine = await self._controller.machine(name)
            if machine is None or machine.worker or machine.status is Status.FAILED:
                return
            await asyncio.sleep(self._limits.every)
        if pin:
            log.info("placed_elsewhere", runner=name, wanted=dict(pin))
            await self._controller.delete(name)
            await self._ask_for(request.vm(name, spec))

    async def _ask_for(self, body: Mapping[str, Any]) -> None:
        """Have the controller take the VM in. Where its answer is lost, it may have: it is asked again."""
        for _ in range(ASKED):
            try:
                if await self._controller.machine(body["name"]) is None:
                    await self._controller.create(body)
            except VMError as error:
                if error.reason not in {CONTROLLER_TROUBLE.code, UNREACHABLE.code}:
                    raise
                trouble = error
                await asyncio.sleep(self._limits.every)
            else:
                return
        raise trouble

    async def _until_it_runs(self, name: str, spec: Pool) -> Machine:
        """Wait until the worker says that the VM runs; each stage has a limit of its own."""
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            machine = await self._controller.machine(name)
            if machine is None:
                msg = f"{name} was deleted while it was made: nothing to mend"
                raise VMError(msg, reason="vm_vanished")
            if machine.status is Status.FAILED:
                raise _ended_early(machine)
            if machine.status is Status.RUNNING:
                return machine
            limit, late = self._limits.image, SLOW_IMAGE
            if not machine.worker:
                limit, late = self._limits.placed, UNPLACED
            elif not machine.message:
                limit, late = spec.boot_timeout.total_seconds(), STALLED
            if now() - began > limit:
                msg = f"{name} was not made within {limit:.0f} s: {late.said(machine.worker).detail}"
                raise VMTimeout(msg, reason=late.code)
            await asyncio.sleep(self._limits.every)

    async def _until_set_up(self, name: str, spec: Pool) -> str | None:
        """Install what the guest needs, as soon as it lets us in."""
        limit = spec.boot_timeout.total_seconds()
        trouble: VMError | None = None
        try:
            async with asyncio.timeout(limit):
                while True:
                    try:
                        return await self._set_up(name, spec)
                    except VMError as error:
                        if error.reason not in {GUEST_SILENT.code, EXEC_BROKEN.code} and not error.host_wide:
                            raise
                        trouble = error
                    machine = await self._controller.machine(name)
                    if machine is not None and machine.status is Status.FAILED:
                        raise _ended_early(machine)
                    await asyncio.sleep(self._limits.every)
        except TimeoutError as error:
            msg = (
                f"{name}: the boot did not end within boot_timeout = {limit:.0f} s: raise it if the Mac is just slow, "
                f"else try the image by hand [{trouble or 'no answer'}]"
            )
            raise VMTimeout(msg, reason="boot_timeout") from error

    async def _set_up(self, name: str, spec: Pool) -> str | None:
        command = guest.setup_command(name, spec, self._clock())
        said = await self._exec(
            name, command, timeout=self._limits.set_up, stdin=guest.setup_input(spec, attended=True)
        )
        return guest.runner_version(said.out, spec)

    async def deliver(self, name: str, spec: Pool, jit: JitConfig) -> None:
        """Hand the JIT config over, and follow the runner's output from then on.

        The same JIT config is handed over again where the connection broke: whether the first arrived, the guest says.
        """
        about = self._about.pop(name, [f"VM {name}, a fresh clone of {spec.image}"])
        lost = False
        for attempt in range(DELIVERIES):
            try:
                said = await self._exec(
                    name,
                    guest.deliver_command(name),
                    timeout=self._limits.deliver,
                    stdin=guest.deliver_input(jit, about),
                )
                guest.check_delivered(said.out)
            except VMError as error:
                if error.reason == "delivered_before" and lost:
                    break
                if error.reason != EXEC_BROKEN.code or attempt == DELIVERIES - 1:
                    raise
                lost = True
            else:
                break
        await self.follow(name, spec)

    async def probe(self, name: str) -> GuestLook:
        """Ask the guest about its runner."""
        at = self._clock()
        said = await self._exec(name, guest.probe_command(name), timeout=self._limits.probe, wait=3)
        return guest.guest_look(said.out, at)

    async def hold(self, name: str, until: datetime | None) -> None:
        """Have the guest stay up after its runner has ended."""
        seconds = 0 if until is None else max(0, round((until - self._clock()).total_seconds()))
        said = await self._exec(name, guest.hold_command(name, seconds), timeout=self._limits.probe, wait=3)
        guest.check_held(said.out)

    async def _exec(
        self,
        name: str,
        command: tuple[str, ...],
        *,
        timeout: float,
        stdin: bytes | None = None,
        wait: int | None = None,
    ) -> Result:
        return await self._controller.exec(
            name, command, timeout=timeout, wait=self._limits.wait if wait is None else wait, stdin=stdin
        )

    async def follow(self, name: str, spec: Pool) -> None:
        """Copy the runner's output to this host."""
        del spec
        self._follower.start(name, self._runners / name / "runner.log")

    def listening(self, name: str) -> datetime | None:
        """Return nothing: the runner's output comes here too late to tell."""
        del name
        return None

    async def pause(self, host: str, *, paused: bool) -> None:
        """Have a worker take nothing new, or again."""
        if not await self._controller.pause(host, paused=paused):
            msg = f"there is no worker called {host}: see `orchard list workers`"
            raise UnknownHost(msg, reason="unknown_host")

    async def delete(self, name: str) -> None:
        """Have the VM removed, once what its startup script said is kept: the controller forgets that too."""
        if not self._names.is_runner(name):
            msg = f"{name} is no name of ours: it is left alone"
            raise VMError(msg, reason="not_ours")
        self._about.pop(name, None)
        self._watch.forget(name)
        await self._keep_lines(name)
        await self._controller.delete(name)
        await self._follower.stop(name)

    async def _keep_lines(self, name: str) -> None:
        try:
            machine = await self._controller.machine(name)
            lines = await self._controller.lines(name, LINES) if machine else []
        except VMError as error:
            log.info("output_lost", runner=name, reason=error.reason)
            return
        if machine is None:
            return
        file = self._runners / name / "run.log"
        with told_as_vm_error(f"cannot keep the output of {name} in {file}"):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines.append(
                f"orchard: {machine.status} on {machine.worker or 'no worker'} {machine.message}".rstrip()
            )
            file.touch(mode=0o600)
            file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")

    def logs(self, name: str) -> tuple[Path, ...]:
        """Return the kept output of the VM's startup script and of its runner."""
        return kept(self._runners / name, ("run.log", "runner.log"))

    def forget(self, before: datetime) -> None:
        """Remove the kept output of runners that said nothing since *before*."""
        forget(self._runners, before, lambda _name: False)

    def on_end(self, callback: Callable[[str, str], None]) -> None:
        """Call back when a VM ends."""
        self._tell = callback

    async def close(self) -> None:
        """Let go of the controller; VMs go on."""
        await self._watch.close()
        await self._follower.close()
        await self._controller.close()


def _ended_early(machine: Machine) -> VMError:
    cause = ending(machine.message)
    msg = (
        f"{machine.name} ended on {machine.worker or 'no worker'} before its guest was ready: {cause.detail}"
    )
    return VMError(msg, reason=cause.code, host_wide=cause.host_wide)
