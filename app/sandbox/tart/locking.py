"""tart's locks: the record lock on a VM's ``config.json``, the global lock, the locks of temporary entries.

The kernel keeps them and frees them with their process, so the state of a VM is true after any crash
(docs/contracts/tart.md §1.2, §3.6). A record lock is lost when its process closes *any* descriptor of the file:
whoever holds one must not open that file again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "darwin":
    _LAYOUT, _TYPE, _PID = "qqihh", 3, 2  # start, length, pid, type, whence
    _QUERY = (0, 0, 0, fcntl.F_RDLCK, os.SEEK_SET)
else:
    _LAYOUT, _TYPE, _PID = "hhqqi4x", 0, 4  # type, whence, start, length, pid
    _QUERY = (fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)


def holder(file: Path) -> int:
    """Return the other process that holds the record lock of *file*; 0: none. Raises FileNotFoundError."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_LAYOUT, *_QUERY))
    finally:
        os.close(descriptor)
    fields = struct.unpack(_LAYOUT, answer)
    return 0 if fields[_TYPE] == fcntl.F_UNLCK else int(fields[_PID])


def take_record(file: Path) -> int | None:
    """Take the record lock of *file* until this process ends; None: another process holds it."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    return descriptor


def try_flock(path: Path) -> int | None:
    """Take the lock of a file or directory; None: it is held."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def flocked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or directory: waits without end, and SIGINT during the wait is lost, as with tart."""
    descriptor = os.open(path, os.O_RDONLY)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        signal.signal(signal.SIGINT, before)
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(descriptor)
