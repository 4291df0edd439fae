"""Where a pool's runner for a repository may register: its target, or why there is none.

A JIT runner at an organization serves whatever repository its runner group admits, so ``auto`` chooses the
organization (the weaker permission) only where the group admits no repository that the pool does not
(docs/contracts/github.md §5.5, §11).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from app.domain.pools import Pool, Scope, Target
from app.domain.world import Demand, GroupLook, RunnerGroup, World

GROUP_LOOK_LASTS = timedelta(minutes=10)  # people change groups by hand, rarely
DEFAULT_GROUP_ID = 1  # every organization's, and the only one of a repository


@dataclass(frozen=True, slots=True)
class Route:
    """The target of a class, with the runner group to register in."""

    target: Target
    group_id: int = DEFAULT_GROUP_ID


@dataclass(frozen=True, slots=True)
class Blocked:
    """There is no way to register for this class; why, and the mend."""

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A runner group must be looked at first."""

    organization: str
    group: str | None


def route(pool: Pool, demand: Demand, world: World, now: datetime) -> Route | Blocked | Unknown:
    """Return where *pool*'s runners for the demand's repository register."""
    here = _at(demand.repository)
    owner = here.target.owner
    scope = pool.effective_scope
    if scope is Scope.REPOSITORY:
        return here
    if not demand.organization:
        if scope is Scope.AUTO:
            return here
        return Blocked(
            f'{owner} is a user, not an organization: set scope = "repository" in pool {pool.name}'
        )
    if scope is Scope.ORGANIZATION and pool.runner_group is None:
        return Route(Target(owner))
    look = world.groups.get((owner, pool.runner_group))
    if look is None or now - look.at > GROUP_LOOK_LASTS:
        return Unknown(owner, pool.runner_group)
    return _by_group(pool, demand, look, owner, here)


@lru_cache(maxsize=4096)
def _at(repository: str) -> Route:
    owner, _, name = repository.partition("/")
    return Route(Target(owner, name))


def _by_group(pool: Pool, demand: Demand, look: GroupLook, owner: str, here: Route) -> Route | Blocked:
    group = look.group
    if pool.effective_scope is Scope.AUTO:
        fits = group is not None and admits_only(group, pool, owner) and _admits(group, demand)
        return Route(Target(owner), group.id) if fits and group else here
    if group is None:
        return Blocked(f"runner group {pool.runner_group!r} of {owner}: {look.refusal}")
    if not _admits(group, demand):
        return Blocked(
            f"runner group {group.name!r} of {owner} does not admit {demand.repository}: "
            "add it there (and allow public repositories if it is one)"
        )
    return Route(Target(owner), group.id)


def admits_only(group: RunnerGroup, pool: Pool, owner: str) -> bool:
    """Whether every repository that *group* admits is one that *pool* serves."""
    if group.visibility == "selected":
        return all(pool.serves(repository) for repository in group.repositories)
    return pool.serves(f"{owner}/*")  # the whole organization is on the list only if its wildcard is


def _admits(group: RunnerGroup, demand: Demand) -> bool:
    if not demand.private and not group.allows_public:
        return False
    if group.visibility == "private" and not demand.private:
        return False
    wanted = demand.repository.casefold()
    return group.visibility != "selected" or wanted in {name.casefold() for name in group.repositories}
