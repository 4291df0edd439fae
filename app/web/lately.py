"""How it went over the last day and week, counted once for all who look.

Counting reads every job that ended in a week, and the page is drawn anew at each event of a busy Mac. So what was counted
stands for a while, never longer, and the page says since when.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.db.board import Span, Statistics
from app.db.reader import Reader

FRESH = timedelta(seconds=15)
SPANS = (Span(width=timedelta(hours=1), count=24), Span(width=timedelta(hours=6), count=28))


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How it went in each of SPANS, up to *at*."""

    at: datetime
    spans: list[Statistics]


class Lately:
    """Keeps the last count."""

    def __init__(self) -> None:
        self._last: Count | None = None
        self._counting = asyncio.Lock()  # who comes meanwhile shares the count that is under way

    async def count(self, reader: Reader, now: datetime) -> Count:
        """Return the last count, made anew where it is older than FRESH, or from a clock that was set back since."""
        async with self._counting:
            if self._last is None or not timedelta(0) <= now - self._last.at < FRESH:
                self._last = Count(at=now, spans=await reader.statistics(until=now, spans=SPANS))
            return self._last
