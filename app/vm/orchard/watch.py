"""Tells of the VMs of ours that end: the controller calls nobody, so all of them are listed now and then.

One list for the whole fleet. A worker itself reports only every 5 s (docs/contracts/orchard.md §3.2), so asking more
often would tell little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from app.domain.pools import Names
from app.ports import VMError
from app.vm.orchard.answers import Machine, Status
from app.vm.orchard.controller import Fleet
from app.vm.orchard.endings import ending

log = structlog.get_logger(__name__)

EVERY = 3.0  # s, while a VM of ours lives


class Watch:
    """Compares each list with the one before."""

    def __init__(
        self, names: Names, look: Callable[[], Awaitable[Fleet]], on_end: Callable[[str, str], None]
    ) -> None:
        self._names, self._look, self._on_end = names, look, on_end
        self._alive: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def expect(self, name: str) -> None:
        """Watch a VM from now on."""
        self._alive.add(name)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._go_on(), name="orchard-watch")

    def forget(self, name: str) -> None:
        """Watch a VM no longer: we are about to remove it."""
        self._alive.discard(name)

    def saw(self, fleet: Fleet) -> None:
        """Take in a list, whoever asked for it. One that is not in it was deleted, which the look at the hosts tells."""
        self._alive &= {machine.name for machine in fleet.machines}
        for machine in fleet.machines:
            if machine.status is Status.FAILED:
                self._note(machine)
            elif self._names.is_runner(machine.name):
                self.expect(machine.name)

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _go_on(self) -> None:
        while self._alive:
            await asyncio.sleep(EVERY)
            with suppress(VMError):  # the look at the hosts tells of it
                self.saw(await self._look())

    def _note(self, machine: Machine) -> None:
        if machine.name in self._alive:
            self._alive.discard(machine.name)
            cause = ending(machine.message)
            log.info(
                "vm_ended", runner=machine.name, worker=machine.worker, cause=cause.code, detail=cause.detail
            )
            self._on_end(machine.name, cause.code)
