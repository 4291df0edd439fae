"""Goldens: suspended VMs whose clones launches resume, so that a job need not wait for a boot.

One is made in a VM that holds a slot, as a base is, for each VM that its pool may run at a time: two clones of one
golden have one MAC address and cannot run at once (docs/contracts/tart.md §6). It is made only while nothing waits and
nothing else is being made, and yields to jobs. Without one, launches boot: nothing ever waits for a golden.

A snapshot fits nothing but what it was taken of, so whatever else it was made from, for or on makes it useless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.actions import DropGolden
from app.domain.cooldowns import is_cooling
from app.domain.images import LAUNCHING, current, is_outdated, is_remote, prepared
from app.domain.pools import Pool, Start
from app.domain.runners import Purpose, Runner
from app.domain.world import Cooldown, Golden, World

AGED = timedelta(days=7)  # what its guest holds of the world gets no better: one as good takes its place
GUEST_GB = 8.0  # what a guest's memory takes on the disk, where the pool leaves that to the image
GB_OF_MIB = 2**20 / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What launches of a pool clone: a local VM, and the digest of the image behind it."""

    source: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A golden that is missing."""

    pool: Pool
    reason: str  # why, as part of a sentence


def unfit(golden: Golden, pool: Pool, origin: Origin | None, system: str) -> str | None:
    """Return why launches of *pool* may not resume a clone of *golden*, as part of a sentence; None: they may."""
    if pool.start is not Start.SNAPSHOT or golden.pool != pool.name:
        return "no pool wants it"
    if origin is None or (golden.source, golden.digest) != (origin.source, origin.digest):
        return "the image is another one by now"
    if golden.shape != pool.shape:
        return "its pool was changed"
    return None if golden.system == system else "tart, macOS or CiderMill was upgraded"


def origin(pool: Pool, world: World) -> Origin | None:
    """Return what launches of *pool* clone now; None: there is nothing yet."""
    base = prepared(pool, world) or (current(pool.image, world) if is_remote(pool.image) else None)
    if base is not None:
        return Origin(source=base.name, digest=base.digest)
    digest = world.host.digests.get(pool.image) if world.host else None
    return Origin(source=pool.image, digest=digest) if digest else None


def usable(pool: Pool, world: World) -> list[Golden]:
    """Return the goldens that launches of *pool* may resume clones of, the newest first."""
    host = world.host
    if host is None:
        return []
    found = origin(pool, world)
    fitting = [golden for golden in host.goldens if unfit(golden, pool, found, host.system) is None]
    return sorted(fitting, key=lambda golden: golden.at, reverse=True)


def wanted(pool: Pool, world: World) -> int:
    """Return how many goldens *pool* shall have: one for each VM that it may run at a time."""
    if pool.start is not Start.SNAPSHOT:
        return 0
    most = len(world.slots)
    return most if pool.max_runners is None else min(most, pool.max_runners)


def need(pool: Pool, world: World, now: datetime) -> Need | None:
    """Return why a golden of *pool* is to be made, or None."""
    if world.host is None or origin(pool, world) is None:
        return None
    here, most = usable(pool, world), wanted(pool, world)
    if len(here) < most:
        return Need(pool=pool, reason=f"{len(here)} of {most} are there")
    if sum(now - golden.at < AGED for golden in here) < most:
        return Need(pool=pool, reason=f"one is older than {AGED.days} days")
    return None


def next_one(world: World, now: datetime) -> Need | None:
    """Return the golden that may be made, once there is a slot that no job wants; one at a time."""
    # A boot is not to be slowed down, and a base that is being prepared may make goldens useless.
    busy = any(not runner.serves_jobs or runner.state in LAUNCHING for runner in world.live)
    if world.draining or busy or is_outdated(world):
        return None
    due = (
        need(pool, world, now) for pool in world.pools if not is_cooling(world, f"golden:{pool.name}", now)
    )
    return next((found for found in due if found and no_room(found.pool, world) is None), None)


def no_room(pool: Pool, world: World) -> str | None:
    """Return why no golden of *pool* is made: what it takes would leave too little free disk."""
    host = world.host
    if host is None or host.free_disk_gb is None:
        return None
    takes = pool.memory_mib * GB_OF_MIB if pool.memory_mib else GUEST_GB
    if host.free_disk_gb >= world.min_free_disk_gb + takes:
        return None
    return (
        f"{host.free_disk_gb:.0f} GB are free and a golden of pool {pool.name} wants "
        f"{world.min_free_disk_gb + takes:.0f} (min_free_disk_gb and the guest's memory): free some space"
    )


def under_way(world: World) -> Runner | None:
    """Return the runner in whose VM a golden is being made."""
    return next((runner for runner in world.live if runner.purpose is Purpose.GOLDEN), None)


def is_wanted(spec: Pool, world: World) -> bool:
    """Whether a golden that is being made by *spec* will be of use."""
    pool = world.pool(spec.name)
    wanted = pool is not None and pool.start is Start.SNAPSHOT
    return wanted and pool is not None and (pool.image, pool.shape) == (spec.image, spec.shape)


def unneeded(world: World) -> frozenset[str]:
    """Return the goldens that no launch may resume, and of each pool the oldest ones too many."""
    goldens = world.host.goldens if world.host else ()
    kept = {name for pool in world.pools for name in _kept(pool, world)}
    return frozenset(golden.name for golden in goldens) - kept


def _kept(pool: Pool, world: World) -> list[str]:
    host = world.host
    if host is None or pool.start is not Start.SNAPSHOT:
        return []
    if origin(pool, world) is None or not host.system:
        return [golden.name for golden in host.goldens if golden.pool == pool.name]  # unknown is not another
    return [golden.name for golden in usable(pool, world)[: wanted(pool, world)]]


def to_drop(world: World) -> Iterator[DropGolden]:
    """Yield the removal of goldens that are of no use."""
    if not is_outdated(world):
        yield from (DropGolden(name) for name in sorted(unneeded(world)))


def failure(pool: str, world: World) -> Cooldown | None:
    """Return how the making of a golden of *pool*, or a resume of its clone, failed lately."""
    return next((cooldown for cooldown in world.cooldowns if cooldown.scope == f"golden:{pool}"), None)


def warnings(world: World) -> Iterator[str]:
    """Yield one sentence for each pool that has fewer goldens than it wants, for a reason that an operator can mend."""
    made = Counter(golden.pool for golden in world.host.goldens) if world.host else Counter[str]()
    for pool in world.pools:
        if pool.start is not Start.SNAPSHOT:
            continue
        why, failed = no_room(pool, world), failure(pool.name, world)
        if why is not None and made[pool.name] < wanted(pool, world):
            yield f"VMs of pool {pool.name} boot instead of being resumed: {why}."
        elif failed is not None:
            yield (
                f"VMs of pool {pool.name} boot instead of being resumed, since that failed {failed.failures} times: "
                f"{failed.detail} (next try {failed.until:%H:%M:%S} UTC)."
            )
