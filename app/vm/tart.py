"""The tart backend: VMs on this Mac, behind ``ports.VMBackend``.

Each VM is one ``tart run`` process that outlives us and is found again by name and lock. Commands go through
:class:`app.vm.command.Tart`, processes through :class:`app.vm.watch.Watch`, what happens in a guest is in
:mod:`app.vm.guest`; here they are put together. docs/contracts/tart.md is binding.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog

from app.domain.pools import Names, Pool
from app.domain.world import VM, GuestLook, HostLook, VMState
from app.ports import GuestFacts, JitConfig, VMError, VMTimeout
from app.vm import guest
from app.vm.causes import GUEST_SILENT
from app.vm.command import Listed, Tart
from app.vm.follow import Follower
from app.vm.images import Images
from app.vm.locks import owner_of
from app.vm.removal import Removal
from app.vm.runlog import cause_of, cut, turned_away, worked
from app.vm.trouble import told_as_vm_error
from app.vm.watch import Watch, Watched

log = structlog.get_logger(__name__)
T = TypeVar("T")

APPLE_LIMIT = 2  # running macOS guests on one Mac
BETWEEN_PROBES = 0.2  # s
NEEDED = ("config.json", "disk.img", "nvram.bin")  # without one of them tart does not list a VM


class TartBackend:
    """The VMs of the Mac we run on."""

    def __init__(
        self,
        *,
        tart: Tart,
        state_dir: Path,
        names: Names,
        clock: Callable[[], datetime],
    ) -> None:
        self._tart, self._limits = tart, tart.limits
        self._vms, self._runners = tart.home / "vms", state_dir / "runners"
        self._names, self._clock = names, clock
        self._images = Images(tart, names, state_dir / "images.json", clock)
        self._tell: Callable[[str, str], None] = lambda _name, _ending: None
        self._watch = Watch(self._vms, self._ended)
        self._removal = Removal(tart, self._watch)
        self._follower = Follower()
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
                    cut(self._run_log(vm.name))
            places = [place for place in (self._tart.home, self._vms) if place.is_dir()]  # maybe two volumes
            free = min(shutil.disk_usage(place).free for place in places or [self._tart.home])
        return HostLook(
            at=at,
            vms=tuple(self._seen(vm) for vm in listed),
            free_disk_gb=free / 1e9,
            images=self._images.clonable(listed),
            bases=self._images.bases(listed, at),
            limit=APPLE_LIMIT,
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
        ended = ours and vm.state is not VMState.RUNNING
        return VM(
            name=vm.name,
            state=vm.state,
            counts=ours or _is_mac(self._vms / vm.name),
            ending=self._ending(vm.name) if ended else None,
        )

    async def prepare(self, image: str) -> str:
        """Pull the image and make its base."""
        return await self._images.prepare(image)

    async def drop_base(self, name: str, in_use: frozenset[str]) -> None:
        """Remove a base."""
        await self._images.drop(name, in_use)

    async def start(self, name: str, spec: Pool) -> GuestFacts:
        """Boot a fresh VM, or go on waiting for one of that name that runs."""
        limit = spec.boot_timeout.total_seconds()
        stage = "clone"
        troubles: list[VMError] = []
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with asyncio.timeout(limit):
                process = self._watch.find(name)
                if process is None:
                    await self._clone(name, spec)
                    process = self._launch(name, spec)
                image = self._images.exactly(spec.image)
                stage = "boot"
                cloned = now()
                await self._while_it_lives(name, process, self._until_it_answers(name, troubles))
                stage = "set-up of the guest"
                booted = now()
                version = await self._while_it_lives(name, process, self._set_up(name, spec, process))
        except TimeoutError as error:
            if troubles:
                raise troubles[-1] from error
            msg = (
                f"{name}: the {stage} did not end within boot_timeout = {limit:.0f} s: raise it if the Mac is just "
                "slow, else try the image by hand"
            )
            raise VMTimeout(msg, reason="boot_timeout") from error
        self._about[name] = [
            f"VM {name}, a fresh clone of {image}",
            f"cloned in {cloned - began:.1f} s, booted in {booted - cloned:.1f} s",
        ]
        return GuestFacts(image=image, runner_version=version)

    async def _clone(self, name: str, spec: Pool) -> None:
        async with self._tart.changing:
            # tart would replace it without a word, even where it runs.
            if (self._vms / name).exists():
                msg = (
                    f"a VM called {name} exists and does not run: names are never used again, and the next launch "
                    "takes another"
                )
                raise VMError(msg, reason="interrupted")
            await self._tart.clone(self._images.source(spec.image), name)
        await self._tart.configure(name, spec)

    def _launch(self, name: str, spec: Pool) -> Watched:
        log_file = self._run_log(name)
        argv = self._tart.run_argv(name, spec)
        with told_as_vm_error(f"cannot keep the output of {name} in {log_file.parent}"):
            log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._watch.spawn(name, argv, env=self._tart.env, log=log_file)

    async def _while_it_lives(self, name: str, process: Watched, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* does, or raise why the VM ended meanwhile; tart may take long to notice."""
        working, ending = asyncio.create_task(work), asyncio.create_task(process.ended.wait())
        try:
            await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise self._ended_early(name)
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def _until_it_answers(self, name: str, troubles: list[VMError]) -> None:
        """Ask until the guest answers. What keeps us from asking may pass, and is left in *troubles* if it lasts."""
        while True:
            try:
                result = await self._tart.exec(name, guest.TRUE, timeout=self._limits.probe)
                troubles.clear()
                if result.code == 0:
                    return
            except VMTimeout:
                troubles.clear()
            except VMError as error:
                if not error.host_wide:
                    raise
                troubles[:] = [error]
            await asyncio.sleep(BETWEEN_PROBES)

    async def _set_up(self, name: str, spec: Pool, process: Watched) -> str | None:
        command = guest.setup_command(name, spec, self._clock())
        try:
            result = await self._tart.exec(
                name, command, timeout=self._limits.set_up, stdin=guest.setup_input(spec)
            )
            return guest.runner_version(result.out)
        except VMError as error:
            if error.reason == GUEST_SILENT.code and await self._broke_off(process):
                raise self._ended_early(name) from error
            raise

    async def _broke_off(self, process: Watched) -> bool:
        """Whether a guest says nothing because its VM has just ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.break_off):
                await process.ended.wait()
        return process.ended.is_set()

    def _ended_early(self, name: str) -> VMError:
        cause = cause_of(self._run_log(name))
        msg = f"{name} ended before its guest was ready: {cause.detail}"
        return VMError(msg, reason=cause.code, host_wide=cause.host_wide)

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
        folder = self._runners / name
        return tuple(f for f in (folder / "run.log", folder / "runner.log") if f.is_file())

    def forget(self, before: datetime) -> None:
        """Remove the kept output of runners that said nothing since *before*."""
        oldest = before.timestamp()
        with told_as_vm_error(f"cannot tidy {self._runners}"):
            for folder in self._runners.iterdir() if self._runners.is_dir() else ():
                if not folder.is_dir():
                    continue
                newest = max(f.stat().st_mtime for f in (folder, *folder.iterdir()))
                if newest < oldest and self._watch.get(folder.name) is None:
                    shutil.rmtree(folder, ignore_errors=True)

    def on_end(self, callback: Callable[[str, str], None]) -> None:
        """Call back when a VM ends."""
        self._tell = callback

    async def close(self) -> None:
        """Stop following; VMs go on."""
        await self._follower.close()

    def _ended(self, name: str) -> None:
        ending = self._ending(name)
        log.info("vm_ended", runner=name, cause=ending)
        self._tell(name, ending)

    def _ending(self, name: str) -> str:
        """Return how a VM ended; a guest that powered off cleanly may tell more in its runner's output."""
        code, told = cause_of(self._run_log(name)).code, self._runners / name / "runner.log"
        if code != "guest_powered_off":
            return code
        if turned_away(told):
            return "runner_too_old"
        return "worked" if worked(told) else code

    def _run_log(self, name: str) -> Path:
        return self._runners / name / "run.log"


def _is_mac(vm: Path) -> bool:
    """Whether a VM counts for Apple's limit; where that cannot be read, it does."""
    try:
        return '"linux"' not in (vm / "config.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True
