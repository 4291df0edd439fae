"""How long the steps of a launch usually take on this host, and which take much longer now.

A Mac gets slow without failing: its images move to another volume, where a clone is a copy; the disk fills up; something
else runs on it. Jobs just wait longer then. What is usual is measured here, so that no figure has to be configured.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from app.domain.pools import Start

KEPT = 50  # launches of a pool
LATEST = 3  # of them, which all have to be slow
FEWEST = 10  # before those; fewer make no habit
TIMES = 4.0
LEAST = 2.0  # s, above the usual; less is no matter
INSTANT = 0.01  # s
SLOW_CLONE = (
    "are tart's VMs on another volume than before, so that a clone is a copy, or is the disk nearly full?"
)
# By how a VM came up: its steps, each with its name and what to do about it.
STEPS = {
    Start.COLD: {
        "clone": ("clone", SLOW_CLONE),
        "boot": ("boot", "see what else runs on this Mac, and whether the image does more when it starts."),
    },
    Start.SNAPSHOT: {
        "clone": ("clone of a suspended VM", SLOW_CLONE),
        "boot": ("resume", "see what else runs on this Mac, and whether its memory is nearly full."),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How long the steps of one launch took."""

    clone: timedelta
    boot: timedelta  # until the guest answered
    start: Start = Start.COLD

    @classmethod
    def of(
        cls, began: datetime, cloned_at: datetime, ready_at: datetime, start: Start = Start.COLD
    ) -> Launch:
        """Return it from when it began, its clone was there, and its guest answered."""
        return cls(clone=cloned_at - began, boot=ready_at - cloned_at, start=start)


@dataclass(slots=True)
class Launches:
    """The latest launches of each pool, oldest first, those that booted and those that were resumed apart."""

    of_pool: defaultdict[tuple[str, Start], deque[Launch]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=KEPT))
    )

    def note(self, pool: str, launch: Launch) -> None:
        """Take one more."""
        self.of_pool[pool, launch.start].append(launch)

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for each step of a pool's launches that takes much longer than it usually does."""
        for (pool, start), launches in sorted(self.of_pool.items()):
            for step, (name, mend) in STEPS[start].items():
                spans: list[timedelta] = [getattr(launch, step) for launch in launches]
                yield from _warning(f"The {name} of pool {pool}", [s.total_seconds() for s in spans], mend)


def _warning(what: str, seconds: list[float], mend: str) -> Iterator[str]:
    before, latest = seconds[:-LATEST], seconds[-LATEST:]
    if len(before) < FEWEST:
        return
    usual, now = median(before), min(latest)
    if now >= TIMES * usual and now - usual >= LEAST:
        times = "many" if usual < INSTANT else f"{now / usual:.0f}"
        yield f"{what} takes {now:.1f} s, {times} times its usual {usual:.1f} s: {mend}"
