"""Who runs a VM: the process that holds the lock on its ``config.json``, as the kernel says.

The lock is tart's record of the process (docs/contracts/tart.md §3.6): it survives our restart, knows no zombies
and cannot name a process that merely got the same number.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path

if sys.platform == "darwin":
    LAYOUT, TYPE, PID = "qqihh", 3, 2  # start, length, pid, type, whence
    QUERY = (0, 0, 0, fcntl.F_RDLCK, os.SEEK_SET)
else:
    LAYOUT, TYPE, PID = "hhqqi4x", 0, 4  # type, whence, start, length, pid
    QUERY = (fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)


def owner_of(vm: Path) -> int:
    """Return the process that runs the VM in directory *vm*; 0: none does, or there is no such VM."""
    try:
        descriptor = os.open(vm / "config.json", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(LAYOUT, *QUERY))
    finally:
        os.close(descriptor)
    fields = struct.unpack(LAYOUT, answer)
    return 0 if fields[TYPE] == fcntl.F_UNLCK else int(fields[PID])
