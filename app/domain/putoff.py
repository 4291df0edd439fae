"""Which images are neither pulled nor renewed for want of room on the disk.

Nothing fails meanwhile, and so nothing is retried or counted: jobs go on from the image that is there, or wait for one that
does not come. That is what an operator must be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from app.domain.images import current, no_room, refresh_at
from app.domain.world import World


def warnings(world: World, now: datetime) -> Iterator[str]:
    """Yield one sentence for each image that a pool names and that is put off."""
    for image in sorted({pool.image for pool in world.pools}):
        why = no_room(image, world)
        if why is None:
            continue
        if current(image, world) is None:
            yield f"An image is not pulled, and its jobs wait: {why}."
        elif _is_due(image, world, now):
            yield f"An image is not renewed, and jobs go on from the one before: {why}."


def _is_due(image: str, world: World, now: datetime) -> bool:
    base = current(image, world)
    at = refresh_at(base, world) if base else None
    return image in world.to_refresh or (at is not None and now >= at)
