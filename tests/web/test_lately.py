"""How it went is counted once for all who look at the same time, and never stands longer than it says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from app.db.board import Span, Statistics, Waits
from app.web.lately import FRESH, SPANS, Count, Lately
from tests.builders import NOW


class Counting:
    """A reader that counts when it is let go on."""

    def __init__(self) -> None:
        self.asked: list[datetime] = []
        self.may_end = asyncio.Event()

    async def statistics(self, *, until: datetime, spans: Sequence[Span]) -> list[Statistics]:
        self.asked.append(until)
        await self.may_end.wait()
        return [Statistics(since=until, width=span.width, whole=Waits(), intervals=[]) for span in spans]


async def test_many_look_at_once() -> None:
    """Who comes while it is counted gets that count."""
    lately, reader = Lately(), Counting()
    looks = [asyncio.create_task(lately.count(reader, NOW)) for _ in range(3)]
    await asyncio.sleep(0)
    reader.may_end.set()
    counts: list[Count] = await asyncio.gather(*looks)
    assert reader.asked == [NOW]
    assert {count.at for count in counts} == {NOW}
    assert [span.width for span in counts[0].spans] == [span.width for span in SPANS]


@pytest.mark.parametrize(
    ("later", "stands"),
    [
        pytest.param(FRESH - timedelta(milliseconds=1), True, id="a moment before its end"),
        pytest.param(FRESH, False, id="at its end"),
        pytest.param(timedelta(seconds=-1), False, id="a clock that was set back"),
    ],
)
async def test_how_long_a_count_stands(later: timedelta, stands: bool) -> None:
    """It stands for a while by the clock of the server, and says of when it is."""
    lately, reader = Lately(), Counting()
    reader.may_end.set()
    await lately.count(reader, NOW)
    assert (await lately.count(reader, NOW + later)).at == (NOW if stands else NOW + later)
    assert len(reader.asked) == (1 if stands else 2)
