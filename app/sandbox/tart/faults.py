"""What goes wrong on purpose: ``TART_HOME/faults.json``, which may change while VMs run.

    {"settings": {"boot_seconds": 0.05},
     "faults": [{"fault": "guest_crash", "vm": "mini-*", "count": 1, "seconds": 0.5}]}

A fault hits the VMs (or image, for pulls) whose name matches ``vm``, ``count`` times (without it: always), and is
counted down in the file itself, so what is left to happen can be read there. ``KINDS`` is the table of them.
Tests and the demo write it with :func:`write`.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from app.sandbox.tart.refusals import Failure

FILE = "faults.json"

KINDS = {
    # of `run`, taken once when the VM starts
    "agent_never_answers": "the guest boots and its agent never comes up",
    "boot_slow": "the guest takes `seconds` longer to boot",
    "start_keychain": "exit 1, VZErrorDomain Code=1: the login keychain is locked",
    "start_hostkey": "exit 1, VZErrorDomain Code=-9: the same on macOS 26",
    "start_aux_locked": "exit 1, VZErrorDomain Code=2: an orphan still owns the files",
    "start_host_outdated": "exit 1: the guest needs a newer macOS on the host",
    "start_unknown": "exit 1, with a text that nobody has seen before",
    "softnet_missing": "exit 1: softnet is not in PATH",
    "softnet_unprivileged": "exit 1: softnet ends at once, since it may not do its work",
    "restore_fails": "exit 1, VZErrorDomain Code=12, the snapshot stays",
    "restore_limit": "exit 1, the system limit, which is met once the snapshot is used up",
    "resume_silent": "the guest is resumed and its agent answers no more",
    "mac_taken": "a running VM has the same MAC: a new one, the snapshot is deleted, cold boot",
    "suspend_fails": "`Failed to suspend the VM` on stdout, exit 1, the VM is gone",
    "ignores_sigint": "only SIGKILL ends the VM",
    "limit_leaked": "one slot of the host's limit is taken by nobody",
    "slot_release_slow": "the VM's slot stays taken for `seconds` after its end",
    # of `run`, looked for all the time: end a VM `seconds` after it booted
    "guest_powers_off": "exit 0, the guest powered itself off",
    "guest_crash": "exit 0, `due to error`",
    "network_lost": "exit 0, the network attachment was disconnected",
    "softnet_dies": "exit 1, softnet terminated",
    "killed": "SIGKILL ends the process",
    # of the other commands
    "hang": "the command `verb` waits for `seconds` before it does anything",
    "list_fails": "exit 1, as when a VM vanishes during the scan",
    "list_garbage": "prints what is no JSON, exit 0",
    "list_partial": "leaves VMs out",
    "gc_noise": "a warning about garbage collection on stderr, nothing else",
    "clone_disk_full": "exit 1, not enough space",
    "clone_fails": "exit 1, with a text that nobody has seen before",
    "clone_unlockable": "exit 1, as when the garbage collection meets a new clone",
    "clone_slow": "copies for `seconds`, holding the global lock",
    "set_fails": "exit 1, with a text that nobody has seen before",
    "stop_fails": "exit 1: it may not signal the VM's process",
    "delete_fails": "exit 1, the directory could not be removed",
    "delete_leaves": "removes config.json alone, as when it is cut off",
    "pull_slow": "the download takes `seconds` longer",
    "pull_fails": "exit 1, the connection was lost",
    "pull_unauthorized": "exit 1, 401",
    "exec_unreachable": "blocks for `agent_timeout`, then exit 1: the control socket cannot be reached",
    "exec_dies": "the connection breaks `seconds` after the command began: exit 1",
    "exec_hangs": "never ends, whatever it is told but SIGKILL",
    "exec_garbage": "prints what nobody asked for, exit 0",
    "exec_floods": "prints without end",
    "lease_truncated": "`ip` meets a half-written leases file",
}

UNKNOWN_TEXT = 'Error Domain=VZErrorDomain Code=77 "Something happened that never happened before."'


class Settings(NamedTuple):
    """How the stand-in behaves when nothing goes wrong. Times are in seconds."""

    boot_seconds: float = 0.15
    resume_seconds: float = 0.05
    suspend_seconds: float = 0.05
    agent_timeout: float = 30.0
    version: str = "2.35.0"
    macos: int = 15
    vm_limit: int = 2
    slots: str = ""  # a directory that several TART_HOMEs share, for a limit that counts all of them
    registry: str = ""  # where `pull` pulls from; default: `registry` beside TART_HOME
    interfaces: tuple[str, ...] = ("en0",)


class Fault(NamedTuple):
    """One thing that goes wrong."""

    fault: str
    vm: str = "*"
    count: int | None = None  # type: ignore[assignment]  # the file's word hides the tuple's method
    seconds: float = 0.0
    verb: str = "*"


class Plan(NamedTuple):
    """The file's content."""

    settings: Settings
    faults: tuple[Fault, ...]


def read(home: Path) -> Plan:
    """Return what the file says; without a file all goes well. Raises Failure where it is wrong."""
    try:
        found = json.loads((home / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Plan(Settings(), ())
    except ValueError as error:
        raise Failure(f"{FILE} is not JSON: {error}") from error
    try:
        plan = Plan(Settings(**found.get("settings", {})), tuple(Fault(**f) for f in found.get("faults", ())))
    except (TypeError, AttributeError) as error:
        raise Failure(f"{FILE}: {error}") from error
    for fault in plan.faults:
        if fault.fault not in KINDS:
            raise Failure(f"{FILE}: there is no fault {fault.fault!r}: use one of {', '.join(KINDS)}")
    return plan


def write(home: Path, *faults: Fault, **settings: Any) -> None:
    """Replace the file. *settings* are fields of :class:`Settings`, which checks them."""
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home):
        _save(home, Plan(Settings(**settings), faults))


def take(home: Path, kind: str, name: str = "", *, verb: str = "") -> Fault | None:
    """Return the first fault of that kind that hits now, counting it down; None: all goes well."""
    if not _hits(read(home), kind, name, verb):
        return None
    with _alone(home):
        plan = read(home)
        hit = _hits(plan, kind, name, verb)
        if hit is not None and hit.count is not None:
            _save(home, Plan(plan.settings, tuple(_counted(fault, hit) for fault in plan.faults)))
        return hit


def due(plan: Plan, kinds: tuple[str, ...], name: str, age: float) -> str | None:
    """Return the kind of a fault among *kinds* that hits a VM that booted *age* seconds ago."""
    for kind in kinds:
        hit = _hits(plan, kind, name, "")
        if hit is not None and age >= hit.seconds:
            return kind
    return None


def _hits(plan: Plan, kind: str, name: str, verb: str) -> Fault | None:
    for fault in plan.faults:
        wanted = fault.fault == kind and fault.count != 0
        if wanted and fnmatchcase(name, fault.vm) and fnmatchcase(verb, fault.verb):
            return fault
    return None


def _counted(fault: Fault, hit: Fault) -> Fault:
    return fault._replace(count=hit.count - 1) if fault is hit and hit.count is not None else fault


def _save(home: Path, plan: Plan) -> None:
    content = {"settings": plan.settings._asdict(), "faults": [fault._asdict() for fault in plan.faults]}
    new = home / f"{FILE}.new"
    new.write_text(json.dumps(content, indent=1), encoding="utf-8")
    new.replace(home / FILE)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    descriptor = os.open(home / f"{FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
