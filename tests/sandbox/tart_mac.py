"""Drives the stand-in tart as a program does: commands as processes, VMs as processes with their output in files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from app.sandbox.image import install, make_image
from app.sandbox.tart import faults
from app.sandbox.tart.faults import Fault
from app.sandbox.tart.home import VM
from app.vm.locks import owner_of

Result = subprocess.CompletedProcess[str]
RUN = {"run.sh": ("#!/bin/sh\necho ran\n", 0o755)}
PATH = "/usr/bin:/bin"


class Mac:
    """One host, with its TART_HOME."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "tart"
        self.program = install(place / "bin")
        self.env = {"PATH": PATH, "TART_HOME": str(self.home), "TART_NO_AUTO_PRUNE": "1"}
        self.faults()
        make_image(self.home, "golden", RUN)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: list[subprocess.Popen[str]] = []

    def faults(self, *wanted: Fault, **settings: Any) -> None:
        """Say what goes wrong from now on; whatever else is quick."""
        quick = {"boot_seconds": 0.0, "resume_seconds": 0.0, "suspend_seconds": 0.0, "agent_timeout": 5.0}
        faults.write(self.home, *wanted, **(quick | settings))

    def tart(
        self,
        *arguments: str,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 15,
    ) -> Result:
        """Run a command to its end."""
        return subprocess.run(
            [self.program, *arguments],
            env=self.env | dict(env or {}),
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def good(self, *arguments: str, **options: Any) -> str:
        """Run a command that must succeed, and return what it printed."""
        result = self.tart(*arguments, **options)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and leave it running; it is ended with the Mac."""
        process = subprocess.Popen(
            [self.program, *arguments],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._commands.append(process)
        return process

    def launch(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        """Start ``tart run`` as a driver must."""
        with (self.place / f"{name}.log").open("ab") as log:
            process = self.processes[name] = subprocess.Popen(
                [self.program, "run", "--no-graphics", *flags, name],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return process

    def boot(self, name: str, *flags: str) -> subprocess.Popen[bytes]:
        """Start a VM, cloned from the golden image unless it is there, and wait until its guest answers."""
        if not self.vm(name).path.exists():
            self.good("clone", "golden", name)
        process = self.launch(name, *flags)
        self.until(lambda: owner_of(self.vm(name).path) == process.pid or process.poll() is not None)
        assert self.tart("exec", name, "true").returncode == 0, self.log(name)
        return process

    def end_of(self, name: str, seconds: float = 10) -> tuple[int, str]:
        """Wait for the end of ``tart run``, and return its exit code and all it printed."""
        return self.processes[name].wait(seconds), self.log(name)

    def vm(self, name: str) -> VM:
        """Return a VM's directory."""
        return VM(self.home / "vms" / name)

    def log(self, name: str) -> str:
        """Return what ``tart run`` printed."""
        return (self.place / f"{name}.log").read_text(encoding="utf-8")

    def listed(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Return ``tart list`` by name."""
        return {vm["Name"]: vm for vm in json.loads(self.good("list", "--format", "json", *arguments))}

    def state(self, name: str) -> str:
        """Return a VM's state as listed."""
        state: str = self.listed()[name]["State"]
        return state

    def suspended(self, name: str, *flags: str) -> None:
        """Make a suspended VM."""
        self.boot(name, "--suspendable", *flags)
        self.good("suspend", name)
        assert self.end_of(name)[0] == 0

    def mac_of(self, name: str) -> str:
        """Return a VM's MAC address."""
        address: str = self.vm(name).config()["macAddress"]
        return address

    def violations(self) -> list[str]:
        """Return the kinds of violations that were noted."""
        file = self.home / "violations.log"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [line.split()[2].rstrip(":") for line in lines]

    def until(self, condition: Callable[[], object], seconds: float = 5) -> None:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < end, "it did not come true in time"
            pause.wait(0.005)

    def shut_down(self) -> None:
        """End every command and every VM."""
        for command in self._commands:
            with suppress(ProcessLookupError):
                command.kill()
            command.communicate()
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def left_running(self) -> list[str]:
        """Return what still runs of this Mac after a second or two."""
        end = time.monotonic() + 2
        pause = threading.Event()
        while (left := self._ours()) and time.monotonic() < end:
            pause.wait(0.01)
        return left

    def _ours(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                inside = str(self.place) in " ".join(process.cmdline()) or process.cwd().startswith(
                    str(self.place)
                )
                inside = inside or process.environ().get("HOME", "").startswith(str(self.place))
                if inside and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {process.cmdline()}")
        return found
