"""Boots a VM of each image, to see that a guest comes up, and what runner it holds (`cidermill doctor --boot`).

In a running server it is a runner like any other, which no job asked for: it holds a slot, yields to a job that wants
it, serves a job that comes meanwhile, and is removed by the loop, whatever becomes of us. Without a server the VM
bears a name of ours all the same, so that whatever is left of it is swept by the next one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.db.reader import Reader
from app.db.store import SlotTaken
from app.doctor.finding import Check, Finding, failure, warning
from app.domain.places import Room
from app.domain.plan import hold_up
from app.domain.pools import MACOS_VM, TOKEN_ALPHABET, TOKEN_LENGTH, Pool, runner_name
from app.domain.runners import Runner, RunnerState
from app.domain.versions import mend
from app.domain.world import HostLook, World
from app.ports import VMBackend, VMError
from app.reconcile import Reconciler

EVERY = 0.5  # s, between two looks at how far it is
RECORD_TRIES = 10
LONGER = 60.0  # s beyond boot_timeout, for what follows a boot that failed
ENDED = frozenset({RunnerState.STOPPING, RunnerState.GONE})
YIELDED = frozenset({"no_longer_needed", "yielded", "draining", "pool_changed", "stopped_by_operator"})
BY_HAND = "try the image by hand: `tart run {image}`, and then `tart exec {image} true`; packer/README.md says what it needs"

GUEST = Check(
    area="boot",
    name="guest",
    looks_at="a VM of each image, booted for this and removed after: its guest agent, and the runner in it",
    why="An image may be there and still serve nothing: no agent, no runner, or a boot that takes too long.",
    troubles={
        "failed": failure("pool {pool}: no usable guest came up: {said}", "{mend}"),
        "left": failure(
            "pool {pool}: the VM {name} could not be removed: {said}",
            "`tart stop {name}; tart delete {name}`",
        ),
        "no_slot": warning("pool {pool}: no VM was booted: {said}", "ask again when a slot is free"),
        "old_runner": warning(
            "pool {pool}: the image holds runner {found}, and GitHub expects {expected}", "{mend}"
        ),
        "no_runner": warning(
            "pool {pool}: the image holds no actions runner in {runner_dir}",
            "nothing, if that is meant: one is installed before the first job, which waits for it; else set runner_dir",
        ),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of one VM."""

    pool: Pool
    name: str = ""
    no_slot: str = ""  # why none was booted
    trouble: str = ""  # why no guest came up
    reason: str = ""  # the same as a short code
    left: str = ""  # why it is still there
    runner: str | None = None  # the version in the image
    seconds: float = 0.0


def told(tried: Tried, expected: Iterable[str]) -> Finding:
    """Return what is to be said of it; *expected* are the versions of the runner that GitHub offers."""
    pool = tried.pool.name
    if tried.no_slot:
        return GUEST.wrong("no_slot", pool=pool, said=tried.no_slot)
    if tried.reason == "runner_missing" and tried.pool.prepare:
        return GUEST.wrong("no_runner", pool=pool, runner_dir=tried.pool.runner_dir)
    if tried.trouble:
        what, _, advice = tried.trouble.partition(": ")
        by_hand = BY_HAND.format(image=tried.pool.image)
        return GUEST.wrong("failed", pool=pool, said=what, mend=f"{advice}; {by_hand}" if advice else by_hand)
    if tried.left:
        return GUEST.wrong("left", pool=pool, name=tried.name, said=tried.left)
    newest = max(filter(None, expected), key=_parts, default="")
    if newest and tried.runner and _parts(tried.runner) < _parts(newest):
        return GUEST.wrong(
            "old_runner", pool=pool, found=tried.runner, expected=newest, mend=mend(tried.pool)
        )
    held = f"runner {tried.runner}" if tried.runner else "a runner that does not tell its version"
    return GUEST.fine(f"pool {pool}: the guest answered after {tried.seconds:.0f} s, and holds {held}")


def one_a_image(pools: Sequence[Pool]) -> tuple[Pool, ...]:
    """Return one pool of each image."""
    return tuple({pool.image: pool for pool in reversed(pools)}.values())[::-1]


async def boot_here(vms: VMBackend, pool: Pool, host_name: str, *, min_free_gb: float) -> Tried:
    """Boot a VM without a server. Nobody else may start VMs meanwhile: hold the state directory's lock."""
    name, began = _name(host_name, pool), asyncio.get_running_loop().time()
    try:
        why_not = _room(await vms.look(), min_free_gb)
        if why_not:
            return Tried(pool=pool, no_slot=why_not)
        try:
            facts = await vms.start(name, pool)
            seconds = asyncio.get_running_loop().time() - began
        finally:
            left = await _remove(vms, name)
    except VMError as error:
        return Tried(pool=pool, name=name, trouble=str(error), reason=error.reason)
    return Tried(pool=pool, name=name, left=left, runner=facts.runner_version, seconds=seconds)


def _room(look: HostLook, min_free_gb: float) -> str:
    running = [vm.name for vm in look.vms if vm.takes.get(MACOS_VM)]
    if len(running) >= sum(len(host.slots) for host in look.hosts):
        return f"{' and '.join(sorted(running))} run already"
    if look.free_disk_gb is not None and look.free_disk_gb < min_free_gb:
        return f"only {look.free_disk_gb:.0f} GB are free"
    return ""


async def _remove(vms: VMBackend, name: str) -> str:
    try:
        await vms.delete(name)
    except VMError as error:
        return str(error)
    return ""


async def boot_there(
    reconciler: Reconciler, reader: Reader, pool: Pool, *, clock: Callable[[], datetime], every: float = EVERY
) -> Tried:
    """Have the running server boot a VM that no job asked for."""
    world, now = reconciler.world, clock()
    why_not = _held_up(world, pool, now)
    if world is None or why_not:
        return Tried(pool=pool, no_slot=why_not)
    slot = Room(world).slot_for(pool)
    if slot is None:
        return Tried(pool=pool, no_slot="every slot is taken")
    runner = Runner(
        name=_name(world.names.host, pool),
        slot=slot,
        spec=pool,
        state=RunnerState.BOOTING,
        since=now,
        created_at=now,
        reason="doctor",
    )
    began = asyncio.get_running_loop().time()
    try:
        await reconciler.launch(runner)
    except SlotTaken:
        return Tried(pool=pool, no_slot="a job took the slot")
    found = await _outcome(reader, runner, every)
    seconds = asyncio.get_running_loop().time() - began
    if found.state in ENDED and found.image is None:
        if found.reason in YIELDED:
            return Tried(pool=pool, no_slot=f"it was let go ({found.reason})")
        why = await _why(reconciler, found, every)
        return Tried(pool=pool, name=found.name, trouble=why, reason=found.reason)
    return Tried(pool=pool, name=found.name, runner=found.runner_version, seconds=seconds)


def _held_up(world: World | None, pool: Pool, now: datetime) -> str:
    if world is None:
        return "the server has just started"
    if world.draining:
        return "the server is draining"
    images = world.host.images if world.host else None
    if images is not None and pool.image not in images:
        return f"the image {pool.image} is not ready (see image)"
    return hold_up(world, now) or ""


async def _outcome(reader: Reader, runner: Runner, every: float) -> Runner:
    """Return the runner once its boot has ended, one way or the other; it keeps its own time limit."""
    try:
        async with asyncio.timeout(runner.spec.boot_timeout.total_seconds() + LONGER):
            while True:
                found = await reader.runner(runner.name)
                if found is not None and found[0].state is not RunnerState.BOOTING:
                    return found[0]
                await asyncio.sleep(every)
    except TimeoutError:
        return runner


async def _why(reconciler: Reconciler, runner: Runner, every: float) -> str:
    """Return what went wrong in the words of its record, which is written a moment after the runner has ended."""
    scopes = {"host", f"pool:{runner.pool}", f"image:{runner.spec.image}"}
    for _ in range(RECORD_TRIES):
        world = await reconciler.see()
        for cooldown in world.cooldowns:
            if cooldown.scope in scopes and cooldown.reason == runner.reason:
                return cooldown.detail
        await asyncio.sleep(every)
    return runner.reason


def _name(host: str, pool: Pool) -> str:
    token = "".join(random.SystemRandom().choices(TOKEN_ALPHABET, k=TOKEN_LENGTH))
    return runner_name(host, pool.name, token)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
