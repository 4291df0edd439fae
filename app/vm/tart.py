"""The tart backend: VMs on this Mac, behind ``ports.VMBackend``.

Each VM is one ``tart run`` process that outlives us and is found again by name and lock. Commands go through
:class:`app.vm.command.Tart`, processes through :class:`app.vm.watch.Watch`, what happens in a guest is in
:mod:`app.vm.guest`; here they are put together. docs/contracts/tart.md is binding.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import structlog

from app.domain.pools import MACOS_VM, Names, Pool, Start
from app.domain.world import VM, Golden, GuestLook, Host, HostLook, VMState
from app.ports import GuestFacts, JitConfig, Package, UnknownHost, VMError
from app.vm import guest
from app.vm.bases import Bases
from app.vm.booting import Booting, boot_timeout
from app.vm.causes import GUEST_SILENT
from app.vm.command import Listed, Tart
from app.vm.copies import forget, kept
from app.vm.follow import Follower
from app.vm.goldens import Goldens
from app.vm.images import Images
from app.vm.locks import owner_of
from app.vm.removal import Removal
from app.vm.runlog import cause_of, cut, turned_away, worked
from app.vm.trouble import told_as_vm_error
from app.vm.watch import Watch, Watched

log = structlog.get_logger(__name__)

SEED = 256  # bytes of randomness for a guest that has slept
APPLE_LIMIT = 2  # running macOS guests on one Mac
LOGS = ("run-before.log", "run.log", "runner.log")
NEEDED = ("config.json", "disk.img", "nvram.bin")  # without one of them tart does not list a VM


class TartBackend:
    """The VMs of the Mac we run on."""

    def __init__(
        self,
        *,
        tart: Tart,
        state_dir: Path,
        names: Names,
        slots: int,
        clock: Callable[[], datetime],
    ) -> None:
        """Drive *tart*, with at most so many VMs of ours at a time as there are *slots*."""
        self._host = Host(room={MACOS_VM: APPLE_LIMIT}, most=slots)
        self._tart, self._limits = tart, tart.limits
        self._vms, self._runners = tart.home / "vms", state_dir / "runners"
        self._names, self._clock = names, clock
        self._images = Images(tart, names, state_dir / "images.json", clock)
        self._tell: Callable[[str, str], None] = lambda _name, _ending: None
        self._watch = Watch(self._vms, self._ended)
        self._removal = Removal(tart, self._watch)
        self._follower = Follower(clock)
        self._booting = Booting(tart, self._watch, self._runners)
        self._bases = Bases(tart, names, state_dir, self._images, self._booting, self._follower, clock)
        self._goldens = Goldens(tart, names, state_dir, self._bases, self._booting, clock)
        self._resuming: set[str] = set()  # whose end is ours to mend
        self._about: dict[str, list[str]] = {}

    async def look(self) -> HostLook:
        """List the VMs; those of ours that run are watched from now on, whoever started them."""
        at = self._clock()
        listed = await self._tart.vms()
        with told_as_vm_error(f"cannot look at the VMs in {self._vms}"):
            listed += self._unlisted({vm.name for vm in listed})
            for vm in listed:
                if vm.state is VMState.RUNNING and self._names.is_runner(vm.name):
                    self._watch.find(vm.name)
                    cut(self._booting.run_log(vm.name))
            places = [place for place in (self._tart.home, self._vms) if place.is_dir()]  # maybe two volumes
            free = min(shutil.disk_usage(place).free for place in places or [self._tart.home])
        return HostLook(
            at=at,
            vms=tuple(self._seen(vm) for vm in listed),
            hosts=(self._host,),
            free_disk_gb=free / 1e9,
            images=self._images.clonable(listed),
            bases=self._bases.listed(listed, at),
            goldens=self._goldens.listed(listed),
            system=await self._goldens.system(),
            digests=self._images.digests(listed),
        )

    def _unlisted(self, listed: set[str]) -> list[Listed]:
        """Return the VMs that tart left out: whole ones, and what is left of ours where a file is missing.

        A list that leaves out a VM must not make us believe that it is gone; the kernel knows whether it runs.
        """
        found = self._vms.iterdir() if self._vms.is_dir() else ()
        left = [directory for directory in found if directory.name not in listed]
        return [
            Listed(directory.name, VMState.RUNNING if owner_of(directory) else VMState.STOPPED)
            for directory in left
            if self._names.is_runner(directory.name) or all((directory / file).exists() for file in NEEDED)
        ]

    def _seen(self, vm: Listed) -> VM:
        ours = self._names.is_runner(vm.name)
        runs = vm.state is VMState.RUNNING
        ended = ours and not runs
        return VM(
            name=vm.name,
            state=vm.state,
            takes={MACOS_VM: 1} if runs and (ours or _is_mac(self._vms / vm.name)) else {},
            ending=self._ending(vm.name) if ended else None,
        )

    async def prepare(self, image: str) -> str:
        """Pull the image and make its base."""
        return await self._images.prepare(image)

    async def make_base(self, name: str, spec: Pool, package: Package) -> None:
        """Prepare the base of a pool's image."""
        await self._bases.make(name, spec, package)

    async def fetch(self, name: str, spec: Pool, *, host: str) -> GuestFacts:
        """Refuse: images are pulled without a VM here, by :meth:`prepare`."""
        del spec, host
        msg = f"{name} is not needed to fetch an image on the Mac that CiderMill runs on: `cidermill image pull` does"
        raise VMError(msg, reason="images_are_here")

    async def drop_base(self, name: str, in_use: frozenset[str]) -> None:
        """Remove a base."""
        if not await self._bases.drop(name, in_use):
            await self._images.drop(name, in_use)

    async def make_golden(self, name: str, spec: Pool) -> None:
        """Make a golden of a pool."""
        await self._goldens.make(name, spec)

    async def drop_golden(self, name: str) -> None:
        """Remove a golden."""
        await self._goldens.drop(name)

    async def start(self, name: str, spec: Pool, *, host: str = "") -> GuestFacts:
        """Resume a clone of a golden, boot a fresh VM, or go on waiting for one of that name that runs."""
        del host
        golden = None if self._watch.find(name) else await self._goldens.free(spec)
        if golden is None:
            return await self._start_cold(name, spec)
        self._resuming.add(name)
        try:
            return await self._resume(golden, name, spec)
        except VMError as error:
            if error.host_wide:
                raise  # a boot would meet it as well
            log.warning(
                "resume_failed", runner=name, golden=golden.name, reason=error.reason, detail=str(error)
            )
            self._goldens.give_up(golden)
            await self._removal.remove(name)
            self._booting.begin_log(name)
            trouble = error
        finally:
            self._resuming.discard(name)
        return replace(await self._start_cold(name, spec), trouble=trouble)

    async def _resume(self, golden: Golden, name: str, spec: Pool) -> GuestFacts:
        now = asyncio.get_running_loop().time
        began = now()
        image, source = self._bases.exactly(spec), self._bases.present(spec)
        await self._goldens.clone(golden, name)
        cloned_at = self._clock()
        process = await self._goldens.resume(name, spec)
        if not self._goldens.was_resumed(name):  # it boots: a VM that we do not know has its MAC address
            return replace(await self._start_cold(name, spec), source=source, cloned_at=cloned_at)
        await self._goldens.until_it_answers(name, process)
        answered = now()
        version = await self._booting.while_it_lives(name, process, self._set_up(name, spec, process))
        self._about[name] = [
            f"VM {name}, a clone of {golden.name}, which booted from {image} and was suspended before any job",
            f"resumed in {answered - began:.1f} s",
        ]
        return GuestFacts(
            image=image,
            runner_version=version,
            source=source,
            cloned_at=cloned_at,
            start=Start.SNAPSHOT,
        )

    async def _start_cold(self, name: str, spec: Pool) -> GuestFacts:
        stage = "clone"
        troubles: list[VMError] = []
        now = asyncio.get_running_loop().time
        began = now()
        booting, cloned_at = self._booting, None
        try:
            async with asyncio.timeout(spec.boot_timeout.total_seconds()):
                process = self._watch.find(name)
                if process is None:
                    await booting.clone(lambda: self._bases.source(spec), name, spec)
                    cloned_at = self._clock()
                    process = booting.launch(name, spec)
                image, source = self._bases.exactly(spec), self._bases.present(spec)
                stage = "boot"
                cloned = now()
                await booting.while_it_lives(name, process, booting.until_it_answers(name, troubles))
                stage = "set-up of the guest"
                booted = now()
                version = await booting.while_it_lives(name, process, self._set_up(name, spec, process))
        except TimeoutError as error:
            if troubles:
                raise troubles[-1] from error
            raise boot_timeout(name, stage, spec) from error
        self._about[name] = [
            f"VM {name}, a fresh clone of {image}",
            f"cloned in {cloned - began:.1f} s, booted in {booted - cloned:.1f} s",
        ]
        resumed = self._goldens.was_resumed(name)  # by an earlier process of ours
        return GuestFacts(
            image=image,
            runner_version=version,
            source=source,
            cloned_at=cloned_at,
            start=Start.SNAPSHOT if resumed else Start.COLD,
        )

    async def _set_up(self, name: str, spec: Pool, process: Watched) -> str | None:
        command = guest.setup_command(name, spec, self._clock())
        seed = os.urandom(SEED) if self._goldens.was_resumed(name) else b""
        try:
            result = await self._tart.exec(
                name, command, timeout=self._limits.set_up, stdin=guest.setup_input(spec, seed=seed)
            )
            return guest.runner_version(result.out, spec)
        except VMError as error:
            if error.reason == GUEST_SILENT.code and await self._booting.broke_off(process):
                raise self._booting.ended_early(name) from error
            raise

    async def deliver(self, name: str, spec: Pool, jit: JitConfig) -> None:
        """Hand the JIT config over, and follow the runner's output from then on."""
        about = self._about.pop(name, [f"VM {name}, a fresh clone of {spec.image}"])
        result = await self._tart.exec(
            name,
            guest.deliver_command(name),
            timeout=self._limits.deliver,
            stdin=guest.deliver_input(jit, about),
        )
        guest.check_delivered(result.out)
        await self.follow(name, spec)

    async def probe(self, name: str) -> GuestLook:
        """Ask the guest about its runner."""
        at = self._clock()
        result = await self._tart.exec(name, guest.probe_command(name), timeout=self._limits.probe)
        return guest.guest_look(result.out, at)

    async def hold(self, name: str, until: datetime | None) -> None:
        """Have the guest stay up after its runner has ended."""
        seconds = 0 if until is None else max(0, round((until - self._clock()).total_seconds()))
        result = await self._tart.exec(name, guest.hold_command(name, seconds), timeout=self._limits.probe)
        guest.check_held(result.out)

    async def follow(self, name: str, spec: Pool) -> None:
        """Copy the runner's output to this host."""
        del spec
        argv = self._tart.exec_argv(name, guest.FOLLOW)
        self._follower.start(name, argv, env=self._tart.env, file=self._runners / name / "runner.log")

    def listening(self, name: str) -> datetime | None:
        """Return when the runner's output first said that it waits for a job."""
        return self._follower.listening(name)

    async def pause(self, host: str, *, paused: bool) -> None:
        """Refuse: there is one Mac, and `cidermill drain` is for that."""
        del paused
        msg = f"there is no Mac called {host}: this one alone runs VMs, and `cidermill drain` empties it"
        raise UnknownHost(msg, reason="unknown_host")

    async def delete(self, name: str) -> None:
        """Cut the VM's power, see that its process is gone, and remove it."""
        if not self._names.is_runner(name):
            msg = f"{name} is no name of ours: it is left alone"
            raise VMError(msg, reason="not_ours")
        self._about.pop(name, None)
        await self._removal.remove(name)
        await self._follower.stop(name)

    def logs(self, name: str) -> tuple[Path, ...]:
        """Return the kept output of the VM's process and of its runner."""
        return kept(self._runners / name, LOGS)

    def forget(self, before: datetime) -> None:
        """Remove the kept output of runners that said nothing since *before*."""
        forget(self._runners, before, lambda name: self._watch.get(name) is not None)

    def on_end(self, callback: Callable[[str, str], None]) -> None:
        """Call back when a VM ends."""
        self._tell = callback

    async def close(self) -> None:
        """Stop following; VMs go on."""
        await self._follower.close()

    def _ended(self, name: str) -> None:
        ending = self._ending(name)
        if name in self._resuming:
            return
        log.info("vm_ended", runner=name, cause=ending)
        self._tell(name, ending)

    def _ending(self, name: str) -> str:
        """Return how a VM ended; a guest that powered off cleanly may tell more in its runner's output."""
        code, told = cause_of(self._booting.run_log(name)).code, self._runners / name / "runner.log"
        if code != "guest_powered_off":
            return code
        if turned_away(told):
            return "runner_too_old"
        return "worked" if worked(told) else code


def _is_mac(vm: Path) -> bool:
    """Whether a VM counts for Apple's limit; where that cannot be read, it does."""
    try:
        return '"linux"' not in (vm / "config.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True
