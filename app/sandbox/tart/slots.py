"""Apple's limit of two running macOS VMs: a lock a slot, held by the VM's process, so that the kernel frees it.

The directory of slots can be one for several ``TART_HOME``s, since the limit is the host's (docs/contracts/tart.md §3.7).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.sandbox.tart import faults
from app.sandbox.tart.home import VM, Home
from app.sandbox.tart.refusals import Broken

LIMIT = "The number of VMs exceeds the system limit"


def take_slot(home: Home, vm: VM) -> int:
    """Take a place for a macOS VM until this process ends. Raises Broken where all are taken."""
    settings = home.settings
    leaked = 1 if faults.take(home.root, "limit_leaked", vm.name) else 0
    directory = Path(settings.slots or home.root / "slots")
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(settings.vm_limit - leaked):
        descriptor = os.open(directory / str(number), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return descriptor
    # Our own configuration must not be opened now: closing it would give our lock up.
    others = [other.name for other in home.vms() if other.name != vm.name and other.owner]
    hint = f" (other running VMs: {', '.join(others)})" if others else ""
    raise Broken(f"{LIMIT}{hint}")
