"""The client's end of ``control.sock``: waits for the agent as gRPC does, then passes frames."""

from __future__ import annotations

import os
import select
import socket
import time
from contextlib import suppress

from app.sandbox.tart.frames import HELLO, Frames
from app.sandbox.tart.home import VM

AGAIN = 0.02  # s between attempts; a stand-in is up soon


def connect(vm: VM, seconds: float) -> socket.socket | None:
    """Return a connection on which the agent said hello; None: it did not in that time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        connection = _dial(vm)
        if connection is not None and _greeted(connection, left):
            return connection
        if connection is not None:
            connection.close()
        time.sleep(min(AGAIN, left))
    return None


def _dial(vm: VM) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    # A relative name, since a socket's path may have no more than 104 bytes.
    with suppress(OSError):
        os.chdir(vm.path)
        connection.connect("control.sock")
        return connection
    connection.close()
    return None


def _greeted(connection: socket.socket, seconds: float) -> bool:
    ready, _, _ = select.select([connection], [], [], seconds)
    if not ready:
        return False
    with suppress(OSError):
        return any(kind == HELLO for kind, _ in Frames().feed(connection.recv(len(HELLO) + 4)))
    return False
