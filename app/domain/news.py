"""What an operator wants to be told unasked: launches held up by failures, and a job that waits too long.

Each is told once when it begins and once when it is over. One failure is no news: it is mostly over at the next try.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.domain import preparation
from app.domain.cooldowns import LASTING
from app.domain.world import Cooldown, Demand, World

TOLD_FROM = 3  # failures running in one scope: some minute of trouble


class Kind(StrEnum):
    """What happened."""

    LAUNCHES_HELD = "launches_held"
    LAUNCHES_RESUMED = "launches_resumed"
    QUEUE_OLD = "queue_old"
    QUEUE_SERVED = "queue_served"


@dataclass(frozen=True, slots=True)
class Held:
    """Launches of a scope wait after failures."""

    cooldown: Cooldown
    kind = Kind.LAUNCHES_HELD


@dataclass(frozen=True, slots=True)
class Resumed:
    """A scope whose launches waited has none of its failures left."""

    scope: str
    kind = Kind.LAUNCHES_RESUMED


@dataclass(frozen=True, slots=True)
class QueueOld:
    """A job has waited longer than it may; *demand* is the oldest, *count* are all that wait."""

    demand: Demand
    count: int
    kind = Kind.QUEUE_OLD


@dataclass(frozen=True, slots=True)
class QueueServed:
    """No job waits longer than it may any more."""

    kind = Kind.QUEUE_SERVED


Item = Held | Resumed | QueueOld | QueueServed


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What has been told and is not over yet."""

    scopes: frozenset[str] = frozenset()
    queue: bool = False


def news(told: Told, world: World, *, now: datetime, after: timedelta) -> tuple[Told, list[Item]]:
    """Return what is new in *world*, and what has been told by then; a job may wait for *after*."""
    present = {cooldown.scope: cooldown for cooldown in world.cooldowns if _holds_up(cooldown, world, now)}
    serious = {scope for scope, cooldown in present.items() if _is_serious(cooldown)}
    found: list[Item] = [Held(present[scope]) for scope in sorted(serious - told.scopes)]
    found += [Resumed(scope) for scope in sorted(told.scopes - present.keys())]
    oldest = min(world.demand, key=lambda demand: demand.oldest, default=None)
    is_old = oldest is not None and now - oldest.oldest > after
    if oldest is not None and is_old and not told.queue:
        found.append(QueueOld(oldest, sum(demand.count for demand in world.demand)))
    if told.queue and not is_old:
        found.append(QueueServed())
    return Told(scopes=(told.scopes & present.keys()) | serious, queue=is_old), found


def _holds_up(cooldown: Cooldown, world: World, now: datetime) -> bool:
    kind, _, image = cooldown.scope.partition(":")
    if kind == "prepare":
        due = preparation.need(image, world, now)
        return due is not None and due.first
    return kind != "refresh"


def _is_serious(cooldown: Cooldown) -> bool:
    return cooldown.failures >= TOLD_FROM or cooldown.reason in LASTING
