"""``stop`` and ``suspend``: both only signal the process that holds the VM's lock (docs/contracts/tart.md §1.7, §1.8)."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from app.sandbox.tart import faults
from app.sandbox.tart.home import VM, Home
from app.sandbox.tart.options import Spec, parse
from app.sandbox.tart.refusals import Absent, Refusal, not_running

STOP = Spec("stop", ("name",), values=("--timeout",), short=(("-t", "--timeout"),))
SUSPEND = Spec("suspend", ("name",))
PERIOD = 0.1
DEFAULT_SECONDS = 30


def stop(home: Home, arguments: list[str]) -> None:
    """Cut a VM's power: SIGINT, then SIGKILL after the time-out, whose effect is not waited for."""
    options = parse(STOP, arguments)
    seconds = options.number("--timeout")
    vm = home.vm(options.names[0])
    state = vm.state
    if state == "suspended":
        vm.snapshot.unlink(missing_ok=True)
    elif state == "stopped":
        raise not_running(vm.name)
    elif faults.take(home.root, "stop_fails", vm.name):
        raise _forbidden(vm)
    else:
        _end(vm, DEFAULT_SECONDS if seconds is None else seconds)


def _end(vm: VM, seconds: int) -> None:
    owner = vm.owner
    end = time.monotonic() + seconds
    if owner and seconds > 0:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(owner, signal.SIGINT)
    while owner and time.monotonic() < end:
        time.sleep(PERIOD)
        owner = vm.owner if vm.config_file.is_file() else 0
    if not owner:
        return
    try:
        os.kill(owner, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise _forbidden(vm) from error


def _forbidden(vm: VM) -> Refusal:
    return Refusal(f'failed to forcefully terminate the VM "{vm.name}": Operation not permitted')


def suspend(home: Home, arguments: list[str]) -> None:
    """Ask a VM to suspend itself, and return before it has begun."""
    vm = home.vm(parse(SUSPEND, arguments).names[0])
    owner = vm.owner
    if not owner:
        raise Absent(f'VM "{not_running(vm.name)}" is not running')
    os.kill(owner, signal.SIGUSR1)
