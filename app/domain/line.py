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


class Line:
    """Hands out units of demand in fair order; each is handed out once."""

    def __init__(self, world: World, now: datetime) -> None:
        self._world, self._now = world, now
        self._taken: Counter[int] = Counter()
        self._groups: list[tuple[Pool, Demand, Route]] = []
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
        return frozenset(found.target for _, _, found in self._groups)

    @property
    def is_served(self) -> bool:
        """Whether every unit of demand that has a target is handed out."""
        return not any(self._left(g) for g in range(len(self._groups)))

    def _join(self, demand: Demand) -> None:
        pool = self._world.pool(demand.pool)
        if pool is None:
            return
        match route(pool, demand, self._world, self._now):
            case Route() as found:
                self._groups.append((pool, demand, found))
            case Blocked(why):
                self.blocked[demand.pool, demand.repository] = why
            case Unknown() as unknown:
                self.unknown.add(unknown)

    def take_for(self, runner: Runner) -> Unit | None:
        """Take the unit that an existing runner will serve, or None: it is surplus.

        A registered one serves its class; one without identity serves whatever its pool needs first.
        """
        if runner.target is not None:
            return self._take(
                [g for g in self._fit(runner.pool) if self._groups[g][2].target == runner.target]
            )
        return self._take([g for g in self._fit(runner.pool) if self._may_mint(g)])

    def take_new(self, launchable: frozenset[str]) -> Unit | None:
        """Take the unit that the next free slot should serve, from the pools that may launch now."""
        unit = self._take(self._new(launchable))
        if unit is not None:
            self._of_pool[unit.pool.name] += 1
        return unit

    def wants_a_slot(self, launchable: frozenset[str]) -> bool:
        """Whether a job waits for nothing but a slot, of the pools that may launch now."""
        return bool(self._new(launchable))

    def _new(self, launchable: frozenset[str]) -> list[int]:
        return [
            g
            for g, (pool, _, _) in enumerate(self._groups)
            if pool.name in launchable
            and self._left(g)
            and self._may_mint(g)
            and (pool.max_runners is None or self._of_pool[pool.name] < pool.max_runners)
        ]

    def someone_else_waits(self, runner: Runner, launchable: frozenset[str]) -> bool:
        """Whether a job that *runner* cannot serve, but a new one could, still waits for a slot."""
        return bool(launchable) and any(
            self._left(g)
            and pool.name in launchable
            and (pool.name, found.target) != (runner.pool, runner.target or found.target)
            for g, (pool, _, found) in enumerate(self._groups)
        )

    def _fit(self, pool: str) -> list[int]:
        return [g for g, (found, _, _) in enumerate(self._groups) if found.name == pool and self._left(g)]

    def _left(self, g: int) -> bool:
        return self._taken[g] < self._groups[g][1].count

    def _may_mint(self, g: int) -> bool:
        pool, demand, found = self._groups[g]
        if is_cooling(self._world, f"class:{pool.name}:{found.target}", self._now):
            return False
        cap = pool.max_per_repository
        return cap is None or self._share[demand.repository.casefold()] < cap

    def _take(self, groups: list[int]) -> Unit | None:
        g = min(groups, key=self._order, default=None)
        if g is None:
            return None
        pool, demand, found = self._groups[g]
        unit = Unit(pool, demand, found, self._taken[g])
        self._taken[g] += 1
        self._share[demand.repository.casefold()] += 1
        return unit

    def _order(self, g: int) -> tuple[bool, datetime, int, int, datetime]:
        pool, demand, _ = self._groups[g]
        waits_since = demand.heads[min(self._taken[g], len(demand.heads) - 1)].queued_at
        starving = self._now - waits_since >= STARVING
        first = waits_since if starving else self._now
        return (not starving, first, -pool.priority, self._share[demand.repository.casefold()], waits_since)


def is_cooling(world: World, scope: str, now: datetime) -> bool:
    """Whether *scope* must wait after a failure."""
    return any(c.scope == scope and c.until > now for c in world.cooldowns)


def _counts(runner: Runner) -> bool:
    # Registered and idle ones are counted as they take their unit.
    return runner.state in AT_GITHUB and runner.job_id is not None


def _repository(runner: Runner, world: World) -> str:
    job = world.work.get(runner.name)
    return (job.repository if job else str(runner.target or Target(""))).casefold()
