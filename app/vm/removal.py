"""How a VM goes: its power is cut, its process is seen to end, and then its files are removed.

Nothing is signalled but the ``tart run`` of that very VM, known by its number, its start time and its arguments.
Whoever else holds the VM's lock is named in an error, and left alone.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import structlog

from app.ports import VMError, VMTimeout
from app.vm.command import Tart
from app.vm.locks import stray
from app.vm.refusals import LATE
from app.vm.watch import Watch, Watched

log = structlog.get_logger(__name__)

TRIES = 5  # for tart to agree that nothing runs
PAUSE = 1.0  # s, between two tries to end a process


class Removal:
    """Stops and deletes VMs."""

    def __init__(self, tart: Tart, watch: Watch) -> None:
        self._tart, self._watch = tart, watch
        self._vms, self._limits = tart.home / "vms", tart.limits

    async def remove(self, name: str) -> None:
        """Return when VM *name* is absent, which it may be already. Raises VMError, and may be tried again."""
        try:
            async with asyncio.timeout(self._limits.delete):
                await self._stop_and_delete(name)
                gone = await asyncio.to_thread(_remove_rest, self._vms / name)
        except TimeoutError as error:
            cause = LATE["delete"]
            msg = f"{name} was not removed within {self._limits.delete:.0f} s: {cause.detail}"
            raise VMTimeout(msg, reason=cause.code) from error
        if not gone:
            msg = f"{self._vms / name} cannot be removed: look at its owner and mode, and remove it by hand"
            raise VMError(msg, reason="delete_failed")

    async def _stop_and_delete(self, name: str) -> None:
        for _ in range(TRIES):
            await self._power_off(name)
            async with self._tart.changing:
                if await self._tart.delete(name):
                    return
        msg = f"tart says that {name} runs, and nothing is found that does: it is tried again"
        raise VMError(msg, reason="delete_failed")

    async def _power_off(self, name: str) -> None:
        """Stop until nothing runs: a stop that comes before the lock is taken does nothing, without a word."""
        now = asyncio.get_running_loop().time
        began = now()
        while process := self._watch.find(name) or await self._find_stray(name):
            if not process.is_run(name):
                raise _held(name, process)
            if now() - began > 2 * self._limits.lost:
                msg = f"process {process.process.pid}, which is VM {name}, does not end: reboot the Mac"
                raise VMTimeout(msg, reason="stop_timeout")
            if not await self._stopped(name):
                process.signal(signal.SIGKILL if now() - began > self._limits.lost else signal.SIGINT)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await process.ended.wait()

    async def _find_stray(self, name: str) -> Watched | None:
        if (self._vms / name / "config.json").exists():
            return None  # the lock tells
        process = await asyncio.to_thread(stray, name, self._tart.home)
        return self._watch.adopt(name, process) if process else None

    async def _stopped(self, name: str) -> bool:
        """Whether tart stopped it; where tart cannot, the process is ended without it."""
        try:
            return await self._tart.stop(name, seconds=self._limits.stop)
        except VMError as error:
            log.warning("stop_failed", vm=name, reason=error.reason, detail=str(error))
            return False


def _remove_rest(directory: Path) -> bool:
    """Remove what tart does not see: a directory without a config.json, which a clone cut off may leave."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _held(name: str, process: Watched) -> VMError:
    msg = (
        f"process {process.process.pid} holds the lock of VM {name} and is no `tart run` of it: it is left alone; "
        "end it, and the VM is removed"
    )
    return VMError(msg, reason="lock_held")
