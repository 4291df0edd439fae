"""How a VM ended, read from what ``tart run`` printed: its exit code alone does not tell (docs/contracts/tart.md §3.5).

A table from text to cause. ``host_wide`` causes would have met any VM on this host, so they hold up all pools.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from app.vm.causes import DISK_FULL, SOFTNET_MISSING, Cause

TAIL = 65536  # bytes from the end of the log that are read
HEAD = 65536  # bytes from the beginning of a runner's output; its listener says little before a job
STARTED = re.compile(rb"^[0-9TZ:. -]{10,40}: Running job: ", re.MULTILINE)  # of the runner's listener
TURNED_AWAY = b"cidermill: run.sh ended with 7"  # of scripts/supervise.sh
RESUMED = "resuming VM..."
MAC_TAKEN = "Resetting VM to assign a new MAC address"
SUSPENDED = "snapshot created successfully"
NOISE = "Failed to perform garbage collection"  # printed by commands that succeed all the same
OURS = "[cidermill] "  # begins a line that we added
LONGEST = 10_000_000  # bytes; tart prints a line or two, so what is longer is noise

UNKNOWN = Cause(
    "vm_ended", "`tart run` ended and its log does not say why: try the image by hand with `tart run`"
)

# In this order: a crash also prints the text of a clean power-off, and quotes errors that at a start mean more.
CAUSES: tuple[tuple[str, Cause], ...] = (
    (
        "guest has stopped the virtual machine due to error",
        Cause(
            "guest_crashed",
            "the guest crashed, or the host's disk is full: look at the free space; if it comes again, at the image "
            "and the Mac's memory",
        ),
    ),
    (
        "network attachment",
        Cause(
            "network_lost",
            "the VM lost its network and was ended: look at whether the Mac changed networks or slept (`pmset -g log`)",
        ),
    ),
    (
        "The number of VMs exceeds the system limit",
        Cause(
            "vm_limit",
            "macOS refuses another VM: some other VM (of another user or program) takes a place: stop it; or one has "
            "leaked in the OS, which only a reboot of the Mac cures",
            host_wide=True,
        ),
    ),
    ("softnet not found in PATH", SOFTNET_MISSING),
    (
        "Softnet process terminated",
        Cause(
            "softnet_died",
            "softnet ended: if no VM starts, give it its privileges with `sudo chown root $(which softnet)` and "
            "`sudo chmod u+s $(which softnet)`, also after each upgrade of it; under a running VM, look for its "
            "crash report in Console",
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
        Cause(
            "orphan_process",
            "a VM process that nobody knows any more holds the VM's files: end a "
            "com.apple.Virtualization.VirtualMachine that no `tart run` belongs to, in Activity Monitor, or reboot",
        ),
    ),
    (
        "host macOS version is outdated",
        Cause(
            "host_outdated",
            "the image needs a newer macOS on this host: upgrade the Mac, or use another image",
        ),
    ),
    ("No space left on device", DISK_FULL),
    (
        "Failed to suspend the VM",
        Cause(
            "suspend_failed",
            'this Mac cannot suspend such a VM, which takes macOS 15: upgrade, or leave start = "snapshot" out',
        ),
    ),
    (
        "failed to restore",
        Cause(
            "restore_failed",
            "macOS could not restore the suspended VM: it is removed and another one is made; if that comes again, "
            'leave start = "snapshot" out',
        ),
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
        "is already running!",
        Cause("double_start", "another process runs a VM of this name: find it with `pgrep -fl 'tart run'`"),
    ),
    (
        "does not exist",
        Cause("vm_vanished", "someone deleted the VM while it was made: nothing to mend"),
    ),
    (SUSPENDED, Cause("suspended", "someone suspended the VM: it is removed")),
    (
        "guest has stopped the virtual machine",
        Cause("guest_powered_off", "the guest powered itself off: look at what the image does at its start"),
    ),
    (
        "Stopping VM...",
        Cause("stopped", "someone stopped the VM from outside, as with `tart stop`: nothing to mend"),
    ),
    (
        f"{OURS}`tart run` was ended by",
        Cause(
            "vm_killed",
            "a signal ended `tart run`: someone killed it, macOS ran out of memory, or tart crashed, which leaves a "
            "crash report in Console",
        ),
    ),
)


def says(log: Path, text: str) -> bool:
    """Whether the VM's process has printed *text*."""
    try:
        return text in log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def cause_of(log: Path) -> Cause:
    """Return why the VM whose output is in *log* ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return UNKNOWN.said(f"no log: {error.strerror}")
    for marker, cause in CAUSES:
        line = next((line for line in text.splitlines() if marker in line), None)
        if line is not None:
            return cause.said(line)
    return UNKNOWN.said(_last_words(text))


def _last_words(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith((NOISE, OURS))]
    errors = [line for line in lines if line.lower().startswith("error")]
    ours = [line for line in text.splitlines() if line.startswith(OURS)]
    return next(iter(errors or lines[-1:] or ours[-1:]), "")


def turned_away(runner_log: Path) -> bool:
    """Whether the runner whose output is in *runner_log* ended because GitHub takes its version no longer.

    The supervisor's own line is the last. Whatever ran in the guest may have written it too, so it only explains why a
    runner ended that never had a job (docs/contracts/github.md §6.2).
    """
    try:
        with runner_log.open("rb") as file:
            file.seek(max(0, runner_log.stat().st_size - len(TURNED_AWAY) - 2))
            return file.read().splitlines()[-1:] == [TURNED_AWAY]
    except OSError:
        return False


def worked(runner_log: Path) -> bool:
    """Whether the runner whose output is in *runner_log* began a job (docs/contracts/github.md §6.3).

    Whatever ran in the guest may have written it too, so it only spares the next launch a wait: an image whose runner
    ends by itself says nothing of the kind.
    """
    try:
        with runner_log.open("rb") as file:
            return STARTED.search(file.read(HEAD)) is not None
    except OSError:
        return False


def note_exit(log: Path, code: int) -> None:
    """Add to a log how ``tart run`` ended, where its exit code says more than that all was well."""
    if code:
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            file.write(f"{OURS}`tart run` {how}\n")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def cut(log: Path) -> None:
    """Empty a log that became too long; whoever appends to it goes on from its new beginning."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LONGEST:
            os.truncate(log, 0)
