"""A Mac on which things go wrong: the real backend, with short limits, on the stand-in tart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.clock import utcnow
from app.domain.pools import Names, Pool
from app.ports import JitConfig, VMError
from app.sandbox.image import install, make_image
from app.sandbox.tart import faults
from app.sandbox.tart.faults import Fault
from app.vm.command import Tart
from app.vm.limits import Limits
from app.vm.locks import owner_of
from app.vm.tart import TartBackend
from tests.builders import a_pool

A = "mini-mac-aaaaaaaa"
IMAGE = "sequoia"
JIT = JitConfig("made-up")
RUN_SH = "#!/bin/sh\necho 'Listening for Jobs'\nexec sleep 600\n"
LIMITS = Limits(
    quick=5.0, clone=5.0, pull=5.0, probe=2.0, set_up=5.0, deliver=5.0, break_off=0.3, stop=1, lost=2.0
)


@dataclass(frozen=True, slots=True)
class Must:
    """What must come of a fault: a reason, words of the sentence that names the mend, and whether the host is to blame."""

    reason: str
    mend: str
    host_wide: bool = False


class Host:
    """One Mac. Whatever a test breaks on it, :meth:`left` must find nothing in the end."""

    def __init__(self, place: Path) -> None:
        self.place, self.home, self.state = place, place / "tart", place / "state"
        self._strangers = psutil.Process().children()  # of other tests, such as a server that forks
        self.program = install(place / "bin")
        self.now: Callable[[], datetime] = utcnow
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.faults()
        make_image(self.home, IMAGE, {"run.sh": (RUN_SH, 0o755)})
        self.state.mkdir(parents=True)
        self.backend = self.another()

    def another(self, **limits: Any) -> TartBackend:
        """Make a backend as a new start of ours would, with other *limits* where they are named."""
        values = {name: getattr(LIMITS, name) for name in LIMITS.__slots__} | limits
        tart = Tart(str(self.program), self.home, {"PATH": os.environ["PATH"]}, Limits(**values))
        made = TartBackend(
            tart=tart, state_dir=self.state, names=Names("mini"), slots=2, clock=lambda: self.now()
        )
        made.on_end(lambda name, ending: self.ended.put_nowait((name, ending)))
        return made

    def faults(self, *wanted: Fault, **settings: Any) -> None:
        """Say what goes wrong from now on; whatever else is quick."""
        faults.write(self.home, *wanted, **({"boot_seconds": 0.0, "agent_timeout": 2.0} | settings))

    def vm(self, name: str = A) -> Path:
        """Return a VM's directory."""
        return self.home / "vms" / name

    def pid(self, name: str = A) -> int:
        """Return the process that holds a VM's lock."""
        return owner_of(self.vm(name))

    def log(self, name: str = A) -> Path:
        """Return the kept output of a VM's process."""
        return self.state / "runners" / name / "run.log"

    async def end_of(self, name: str = A) -> str:
        """Wait until a VM's end is told, and return how it ended."""
        async with asyncio.timeout(10):
            ended, how = await self.ended.get()
        assert ended == name
        return how

    def commands(self, verb: str) -> list[psutil.Process]:
        """Return the commands of tart that run with that sub-command."""
        return [process for process in self._processes() if verb in _argv(process)[1:6]]

    def left(self) -> list[str]:
        """Return what is left of our VMs: directories, halves of clones, processes, and what a driver must not do."""
        vms = [vm.name for vm in (self.home / "vms").glob("mini-*")]
        halves = [entry.name for entry in (self.home / "tmp").glob("*")]
        violations = self.home / "violations.log"
        noted = violations.read_text().splitlines() if violations.exists() else []
        return [*vms, *halves, *noted] or [" ".join(_argv(process)) for process in self._processes()]

    async def settled(self) -> list[str]:
        """Return what is left after a moment, in which what was killed ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while self.left():
                    await asyncio.sleep(0.05)
        return self.left()

    def _processes(self) -> list[psutil.Process]:
        """Return what we started, and what it started; what was orphaned is known by the directory it works in."""
        started = [p for p in psutil.Process().children() if p not in self._strangers]
        ours = [*started, *(below for p in started for below in _below(p))]
        return [p for p in ours if _argv(p)] + [p for p in psutil.process_iter() if self._is_guest(p)]

    def _is_guest(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return process.cwd().startswith(str(self.place))
        return False


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def a_spec(**changes: Any) -> Pool:
    """Return a pool whose VMs have some seconds to boot."""
    return a_pool(**({"boot_timeout": timedelta(seconds=10)} | changes))


async def refused(work: Coroutine[Any, Any, object] | asyncio.Task[Any], must: Must) -> str:
    """Await *work*, which must fail, in time, as *must* says, and return its sentence."""
    with pytest.raises(VMError) as failed:
        async with asyncio.timeout(60):
            await work
    assert (failed.value.reason, failed.value.host_wide) == (must.reason, must.host_wide), str(failed.value)
    assert must.mend in str(failed.value)
    return str(failed.value)
