"""Many slots at once, on virtual time: what GitHub bears is kept to, and nobody is turned away by our own pace."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from app.github.pace import PER_MINUTE, Pace
from tests.simulation.layers import Call
from tests.simulation.site import VIRTUAL_TIME, Variant
from tests.test_reconcile import a_site, queue

pytestmark = VIRTUAL_TIME
SLOTS = PER_MINUTE // 3


class Paced:
    """The registrations of a site, at our pace, as the client makes them."""

    def __init__(self) -> None:
        self.asked = 0
        self.made: list[float] = []
        self._now = asyncio.get_running_loop().time
        self._pace = Pace("acme", self._now)

    def layer(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            self.asked += 1
            await self._pace.turn("register a runner")
            self.made.append(self._now())
            return await call(*args, **kwargs)

        return passed if verb == "mint" else call


async def test_a_burst_of_jobs(tmp_path: Path) -> None:
    """All guests are ready at once, and each gets its registration within seconds, at the first time of asking."""
    paced = Paced()
    async with a_site(tmp_path, slots=SLOTS, variant=Variant(github=(paced.layer,))) as site:
        site.host.boot_seconds = 20
        site.start()
        jobs = [queue(site, seconds=120) for _ in range(SLOTS)]
        await site.until(lambda: all(job.status == "in_progress" for job in jobs), within=100)
        assert (len(paced.made), paced.asked) == (SLOTS, SLOTS)
        assert paced.made[-1] - paced.made[0] <= SLOTS
        await site.until(site.is_drained)
        site.check()
