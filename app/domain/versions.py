"""Whether the actions runner in an image is still one that GitHub gives jobs to.

GitHub wants each release installed within 30 days of its publication, and hands older runners no jobs from then on
(docs/contracts/github.md §6.5). An image does not update itself, so this is said well before.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.domain.world import World

LIFE = timedelta(days=30)
MEND = "build the image anew (packer/README.md) and name it in the pool"


def time_left(world: World, now: datetime) -> dict[str, timedelta]:
    """Return, for each pool whose image holds an older runner than GitHub expects, how long it may go on at most."""
    release = world.release
    if release is None:
        return {}
    return {
        pool.name: release.since + LIFE - now
        for pool in world.pools
        if pool.name in world.versions and _parts(world.versions[pool.name]) < _parts(release.version)
    }


def warnings(world: World, now: datetime) -> Iterator[str]:
    """Yield one sentence for each such pool."""
    release = world.release
    for name, left in time_left(world, now).items():
        if release is None:
            return
        days = left // timedelta(days=1)
        until = f"{release.since + LIFE:%Y-%m-%d}"
        fate = (
            f"from {until} on (in {days} days) GitHub gives it no more jobs"
            if days >= 0
            else f"since {until} GitHub may give it no jobs"
        )
        yield (
            f"Pool {name}: the image holds actions runner {world.versions[name]} and GitHub expects "
            f"{release.version}; {fate}: {MEND}."
        )


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
