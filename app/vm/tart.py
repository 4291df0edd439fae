"""The tart backend: VMs on this Mac, behind ``ports.VMBackend``.

Each VM is one ``tart run`` process that outlives us and is found again by name and lock. Commands go through
:class:`app.vm.command.Tart`, processes through :class:`app.vm.watch.Watch`, what happens in a guest is in
:mod:`app.vm.guest`; here they are put together. docs/contracts/tart.md is binding.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from app.domain.pools import Names, Pool
from app.domain.world import VM, GuestLook, HostLook, VMState
from app.ports import GuestFacts, JitConfig, VMError, VMTimeout
from app.vm import guest
from app.vm.command import Listed, Tart
from app.vm.follow import Follower
from app.vm.images import Images
from app.vm.locks import owner_of
from app.vm.runlog import cause_of
from app.vm.trouble import told_as_vm_error
from app.vm.watch import Watch, Watched

log = structlog.get_logger(__name__)

APPLE_LIMIT = 2  # running macOS guests on one Mac
PROBE_SECONDS = 10.0  # for one try to reach a guest; tart itself sets no limit
SETUP_SECONDS = 60.0
DELIVER_SECONDS = 30.0
BETWEEN_PROBES = 0.2  # s
STOP_SECONDS = 5  # then tart kills
DELETE_TRIES = 5
NEEDED = ("config.json", "disk.img", "nvram.bin")  # without one of them tart does not list a VM
LOST_SECONDS = 30.0  # until a process that neither stops nor can be found by its lock is killed


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
        self._tart = tart
        self._vms, self._runners = tart.home / "vms", state_dir / "runners"
        self._names, self._clock = names, clock
        self._images = Images(tart, names, state_dir / "images.json")
        self._tell: Callable[[str, str], None] = lambda _name, _ending: None
        self._watch = Watch(self._ended)
        self._follower = Follower()
        self._about: dict[str, list[str]] = {}

    async def look(self) -> HostLook:
        """List the VMs; those of ours that run are watched from now on, whoever started them."""
        at = self._clock()
        listed = await self._tart.vms()
        with told_as_vm_error(f"cannot look at the VMs in {self._vms}"):
            listed += self._half_made({vm.name for vm in listed})
            for vm in listed:
                if vm.state is VMState.RUNNING and self._names.is_runner(vm.name):
                    self._adopt(vm.name)
            free = shutil.disk_usage(self._tart.home).free
        return HostLook(
            at=at,
            vms=tuple(self._seen(vm) for vm in listed),
            free_disk_gb=free / 1e9,
            images=self._images.clonable(listed),
            limit=APPLE_LIMIT,
        )

    def _half_made(self, listed: set[str]) -> list[Listed]:
        """Return what is left of VMs of ours that tart does not list, since a file is missing: they take space."""
        if not self._vms.is_dir():
            return []
        left = [d for d in self._vms.iterdir() if d.name not in listed and self._names.is_runner(d.name)]
        return [
            Listed(d.name, VMState.RUNNING if owner_of(d) else VMState.STOPPED)
            for d in left
            if not all((d / file).exists() for file in NEEDED)
        ]

    def _seen(self, vm: Listed) -> VM:
        ours = self._names.is_runner(vm.name)
        ended = ours and vm.state is not VMState.RUNNING
        return VM(
            name=vm.name,
            state=vm.state,
            counts=ours or _is_mac(self._vms / vm.name),
            ending=cause_of(self._run_log(vm.name)).code if ended else None,
        )

    async def prepare(self, image: str) -> None:
        """Pull the image and make its base."""
        await self._images.prepare(image)

    async def start(self, name: str, spec: Pool) -> GuestFacts:
        """Boot a fresh VM, or go on waiting for one of that name that runs."""
        limit = spec.boot_timeout.total_seconds()
        stage = "clone"
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with asyncio.timeout(limit):
                process = self._adopt(name)
                if process is None:
                    await self._clone(name, spec)
                    process = self._launch(name, spec)
                image = self._images.exactly(spec.image)
                stage = "boot"
                cloned = now()
                await self._until_it_answers(name, process)
                stage = "set-up of the guest"
                booted = now()
                version = await self._set_up(name, spec, process)
        except TimeoutError as error:
            msg = f"{name}: the {stage} did not end within boot_timeout = {limit:.0f} s"
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
                msg = f"a VM called {name} exists and does not run: names are never used again"
                raise VMError(msg, reason="interrupted")
            await self._tart.clone(self._images.source(spec.image), name)
        await self._tart.configure(name, spec)

    def _launch(self, name: str, spec: Pool) -> Watched:
        log_file = self._run_log(name)
        argv = self._tart.run_argv(name, spec)
        with told_as_vm_error(f"cannot keep the output of {name} in {log_file.parent}"):
            log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._watch.spawn(name, argv, env=self._tart.env, log=log_file)

    async def _until_it_answers(self, name: str, process: Watched) -> None:
        while not process.ended.is_set():
            with suppress(VMTimeout):
                result = await self._tart.exec(name, guest.TRUE, timeout=PROBE_SECONDS)
                if result.code == 0:
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(BETWEEN_PROBES):
                    await process.ended.wait()
        raise self._ended_early(name)

    async def _set_up(self, name: str, spec: Pool, process: Watched) -> str | None:
        command = guest.setup_command(name, spec, self._clock())
        result = await self._tart.exec(name, command, timeout=SETUP_SECONDS, stdin=guest.setup_input(spec))
        try:
            return guest.runner_version(result.out)
        except VMError as error:
            if process.ended.is_set():
                raise self._ended_early(name) from error
            raise

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
            timeout=DELIVER_SECONDS,
            stdin=guest.deliver_input(jit, about),
        )
        guest.check_delivered(result.out)
        await self.follow(name, spec)

    async def probe(self, name: str) -> GuestLook:
        """Ask the guest about its runner."""
        at = self._clock()
        result = await self._tart.exec(name, guest.probe_command(name), timeout=PROBE_SECONDS)
        return guest.guest_look(result.out, at)

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
        for _ in range(DELETE_TRIES):
            await self._power_off(name)
            async with self._tart.changing:
                if await self._tart.delete(name):
                    break
        else:
            raise VMError(
                f"tart says that {name} runs, and nothing is found that does", reason="delete_failed"
            )
        await self._follower.stop(name)
        # tart does not see a directory without a config.json, which a clone that was cut off may leave.
        await asyncio.to_thread(shutil.rmtree, self._vms / name, ignore_errors=True)
        if (self._vms / name).exists():
            raise VMError(f"the directory of VM {name} cannot be removed", reason="delete_failed")

    async def _power_off(self, name: str) -> None:
        """Stop until nothing runs: a stop that comes before the lock is taken does nothing, without a word."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while process := self._adopt(name):
            if loop.time() - began > 2 * LOST_SECONDS:
                raise VMTimeout(f"{name} does not stop", reason="stop_timeout")
            if not await self._stopped(name):
                _signal(process.pid, signal.SIGKILL if loop.time() - began > LOST_SECONDS else signal.SIGINT)
            with suppress(TimeoutError):
                async with asyncio.timeout(BETWEEN_PROBES * 5):
                    await process.ended.wait()

    async def _stopped(self, name: str) -> bool:
        """Whether tart stopped it; where tart cannot, the process is ended without it."""
        try:
            return await self._tart.stop(name, seconds=STOP_SECONDS)
        except VMError as error:
            log.warning("stop_failed", vm=name, detail=str(error))
            return False

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

    def _adopt(self, name: str) -> Watched | None:
        known = self._watch.get(name)
        if known is not None:
            return known
        with told_as_vm_error(f"cannot tell who runs {name}"):
            pid = owner_of(self._vms / name)
        return self._watch.adopt(name, pid) if pid else None

    def _ended(self, name: str) -> None:
        ending = cause_of(self._run_log(name)).code
        log.info("vm_ended", vm=name, cause=ending)
        self._tell(name, ending)

    def _run_log(self, name: str) -> Path:
        return self._runners / name / "run.log"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _is_mac(vm: Path) -> bool:
    """Whether a VM counts for Apple's limit; where that cannot be read, it does."""
    try:
        return '"linux"' not in (vm / "config.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return True
