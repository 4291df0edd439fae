"""From an image to a guest that answers: cloned, configured, started, and waited for. What comes then differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from app.domain.pools import Pool
from app.ports import VMError, VMTimeout
from app.vm import guest
from app.vm.command import Tart
from app.vm.runlog import cause_of
from app.vm.trouble import told_as_vm_error
from app.vm.watch import Watch, Watched

T = TypeVar("T")

BETWEEN_PROBES = 0.2  # s


class Booting:
    """The steps of a boot, each of which leaves its clean-up to the VM's removal."""

    def __init__(self, tart: Tart, watch: Watch, runners: Path) -> None:
        self._tart, self._watch, self._runners = tart, watch, runners
        self._vms = tart.home / "vms"

    def run_log(self, name: str) -> Path:
        """Return where the output of the process that is the VM is kept."""
        return self._runners / name / "run.log"

    async def clone(self, source: Callable[[], str], name: str, spec: Pool) -> None:
        """Clone what *source* names, once nothing can remove it any more, and set what the pool asks for."""
        await self.copy(source, name)
        await self._tart.configure(name, spec)

    async def copy(self, source: Callable[[], str], name: str) -> None:
        """Clone what *source* names, once nothing can remove it any more, and leave it as it is."""
        async with self._tart.changing:
            # tart would replace it without a word, even where it runs.
            if (self._vms / name).exists():
                msg = (
                    f"a VM called {name} exists and does not run: names are never used again, and the next launch "
                    "takes another"
                )
                raise VMError(msg, reason="interrupted")
            await self._tart.clone(source(), name)

    def launch(
        self, name: str, spec: Pool, share: Path | None = None, *, suspendable: bool = False
    ) -> Watched:
        """Start the process that is the VM; *share* is a directory that its guest may read."""
        log_file = self.run_log(name)
        argv = self._tart.run_argv(name, spec, share, suspendable=suspendable)
        with told_as_vm_error(f"cannot keep the output of {name} in {log_file.parent}"):
            log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._watch.spawn(name, argv, env=self._tart.env, log=log_file)

    def begin_log(self, name: str) -> None:
        """Put the output of an earlier process of that name aside: how a VM ended is read from its last one's alone."""
        log_file = self.run_log(name)
        with (
            told_as_vm_error(f"cannot keep the output of {name} in {log_file.parent}"),
            suppress(FileNotFoundError),
        ):
            log_file.replace(log_file.with_name("run-before.log"))

    def running(self, name: str) -> Watched:
        """Return the process that is the VM. Raises VMError where it has ended."""
        process = self._watch.find(name)
        if process is None:
            raise self.ended_early(name)
        return process

    async def while_it_lives(self, name: str, process: Watched, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* does, or raise why the VM ended meanwhile; tart may take long to notice."""
        working, ending = asyncio.create_task(work), asyncio.create_task(process.ended.wait())
        try:
            await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise self.ended_early(name)
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def until_it_answers(self, name: str, troubles: list[VMError]) -> None:
        """Ask until the guest answers. What keeps us from asking may pass, and is left in *troubles* if it lasts."""
        while True:
            try:
                result = await self._tart.exec(name, guest.TRUE, timeout=self._tart.limits.probe)
                troubles.clear()
                if result.code == 0:
                    return
            except VMTimeout:
                troubles.clear()
            except VMError as error:
                if not error.host_wide:
                    raise
                troubles[:] = [error]
            await asyncio.sleep(BETWEEN_PROBES)

    async def broke_off(self, process: Watched) -> bool:
        """Whether a guest says nothing because its VM has just ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._tart.limits.break_off):
                await process.ended.wait()
        return process.ended.is_set()

    def ended_early(self, name: str) -> VMError:
        """Return why a VM ended that should be up."""
        cause = cause_of(self.run_log(name))
        msg = f"{name} ended before its guest was ready: {cause.detail}"
        return VMError(msg, reason=cause.code, host_wide=cause.host_wide)


def boot_timeout(name: str, stage: str, spec: Pool) -> VMTimeout:
    """Say that a boot took too long, and at which stage it was."""
    limit = spec.boot_timeout.total_seconds()
    msg = (
        f"{name}: the {stage} did not end within boot_timeout = {limit:.0f} s: raise it if the Mac is just "
        "slow, else try the image by hand"
    )
    return VMTimeout(msg, reason="boot_timeout")
