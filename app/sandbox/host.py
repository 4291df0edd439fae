"""A model of the host: VMs in memory, on whatever clock the event loop runs.

It keeps to the port's contract as the tart adapter does, without processes or files, so that tests and
simulations can hold thousands of VM lives, let any step fail, and run on virtual time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from app.domain.goldens import Origin, unfit
from app.domain.images import is_remote
from app.domain.pools import MACOS_VM, Names, Pool, Start
from app.domain.world import VM, Base, Golden, GuestLook, Host, HostLook, HostState, Made, VMState
from app.ports import GuestFacts, JitConfig, Package, UnknownHost, VMError, VMTimeout
from app.sandbox.hostparts import HostFaults, ModelVM

HOST_LIMIT = 2
RUNNER_VERSION = "2.336.0"  # of the runner that an image holds, unless it has none


class ModelHost:
    """A Mac's worth of VMs behind ``ports.VMBackend``."""

    def __init__(self, clock: Callable[[], datetime], *, boot_seconds: float = 0.0) -> None:
        self.vms: dict[str, ModelVM] = {}
        self.images = {"sequoia"}
        self.registry: dict[str, str] = {}  # what each image of a registry is now: 64 hex digits
        self.pulled: dict[str, tuple[str, ...]] = {}  # what each is here, and was, newest first
        self.asked_at: dict[str, datetime] = {}
        self.base_gb = 20.0
        self.made: dict[str, tuple[str, Made]] = {}  # by image: what it was, and what was done to it
        self.goldens: dict[str, Golden] = {}
        self.cloned: dict[str, str] = {}  # by VM: the golden that it is a clone of
        self.system = "model"
        self.resumes: Counter[str] = Counter()  # by golden
        self.bare: set[str] = set()  # images without a runner
        self.built: dict[str, int] = {}  # by local image: how often it was built anew
        self.prepare_seconds = 0.0
        self.pull_seconds = 0.0
        self.faults = HostFaults()
        self.boot_seconds = boot_seconds
        self.free_disk_gb: float | None = 100.0
        self.limit = self.slots = HOST_LIMIT
        self.name = self.closed = ""
        self.fetches = False  # it is one of a fleet, whose images are fetched there
        self.can_be_chosen = True
        self.calls: Counter[str] = Counter()
        self.most_running = 0
        self.connected: Callable[[ModelVM], None] = lambda _: None  # a runner in a guest starts
        self.lost: Callable[[ModelVM], None] = lambda _: None  # a VM ends or is deleted, with what ran in it
        self._clock = clock
        self._callbacks: list[Callable[[str, str], None]] = []

    @property
    def running(self) -> list[ModelVM]:
        """The VMs that take one of the host's places now."""
        return [vm for vm in self.vms.values() if vm.state is VMState.RUNNING]

    def end(self, name: str, ending: str = "guest_powered_off") -> None:
        """Let a VM end, as when its guest powers off or crashes."""
        vm = self.vms[name]
        vm.state, vm.ending = VMState.STOPPED, ending
        vm.runner_alive = vm.worker_alive = False
        self.lost(vm)
        for callback in self._callbacks:
            callback(name, ending)

    async def look(self) -> HostLook:
        """List the VMs."""
        self._spend("look")
        listed = tuple(
            VM(
                name=vm.name,
                state=vm.state,
                takes={MACOS_VM: 1} if vm.state is VMState.RUNNING else {},
                ending=vm.ending,
            )
            for vm in self.vms.values()
        )
        return HostLook(
            at=self._clock(),
            vms=listed,
            hosts=(
                Host(
                    name=self.name,
                    room={MACOS_VM: self.limit},
                    most=self.slots,
                    state=HostState.PAUSED if self.closed else HostState.OPEN,
                    closed=self.closed,
                    seen_at=self._clock() if self.name else None,
                    can_be_chosen=self.can_be_chosen,
                ),
            ),
            free_disk_gb=self.free_disk_gb,
            images=None if self.fetches else frozenset(self.images),
            bases=(*self._bases(), *self._prepared()),
            goldens=tuple(self.goldens.values()),
            system=self.system,
            digests={image: self._digest(image) for image in self.images},
        )

    async def prepare(self, image: str) -> str:
        """Make an image clonable."""
        self._spend("prepare")
        await asyncio.sleep(self.pull_seconds)
        self.images.add(image)
        if not is_remote(image):
            return image
        digest = self.registry.get(image, "0" * 64)
        older = tuple(known for known in self.pulled.get(image, ()) if known != digest)
        self.pulled[image], self.asked_at[image] = (digest, *older), self._clock()
        return f"{image}@sha256:{digest}"

    async def make_base(self, name: str, spec: Pool, package: Package) -> None:
        """Prepare a base in a VM, which becomes it."""
        self._spend("make_base")
        if spec.image not in self.images:
            msg = f"{spec.image} is not here"
            raise VMError(msg, reason="image_missing")
        digest = self._digest(spec.image)
        vm = self._power_on(name)
        await self._boot(name, spec)
        await asyncio.sleep(self.prepare_seconds)
        if self.vms.get(name) is not vm or vm.state is not VMState.RUNNING:
            msg = f"{name} ended while a base was prepared in it"
            raise VMError(msg, reason=vm.ending or "vm_ended")
        self.end(name)
        del self.vms[name]
        self.made[spec.image] = (
            digest,
            Made(
                at=self._clock(),
                runner_version=package.version,
                runner_dir=spec.runner_dir,
                script=spec.prepare_script.digest if spec.prepare_script else None,
            ),
        )

    def _source(self, spec: Pool) -> str:
        bases = self._prepared() if spec.prepare else ()
        return next((base.name for base in bases if base.image == spec.image), self._digest(spec.image))

    def _digest(self, image: str) -> str:
        if image in self.pulled:
            return self.pulled[image][0]
        return f"{self.built.get(image, 0):064x}"

    def _prepared(self) -> Iterator[Base]:
        for image, (digest, made) in self.made.items():
            name = Names("mini").prepared(digest[:12], f"{made.at:%y%m%d%H%M%S}")
            yield Base(
                name=name,
                image=image,
                digest=digest,
                age=0,
                asked_at=made.at,
                size_gb=self.base_gb,
                made=made,
            )

    async def fetch(self, name: str, spec: Pool, *, host: str) -> GuestFacts:
        """Fetch an image in a VM."""
        del host
        self._spend("fetch")
        self._power_on(name)
        await asyncio.sleep(self.pull_seconds)
        return GuestFacts(image=f"{spec.image}@sha256:model", runner_version=None, host=self.name)

    async def drop_base(self, name: str, in_use: frozenset[str]) -> None:
        """Remove a base."""
        self._spend("drop_base")
        for base in [base for base in self._prepared() if base.name == name]:
            if base.image in in_use:
                msg = f"{name} is what launches from {base.image} clone"
                raise VMError(msg, reason="base_in_use")
            del self.made[base.image]
        for image, digests in list(self.pulled.items()):
            if image in in_use and _base(digests[0]) == name:
                msg = f"{name} is what {image} is now"
                raise VMError(msg, reason="base_in_use")
            self.pulled[image] = tuple(digest for digest in digests if _base(digest) != name)
            if not self.pulled[image]:
                self.images.discard(image)
                del self.pulled[image]

    async def make_golden(self, name: str, spec: Pool) -> None:
        """Make a golden in a VM, which runs as a clone of it in the end."""
        self._spend("make_golden")
        origin = self._origin(spec)
        vm = self._power_on(name)
        await self._boot(name, spec)
        await asyncio.sleep(self.prepare_seconds)
        if self.vms.get(name) is not vm or vm.state is not VMState.RUNNING:
            msg = f"{name} ended while a golden was made in it"
            raise VMError(msg, reason=vm.ending or "vm_ended")
        golden = Golden(
            name=Names("mini").golden(hashlib.sha256(name.encode()).hexdigest()[:12]),
            pool=spec.name,
            at=self._clock(),
            source=origin.source,
            digest=origin.digest,
            shape=spec.shape,
            system=self.system,
        )
        self.goldens[golden.name], self.cloned[name] = golden, golden.name

    async def drop_golden(self, name: str) -> None:
        """Remove a golden."""
        self._spend("drop_golden")
        self.goldens.pop(name, None)

    def _origin(self, spec: Pool) -> Origin:
        made = self.made.get(spec.image) if spec.prepare else None
        if made is not None:
            base = next(base for base in self._prepared() if base.image == spec.image)
            return Origin(source=base.name, digest=base.digest)
        digest = self._digest(spec.image)
        return Origin(source=_base(digest) if spec.image in self.pulled else spec.image, digest=digest)

    def _free_golden(self, spec: Pool) -> Golden | None:
        origin, taken = self._origin(spec), set(self.cloned.values())
        fitting = (g for g in self.goldens.values() if unfit(g, spec, origin, self.system) is None)
        return next((golden for golden in fitting if golden.name not in taken), None)

    def _bases(self) -> Iterator[Base]:
        for image, digests in self.pulled.items():
            for age, digest in enumerate(digests):
                yield Base(
                    name=_base(digest),
                    image=image,
                    digest=digest,
                    age=age,
                    asked_at=self.asked_at[image],
                    size_gb=self.base_gb,
                )

    async def start(self, name: str, spec: Pool, *, host: str = "") -> GuestFacts:
        """Boot a VM, or go on waiting for one that runs."""
        del host
        self._spend("start")
        vm, cloned_at = self.vms.get(name), None
        trouble: VMError | None = None
        if vm is None:
            trouble = self._resume(name, spec)
            vm, cloned_at = self._power_on(name), self._clock()
        elif vm.state is not VMState.RUNNING:
            msg = f"{name} exists and does not run"
            raise VMError(msg, reason="interrupted")
        resumed = name in self.cloned
        if not resumed:
            await self._boot(name, spec)
        if vm.state is not VMState.RUNNING:
            msg = f"{name} ended while booting"
            raise VMError(msg, reason=vm.ending or "vm_ended")
        made = self.made.get(spec.image) if spec.prepare else None
        if made is None and spec.image in self.bare:
            msg = f"{spec.image} holds no actions runner"
            raise VMError(msg, reason="runner_missing")
        vm.ready = True
        version = made[1].runner_version if made else RUNNER_VERSION
        return GuestFacts(
            image=f"{spec.image}@sha256:model",
            runner_version=version,
            host=self.name,
            source=self._source(spec),
            cloned_at=cloned_at,
            start=Start.SNAPSHOT if resumed else Start.COLD,
            trouble=trouble,
        )

    def _resume(self, name: str, spec: Pool) -> VMError | None:
        """Have VM *name* be a clone of a golden, where one is free, or return why it is none."""
        golden = self._free_golden(spec)
        if golden is None:
            return None
        if self.faults.resume:
            del self.goldens[golden.name]
            return self.faults.resume.pop(0)
        self.cloned[name] = golden.name
        self.resumes[golden.name] += 1
        return None

    async def deliver(self, name: str, spec: Pool, jit: JitConfig) -> None:
        """Start the runner in a guest, once."""
        del spec
        self._spend("deliver")
        vm = self._up(name)
        if vm.jit is not None:
            msg = f"{name} took a JIT config before"
            raise VMError(msg, reason="delivered_before")
        vm.jit, vm.runner_alive = jit, True
        self.connected(vm)
        if self.faults.deliver_lost:
            raise self.faults.deliver_lost.pop(0)

    async def probe(self, name: str) -> GuestLook:
        """Ask a guest."""
        self._spend("probe")
        vm = self._up(name)
        return GuestLook(
            at=self._clock(),
            delivered=vm.jit is not None,
            runner_alive=vm.runner_alive,
            worker_alive=vm.worker_alive,
            exit_code=vm.exit_code,
        )

    async def hold(self, name: str, until: datetime | None) -> None:
        """Have a guest stay up after its runner has ended."""
        self._spend("hold")
        left = 0.0 if until is None else (until - self._clock()).total_seconds()
        self._up(name).held_until = asyncio.get_running_loop().time() + left

    async def follow(self, name: str, spec: Pool) -> None:
        """Do nothing: the model has no output."""

    async def pause(self, host: str, *, paused: bool) -> None:
        """Close the one host there is, which has no name, or open it."""
        if host != self.name:
            msg = f"there is no host called {host}"
            raise UnknownHost(msg, reason="unknown_host")
        self.closed = "it is paused" if paused else ""

    def listening(self, name: str) -> datetime | None:
        """Return nothing: the model has no output."""
        del name
        return None

    async def delete(self, name: str) -> None:
        """Remove a VM; absent is success."""
        self._spend("delete")
        vm = self.vms.pop(name, None)
        self.cloned.pop(name, None)
        if vm is not None and vm.state is VMState.RUNNING:
            vm.state = VMState.STOPPED
            self.lost(vm)

    def logs(self, name: str) -> tuple[Path, ...]:
        """Return nothing: the model has no output."""
        del name
        return ()

    def forget(self, before: datetime) -> None:
        """Do nothing: the model has no output."""

    def on_end(self, callback: Callable[[str, str], None]) -> None:
        """Call back when a VM ends."""
        self._callbacks = [callback]

    async def close(self) -> None:
        """Leave everything as it is."""

    def _power_on(self, name: str) -> ModelVM:
        vm = self.vms[name] = ModelVM(name)
        if len(self.running) >= self.limit:
            msg = "The number of VMs exceeds the system limit"
            raise VMError(msg, reason="vm_limit", host_wide=True)
        vm.state = VMState.RUNNING
        self.most_running = max(self.most_running, len(self.running))
        return vm

    async def _boot(self, name: str, spec: Pool) -> None:
        try:
            async with asyncio.timeout(spec.boot_timeout.total_seconds()):
                await asyncio.sleep(self.boot_seconds)
        except TimeoutError as error:
            msg = f"{name} did not answer in time"
            raise VMTimeout(msg, reason="boot_timeout") from error

    def _up(self, name: str) -> ModelVM:
        vm = self.vms.get(name)
        if vm is None or vm.state is not VMState.RUNNING or not vm.ready:
            msg = f"{name} does not answer"
            raise VMError(msg, reason="guest_silent")
        return vm

    def _spend(self, verb: str) -> None:
        self.calls[verb] += 1
        faults: list[VMError] = getattr(self.faults, verb)
        if faults:
            raise faults.pop(0)


def _base(digest: str) -> str:
    return Names("mini").base(digest[:12])
