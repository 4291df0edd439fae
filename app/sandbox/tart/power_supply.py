"""The machine of a running VM, from the side of ``tart run``: switched on, heard of, and switched off.

Makes ``control.sock`` in the VM's directory (a stale one is removed) and hands it to the machine, which is a process
of its own: see :mod:`app.sandbox.tart.machine`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[3])
COMMAND = (
    "import sys; sys.path.append(sys.argv[1]); from app.sandbox.tart.machine import main; main(sys.argv[2:])"
)
PATIENCE = 6.0  # s, after which a machine that cannot end its guest is killed
BACKLOG = 64


class PowerSupply:
    """Power for one machine, on from the beginning."""

    def __init__(
        self, path: Path, *, boot_seconds: float, answers: bool, slot: int | None, release_seconds: float
    ) -> None:
        self.control, other = socket.socketpair()
        door = _door(path)
        passed = [other.fileno(), door.fileno(), *([] if slot is None else [slot])]
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        numbers = [str(other.fileno()), str(door.fileno()), "-1" if slot is None else str(slot)]
        times = [str(boot_seconds), "yes" if answers else "no", str(release_seconds)]
        self._pid = _spawn([COMMAND, ROOT, str(path), *numbers, *times], path / "console.log")
        other.close()
        door.close()

    def heard(self) -> bytes:
        """Return what the machine told, without waiting; empty: it is gone."""
        try:
            return self.control.recv(16)
        except ConnectionError:
            return b""

    def cut(self) -> None:
        """Cut the power; returns when nothing runs in the guest any more."""
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self.control], [], [], left)
            if ready and not self.heard():
                break
        else:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, os.WNOHANG)


def _door(path: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX)
    (path / "control.sock").unlink(missing_ok=True)
    # A relative name, since a socket's path may have no more than 104 bytes.
    here = Path.cwd()
    os.chdir(path)
    door.bind("control.sock")
    os.chdir(here)
    door.listen(BACKLOG)
    return door


def _spawn(arguments: list[str], console: Path) -> int:
    argv = [sys.executable, "-I", "-S", "-c", *arguments]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(console), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # SIGINT is ignored or handled here, and the machine's own business there.
    return os.posix_spawn(
        sys.executable, argv, {"PATH": os.defpath}, file_actions=streams, setsigdef=[signal.SIGINT]
    )
