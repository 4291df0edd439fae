"""Who runs a VM: the process that holds the lock on its ``config.json``, as the kernel says.

The lock is tart's record of the process (docs/contracts/tart.md §3.6): it survives our restart and knows no zombies.
A number alone may be another process's a moment later, so a process is known by its number and its start time, and
one that is not a ``tart run`` of the VM is never signalled, whatever lock it holds.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from app.ports import VMError

TRIES = 5  # for an owner that ends just when it is looked at

if sys.platform == "darwin":
    LAYOUT, TYPE, PID = "qqihh", 3, 2  # start, length, pid, type, whence
    QUERY = (0, 0, 0, fcntl.F_RDLCK, os.SEEK_SET)
else:
    LAYOUT, TYPE, PID = "hhqqi4x", 0, 4  # type, whence, start, length, pid
    QUERY = (fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)


def owner_of(vm: Path) -> int:
    """Return the number of the process that runs the VM in directory *vm*; 0: none does, or there is no such VM.

    Negative or 1: the kernel names no process. Raises OSError.
    """
    try:
        descriptor = os.open(vm / "config.json", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(LAYOUT, *QUERY))
    finally:
        os.close(descriptor)
    fields = struct.unpack(LAYOUT, answer)
    return 0 if fields[TYPE] == fcntl.F_UNLCK else int(fields[PID]) or -1


def owner(vm: Path) -> psutil.Process | None:
    """Return the process that runs the VM in directory *vm*; None: none does. Raises OSError, VMError."""
    for _ in range(TRIES):
        pid = owner_of(vm)
        if pid == 0:
            return None
        with suppress(psutil.NoSuchProcess, ValueError):
            process = psutil.Process(pid)
            # It held the lock before its start time was read and holds it still, so that time is its own.
            if pid > 1 and owner_of(vm) == pid:
                return process
    msg = (
        f"the lock of VM {vm.name} is held, and the kernel does not say by which process: find it with "
        f"`lsof {vm / 'config.json'}` and end it, or reboot the Mac"
    )
    raise VMError(msg, reason="owner_unknown")


def is_run(process: psutil.Process, name: str) -> bool:
    """Whether a process is the ``tart run`` of VM *name*; where its arguments may not be read, whether it is tart."""
    with suppress(psutil.Error):
        try:
            return _runs(process.cmdline(), name)
        except psutil.AccessDenied:
            return process.name() == "tart"
    return False


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie has given up its lock."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def stray(name: str, home: Path) -> psutil.Process | None:
    """Return the ``tart run`` of VM *name* in *home*, by its arguments and its environment, for a VM without a lock file.

    Another ``TART_HOME`` may hold a VM of the same name, and a process whose environment may not be read is none of ours.
    """
    for process in psutil.process_iter(["cmdline"]):
        if _runs(process.info["cmdline"] or [], name):
            with suppress(psutil.Error):
                if process.environ().get("TART_HOME") == str(home):
                    return process
    return None


def _runs(argv: Sequence[str], name: str) -> bool:
    return "run" in argv[1:] and argv[-1] == name
