"""One runner with what the rules may know of the rest, and what follows from that at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.jobs import JobStatus
from app.domain.line import Unit
from app.domain.pools import Target
from app.domain.runners import Runner
from app.domain.world import GuestLook, VMState, World


@dataclass(frozen=True, slots=True)
class Case:
    """One runner, and what the rules may know of the rest."""

    runner: Runner
    world: World
    now: datetime
    unit: Unit | None = None
    pressed: bool = False  # a job that this runner cannot serve waits for a slot that it may have to give
    kept: bool = False  # warm, for the next job of its pool
    leaving: str | None = None  # why it goes although nothing is wrong with it
    asking: Target | None = None  # where GitHub may be asked for the runner that it expects

    @property
    def age(self) -> timedelta:
        """How long it has been in its state."""
        return self.now - self.runner.since

    @property
    def overdue(self) -> bool:
        """Whether its state has lasted too long."""
        deadline = self.runner.deadline()
        return deadline is not None and self.now >= deadline

    @property
    def ending(self) -> str | None:
        """Return how its VM ended; None: it runs, or nobody has looked since the last transition."""
        told = self.world.ended.get(self.runner.name)
        look = self.world.host
        if told is not None or look is None or look.at <= self.runner.since:
            return told
        vm = next((vm for vm in look.vms if vm.name == self.runner.name), None)
        if vm is None:
            return "vm_vanished"
        return None if vm.state is VMState.RUNNING else vm.ending or "vm_ended"

    @property
    def is_up(self) -> bool:
        """Whether the host lists its VM as running."""
        vms = self.world.host.vms if self.world.host else ()
        return any(vm.name == self.runner.name and vm.state is VMState.RUNNING for vm in vms)

    @property
    def guest(self) -> GuestLook | None:
        """What the guest said since the last transition."""
        look = self.world.guests.get(self.runner.name)
        return look if look and look.at > self.runner.since else None

    @property
    def is_held(self) -> bool:
        """Whether an operator keeps its VM for debugging."""
        return self.runner.is_held(self.now)

    @property
    def job_over(self) -> timedelta | None:
        """How long ago GitHub called its job completed; None: it has not, or knows no job of it."""
        job = self.world.work.get(self.runner.name)
        if job is None or job.status is not JobStatus.COMPLETED:
            return None
        return self.now - (job.completed_at or self.now)

    @property
    def is_unwanted(self) -> str | None:
        """Why nothing more should come of a runner without a job: draining, a changed pool, an operator."""
        if self.runner.stop:
            return "stopped_by_operator"
        if self.world.draining:
            return "draining"
        if self.world.pool(self.runner.pool) != self.runner.spec:
            return "pool_changed"
        return None
