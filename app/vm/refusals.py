"""How a ``tart`` command failed, read from what it printed (docs/contracts/tart.md §1).

Three tables: what a text means, what a failure means that no text explains, and what it means that a command took
too long. ``tart run`` has a table of its own, in :mod:`app.vm.runlog`.
"""

from __future__ import annotations

from app.ports import VMError
from app.vm.causes import DISK_FULL, GUEST_SILENT, HOST_EXHAUSTED, IMAGE_MISSING, Cause
from app.vm.process import Result
from app.vm.runlog import NOISE

# Sub-command ("": any), a part of its text, what it means; the first that fits.
TEXTS: tuple[tuple[str, str, Cause], ...] = (
    ("", "enough space", DISK_FULL),
    ("", "No space left", DISK_FULL),
    ("", "Too many open files", HOST_EXHAUSTED),
    (
        "",
        "TART_HOME is invalid",
        Cause(
            "tart_home_lost",
            "the directory of tart's VMs is not there and cannot be made: mount its volume, or set tart_home",
            host_wide=True,
        ),
    ),
    (
        "",
        "in the correct format",
        Cause(
            "vm_broken",
            "a VM on this Mac has a damaged config.json, which fails every clone: find it with `plutil -lint "
            "~/.tart/vms/*/config.json` and remove its directory",
            host_wide=True,
        ),
    ),
    ("clone", "does not exist", IMAGE_MISSING),
    (
        "clone",
        "is missing some of its files",
        Cause(
            "image_broken", "the image lacks a file: delete it with `tart delete`, and build or pull it again"
        ),
    ),
    (
        "set",
        "does not exist",
        Cause("vm_vanished", "someone deleted the VM while it was made: nothing to mend"),
    ),
    (
        "set",
        "new disk size",
        Cause(
            "disk_too_small", "the pool's disk_gb is less than the image's disk: raise it, or leave it out"
        ),
    ),
    (
        "set",
        "LessThanMinimalResources",
        Cause(
            "resources_too_small",
            "the pool's cpu or memory_mib is less than the image asks for: raise it, or leave it out",
        ),
    ),
    (
        "pull",
        "AuthFailed",
        Cause(
            "pull_refused",
            "the registry does not let us in: set TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD in the launch "
            "agent, or `tart login`",
        ),
    ),
    ("pull", "code: 404", Cause("image_unknown", "the registry has no such image: check the pool's image")),
)

FAILED = {
    "list": Cause(
        "list_failed", "try `tart list` by hand: often one VM on this Mac is broken", host_wide=True
    ),
    "clone": Cause("clone_failed", "try the same by hand: `tart clone IMAGE test`"),
    "set": Cause("set_failed", "look at the pool's cpu, memory_mib and disk_gb"),
    "stop": Cause("stop_failed", "its process is ended without tart"),
    "delete": Cause("delete_failed", "it is tried again: look at the VM's directory below TART_HOME/vms"),
    "suspend": Cause("suspend_failed", "look at the log of the VM's process, and at `tart --version`"),
    "--version": Cause("version_unknown", "try `tart --version` by hand", host_wide=True),
    "rename": Cause("rename_failed", "look at TART_HOME/vms: what is there, and may we change it"),
    "pull": Cause("pull_failed", "look at the network and the registry; it is tried again"),
    "fqn": Cause("fqn_failed", "pull the image by hand: `tart pull IMAGE`"),
}
LATE = {
    "list": Cause(
        "list_timeout", "try `tart list` by hand: TART_HOME's volume may be asleep or gone", host_wide=True
    ),
    "clone": Cause(
        "clone_timeout",
        "another tart command may hold tart's lock, or the image is on another volume than TART_HOME/vms, which "
        "makes a clone a full copy: keep both on one volume",
        host_wide=True,
    ),
    "set": Cause("set_timeout", "look at the load of the Mac and the disk of TART_HOME", host_wide=True),
    "stop": Cause("stop_timeout", "its process is ended without tart"),
    "delete": Cause(
        "delete_timeout", "it is tried again: look at the load of the Mac and the disk of TART_HOME"
    ),
    "suspend": Cause("suspend_timeout", "look at the load of the Mac and the disk of TART_HOME"),
    "--version": Cause("version_unknown", "try `tart --version` by hand", host_wide=True),
    "rename": Cause(
        "rename_timeout", "look at the load of the Mac and the disk of TART_HOME", host_wide=True
    ),
    "pull": Cause("pull_timeout", "pull the image by hand: `tart pull IMAGE`"),
    "fqn": Cause("fqn_timeout", "look at the load of the Mac and the disk of TART_HOME", host_wide=True),
    "exec": GUEST_SILENT,
}


def refusal(verb: str, result: Result) -> VMError:
    """Say what it means that ``tart VERB`` ended as it did."""
    lines = [line for line in result.err.splitlines() if line.strip() and not line.startswith(NOISE)]
    said = lines[0] if lines else f"exit code {result.code}"
    cause = next(
        (cause for of, text, cause in TEXTS if of in {"", verb} and text in result.err), FAILED[verb]
    ).said(said)
    return VMError(f"`tart {verb}` failed: {cause.detail}", reason=cause.code, host_wide=cause.host_wide)
