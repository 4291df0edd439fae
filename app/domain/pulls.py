"""Pulls to the hosts of a fleet, which fetch their images themselves: which host fetches which image next, and when.

A host fetches an image when it first makes a VM of it, and a job that comes then waits for that, or it is had done beforehand,
in a slot that no job needs: on a few hosts at a time, since all pull from one registry over one line. Only a host that
can be chosen can be had do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from app.domain.cooldowns import is_cooling
from app.domain.images import is_remote
from app.domain.places import suits
from app.domain.pools import Pool, host_of
from app.domain.runners import Purpose, Runner
from app.domain.world import Host, World


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull that is due."""

    pool: Pool  # whose VMs the image is for
    host: str
    reason: str  # why, as part of a sentence


def next_ones(world: World, now: datetime) -> Iterator[Pull]:
    """Yield the pulls that may begin, once there are slots: first those of images that a host has never had."""
    if world.draining or world.host is None or world.host.images is not None:
        return
    busy = {host_of(runner.slot) for runner in under_way(world)}  # one image at a time on each
    never = datetime.min.replace(tzinfo=now.tzinfo)
    for pull in sorted(_due(world, now), key=lambda pull: _last(pull, world) or never):
        if len(busy) >= world.image_pulls:
            return
        if pull.host not in busy:
            busy.add(pull.host)
            yield pull


def under_way(world: World) -> list[Runner]:
    """Return the runners in whose VMs images are being pulled."""
    return [runner for runner in world.live if runner.purpose is Purpose.PULL]


def hosts_of(image: str, world: World) -> list[Host]:
    """Return the hosts that VMs of *image* may be made on."""
    pools = [pool for pool in world.pools if pool.image == image]
    hosts = world.host.hosts if world.host else ()
    return [host for host in hosts if any(suits(pool, host) for pool in pools)]


def is_wanted(spec: Pool, world: World) -> bool:
    """Whether what is pulled by *spec* is still what a pool would have made VMs of."""
    return any((pool.image, pool.kind) == (spec.image, spec.kind) for pool in world.pools)


def _due(world: World, now: datetime) -> Iterator[Pull]:
    for pool in {pool.image: pool for pool in reversed(world.pools)}.values():
        if not is_remote(pool.image) or is_cooling(world, f"refresh:{pool.image}", now):
            continue
        for host in world.host.hosts if world.host else ():
            why = _why(pool, host, world, now)
            if why is not None and host.can_be_chosen and not host.closed and suits(pool, host):
                yield Pull(pool, host.name, why)


def _why(pool: Pool, host: Host, world: World, now: datetime) -> str | None:
    last, asked = world.images_at.get((host.name, pool.image)), world.to_refresh.get(pool.image)
    if last is None:
        return f"{host.name} never had {pool.image}"
    if asked is not None and last < asked:
        return "an operator asked for it"
    pinned = "@" in pool.image  # a digest never becomes another image
    if world.image_refresh and not pinned and now - last >= world.image_refresh:
        return f"{host.name} last had {pool.image} at {last:%Y-%m-%d %H:%M} UTC"
    return None


def _last(pull: Pull, world: World) -> datetime | None:
    return world.images_at.get((pull.host, pull.pool.image))
