"""``exec``: a command in the guest, with its streams and its exit code (docs/contracts/tart.md §5)."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from typing import Any, NoReturn

from app.sandbox.tart import faults, frames, leaks, link
from app.sandbox.tart.home import Home
from app.sandbox.tart.options import Spec, parse
from app.sandbox.tart.refusals import Failure, Refusal

EXEC = Spec(
    "exec",
    ("name", "command"),
    flags=("--interactive", "--tty"),
    short=(("-i", "--interactive"), ("-t", "--tty")),
    verbatim=True,
)
FIRST_MACOS = 14
STDIN = 0
UNREACHABLE = (
    "Failed to connect to the VM using its control socket: The operation couldn’t be completed. "
    "(GRPC.GRPCConnectionPoolError error 1.), is the Tart Guest Agent running?"
)
LOST = "unavailable (14): Transport became inactive"


def execute(home: Home, arguments: list[str]) -> None:
    """Run a command in the guest and end as it ends."""
    options = parse(EXEC, arguments)
    name, *command = options.names
    tty, interactive = "--tty" in options.flags, "--interactive" in options.flags
    if home.settings.macos < FIRST_MACOS:
        raise Refusal('"tart exec" is only available on macOS 14 (Sonoma) or newer')
    if tty:
        leaks.report(home.root, "exec-tty", f"exec -t on {name}")
        if not os.isatty(1):
            _crash()
    vm, _ = home.running_vm(name)
    limit = home.settings.agent_timeout
    if faults.take(home.root, "exec_unreachable", name):
        time.sleep(limit)
        raise Refusal(UNREACHABLE)
    connection = link.connect(vm, limit)
    if connection is None:
        raise Refusal(UNREACHABLE)
    _misbehave(home, name)
    dies = faults.take(home.root, "exec_dies", name)
    connection.sendall(frames.request(command, stdin=interactive, merged=tty))
    try:
        _Relay(connection, interactive=interactive, dies_in=dies.seconds if dies else None).run()
    except KeyboardInterrupt:
        connection.setblocking(True)
        connection.sendall(frames.frame(frames.CANCEL))
        raise


def _misbehave(home: Home, name: str) -> None:
    if faults.take(home.root, "exec_hangs", name):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            signal.pause()
    while faults.take(home.root, "exec_floods", name):
        _write(1, b"to be or not to be, " * 10_000)
    if faults.take(home.root, "exec_garbage", name):
        _write(1, b"\x1b[2Jcidermill-guest delivered=7 alive=yes\n\xff\xfe ok\n")
        raise SystemExit(0)


def _crash() -> NoReturn:
    """End as a Swift program does that trips over itself."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTRAP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTRAP)
    raise SystemExit(128 + signal.SIGTRAP)


class _Relay:
    """Passes the streams on until the agent tells the exit code; both ways at once, so that neither can block."""

    def __init__(self, connection: socket.socket, *, interactive: bool, dies_in: float | None) -> None:
        self._connection = connection
        self._connection.setblocking(False)
        self._frames = frames.Frames()
        self._unsent = b""
        self._stdin_open = interactive
        self._end = None if dies_in is None else time.monotonic() + dies_in

    def run(self) -> NoReturn:
        """Relay; ends by SystemExit with the command's code, or Failure."""
        while True:
            wanted: list[Any] = [
                self._connection,
                *([STDIN] if self._stdin_open and not self._unsent else []),
            ]
            left = None if self._end is None else max(0.0, self._end - time.monotonic())
            ready, writable, _ = select.select(wanted, [self._connection] if self._unsent else [], [], left)
            if self._end is not None and time.monotonic() >= self._end:
                raise Failure(LOST)
            if STDIN in ready:
                self._read_stdin()
            if writable:
                self._send()
            if self._connection in ready:
                self._receive()

    def _read_stdin(self) -> None:
        try:
            data = os.read(STDIN, frames.CHUNK)
        except OSError:  # it was closed before we were started
            data = b""
        self._stdin_open = bool(data)
        self._unsent = frames.frame(frames.STDIN, data) if data else frames.frame(frames.STDIN_END)

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # the connection is gone: reading it tells
            self._unsent, self._stdin_open = b"", False

    def _receive(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Failure(LOST)
        for kind, content in self._frames.feed(data):
            if kind == frames.STDOUT:
                _write(1, content)
            elif kind == frames.STDERR:
                _write(2, content)
            elif kind == frames.FAILED:
                raise Failure(f"unknown (2): {content.decode(errors='replace')}")
            elif kind == frames.EXIT:
                raise SystemExit(content[0])


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
