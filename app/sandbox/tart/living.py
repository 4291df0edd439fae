"""A VM that runs: waits for signals, the machine and the faults, and ends with the line and the code of each end.

What is printed and what the process exits with is docs/contracts/tart.md §3.3–3.5; nearly every end has exit code 0,
so the lines matter. In every one of them the guest's power is cut before this process goes.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Any, NoReturn

from app.sandbox.tart import faults, leaks, snapshot
from app.sandbox.tart.address import lease
from app.sandbox.tart.guest import unmount
from app.sandbox.tart.home import Config, Home
from app.sandbox.tart.machine import OFF, UP
from app.sandbox.tart.power_supply import PowerSupply
from app.sandbox.tart.refusals import Broken
from app.sandbox.tart.run_options import Launch

PERIOD = 0.05  # s between looks at the faults
POWERED_OFF = "guest has stopped the virtual machine"
CRASHED = (
    f'{POWERED_OFF} due to error: Error Domain=VZErrorDomain Code=1 "Internal Virtualization error. The virtual '
    'machine stopped unexpectedly." UserInfo={NSLocalizedFailure=Internal Virtualization error.}'
)
DISCONNECTED = (
    "virtual machine's network attachment <VZNATNetworkDeviceAttachment: 0x600003d8c1e0> has been disconnected with "
    'error: Error Domain=VZErrorDomain Code=1 "The network device attachment was disconnected."'
)
SOFTNET_DIED = 'RuntimeFailed(why: "Softnet process terminated prematurely")'
NOT_SUSPENDABLE = (
    "Failed to suspend the VM: Error Domain=VZErrorDomain Code=1 "
    '"The virtual machine configuration does not support saving." UserInfo={NSLocalizedFailure='
    "Unsupported entropy device in configuration}"
)
ENDINGS = ("guest_powers_off", "guest_crash", "network_lost", "softnet_dies", "killed")


class Signals:
    """The signals that arrived and were not looked at yet; made when the VM starts, so earlier ones are lost."""

    def __init__(self) -> None:
        self._arrived: list[int] = []
        self.bell, ring = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda arrived, _frame: self._arrived.append(arrived))

    def take(self) -> list[int]:
        """Return what arrived since the last time."""
        with suppress(BlockingIOError):
            os.read(self.bell, 4096)
        arrived, self._arrived = self._arrived, []
        return arrived


class Life:
    """From the start of one VM to its end."""

    def __init__(
        self, home: Home, launch: Launch, config: Config, supply: PowerSupply, signals: Signals
    ) -> None:
        self._home, self._launch, self._config = home, launch, config
        self._supply, self._signals = supply, signals
        self._name = launch.vm.name
        self._booted: float | None = None
        self._stubborn = False

    def until_it_ends(self) -> NoReturn:
        """Live; ends by SystemExit or Broken."""
        while True:
            heard: list[Any] = [self._supply.control, self._signals.bell]  # sockets and descriptors
            ready, _, _ = select.select(heard, [], [], PERIOD)
            for number in self._signals.take():
                self._on_signal(number)
            if self._supply.control in ready:
                self._on_machine(self._supply.heard())
            if self._booted is not None:
                self._look_for_faults(time.monotonic() - self._booted)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGINT:
            print("Stopping VM...")
            self._stubborn = self._stubborn or bool(
                faults.take(self._home.root, "ignores_sigint", self._name)
            )
            if not self._stubborn:
                self._end()
        elif number == signal.SIGUSR1:
            self._suspend()
        else:
            print("Requesting guest OS to stop...")
            if self._config["os"] == "linux":
                self._end(POWERED_OFF)

    def _on_machine(self, told: bytes) -> None:
        if UP in told:
            self._booted = time.monotonic()
            lease(self._home, self._launch.vm, self._config["macAddress"])
        if OFF in told:
            self._end(POWERED_OFF)
        if not told:
            self._end(CRASHED)

    def _look_for_faults(self, age: float) -> None:
        kind = faults.due(faults.read(self._home.root), ENDINGS, self._name, age)
        if kind is None or faults.take(self._home.root, kind, self._name) is None:
            return
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "softnet_dies":
            self._cut()
            raise Broken(SOFTNET_DIED)
        self._end({"guest_powers_off": POWERED_OFF, "guest_crash": CRASHED}.get(kind, DISCONNECTED))

    def _cut(self) -> None:
        """Cut the power, which takes what is shared away from the guest too."""
        self._supply.cut()
        unmount(self._launch.vm.guest)

    def _suspend(self) -> NoReturn:
        vm = self._launch.vm
        if not self._launch.suspendable:
            text = f"suspend of {vm.name}, which was started without --suspendable, ends it"
            leaks.report(self._home.root, "unsuspendable", text)
        if not self._launch.suspendable or faults.take(self._home.root, "suspend_fails", self._name):
            self._cut()
            print(NOT_SUSPENDABLE)
            raise SystemExit(1)
        print("pausing VM to take a snapshot...")
        time.sleep(self._home.settings.suspend_seconds)
        print("creating a snapshot...")
        self._cut()
        snapshot.take(self._home, vm, self._config, self._launch.devices)
        self._end("snapshot created successfully! shutting down the VM...")

    def _end(self, line: str = "") -> NoReturn:
        self._cut()
        if line:
            print(line)
        raise SystemExit(0)
