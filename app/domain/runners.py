"""A runner's life: its states, what may follow what, and how long each may last.

Everything that affects the life of a runner is in this file, as much as possible in the tables. A runner is
*our* record of one attempt: a slot, a VM and a registration under one name. An illegal transition raises and
changes nothing. The slot is held until *gone*, and *why* it ended is ``reason``, not another state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from app.domain.pools import Pool, Start, Target


class RunnerState(StrEnum):
    """Where a runner stands; docs/architecture.md has the picture drawn from TRANSITIONS."""

    CLAIMED = "claimed"  # a slot is held; nothing exists outside
    BOOTING = "booting"  # the VM is being cloned, configured, started
    READY = "ready"  # the guest answers; no GitHub identity yet
    REGISTERED = "registered"  # a JIT config is minted and being, or has been, delivered
    IDLE = "idle"  # online, no job
    BUSY = "busy"  # runs a job
    STOPPING = "stopping"  # being torn down
    GONE = "gone"  # the VM is confirmed absent


S = RunnerState

TRANSITIONS: dict[RunnerState, frozenset[RunnerState]] = {
    S.CLAIMED: frozenset(
        {
            S.BOOTING,  # the launch task starts
            S.STOPPING,  # its demand went away first
        }
    ),
    S.BOOTING: frozenset(
        {
            S.READY,  # the guest answers
            S.STOPPING,  # it never answered, or is not wanted any more
        }
    ),
    S.READY: frozenset(
        {
            S.REGISTERED,  # a job needs it: the JIT config is about to be minted
            S.STOPPING,  # surplus, or unwanted
        }
    ),
    S.REGISTERED: frozenset(
        {
            S.IDLE,  # GitHub lists it online
            S.BUSY,  # learnt late: it has a job already
            S.READY,  # nothing was registered, or its JIT config was lost and GitHub removed the registration
            S.STOPPING,  # never came online, mint or delivery failed, VM ended
        }
    ),
    S.IDLE: frozenset(
        {
            S.BUSY,  # a job arrived
            S.STOPPING,  # GitHub agreed to remove it, or the VM ended
        }
    ),
    S.BUSY: frozenset(
        {
            S.STOPPING,  # the VM ended, the job is over, or its time is up
        }
    ),
    S.STOPPING: frozenset(
        {
            S.GONE,  # the VM is confirmed absent
        }
    ),
    S.GONE: frozenset(),
}

LIVE = frozenset(S) - {S.GONE}  # holds a slot
COMING = frozenset({S.CLAIMED, S.BOOTING, S.READY})  # belongs to a pool only: no target, no identity
WAITING = frozenset({S.REGISTERED, S.IDLE})  # registered at its target, no job yet
AT_GITHUB = WAITING | {S.BUSY}  # GitHub must agree before it may be destroyed

LONGEST_HOLD = timedelta(hours=24)  # a slot that somebody forgot comes back by itself

DEADLINES: dict[RunnerState, timedelta | str | None] = {
    S.CLAIMED: timedelta(seconds=30),  # the launch starts in the next pass
    S.BOOTING: "boot_timeout",  # the pool's
    S.READY: timedelta(seconds=60),  # counts only while no job needs it
    S.REGISTERED: timedelta(minutes=3),  # session conflicts resolve within 4; a fresh VM is quicker
    S.IDLE: "idle_timeout",  # the pool's
    S.BUSY: "job_timeout",  # the pool's
    S.STOPPING: None,  # it retries, and is shown: giving up would free a slot that is not free
}


class Purpose(StrEnum):
    """What a slot is held for."""

    JOBS = "jobs"
    PULL = "pull"  # having a host of a fleet fetch an image, in a VM that runs no job either
    GOLDEN = "golden"  # making a suspended VM whose clones launches resume: as BASE, no runner ever
    BASE = "base"  # preparing the base that launches from an image clone: never registered, supply of no job


class StopRequest(StrEnum):
    """An operator's wish to end a runner."""

    ASK = "ask"  # unless it works
    FORCE = "force"  # whatever it does


class NotHoldable(ValueError):
    """A runner in this state has no VM that is worth keeping."""


class InvalidTransition(ValueError):
    """A state change that the table does not allow; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """One attempt. ``spec`` is the pool as it was at the launch, so a reload never changes a runner in flight."""

    name: str
    slot: str
    spec: Pool
    state: RunnerState
    since: datetime  # when the state was entered
    created_at: datetime
    reason: str = ""  # of the last transition
    target: Target | None = None
    registration_id: int | None = None
    delivered: bool = False  # the guest confirmed that it took the JIT config
    deregistered: bool = False  # GitHub confirmed that the registration is gone, or never was
    job_id: int | None = None
    stop: StopRequest | None = None
    image: str | None = None  # what the VM was cloned from, as exactly as the backend knows
    runner_version: str | None = None
    source: str | None = None  # what tells whether launches clone something else by now
    held_until: datetime | None = None  # an operator keeps its VM for debugging until then
    guest_held_until: datetime | None = None  # what the guest was last told of that
    purpose: Purpose = Purpose.JOBS
    cloned_at: datetime | None = None  # the VM was there, and its boot began
    minted_at: datetime | None = None  # GitHub gave the JIT config
    delivered_at: datetime | None = None  # the guest confirmed it
    listening_at: datetime | None = None  # the runner's own output said that it waits for a job
    start: Start = Start.COLD  # how its VM came up

    @property
    def pool(self) -> str:
        """The name of the pool it was launched for."""
        return self.spec.name

    @property
    def serves_jobs(self) -> bool:
        """Whether a job may ever run on it."""
        return self.purpose is Purpose.JOBS

    @property
    def is_live(self) -> bool:
        """Whether it holds its slot."""
        return self.state in LIVE

    @property
    def is_owed(self) -> bool:
        """Whether GitHub may still list a registration of a runner that is gone."""
        return self.state is S.GONE and self.target is not None and not self.deregistered

    def is_held(self, now: datetime) -> bool:
        """Whether an operator keeps its VM; a later wish to stop it ends that."""
        return self.held_until is not None and now < self.held_until and self.stop is None

    def deadline(self) -> datetime | None:
        """Return when its present state has lasted too long, or None where it has no limit."""
        limit = DEADLINES.get(self.state)
        if isinstance(limit, str):
            limit = getattr(self.spec, limit)
        return None if limit is None else self.since + limit


def advance(runner: Runner, to: RunnerState, *, at: datetime, reason: str, **changes: Any) -> Runner:
    """Return *runner* in state *to* since *at*, with other *changes* of its fields, or raise InvalidTransition."""
    if to not in TRANSITIONS[runner.state]:
        msg = f"{runner.name}: {runner.state} cannot become {to}"
        raise InvalidTransition(msg)
    return replace(runner, state=to, since=at, reason=reason, **changes)


def hold(runner: Runner, span: timedelta, *, now: datetime) -> Runner:
    """Return *runner* kept for *span* from now on, but no longer than a job may take. Raises NotHoldable."""
    if runner.state not in AT_GITHUB or runner.stop is not None:
        msg = f"{runner.name} is {'about to stop' if runner.stop else runner.state}"
        raise NotHoldable(msg)
    until = now + min(span, LONGEST_HOLD)
    deadline = runner.deadline()
    if runner.state is S.BUSY and deadline is not None:
        until = min(until, deadline)
    return replace(runner, held_until=until)
