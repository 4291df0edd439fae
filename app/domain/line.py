"""The line of waiting jobs, in the order in which they get the next runner.

Jobs are counted per class (pool and target), never paired with a runner: GitHub hands a job to any fitting
runner. Among waiting classes the next slot goes by pool priority, then to the repository with the smallest
running share, then to the oldest job; a job that has waited 30 minutes goes before all of that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.pools import Pool, Target
from app.domain.runners import AT_GITHUB, LIVE, Runner
from app.domain.targets import Blocked, Route, Unknown, route
from app.domain.world import Demand, Head, World

STARVING = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Unit:
    """One waiting job's worth of demand."""

    pool: Pool
    demand: Demand
    route: Route
    index: int  # how many of the same group were taken before it

    @property
    def head(self) -> Head:
        """The job that stands for it; past the heads we know, the last of them."""
        return self.demand.heads[min(self.index, len(self.demand.heads) - 1)]


@dataclass(slots=True)
class _Class:
    """The waiting jobs of one pool and repository, and how many of them are handed out."""

    pool: Pool
    demand: Demand
    route: Route
    repository: str  # folded
    taken: int = 0

    @property
    def is_left(self) -> bool:
        return self.taken < self.demand.count

    @property
    def waits_since(self) -> datetime:
        heads = self.demand.heads
        return heads[min(self.taken, len(heads) - 1)].queued_at


class Line:
    """Hands out units of demand in fair order; each is handed out once."""

    def __init__(self, world: World, now: datetime) -> None:
        self._world, self._now = world, now
        self._classes: list[_Class] = []
        self._resting = frozenset(c.scope for c in world.cooldowns if c.until > now)
        self.blocked: dict[tuple[str, str], str] = {}
        self.unknown: set[Unknown] = set()
        for demand in world.demand:
            self._join(demand)
        self._share = Counter(_repository(runner, world) for runner in world.runners if _counts(runner))
        self._of_pool = Counter(
            runner.pool for runner in world.runners if runner.state in LIVE and runner.serves_jobs
        )

    @property
    def targets(self) -> frozenset[Target]:
        """Where the runners of waiting jobs will register."""
        return frozenset(one.route.target for one in self._classes)

    @property
    def is_served(self) -> bool:
        """Whether every unit of demand that has a target is handed out."""
        return not any(one.is_left for one in self._classes)

    def _join(self, demand: Demand) -> None:
        pool = self._world.pool(demand.pool)
        if pool is None:
            return
        match route(pool, demand, self._world, self._now):
            case Route() as found:
                self._classes.append(_Class(pool, demand, found, demand.repository.casefold()))
            case Blocked(why):
                self.blocked[demand.pool, demand.repository] = why
            case Unknown() as unknown:
                self.unknown.add(unknown)

    def take_for(self, runner: Runner) -> Unit | None:
        """Take the unit that an existing runner will serve, or None: it is surplus.

        A registered one serves its class; one without identity serves whatever its pool needs first.
        """
        fitting = [one for one in self._classes if one.pool.name == runner.pool and one.is_left]
        if runner.target is not None:
            return self._take([one for one in fitting if one.route.target == runner.target])
        return self._take([one for one in fitting if self._may_mint(one)])

    def take_new(self, launchable: frozenset[str]) -> Unit | None:
        """Take the unit that the next free slot should serve, from the pools that may launch now."""
        unit = self._take(self._new(launchable))
        if unit is not None:
            self._of_pool[unit.pool.name] += 1
        return unit

    def wants_a_slot(self, launchable: frozenset[str]) -> bool:
        """Whether a job waits for nothing but a slot, of the pools that may launch now."""
        return bool(self._new(launchable))

    def _new(self, launchable: frozenset[str]) -> list[_Class]:
        return [
            one
            for one in self._classes
            if one.pool.name in launchable
            and one.is_left
            and (one.pool.max_runners is None or self._of_pool[one.pool.name] < one.pool.max_runners)
            and self._may_mint(one)
        ]

    def someone_else_waits(self, runner: Runner, launchable: frozenset[str]) -> bool:
        """Whether a job that *runner* cannot serve, but a new one could, still waits for a slot."""
        return bool(launchable) and any(
            one.is_left
            and one.pool.name in launchable
            and (one.pool.name, one.route.target) != (runner.pool, runner.target or one.route.target)
            for one in self._classes
        )

    def _may_mint(self, one: _Class) -> bool:
        if self._resting and f"class:{one.pool.name}:{one.route.target}" in self._resting:
            return False
        cap = one.pool.max_per_repository
        return cap is None or self._share[one.repository] < cap

    def _take(self, classes: list[_Class]) -> Unit | None:
        one = min(classes, key=self._order, default=None)
        if one is None:
            return None
        unit = Unit(one.pool, one.demand, one.route, one.taken)
        one.taken += 1
        self._share[one.repository] += 1
        return unit

    def _order(self, one: _Class) -> tuple[bool, datetime, int, int, datetime]:
        waits_since = one.waits_since
        starving = self._now - waits_since >= STARVING
        first = waits_since if starving else self._now
        return (not starving, first, -one.pool.priority, self._share[one.repository], waits_since)


def _counts(runner: Runner) -> bool:
    # Registered and idle ones are counted as they take their unit.
    return runner.state in AT_GITHUB and runner.job_id is not None


def _repository(runner: Runner, world: World) -> str:
    job = world.work.get(runner.name)
    return (job.repository if job else str(runner.target or Target(""))).casefold()
