"""``run``: the phases of docs/contracts/tart.md §3.2 in their order, up to a VM that lives.

This process is the VM: the lock on ``config.json`` says so, and all that happens until its end is in
:mod:`app.sandbox.tart.living`. From the moment the lock is taken nothing here may open that file again.
"""

from __future__ import annotations

import signal
import time

from app.sandbox.tart import faults, leaks, snapshot
from app.sandbox.tart.guest import grow_stale, mount
from app.sandbox.tart.home import VM, Config, Home, random_mac
from app.sandbox.tart.living import SOFTNET_DIED, Life, Signals
from app.sandbox.tart.locking import flocked, take_record
from app.sandbox.tart.power_supply import PowerSupply
from app.sandbox.tart.refusals import Absent, Broken, Failure
from app.sandbox.tart.run_options import Launch
from app.sandbox.tart.slots import LIMIT, take_slot

START_FAILURES = {
    "start_keychain": (
        'Error Domain=VZErrorDomain Code=1 "The virtual machine failed to start." UserInfo={NSLocalizedFailure='
        "Internal Virtualization error., NSLocalizedFailureReason=The virtual machine failed to start.}"
    ),
    "start_hostkey": (
        'Error Domain=VZErrorDomain Code=-9 "A security error occurred." UserInfo={NSLocalizedFailure='
        "A security error occurred., NSLocalizedFailureReason=Failed to create new HostKey.}"
    ),
    "start_aux_locked": (
        'Error Domain=VZErrorDomain Code=2 "Failed to lock auxiliary storage." UserInfo={NSLocalizedFailure='
        "Invalid virtual machine configuration., NSLocalizedFailureReason=Failed to lock auxiliary storage.}"
    ),
    "start_host_outdated": "error: host macOS version is outdated to run this virtual machine",
    "start_unknown": faults.UNKNOWN_TEXT,
    "softnet_unprivileged": SOFTNET_DIED,
}


def run(home: Home, arguments: list[str]) -> None:
    """Start a VM and be it until it stops."""
    launch = Launch(home, arguments)
    vm = launch.vm
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # lost until the lock is taken, as with tart
    with flocked(home.root):
        _resolve_collision(home, vm)
        launch.build(home)
        if launch.softnet and faults.take(home.root, "softnet_missing", vm.name):
            raise Failure('InitializationFailed(why: "softnet not found in PATH")')
        config = vm.config()
        if take_record(vm.config_file) is None:
            raise Absent(f'VM "{vm.name}" is already running!')
    signals = Signals()
    slot = take_slot(home, vm) if config["os"] == "darwin" else None
    for fault, text in START_FAILURES.items():
        if faults.take(home.root, fault, vm.name):
            raise Broken(text)
    resumed = _restore(home, launch, config)
    mount(vm.guest, launch.shares)
    supply = _power_on(home, vm, slot, resumed=resumed)
    Life(home, launch, config, supply, signals).until_it_ends()


def _resolve_collision(home: Home, vm: VM) -> None:
    """Give the VM another MAC where a running one has the same; its snapshot is of no use then."""
    config = vm.config()
    macs = [other.config()["macAddress"] for other in home.vms() if other.name != vm.name and other.owner]
    collides = config["macAddress"] in macs
    if collides and vm.snapshot.is_file():
        leaks.report(
            home.root, "mac-collision", f"a running VM has the MAC of {vm.name}: its snapshot is lost"
        )
    if collides or faults.take(home.root, "mac_taken", vm.name):
        print("There is already a running VM with the same MAC address!")
        print("Resetting VM to assign a new MAC address...")
        vm.configure({**config, "macAddress": random_mac()})
        vm.snapshot.unlink(missing_ok=True)


def _restore(home: Home, launch: Launch, config: Config) -> bool:
    """Resume from the snapshot, which serves once. False: there is none."""
    vm = launch.vm
    if not vm.snapshot.is_file():
        return False
    print("restoring VM state from a snapshot...")
    if faults.take(home.root, "restore_fails", vm.name):
        raise Broken(snapshot.UNUSABLE)
    snapshot.check(home, vm, config, launch.devices)
    time.sleep(home.settings.resume_seconds)
    vm.snapshot.unlink()
    if faults.take(home.root, "restore_limit", vm.name):
        raise Broken(LIMIT)
    grow_stale(vm.guest)
    print("resuming VM...")
    return True


def _power_on(home: Home, vm: VM, slot: int | None, *, resumed: bool) -> PowerSupply:
    settings = home.settings
    slow = faults.take(home.root, "boot_slow", vm.name)
    silent = faults.take(home.root, "resume_silent" if resumed else "agent_never_answers", vm.name)
    release = faults.take(home.root, "slot_release_slow", vm.name)
    return PowerSupply(
        vm.path,
        boot_seconds=(0.0 if resumed else settings.boot_seconds) + (slow.seconds if slow else 0.0),
        answers=silent is None,
        slot=slot if release else None,
        release_seconds=release.seconds if release else 0.0,
    )
