"""The ``tart run`` processes: started so that they outlive us, and watched until they end.

Not asyncio's subprocesses: their transports kill a child that still runs when the loop closes, and a VM must
survive our restart. A daemon thread each waits for the end, also of a process that an earlier run of ours started.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.vm.locks import is_alive, is_run, owner
from app.vm.runlog import note_exit
from app.vm.trouble import cannot_start, told_as_vm_error

LOOK_AGAIN = 60.0  # s


@dataclass(eq=False, slots=True)
class Watched:
    """One process that is a VM, known by its number and its start time."""

    process: psutil.Process
    is_child: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def is_run(self, name: str) -> bool:
        """Whether it is the ``tart run`` of VM *name*, or has ended; else somebody else holds the VM's lock."""
        return self.is_child or is_run(self.process, name) or not is_alive(self.process)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process; one that merely got its number gets none."""
        with suppress(psutil.Error):
            self.process.send_signal(number)


class Watch:
    """Starts and finds the processes that are the VMs in a directory, and tells when one ends."""

    def __init__(self, vms: Path, on_end: Callable[[str], None]) -> None:
        self._vms, self._on_end = vms, on_end
        self._watched: dict[str, Watched] = {}

    def spawn(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Watched:
        """Start *argv* as VM *name*, in a session of its own and with its output in *log*.

        Raises VMError where the program cannot be started or watched, and then it does not run; OSError where
        there is no place for the log.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                argv,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        except OSError as error:
            raise cannot_start(argv[0], error) from error
        finally:
            os.close(descriptor)
        try:
            # A child keeps its number until it was waited for, so the start time is its own.
            watched = Watched(psutil.Process(child.pid), is_child=True)
            return self._follow(name, watched, lambda: note_exit(log, child.wait()))
        except RuntimeError as error:
            child.kill()
            child.wait()
            raise cannot_start(argv[0], error) from error

    def get(self, name: str) -> Watched | None:
        """Return the process that is VM *name* as far as it is watched, while it lives."""
        return self._watched.get(name)

    def find(self, name: str) -> Watched | None:
        """Return the process that is VM *name*, whoever started it, and watch it from now on. Raises VMError."""
        known = self._watched.get(name)
        if known is not None:
            return known
        with told_as_vm_error(f"cannot tell who runs {name}"):
            process = owner(self._vms / name)
        return None if process is None else self.adopt(name, process)

    def adopt(self, name: str, process: psutil.Process) -> Watched:
        """Watch a process that is VM *name* already. Raises VMError."""
        try:
            return self._follow(name, Watched(process), lambda: _wait_for(process))
        except RuntimeError as error:
            raise cannot_start(f"a thread to watch {name}", error) from error

    def _follow(self, name: str, watched: Watched, wait: Callable[[], object]) -> Watched:
        loop = asyncio.get_running_loop()

        def until_it_ends() -> None:
            wait()
            try:
                loop.call_soon_threadsafe(self._ended, name, watched)
            except RuntimeError:
                return  # the loop is closed: we are on our way out, and the VM's end is the next start's to find

        threading.Thread(target=until_it_ends, name=f"vm-{name}", daemon=True).start()
        self._watched[name] = watched
        return watched

    def _ended(self, name: str, watched: Watched) -> None:
        watched.ended.set()
        if self._watched.get(name) is watched:
            del self._watched[name]
            self._on_end(name)


def _wait_for(process: psutil.Process) -> None:
    """Wait for the end of a process that is no child of ours, and not for that of one that got its number."""
    while process.is_running():
        with suppress(psutil.TimeoutExpired):
            process.wait(LOOK_AGAIN)
