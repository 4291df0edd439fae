"""Preparing bases: which image needs one, why, and which waits for which.

A base is prepared in a VM that holds a slot, as a runner does, and is cloned from the image: it gets the actions runner
that GitHub expects and the operator's own script is run. Launches clone it from then on, so that no job is refused
because of an old runner, and an image without one serves too. It is done in idle slots and yields to jobs, unless no job
can run without it, an operator asked for it, or GitHub's cut-off draws near (docs/contracts/github.md §6.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.cooldowns import is_cooling
from app.domain.images import is_outdated, prepared
from app.domain.pools import Pool
from app.domain.runners import Purpose, Runner
from app.domain.versions import URGENT, held, is_older
from app.domain.world import Base, Cooldown, World

SETTLED = timedelta(days=3)  # a release that breaks things is followed by another within days
# Why a launch found that its image serves no job as it is: reasons of failures in the scope of an image.
UNSERVING = {
    "runner_missing": "it holds no actions runner",
    "runner_too_old": "GitHub takes its actions runner no longer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A preparation that is due."""

    pool: Pool  # whose runner_dir and script it takes; all pools that share an image agree on both
    reason: str  # why, as part of a sentence
    first: bool = False  # launches wait for it
    urgent: bool = False  # it takes the next slot that is free, and keeps it


def need(image: str, world: World, now: datetime) -> Need | None:
    """Return why the base of *image* is to be prepared, or None."""
    pool = next((pool for pool in world.pools if pool.image == image and pool.prepare), None)
    if pool is None or world.host is None or image not in world.host.digests:
        return None
    base = prepared(pool, world)
    first = _first(pool, base, world)
    if first is not None:
        return Need(pool=pool, reason=first, first=True, urgent=True)
    if image in world.to_prepare:
        return Need(pool=pool, reason="an operator asked for it", urgent=True)
    changed = None if base is None else _changed(pool, base, world)
    if changed is not None:
        return Need(pool=pool, reason=changed)
    return _outdated(pool, world, now)


def _first(pool: Pool, base: Base | None, world: World) -> str | None:
    """Return why no job can run before the preparation."""
    if pool.prepare_script is not None and (base is None or base.made is None or base.made.script is None):
        return "its prepare script has never been run"
    scope = f"image:{pool.image}"
    failed = next((c for c in world.cooldowns if c.scope == scope and c.reason in UNSERVING), None)
    if failed is None:
        return None
    version, release = held(pool, world), world.release
    newer = release is not None and (version is None or is_older(version, release.version))
    other = failed.reason == "runner_missing" if base is None else _changed(pool, base, world) is not None
    return UNSERVING[failed.reason] if newer or other else None  # the same again would serve no better


def _changed(pool: Pool, base: Base, world: World) -> str | None:
    """Return in what a base differs from what would be made now, beside the version of the runner."""
    if base.made is None or world.host is None:
        return None
    if base.digest != world.host.digests[pool.image]:
        return "the image is another one by now"
    if base.made.runner_dir != pool.runner_dir:
        return "its runner_dir is another one"
    script = pool.prepare_script.digest if pool.prepare_script else None
    return None if base.made.script == script else "its prepare script is another one"


def _is_older(pool: Pool, world: World) -> bool:
    version = held(pool, world)
    return version is not None and world.release is not None and is_older(version, world.release.version)


def _outdated(pool: Pool, world: World, now: datetime) -> Need | None:
    release = world.release
    if release is None or not _is_older(pool, world) or now - release.since < SETTLED:
        return None
    reason = f"it holds actions runner {held(pool, world)}, and GitHub expects {release.version}"
    return Need(pool=pool, reason=reason, urgent=now - release.since >= URGENT)


def next_one(world: World, now: datetime) -> Need | None:
    """Return the preparation that may begin, once there is a slot; one at a time."""
    if world.draining or is_outdated(world) or under_way(world):
        return None
    due = [found for image in _images(world) if (found := need(image, world, now)) is not None]
    ready = [
        found
        for found in due
        if found.pool.image in world.to_prepare or not is_cooling(world, f"prepare:{found.pool.image}", now)
    ]
    return min(ready, key=lambda found: (not found.first, not found.urgent), default=None)


def _images(world: World) -> list[str]:
    return sorted({pool.image for pool in world.pools})


def under_way(world: World) -> Runner | None:
    """Return the runner in whose VM a base is being prepared."""
    return next((runner for runner in world.live if runner.purpose is Purpose.BASE), None)


def is_wanted(spec: Pool, world: World) -> bool:
    """Whether what is prepared by *spec* is still what a pool would clone."""
    wanted = spec.image, spec.runner_dir, spec.prepare_script
    return any((p.image, p.runner_dir, p.prepare_script) == wanted for p in world.pools if p.prepare)


def hold_up(pool: Pool, world: World, now: datetime) -> str | None:
    """Return why launches of *pool* wait for a preparation, as a short sentence; None: they do not."""
    found = need(pool.image, world, now) if pool.prepare else None
    if found is None or not found.first:
        return None
    runner = under_way(world)
    if runner is not None and runner.spec.image == pool.image:
        return f"the base of {pool.image} is being prepared in {runner.name}, since {found.reason}"
    failed = failure(pool.image, world)
    if failed is not None:
        return (
            f"the base of {pool.image} has to be prepared, since {found.reason}, and that failed {failed.failures} "
            f"times: {failed.detail} (next try {failed.until:%H:%M:%S} UTC)"
        )
    return f"the base of {pool.image} is prepared first, since {found.reason}"


def failure(image: str, world: World) -> Cooldown | None:
    """Return how the preparation of *image* failed lately."""
    return next((cooldown for cooldown in world.cooldowns if cooldown.scope == f"prepare:{image}"), None)
