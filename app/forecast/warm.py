"""VMs kept ready for the next job, as ``min_ready`` asks for: a rule of the forecast's own, beside the plan.

The plan launches for jobs that wait. Here a slot that no job wants gets a VM as well, until each pool has so many that are
booted or boot without a job. They are the plan's from then on: it gives them jobs, and takes their slot at once
when a job that they cannot serve waits for one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from app.domain.actions import Claim
from app.domain.line import Line
from app.domain.places import Room
from app.domain.plan import supply
from app.domain.runners import COMING, Runner, RunnerState
from app.domain.world import World


def rested(runners: Mapping[str, Runner], min_ready: int, now: datetime) -> dict[str, Runner]:
    """Return *runners*, the first *min_ready* booted ones of each pool as new as on the first day: time makes them no surplus."""
    kept: Counter[str] = Counter()
    found = dict(runners)
    for name, runner in runners.items():
        if runner.state is RunnerState.READY and kept[runner.pool] < min_ready:
            kept[runner.pool] += 1
            found[name] = replace(runner, since=now)
    return found


def to_claim(world: World, min_ready: int, now: datetime) -> list[Claim]:
    """Return the slots to take for VMs that no job needs yet; none while a job waits for a slot."""
    line = Line(world, now)
    serving = supply(world, line, now)
    if not line.is_served:
        return []
    room, claims = Room(world), []
    of_pool = Counter(runner.pool for runner in world.live)
    resting = Counter(
        runner.pool for runner in world.live if runner.state in COMING and runner.name not in serving
    )
    for pool in sorted(world.pools, key=lambda pool: (-pool.priority, pool.name)):
        wanted = min_ready - resting[pool.name]
        if pool.max_runners is not None:
            wanted = min(wanted, pool.max_runners - of_pool[pool.name])
        for _ in range(wanted):
            slot = room.slot_for(pool)
            if slot is None:
                break
            room.take(slot, pool)
            claims.append(Claim(slot, pool.name, "min_ready"))
    return claims
