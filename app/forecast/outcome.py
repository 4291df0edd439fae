"""What came of a replay: how long jobs waited, and how far the places were used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from app.domain.pools import Start

SHARES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How many Macs there are, and how many places for VMs each has; one CiderMill has them all."""

    macs: int = 1
    slots: int = 2
    start: Start = Start.COLD
    min_ready: int = 0  # VMs of each pool that are kept booted for the next job

    @property
    def places(self) -> int:
        """VMs that run at a time."""
        return self.macs * self.slots

    def __str__(self) -> str:
        """Return it in words."""
        places = (
            f"{_count(self.macs, 'Mac')} with {_count(self.slots, 'slot')}{' each' if self.macs > 1 else ''}"
        )
        start = "" if self.start is Start.COLD else f", {self.start}"
        return f"{places}{start}{f', {self.min_ready} ready' if self.min_ready else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A share of the jobs, above 0 and up to 1, that starts within a time."""

    within: timedelta
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it would have gone with a set-up. ``waits`` are those of jobs that started, in order."""

    setup: Setup
    waits: tuple[timedelta, ...]
    given_up: tuple[timedelta, ...]  # how long jobs waited that ended before they started, in order
    launches: int
    span: timedelta  # from the first job to the end of the last VM
    vm_time: timedelta  # that places were held, together
    job_time: timedelta  # that jobs ran, together

    def wait(self, share: float) -> timedelta:
        """Return the time within which that share of the jobs started: a nearest rank."""
        return self.waits[max(0, ceil(len(self.waits) * share) - 1)] if self.waits else timedelta(0)

    @property
    def utilisation(self) -> float:
        """The share of the places' time that a VM held them."""
        return self.vm_time / (self.span * self.setup.places) if self.span else 0.0

    def started_within(self, within: timedelta) -> float:
        """Return the share of jobs that started in time, of all that did not end before it was up."""
        late = sum(wait > within for wait in (*self.waits, *self.given_up))
        asked = late + sum(wait <= within for wait in self.waits)
        return 1 - late / asked if asked else 1.0

    def meets(self, goal: Goal) -> bool:
        """Whether it is good enough."""
        return self.started_within(goal.within) >= goal.share


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
