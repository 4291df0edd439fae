"""Every process of a guest, also those that left their parent, their group and their session, and their end.

On Linux the machine is the *subreaper*: orphans become its children, so its descendants are all there is. macOS
has no such thing: there ``ps`` is read while the guest works, and whoever was once seen below the machine, or in
a process group of one that was, stays known (by number and start time, since numbers come again).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"
PATIENCE = 5.0  # s, after which even a guest that forks without end is given up


class Process(NamedTuple):
    """One line of the table of processes."""

    pid: int
    parent: int
    group: int
    started: str


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, where the kernel can do that."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def table() -> list[Process]:
    """Return all processes that live; zombies count as dead."""
    return list(_from_proc() if LINUX else _from_ps())


def _from_proc() -> Iterable[Process]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            # The name of the program, in parentheses, may hold anything.
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] not in {b"Z", b"X"}:
                yield Process(int(entry.name), int(fields[1]), int(fields[2]), fields[19].decode())


def _from_ps() -> Iterable[Process]:
    listed = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,pgid=,stat=,lstart="], capture_output=True, text=True, check=False
    )
    for line in listed.stdout.splitlines():
        pid, parent, group, status, started = line.split(None, 4)
        if not status.startswith("Z"):
            yield Process(int(pid), int(parent), int(group), started)


class Family:
    """The processes below the machine, as far as they were seen."""

    def __init__(self) -> None:
        self._root = os.getpid()
        self._root_group = os.getpgid(0)
        self._known: dict[tuple[int, str], Process] = {}

    def members(self, processes: list[Process]) -> list[Process]:
        """Return those of *processes* that belong to the guest, and know them from now on."""
        found = {(p.pid, p.started): p for p in processes if (p.pid, p.started) in self._known}
        while True:
            pids = {p.pid for p in found.values()} | {self._root}
            groups = {p.group for p in [*found.values(), *self._known.values()]} - {self._root_group}
            new = {
                (p.pid, p.started): p
                for p in processes
                if (p.parent in pids or p.group in groups)
                and p.pid != self._root
                and (p.pid, p.started) not in found
            }
            if not new:
                self._known = found
                return list(found.values())
            found |= new

    def kill(self) -> None:
        """End them all at once; returns when none is left."""
        end = time.monotonic() + PATIENCE
        while (living := self.members(table())) and time.monotonic() < end:
            for process in living:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            reap()
            time.sleep(0.002)


def reap() -> dict[int, int]:
    """Collect the children that ended: their numbers and exit codes, 255 for one that a signal ended."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 255
