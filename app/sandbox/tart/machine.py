"""The simulated machine: the process below ``tart run`` that holds everything that runs in the guest.

It is a process of its own so that the guest ends with ``tart run`` even where that was killed: the machine sees the
end of their connection, ends every process of the guest, and goes. Its standard streams are the VM's ``console.log``.
Over the connection it tells ``UP`` when the guest has booted and ``OFF`` when it powered itself off.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from app.sandbox.tart.guest import furnish, power_switch
from app.sandbox.tart.processes import LINUX, Family, adopt_orphans, reap, table
from app.sandbox.tart.session import Interests, Session

UP, OFF = b"u", b"o"
SIGHT = 0.25  # s between looks at the processes, where orphans would be lost


class Machine:
    """The guest and its agent; the working directory is the VM's, so that it may be renamed while it runs."""

    def __init__(self, control: socket.socket, door: socket.socket, *, answers: bool) -> None:
        self._control, self._door, self._answers = control, door, answers
        self._selector = selectors.DefaultSelector()
        self._interests = Interests(self._selector)
        self._sessions: list[Session] = []
        self._family = Family()
        self._looked = 0.0
        self._running = True
        self._bell, self._ring = os.pipe()

    def live(self, boot_seconds: float) -> None:
        """Boot, run until the power goes, and end every process of the guest."""
        furnish(_guest())
        switch = power_switch(_guest())
        self._listen_to_children()
        self._interests.want(self._control.fileno(), selectors.EVENT_READ, self._on_control)
        self._interests.want(switch, selectors.EVENT_READ, self._on_switch)
        booted = time.monotonic() + boot_seconds
        while self._running and (left := booted - time.monotonic()) > 0:
            self._turn(left)
        if self._running:
            self._boot()
        while self._running:
            self._turn(None if LINUX else SIGHT)
        self._family.kill()

    def _listen_to_children(self) -> None:
        for descriptor in (self._bell, self._ring):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._ring, warn_on_full_buffer=False)
        # A handler, and not SIG_IGN, which the guest's commands would inherit. A guest's `kill 0` reaches us, too.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._interests.want(self._bell, selectors.EVENT_READ, self._on_bell)

    def _boot(self) -> None:
        if self._answers:
            self._interests.want(self._door.fileno(), selectors.EVENT_READ, self._on_door)
        with suppress(OSError):
            self._control.sendall(UP)

    def _turn(self, seconds: float | None) -> None:
        for key, events in self._selector.select(seconds):
            callback: Callable[[int], None] = key.data
            callback(events)
        self._sessions = [session for session in self._sessions if not session.is_over]
        if not LINUX and time.monotonic() - self._looked > SIGHT:
            self._family.members(table())
            self._looked = time.monotonic()

    def _on_control(self, _events: int) -> None:
        """End: the other side says nothing, so this is the end of the connection, a power cut."""
        self._running = False

    def _on_switch(self, _events: int) -> None:
        self._running = False
        self._family.kill()
        with suppress(OSError):
            self._control.sendall(OFF)

    def _on_door(self, _events: int) -> None:
        connection, _ = self._door.accept()
        self._sessions.append(Session(connection, _guest(), self._interests))

    def _on_bell(self, _events: int) -> None:
        os.read(self._bell, 4096)
        for pid, code in reap().items():
            for session in self._sessions:
                if session.pid == pid:
                    session.ended(code)


def _guest() -> Path:
    return Path.cwd() / "guest"


def main(arguments: list[str]) -> None:
    """Be the machine of the VM in the directory that is named, on the descriptors that are handed over."""
    path, control_number, door_number, slot_number, boot_seconds, answers, release_seconds = arguments
    with suppress(PermissionError):  # it leads a session already where it could be started so
        os.setsid()
    os.chdir(path)
    adopt_orphans()
    control = socket.socket(fileno=int(control_number))
    door = socket.socket(fileno=int(door_number))
    for descriptor in (control.fileno(), door.fileno(), int(slot_number)):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)  # the guest's commands get none of them
    Machine(control, door, answers=answers == "yes").live(float(boot_seconds))
    control.close()
    door.close()
    time.sleep(float(release_seconds))  # the slot, where it was handed over, is taken until we end
