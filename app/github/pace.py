"""How fast one identity makes things at GitHub: a few at once, then one a second, so many a minute and an hour.

GitHub bears about 80 content-creating requests a minute and 500 an hour, advises one write a second, and may ban an
App that goes on while it is limited (docs/contracts/github.md §7.1). Ours lies below that, so that a burst of a
thousand queued jobs never meets the limit, and leaves room for tokens, which are counted here and never held up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import httpx
from githubkit.throttling import BaseThrottler

from app.ports import GitHubUnavailable

BURST = 4  # at once, after a quiet time
APART = 1.0  # seconds between two, from then on
PER_MINUTE, PER_HOUR = 60, 450
WINDOWS = ((PER_MINUTE, 60.0), (PER_HOUR, 3600.0))  # so many in so many seconds
PATIENCE = 3.0  # seconds a turn is waited for; what would last longer is the caller's to wait out
MAKING = frozenset({"POST", "PUT", "PATCH"})


class Pace:
    """The turns of one identity. Whoever gets one may ask; turns are given in the order asked for."""

    def __init__(self, label: str, clock: Callable[[], float]) -> None:
        self._label = label
        self._clock = clock  # seconds, monotonic
        self._taken: deque[float] = deque(maxlen=PER_HOUR)
        self._level = 0.0  # when all turns taken so far would be over, one each second

    async def turn(self, doing: str) -> None:
        """Wait for the next turn, some seconds at most. Raises GitHubUnavailable with the time it is away."""
        now = self._clock()
        at = self._next(now)
        if at - now > PATIENCE:
            wait = timedelta(seconds=at - now)
            msg = (
                f"CiderMill asks GitHub for {PER_MINUTE} new things a minute and {PER_HOUR} an hour at most, and "
                f"{self._label} has used that up: could not {doing}; next turn in {max(1, round(at - now))} s"
            )
            raise GitHubUnavailable(msg, retry_after=wait, maybe_done=False)
        self._take(at)
        if at > now:
            await asyncio.sleep(at - now)

    def count(self) -> None:
        """Take a turn at once, for what must not wait: a token, without which nothing can be removed either."""
        self._take(self._clock())

    def _next(self, now: float) -> float:
        windows = (self._taken[-most] + span for most, span in WINDOWS if len(self._taken) >= most)
        return max(now, self._level - (BURST - 1) * APART, *windows)

    def _take(self, at: float) -> None:
        self._taken.append(at)
        self._level = max(self._level, at) + APART


class Paced(BaseThrottler):
    """githubkit's throttler with turns for what makes something, waited for before others are kept waiting."""

    def __init__(self, pace: Pace, shared: BaseThrottler) -> None:
        self._pace = pace
        self._shared = shared

    @contextmanager
    def acquire(self, request: httpx.Request) -> Generator[None, None, None]:
        """Let a synchronous request through; we make none."""
        with self._shared.acquire(request):
            yield

    @asynccontextmanager
    async def async_acquire(self, request: httpx.Request) -> AsyncGenerator[None, None]:
        """Wait for a turn, if *request* makes something, and for one of the few places."""
        if request.method in MAKING:
            await self._pace.turn(f"{request.method} {request.url.path}")
        async with self._shared.async_acquire(request):
            yield
