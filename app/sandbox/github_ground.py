"""The ground the sandbox's GitHub stands on: its time, its chance, its numbers, its timers and its secrets.

Time comes from a clock and chance from a generator that are handed in, so one model runs in a test, in a seeded
simulation on virtual time, and in the demo. Nothing happens by itself: what time brings about (a job put back
in the queue, a runner reaped) is a timer, and timers fire in :meth:`Ground.tick`, in the order they fall due.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

HEX = "0123456789abcdef"
FIRST = {  # the first id of each kind, so that they are of GitHub's sizes and cannot be confused
    "app": 420_001,
    "account": 9_001,
    "repository": 700_001,
    "installation": 50_000_001,
    "hook": 300_001,
    "delivery": 80_000_000_001,
    "run": 7_000_000_001,
    "job": 30_000_000_001,
}


class Ground:
    """Clock, randomness, ids, timers and the list of every secret made."""

    def __init__(self, clock: Callable[[], datetime], rng: random.Random) -> None:
        self.now = clock
        self.rng = rng
        self.secrets: list[str] = []
        self.changed: Callable[[], None] = lambda: None  # something may be due, sooner than was known
        self._numbers: Counter[str] = Counter()
        self._timers: list[tuple[datetime, int, Callable[[], None]]] = []

    def number(self, kind: str) -> int:
        """Return the next id of its kind."""
        self._numbers[kind] += 1
        return FIRST.get(kind, 1) - 1 + self._numbers[kind]

    def hex(self, digits: int) -> str:
        """Return that many random hex digits."""
        return "".join(self.rng.choices(HEX, k=digits))

    def guid(self) -> str:
        """Return a random GUID."""
        text = self.hex(32)
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def keep(self, secret: str) -> str:
        """Remember a secret, so that a test can search for it where it must not be."""
        self.secrets.append(secret)
        return secret

    def after(self, span: timedelta, action: Callable[[], None]) -> None:
        """Have *action* called by the first tick at least *span* from now; it must check that it still applies."""
        self.at(self.now() + span, action)

    def at(self, time: datetime, action: Callable[[], None]) -> None:
        """Have *action* called by the first tick at or after *time*."""
        heapq.heappush(self._timers, (time, self.number("timer"), action))
        self.changed()

    def tick(self) -> None:
        """Let happen what is due by now."""
        while self._timers and self._timers[0][0] <= self.now():
            heapq.heappop(self._timers)[2]()

    def next_due(self) -> datetime | None:
        """Return when the next timer falls due."""
        return self._timers[0][0] if self._timers else None
