"""The doctor of a running server: one examination at a time, of what is in force now."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.db.reader import Reader
from app.doctor.boot import boot_there, one_a_image, told
from app.doctor.examine import Place, ask, examine
from app.doctor.finding import Finding
from app.reconcile import Reconciler


class Doctor:
    """Examines the server that it is part of."""

    def __init__(self, place: Place, reconciler: Reconciler, reader: Reader) -> None:
        self._place, self._reconciler, self._reader = place, reconciler, reader
        self._one_at_a_time = asyncio.Lock()

    async def examine(self) -> list[Finding]:
        """Return every finding."""
        async with self._one_at_a_time:
            return await examine(self._now(), self._reconciler.world)

    async def boot(self) -> list[Finding]:
        """Boot a VM of each image, and say what its guest holds."""
        async with self._one_at_a_time:
            place = self._now()
            expected = [one.expected_runner for one in (await ask(place)).installed]
            tries = [
                await boot_there(self._reconciler, self._reader, pool, clock=place.clock)
                for pool in one_a_image(place.pools)
            ]
            return [told(tried, expected) for tried in tries]

    def _now(self) -> Place:
        return replace(self._place, pools=self._reconciler.setup.pools)
