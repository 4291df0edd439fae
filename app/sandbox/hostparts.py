"""What the model of a host is made of: its VMs, and what goes wrong on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.domain.world import VMState
from app.ports import JitConfig, VMError


@dataclass(slots=True)
class ModelVM:
    """One VM of the model."""

    name: str
    state: VMState = VMState.STOPPED
    ready: bool = False
    jit: JitConfig | None = None
    runner_alive: bool = False
    worker_alive: bool = False
    exit_code: int | None = None
    ending: str | None = None
    held_until: float = 0.0  # by the event loop's time


@dataclass(slots=True)
class HostFaults:
    """What goes wrong, on purpose: each entry is used up by one call of that verb, first in first out."""

    look: list[VMError] = field(default_factory=list)
    prepare: list[VMError] = field(default_factory=list)
    make_base: list[VMError] = field(default_factory=list)
    fetch: list[VMError] = field(default_factory=list)
    drop_base: list[VMError] = field(default_factory=list)
    make_golden: list[VMError] = field(default_factory=list)
    drop_golden: list[VMError] = field(default_factory=list)
    resume: list[VMError] = field(default_factory=list)  # of a clone of a golden, after which it boots
    start: list[VMError] = field(default_factory=list)
    deliver: list[VMError] = field(default_factory=list)
    deliver_lost: list[VMError] = field(default_factory=list)  # it arrived, and its answer did not
    probe: list[VMError] = field(default_factory=list)
    hold: list[VMError] = field(default_factory=list)
    delete: list[VMError] = field(default_factory=list)
