"""What to do about one runner that serves no jobs: its VM makes a base or a golden, or has an image fetched.

Each is begun once. Whoever was at it may have died, and half a base, image or golden is none: then it ends.
"""

from __future__ import annotations

from datetime import datetime

from app.domain import goldens, preparation, pulls
from app.domain.actions import Action, FetchImage, MakeBase, MakeGolden, Stop
from app.domain.case import Case
from app.domain.runners import Purpose, Runner, RunnerState
from app.domain.world import World

WANTED = {
    Purpose.BASE: preparation.is_wanted,
    Purpose.PULL: pulls.is_wanted,
    Purpose.GOLDEN: goldens.is_wanted,
}


def review_chore(case: Case) -> Action | None:
    """Return the one thing to do about it until it is done."""
    runner = case.runner
    unwanted = _why_not(case)
    if unwanted:
        return Stop(runner=runner, reason=unwanted)
    if f"boot:{runner.name}" in case.world.in_hand:
        return None  # it keeps its own time limits
    begun = _beginning(case) if runner.state is RunnerState.CLAIMED else None
    return begun or Stop(runner=runner, reason="interrupted")


def _why_not(case: Case) -> str | None:
    runner = case.runner
    if runner.stop:
        return "stopped_by_operator"
    if case.world.draining:
        return "draining"
    if not WANTED[runner.purpose](runner.spec, case.world):
        return "pool_changed"
    return "yielded" if case.pressed else None


def _beginning(case: Case) -> Action | None:
    match case.runner.purpose:
        case Purpose.BASE:
            return MakeBase(case.runner, case.asking) if case.asking else None
        case Purpose.PULL:
            return FetchImage(case.runner)
        case _:
            return MakeGolden(case.runner)


def gives_way(runner: Runner, world: World, now: datetime) -> bool:
    """Whether what is made in its VM is begun anew later rather than that a job waits for the slot."""
    if runner.purpose is Purpose.BASE:
        due = preparation.need(runner.spec.image, world, now)
        return due is None or not due.urgent
    return runner.purpose is Purpose.GOLDEN  # a pull goes on: half an image is none
