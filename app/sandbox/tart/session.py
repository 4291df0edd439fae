"""One command that the guest's agent runs for one ``tart exec``, on the machine's event loop.

The exit code is told only after stdout and stderr have both ended, so a background process that keeps them open
keeps the client waiting. A client that cancels takes the command down; one that merely vanishes is noticed when
the command next writes (docs/contracts/tart.md §5.3–5.5).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from app.sandbox.tart import frames
from app.sandbox.tart.guest import HOME, environment, find_program

MOST_UNSENT = 262_144  # bytes for a slow client, after which the command has to wait
MOST_UNREAD = 65_536  # bytes for a slow command, after which the client has to wait


class Interests:
    """What an event loop waits for: one call to say it, whatever was said before."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector

    def want(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Wait for *events* on a descriptor from now on; none: no longer."""
        known = self._selector.get_map().get(descriptor)
        if events == 0:
            if known is not None:
                self._selector.unregister(descriptor)
        elif known is None:
            self._selector.register(descriptor, events, callback)
        elif known.events != events:
            self._selector.modify(descriptor, events, callback)


class Session:
    """One client."""

    def __init__(self, connection: socket.socket, guest: Path, interests: Interests) -> None:
        self._connection, self._guest, self._interests = connection, guest, interests
        self._frames = frames.Frames()
        self._unsent, self._unread = bytearray(frames.frame(frames.HELLO)), bytearray()
        self._outputs: dict[int, bytes] = {}
        self._stdin: int | None = None
        self._stdin_ended = False
        self._listening = True
        self._code: int | None = None
        self.pid: int | None = None
        self.is_over = False
        connection.setblocking(False)
        self._settle()

    def ended(self, code: int) -> None:
        """Take note that the command itself ended."""
        self._code = code
        self._settle()

    def _settle(self) -> None:
        """Send what can be sent, then wait for whatever can come next."""
        if self.is_over:
            return
        if self._code is not None and not self._outputs and self.pid is not None:
            self._unsent += frames.frame(frames.EXIT, bytes([self._code]))
            self.pid = None
            self._listening = False
        wait_for = selectors.EVENT_WRITE if self._unsent else 0
        if self._listening and len(self._unread) < MOST_UNREAD:
            wait_for |= selectors.EVENT_READ
        self._interests.want(self._connection.fileno(), wait_for, self._on_connection)
        room = selectors.EVENT_READ if len(self._unsent) < MOST_UNSENT else 0
        for output in self._outputs:
            self._interests.want(output, room, self._on_output)
        if self._stdin is not None:
            if not self._unread and self._stdin_ended:
                self._close_stdin()
            else:
                pending = selectors.EVENT_WRITE if self._unread else 0
                self._interests.want(self._stdin, pending, self._on_stdin)
        if not self._listening and not self._unsent and self.pid is None:
            self._close()

    def _on_connection(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and not self._send():
            return
        if events & selectors.EVENT_READ:
            self._receive()
        self._settle()

    def _send(self) -> bool:
        try:
            del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            return True
        except OSError:
            self._abandon()
            return False
        return True

    def _receive(self) -> None:
        try:
            data = self._connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._listening = False  # whoever cancels says so; the rest is noticed when the command writes
            return
        for kind, content in self._frames.feed(data):
            if kind == frames.REQUEST:
                self._start(*json.loads(content))
            elif kind == frames.STDIN and self._stdin is not None:
                self._unread += content
            elif kind == frames.STDIN_END:
                self._stdin_ended = True
            elif kind == frames.CANCEL:
                self._abandon()
                return

    def _start(self, command: list[str], stdin: bool, merged: bool) -> None:
        try:
            program = find_program(command[0], self._guest)
            self._spawn(program, command, stdin=stdin, merged=merged)
        except OSError as error:
            text = (
                str(error)
                if error.errno is None
                else f"fork/exec {command[0]}: {str(error.strerror).lower()}"
            )
            self._unsent += frames.frame(frames.FAILED, text.encode(errors="surrogateescape"))
            self._listening = False

    def _spawn(self, program: str, command: list[str], *, stdin: bool, merged: bool) -> None:
        here, there = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        out, out_end = os.pipe()
        err, err_end = (None, out_end) if merged else os.pipe()
        try:
            self.pid = spawn(program, command, (here, out_end, err_end), self._guest)
        except OSError:
            for descriptor in (there, out, err):
                if descriptor is not None:
                    os.close(descriptor)
            raise
        finally:
            for descriptor in {here, out_end, err_end}:
                os.close(descriptor)
        self._outputs = {out: frames.STDOUT} if err is None else {out: frames.STDOUT, err: frames.STDERR}
        self._stdin = there
        for descriptor in (*self._outputs, *([] if there is None else [there])):
            os.set_blocking(descriptor, False)

    def _on_output(self, _events: int) -> None:
        for output, kind in list(self._outputs.items()):
            try:
                data = os.read(output, frames.CHUNK)
            except BlockingIOError:
                continue
            if data:
                self._unsent += frames.frame(kind, data)
            else:
                self._interests.want(output, 0, self._on_output)
                os.close(output)
                del self._outputs[output]
        self._settle()

    def _on_stdin(self, _events: int) -> None:
        if self._stdin is None:
            return
        try:
            del self._unread[: os.write(self._stdin, self._unread)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._close_stdin()
        self._settle()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._interests.want(self._stdin, 0, self._on_stdin)
            os.close(self._stdin)
        self._stdin = None
        self._unread.clear()

    def _abandon(self) -> None:
        """End the command itself, and not what it started; nobody hears of it any more."""
        if self.pid is not None and self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        self.is_over = True
        self._close_stdin()
        for output in self._outputs:
            self._interests.want(output, 0, self._on_output)
            os.close(output)
        self._outputs = {}
        self._interests.want(self._connection.fileno(), 0, self._on_connection)
        self._connection.close()


def spawn(program: str, command: list[str], streams: tuple[int, int, int], guest: Path) -> int:
    """Start a command in the guest and return its process. Raises OSError as the agent would.

    By fork, which is safe in a process with one thread: ``subprocess`` would collect children by itself, and the
    machine collects them all.
    """
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(program, command, streams, guest, tell)
    os.close(tell)
    with os.fdopen(told, "rb") as answer:
        number = answer.read()
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(program: str, command: list[str], streams: tuple[int, int, int], guest: Path, tell: int) -> None:
    try:
        for target, source in enumerate(streams):
            os.dup2(source, target)
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(guest / HOME)
        os.execve(program, command, environment(guest))
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)
