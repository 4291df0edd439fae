"""How long each step may take; what takes longer has failed, and whatever was started for it is ended.

Spans of the event loop's clock, which on a Mac stands still while the Mac sleeps, as its VMs do: a boot during which
the Mac slept for a night goes on in the morning with the seconds it had left.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds."""

    quick: float = 30.0  # a command that reads, or changes little
    clone: float = 120.0  # a copy-on-write clone takes 0.1 s, one across volumes copies everything
    pull: float = 3 * 3600.0
    probe: float = 10.0  # one try to reach a guest; tart itself sets no limit
    set_up: float = 60.0
    deliver: float = 30.0
    install: float = 600.0  # the runner into a guest: some 200 MB are copied and unpacked
    script: float = 3600.0  # the operator's own
    finish: float = 300.0  # the runner's warm-up, and tidying
    shut_down: float = 120.0  # from within; macOS asks its programs first
    settle: float = 30.0  # for what a guest does after its boot, before it is suspended
    suspend: float = 120.0  # its memory is written to the disk
    restore: float = 60.0  # and read again
    resumed: float = 20.0  # until a guest that was resumed answers; it need not start anything
    break_off: float = 1.0  # for a VM's end to be known after its guest has broken off
    stop: int = 5  # for tart to end a VM, then it kills
    lost: float = 30.0  # until a process that does not stop is killed; twice that, and it is given up for now
    delete: float = 300.0  # all of a VM's removal
