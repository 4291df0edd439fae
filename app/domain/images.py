"""Images: when the registry is asked again what a tag is, and which local bases are kept.

All of it is off the job path: launches clone the base that is there, and a new one takes its place once it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from app.domain.actions import Action, DropBase, PrepareImage, RefreshImage
from app.domain.cooldowns import is_cooling
from app.domain.pools import Pool
from app.domain.runners import RunnerState
from app.domain.world import Base, World

LAUNCHING = frozenset({RunnerState.CLAIMED, RunnerState.BOOTING})


def is_remote(image: str) -> bool:
    """Whether *image* comes from a registry; else it is a local VM that its owner made."""
    return "/" in image


def is_ready(image: str, world: World) -> bool:
    """Whether a launch need not wait for the image, as far as is known."""
    return world.host is not None and (world.host.images is None or image in world.host.images)


def current(image: str, world: World) -> Base | None:
    """Return the base that is *image* as it was last pulled."""
    return _newest(image, world, made=False)


def prepared(pool: Pool, world: World) -> Base | None:
    """Return the prepared base that launches of *pool* clone; None: they clone its image as it is."""
    return _newest(pool.image, world, made=True) if pool.prepare else None


def source(pool: Pool, world: World) -> str | None:
    """Return what tells whether launches of *pool* clone something else by now; None: it is not known."""
    base = prepared(pool, world)
    if base is not None:
        return base.name
    return world.host.digests.get(pool.image) if world.host else None


def _newest(image: str, world: World, *, made: bool) -> Base | None:
    bases = world.host.bases if world.host else ()
    return next((b for b in bases if b.image == image and b.age == 0 and (b.made is not None) is made), None)


def to_do(world: World, now: datetime) -> Iterator[Action]:
    """Yield the pulls that are due, and the removal of bases that nothing needs; one refresh at a time."""
    if is_outdated(world):
        return
    images = sorted({pool.image for pool in world.pools})
    here = (world.host.images if world.host else None) or frozenset()
    missing = [image for image in images if image not in here]
    for image in missing:
        if not is_cooling(world, f"image:{image}", now) and no_room(image, world) is None:
            yield PrepareImage(image)
    if missing or any(key.startswith("image:") for key in world.in_hand):
        return
    yield from [RefreshImage(image) for image in images if _is_stale(image, world, now)][:1]
    unwanted = unneeded(world) | (world.to_drop & unused(world))
    yield from (DropBase(name, images_in_use(world)) for name in sorted(unwanted))


def no_room(image: str, world: World) -> str | None:
    """Return why *image* may not be pulled: what it took last time would leave too little free disk."""
    host, base = world.host, current(image, world)
    if host is None or host.free_disk_gb is None or not is_remote(image):
        return None
    wanted = world.min_free_disk_gb + (base.size_gb if base else 0)
    if host.free_disk_gb >= wanted:
        return None
    return (
        f"{host.free_disk_gb:.0f} GB are free and pulling {image} wants {wanted:.0f} (min_free_disk_gb and the "
        "image's size): free some space, `cidermill image prune` removes images that no pool uses"
    )


def refresh_at(base: Base, world: World) -> datetime | None:
    """Return when the registry is next asked what the image of *base* is; None: never."""
    pinned = "@" in base.image  # a digest never becomes another image
    follows = bool(world.image_refresh) and not pinned and base.image in images_in_use(world)
    return base.asked_at + world.image_refresh if follows else None


def unneeded(world: World) -> frozenset[str]:
    """Return the bases that no image has any more, nor had among its last ``image_keep`` digests.

    Two tags may be the same image, and share a base. Nothing goes back to an earlier prepared one.
    """
    bases = world.host.bases if world.host else ()
    needed = {b.name for b in bases if b.image and b.age <= (0 if b.made else world.image_keep)}
    return frozenset(base.name for base in bases) - needed


def unused(world: World) -> frozenset[str]:
    """Return all that an operator may do without: the older bases, and those of images that no pool names."""
    bases = world.host.bases if world.host else ()
    needed = {base.name for base in bases if base.age == 0 and base.image in images_in_use(world)}
    return frozenset(base.name for base in bases) - needed


def images_in_use(world: World) -> frozenset[str]:
    """Return the images that a pool names, or a launch under way will clone."""
    launching = {runner.spec.image for runner in world.live if runner.state in LAUNCHING}
    return frozenset({pool.image for pool in world.pools} | launching)


def is_outdated(world: World) -> bool:
    """Whether the last look at the host does not show what changed there since: a pull or a preparation that ended.

    Where the hosts fetch their images themselves, no look shows any.
    """
    look, changed = world.host, world.host_changed_at
    return look is None or look.images is None or (changed is not None and look.at <= changed)


def _is_stale(image: str, world: World, now: datetime) -> bool:
    base = current(image, world)
    if base is None or no_room(image, world) is not None:
        return False
    if image in world.to_refresh:
        return True
    at = refresh_at(base, world)
    if at is None or is_cooling(world, f"refresh:{image}", now):
        return False
    busy = bool(world.demand) or any(runner.state in LAUNCHING for runner in world.live)
    # A pull takes the disk and the network from jobs: it waits for a quiet moment, and not for ever.
    return now >= (at + world.image_refresh if busy else at)
