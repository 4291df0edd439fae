"""Warm VMs: booted, probed, and without a GitHub identity, kept for the next job of their pool (``min_ready``).

A *spare* is a runner on its way to no job: kept warm, or left over. Spares never take a slot that a job could use, and give
theirs back at once when one waits that they cannot serve: as many as there are such jobs, and no more. Those that are kept are
renewed when launches would clone something else by now, and when they are old: one at a time, and the new one first where there
is room for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.domain.actions import Claim
from app.domain.images import is_outdated, source
from app.domain.line import Line
from app.domain.places import Room
from app.domain.pools import Pool
from app.domain.preparation import Need
from app.domain.runners import COMING, Runner, RunnerState
from app.domain.world import World

LASTS = timedelta(hours=6)  # a guest that nobody uses changes too: its logs grow, it looks for updates
LAUNCHING = frozenset({RunnerState.CLAIMED, RunnerState.BOOTING})


@dataclass(frozen=True, slots=True)
class Spares:
    """The runners on their way to no job: which are kept, and what is old of them."""

    ready: tuple[Runner, ...] = ()  # as a launch would make them now
    coming: tuple[Runner, ...] = ()
    stale: Mapping[str, str] = field(default_factory=dict)  # by runner: why it is to be renewed
    kept: frozenset[str] = frozenset()
    old: tuple[Runner, ...] = ()  # those that are stale, the oldest first

    @classmethod
    def of(cls, world: World, served: Iterable[str], now: datetime) -> Spares:
        """Return them; *served* are the runners that a job needs."""
        spare = [runner for runner in world.live if _is_spare(runner, world) and runner.name not in served]
        if not spare:
            return cls()
        spare.sort(key=lambda runner: (runner.created_at, runner.name))
        up = [runner for runner in spare if runner.state is RunnerState.READY]
        stale = {runner.name: why for runner in up if (why := _why_stale(runner, world, now))}
        ready = tuple(runner for runner in up if runner.name not in stale)
        coming = tuple(runner for runner in spare if runner.state in LAUNCHING)
        old = tuple(runner for runner in up if runner.name in stale)
        kept = {runner.name for pool in world.pools for runner in _kept(pool, ready, coming, old)}
        return cls(ready, coming, stale, frozenset(kept), old)

    def count(self, pool: str) -> int:
        """Return how many of a pool there are, or soon will be, that are not stale."""
        return sum(runner.pool == pool for runner in (*self.ready, *self.coming))

    def givers(self) -> list[Runner]:
        """Return all in the order in which they give their slots back: what is worth least goes first."""
        return sorted(
            (*self.coming, *self.old, *self.ready),
            key=lambda r: (r.name in self.kept, r.spec.priority, r.state is RunnerState.READY),
        )

    def reason(self, runner: Runner) -> str:
        """Return why *runner* goes when its slot is wanted."""
        if runner.name in self.kept:
            return "yielded"
        return "surplus" if runner.state is RunnerState.READY else "no_longer_needed"


def _is_spare(runner: Runner, world: World) -> bool:
    return (
        runner.serves_jobs
        and runner.state in COMING
        and runner.stop is None
        and world.pool(runner.pool) == runner.spec
    )


def _kept(pool: Pool, *kinds: tuple[Runner, ...]) -> Iterator[Runner]:
    """Yield those that the pool keeps; an old one stays until there is a new one that is up."""
    ready, coming, old = ([runner for runner in kind if runner.pool == pool.name] for kind in kinds)
    yield from (ready + coming)[: pool.min_ready]
    yield from old[: max(0, pool.min_ready - len(ready))]


def _why_stale(runner: Runner, world: World, now: datetime) -> str | None:
    if now - runner.since >= LASTS:
        return "aged"
    look = world.host
    if runner.source is None or look is None or look.at <= runner.since or is_outdated(world):
        return None  # it is not known what launches would clone now
    present = source(runner.spec, world)
    return None if present in {None, runner.source} else "image_changed"


def claims(world: World, spares: Spares, room: Room, launchable: frozenset[str]) -> list[Claim]:
    """Return the claims of slots that no job can use, for pools that keep more VMs warm than there are.

    The pools take turns, those of the highest priority first. Takes the slots out of *room*.
    """
    keeping = [pool for pool in world.pools if pool.min_ready and pool.name in launchable]
    if not keeping:
        return []
    live = Counter(runner.pool for runner in world.live if runner.serves_jobs)
    there = Counter({pool.name: spares.count(pool.name) for pool in world.pools})
    found: list[Claim] = []
    while True:
        wanting = [
            pool
            for pool in keeping
            if there[pool.name] < pool.min_ready
            and (pool.max_runners is None or live[pool.name] < pool.max_runners)
            and room.slot_for(pool)
        ]
        pool = min(wanting, key=lambda p: (-p.priority, there[p.name], p.name), default=None)
        slot = room.slot_for(pool) if pool else None
        if pool is None or slot is None:
            return found
        room.take(slot, pool)
        there[pool.name] += 1
        live[pool.name] += 1
        found.append(Claim(slot, pool.name, f"{pool.min_ready} are kept ready"))


def renewed(
    world: World, spares: Spares, claimed: Iterable[str], launchable: frozenset[str]
) -> dict[str, str]:
    """Return the stale runners that go now, and why; *claimed* are the pools that claim a slot for a new one."""
    if not spares.old:
        return {}
    going = {
        runner.name: spares.stale[runner.name] for runner in spares.old if runner.name not in spares.kept
    }
    changing = {runner.pool for runner in spares.coming} | set(claimed)
    changing |= {runner.pool for runner in world.live if runner.state is RunnerState.STOPPING}
    for runner in spares.old:
        if runner.name in spares.kept and runner.pool in launchable - changing:
            changing.add(runner.pool)
            going[runner.name] = spares.stale[runner.name]
    return going


def yielding(
    world: World,
    line: Line,
    room: Room,
    spares: Spares,
    wanting: frozenset[str],
    due: Need | None,
    making: Collection[Runner],
) -> dict[str, str]:
    """Return the spares whose slots are wanted, and why each goes: by jobs that wait, else by a base that is *due*.

    *wanting* are the pools that may launch and have no slot. What is being removed makes room, too, and so do those in
    *making*, which yield before any spare does. Takes the jobs out of *line*, and what they will get out of *room*.
    """
    givers, going = spares.givers(), dict[str, str]()
    if not givers:
        return going
    for runner in world.live:
        if runner.state is RunnerState.STOPPING or runner in making:
            room.give_back(runner.slot, runner.spec)

    def giver(pool: Pool, but: str = "") -> Runner | None:
        return next((r for r in givers if r.pool != but and room.fits_without(r, pool)), None)

    def make_room(pool: Pool, runner: Runner | None) -> None:
        if runner is not None and room.slot_for(pool) is None:
            givers.remove(runner)
            going[runner.name] = spares.reason(runner)
            room.give_back(runner.slot, runner.spec)
        slot = room.slot_for(pool)
        if slot is not None:
            room.take(slot, pool)

    pools = [pool for pool in world.pools if pool.name in wanting]
    waits = False
    while unit := line.take_new(frozenset(p.name for p in pools if room.slot_for(p) or giver(p, p.name))):
        make_room(unit.pool, giver(unit.pool, unit.pool.name))
        waits = True
    if due is not None and (due.urgent or not waits):
        make_room(due.pool, giver(due.pool))
    return going
