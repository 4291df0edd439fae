"""What an operator should know although everything goes on: one list, for every place that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from app.api.context import Context
from app.doctor import github_texts
from app.domain import goldens, hearing, places, putoff, versions

MISSED_LATELY = timedelta(hours=1)


def warnings_of(context: Context) -> list[str]:
    """Return the warnings of this moment, each a sentence that names the mend."""
    return [*context.health.warnings, *_of_webhooks(context), *_of_world(context)]


def _of_webhooks(context: Context) -> Iterator[str]:
    every = context.reconciler.setup.poll_interval.total_seconds()
    if context.health.webhook_at is None:
        found = github_texts.HOOK.wrong("unreached", every=f"{every:.0f}")
        yield f"{found.what[0].upper()}{found.what[1:]}: {found.mend}."
    missed_at = context.reconciler.sight.missed_at
    if missed_at is not None and context.clock() - missed_at < MISSED_LATELY:
        yield (
            f"A webhook failed to arrive and was fetched from GitHub's log at {missed_at:%H:%M:%S} UTC: see whether "
            "the tunnel is up, and the App's page under Advanced, Recent Deliveries."
        )


def _of_world(context: Context) -> Iterator[str]:
    world = context.reconciler.world
    if world is None:
        return
    yield from versions.warnings(world, context.clock())
    yield from goldens.warnings(world)
    yield from putoff.warnings(world, context.clock())
    yield from places.warnings(world)
    yield from context.reconciler.sight.launches.warnings()
    if world.hearing is not None:
        yield from hearing.troubles(world.hearing, world.pools)
