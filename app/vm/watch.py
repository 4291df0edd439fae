"""The ``tart run`` processes: started so that they outlive us, and watched until they end.

Not asyncio's subprocesses: their transports kill a child that still runs when the loop closes, and a VM must
survive our restart. A daemon thread each waits for the end, also of a process that an earlier run of ours started.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from app.vm.process import cannot_start


@dataclass(eq=False, slots=True)
class Watched:
    """One process that is a VM."""

    pid: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """Starts and adopts the processes that are VMs, and tells when one ends."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._watched: dict[str, Watched] = {}

    def spawn(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Watched:
        """Start *argv* as VM *name*, in a session of its own and with its output in *log*.

        Raises VMError where the program cannot be started, OSError where there is no place for the log.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
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
        return self._follow(name, process.pid, process.wait)

    def adopt(self, name: str, pid: int) -> Watched:
        """Watch a process that is VM *name* already; nothing new where it is watched."""
        known = self._watched.get(name)
        if known is not None and known.pid == pid:
            return known

        def wait() -> None:
            try:
                psutil.Process(pid).wait()
            except psutil.NoSuchProcess:
                return

        return self._follow(name, pid, wait)

    def get(self, name: str) -> Watched | None:
        """Return the process that is VM *name*, while it lives."""
        return self._watched.get(name)

    def _follow(self, name: str, pid: int, wait: Callable[[], object]) -> Watched:
        watched = Watched(pid)
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
