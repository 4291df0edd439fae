"""Why a VM of Orchard's failed, read from its ``status_message``, and what the controller's refusals mean.

Orchard knows no success: a VM ends by "failing", with the exit code of its startup script in the message. The script
(``scripts/attend.sh``) ends with 100 and the runner's own code, so that a good end is told from a bad one.
docs/contracts/orchard.md §3.4, §5.1.
"""

from __future__ import annotations

import re

from app.vm.causes import IMAGE_MISSING, Cause

EXITED = re.compile(r"exited with status (\d{1,3})", re.IGNORECASE)
RUNNER_ENDED = 100  # and what run.sh ended with is added
TOO_OLD = 7  # run.sh ends with it when GitHub turns the runner's version away

UNREACHABLE = Cause(
    "orchard_unreachable",
    "the Orchard controller does not answer: is it running, and does orchard_url lead to it?",
    host_wide=True,
)
UNTRUSTED = Cause(
    "orchard_untrusted",
    "the controller's certificate is not the expected one: copy controller.crt from its data directory and set "
    'orchard_ca_path to it, with orchard_server_name = "orchard-controller" for the one it made itself',
    host_wide=True,
)
REFUSED = Cause(
    "orchard_refused",
    "the controller does not let us in: check orchard_account and orchard_token, and give the account the roles "
    "compute:read and compute:write",
    host_wide=True,
)
NOT_ORCHARD = Cause(
    "not_orchard",
    "what answers at orchard_url is no Orchard controller of a version that is known here: 0.51 is the oldest",
    host_wide=True,
)
CONTROLLER_TROUBLE = Cause(
    "orchard_trouble", "the controller failed: see its own log; it is tried again", host_wide=True
)
REJECTED = Cause(
    "vm_rejected",
    "the controller takes no such VM: look at the pool's image and its table [pool.orchard]",
)
UNPLACED = Cause(
    "unplaced",
    "no worker took the VM: see `orchard list workers`; one must be online and not paused, with the labels and the "
    "free resources that the pool's table [pool.orchard] asks for",
)
STALLED = Cause(
    "worker_stalled",
    "the worker does nothing about the VM that it was given: restart `orchard worker run` on it; a VM or an image there whose name "
    "begins with `orchard-` keeps it from working",
)
SLOW_IMAGE = Cause(
    "pull_timeout", "pull the image on the worker by hand, `tart pull IMAGE`, so that launches find it there"
)
EXEC_BROKEN = Cause(
    "exec_broken",
    "the connection into the guest broke off, as it does when a worker begins a new session with its controller; it "
    "is tried again",
)

DONE = Cause("runner_ended", "its runner has ended: nothing to mend")
OLD_RUNNER = Cause("runner_too_old", "GitHub turned the runner's version away: build or pull the image again")
NO_JIT = Cause("jit_never_came", "nobody handed the guest a job in time: nothing to mend, the next launch is")
NO_RUNNER = Cause(
    "supervisor_died",
    "what starts the runner ended without a word: see the kept log of the VM, and the image",
)
SCRIPT_CODES = {90: NO_JIT, 91: NO_RUNNER}

VM_LIMIT = Cause(
    "vm_limit",
    "the Mac runs two macOS VMs already: stop those that Orchard did not start, or give its worker fewer "
    "`--resources org.cirruslabs.tart-vms`",
)
LOST_TRACK = Cause(
    "worker_restarted", "the worker was started again, and stops what ran before: drain it first"
)
WORKER_LOST = Cause(
    "worker_lost",
    "the controller heard nothing of the worker for too long: see whether that Mac is up; a larger "
    "`--worker-offline-timeout` of the controller bears longer breaks",
)
UNKNOWN = Cause("vm_ended", "why is not known: see the worker's own log")

# A part of a failed VM's message, and what it means; the first that fits.
CAUSES: tuple[tuple[str, Cause], ...] = (
    ("number of virtual machines exceeds", VM_LIMIT),
    ("supported number of active virtual machines", VM_LIMIT),
    ("number of VMs exceeds", VM_LIMIT),
    ("lost track of VM", LOST_TRACK),
    ("lost connection with the controller", WORKER_LOST),
    ("worker that doesn't exist", WORKER_LOST),
    (
        "failed to establish SSH connection",
        Cause(
            "guest_unreachable",
            "the worker cannot reach its guest: give `orchard worker run` the Local Network permission, shorten the "
            "Mac's DHCP leases, and see that the image lets admin/admin in over SSH",
        ),
    ),
    (
        "without exit status or exit signal",
        Cause("guest_broke_off", "the guest, or its SSH server, went down under the runner"),
    ),
    (
        "failed to pull the VM",
        Cause("pull_failed", "look at the worker's network and the registry; it is tried again"),
    ),
    ("failed to clone the VM", IMAGE_MISSING),
    (
        "VM exited unexpectedly",
        Cause("guest_powered_off", "the guest powered itself off: look at what the image does at its start"),
    ),
    ("command failed", Cause("run_failed", "the worker's `tart run` failed: the text says why")),
)


def ending(message: str) -> Cause:
    """Return why a VM failed that has this message."""
    exited = EXITED.search(message)
    if exited is not None and int(exited[1]) >= RUNNER_ENDED:
        code = int(exited[1]) - RUNNER_ENDED
        return OLD_RUNNER if code == TOO_OLD else DONE
    if exited is not None:
        return SCRIPT_CODES.get(int(exited[1]), UNKNOWN.said(message))
    return next((cause for part, cause in CAUSES if part in message), UNKNOWN).said(message)
