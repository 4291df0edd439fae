"""How a VM ended, read from what ``tart run`` printed: its exit code alone does not tell (docs/contracts/tart.md §3.5).

A table from text to cause. ``host_wide`` causes would have met any VM on this host, so they hold up all pools.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

TAIL = 65536  # bytes from the end of the log that are read
NOISE = "Failed to perform garbage collection"  # printed by commands that succeed all the same


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a VM ended: a short code, a sentence with the mend, and whether the host is to blame."""

    code: str
    detail: str
    host_wide: bool = False


UNKNOWN = Cause("vm_ended", "`tart run` ended and its log does not say why")

# In this order: a crash also prints the text of a clean power-off, and quotes errors that at a start mean more.
CAUSES: tuple[tuple[str, Cause], ...] = (
    (
        "guest has stopped the virtual machine due to error",
        Cause("guest_crashed", "the guest crashed, or the host's disk is full"),
    ),
    ("network attachment", Cause("network_lost", "the VM lost its network and was ended")),
    (
        "The number of VMs exceeds the system limit",
        Cause(
            "vm_limit",
            "macOS refuses another VM: some other VM (of another user or program) takes a place, or one has "
            "leaked in the OS, which only a reboot of the Mac cures",
            host_wide=True,
        ),
    ),
    (
        "softnet not found in PATH",
        Cause(
            "softnet_missing",
            'softnet is not installed: `brew install openai/tools/softnet`, or set network = "nat"',
            host_wide=True,
        ),
    ),
    (
        "Softnet process terminated",
        Cause(
            "softnet_died",
            "softnet ended: give it its privileges once with `sudo chmod u+s $(which softnet)` and "
            "`sudo chown root $(which softnet)`",
            host_wide=True,
        ),
    ),
    (
        "no bridge interfaces matched",
        Cause(
            "bridge_missing",
            'the pool\'s network = "bridged:…" names no interface of this Mac: `networksetup '
            "-listallhardwareports` lists them",
        ),
    ),
    (
        "Failed to lock auxiliary storage",
        Cause("orphan_process", "an older VM process still holds the VM's files"),
    ),
    (
        "host macOS version is outdated",
        Cause("host_outdated", "the image needs a newer macOS on this host"),
    ),
    (
        "failed to restore",
        Cause("restore_failed", "the VM's snapshot could not be restored"),
    ),
    (
        "VZErrorDomain Code=1 ",
        Cause(
            "host_locked",
            "macOS would not start the VM: log in on the Mac's own screen and unlock the login keychain",
            host_wide=True,
        ),
    ),
    (
        "VZErrorDomain Code=-9 ",
        Cause(
            "host_locked",
            "macOS could not make the VM's keys: log in on the Mac's own screen and unlock the login keychain",
            host_wide=True,
        ),
    ),
    (
        "No space left on device",
        Cause("disk_full", "the host's disk is full", host_wide=True),
    ),
    ("is already running!", Cause("double_start", "another process runs a VM of this name")),
    ("snapshot created successfully", Cause("suspended", "the VM was suspended")),
    ("guest has stopped the virtual machine", Cause("guest_powered_off", "the guest powered itself off")),
    ("Stopping VM...", Cause("stopped", "the VM was stopped from outside")),
)


def cause_of(log: Path) -> Cause:
    """Return why the VM whose output is in *log* ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return UNKNOWN
    known = next((cause for marker, cause in CAUSES if marker in text), None)
    return known or _unknown(text)


def _unknown(text: str) -> Cause:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(NOISE)]
    errors = [line for line in lines if line.startswith("Error")]
    said = next(iter(errors or lines[-1:]), None)
    return replace(UNKNOWN, detail=f"`tart run` said: {said[:300]}") if said else UNKNOWN
