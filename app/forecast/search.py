"""The smallest set-up that is good enough."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.forecast.outcome import Goal, Outcome, Setup

Try = Callable[[Setup], Outcome | None]  # None: given up as it cannot meet the goal any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found; None where no set-up up to the largest is good enough."""

    goal: Goal
    largest: Setup
    smallest: Outcome | None


def smallest(goal: Goal, like: Setup, *, most_macs: int, try_: Try) -> Found:
    """Return the smallest set-up that meets *goal*: one Mac with fewer slots, then more Macs with all slots of *like* each.

    More places never make jobs wait longer but for a few that change places, so the set-ups are halved and not all tried.
    """
    ladder = [replace(like, macs=1, slots=n + 1) for n in range(like.slots)]
    ladder += [replace(like, macs=n + 2) for n in range(most_macs - 1)]
    tried: dict[Setup, Outcome | None] = {}

    def is_met(setup: Setup) -> bool:
        tried[setup] = outcome = try_(setup)
        return outcome is not None and outcome.meets(goal)

    place = bisect_left(ladder, True, key=is_met)
    return Found(
        goal=goal, largest=ladder[-1], smallest=tried[ladder[place]] if place < len(ladder) else None
    )
