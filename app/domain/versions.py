"""Whether the actions runner in an image is still one that GitHub gives jobs to.

GitHub wants each release installed within 30 days of its publication, and hands older runners no jobs from then on
(docs/contracts/github.md §6.5). An image does not update itself: either its base is prepared in time
(:mod:`app.domain.preparation`), or this is said well before.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.domain.images import prepared
from app.domain.pools import Pool
from app.domain.world import World

LIFE = timedelta(days=30)
URGENT = timedelta(days=21)  # of them: a Mac that is never idle takes the time to prepare a base then
MEND = "build the image anew (packer/README.md) and name it in the pool"


def held(pool: Pool, world: World) -> str | None:
    """Return the version that launches of *pool* get; None: no guest has told yet."""
    base = prepared(pool, world)
    return base.made.runner_version if base and base.made else world.versions.get(pool.name)


def is_older(version: str, than: str) -> bool:
    """Whether one version comes before another."""
    return _parts(version) < _parts(than)


def time_left(world: World, now: datetime) -> dict[str, timedelta]:
    """Return, for each pool whose image holds an older runner than GitHub expects, how long it may go on at most."""
    release = world.release
    if release is None:
        return {}
    return {
        pool.name: release.since + LIFE - now
        for pool in world.pools
        if (version := held(pool, world)) is not None and is_older(version, release.version)
    }


def warnings(world: World, now: datetime) -> Iterator[str]:
    """Yield one sentence for each such pool."""
    release = world.release
    for name, left in time_left(world, now).items():
        pool = world.pool(name)
        if release is None or pool is None:
            return
        if pool.prepare and left > LIFE - URGENT:
            continue  # it is seen to
        days = left // timedelta(days=1)
        until = f"{release.since + LIFE:%Y-%m-%d}"
        fate = (
            f"from {until} on (in {days} days) GitHub gives it no more jobs"
            if days >= 0
            else f"since {until} GitHub may give it no jobs"
        )
        yield (
            f"Pool {name}: the image holds actions runner {held(pool, world)} and GitHub expects "
            f"{release.version}; {fate}: {mend(pool)}."
        )


def mend(pool: Pool) -> str:
    """Return what is to be done about an old runner in the image of *pool*."""
    if pool.prepare:
        return "a newer one is installed as soon as a slot is free; `cidermill image list` says why it is not"
    return MEND


def when_turned_away(pool: Pool) -> str:
    """Return what is to be done when GitHub takes the runner in the image of *pool* no longer."""
    return f"a newer one is installed if GitHub offers one, else {MEND}" if pool.prepare else MEND


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
