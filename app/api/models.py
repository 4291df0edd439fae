"""The JSON of the admin API. Times are RFC 3339 in UTC."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.db.rows import Transition
from app.domain.jobs import Job, JobStatus
from app.domain.pools import Pool
from app.domain.runners import LONGEST_HOLD, Purpose, Runner, RunnerState
from app.domain.world import Cooldown, HostState


class Out(BaseModel):
    """A read-only answer."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class JobOut(Out):
    """A job as GitHub last told us."""

    id: int
    run_id: int
    run_attempt: int
    name: str
    workflow: str | None
    repository: str
    labels: list[str]
    status: JobStatus
    conclusion: str | None
    pool: str | None
    runner: str | None
    url: str
    queued_at: datetime
    received_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> JobOut:
        """Show *job*."""
        return cls.model_validate(job)


class JobPage(Out):
    """Jobs, newest first."""

    items: list[JobOut]
    next_cursor: str | None


class Stage(Out):
    """A step of a job's way, and when it was reached."""

    name: str
    at: datetime
    detail: str = ""


class JobDetail(JobOut):
    """A job with its way so far and why it stands where it does."""

    stages: list[Stage]
    # How its runner was started, as seen by the job: cold, snapshot or warm; None: it has none of ours yet.
    start: str | None
    explanation: str


class SlotOut(Out):
    """A place for one VM."""

    slot: str
    state: str  # "free", or the state of the runner that holds it
    preparing: str | None  # the image whose base is prepared in it; None: it is a runner's, or free
    pulling: str | None  # the image that its Mac fetches
    runner: str | None
    pool: str | None
    since: datetime | None
    held_until: datetime | None  # an operator keeps its VM for debugging until then
    closed: str | None  # why nothing new starts on its Mac


class HostOut(Out):
    """One Mac; an empty name: the one that CiderMill runs on."""

    host: str
    state: HostState
    closed: str | None  # why nothing new starts there
    slots: int
    used: int  # of them, by something of ours
    images: list[str]  # of those that pools name, the ones it has had
    pulling: str | None  # the image that it fetches now, ahead of jobs
    seen_at: datetime | None  # when it was last heard of; None: never, or CiderMill runs on it


class RunnerOut(Out):
    """One attempt: a slot, a VM and a registration under one name."""

    name: str
    pool: str
    purpose: Purpose  # jobs, or the base of its pool's image
    slot: str
    state: RunnerState
    since: datetime
    created_at: datetime
    reason: str
    target: str | None
    job_id: int | None
    image: str | None
    runner_version: str | None
    stop_requested: str | None
    held_until: datetime | None  # an operator keeps its VM for debugging until then
    guest_held_until: datetime | None  # what the guest has taken note of

    @classmethod
    def of(cls, runner: Runner) -> RunnerOut:
        """Show *runner*."""
        return cls(**_runner_fields(runner))


class HoldIn(BaseModel):
    """How long to keep a VM for debugging."""

    model_config = ConfigDict(extra="forbid")

    minutes: int = Field(ge=1, le=LONGEST_HOLD // timedelta(minutes=1))


class TransitionOut(Out):
    """A change of a runner's state."""

    from_state: RunnerState | None
    to_state: RunnerState
    at: datetime
    reason: str


class RunnerDetail(RunnerOut):
    """A runner with its history, oldest transition first."""

    history: list[TransitionOut]

    @classmethod
    def with_history(cls, runner: Runner, history: list[Transition]) -> RunnerDetail:
        """Show *runner* and how it came to where it is."""
        rows = [TransitionOut.model_validate(transition) for transition in history]
        return cls(**_runner_fields(runner), history=rows)


class CooldownOut(Out):
    """Failures that hold something up, and when it is tried again."""

    scope: str
    reason: str
    detail: str
    failures: int
    until: datetime

    @classmethod
    def of(cls, cooldown: Cooldown) -> CooldownOut:
        """Show *cooldown*."""
        return cls.model_validate(cooldown)


class PoolOut(Out):
    """A pool's configuration in force, with its demand, supply and health."""

    name: str
    labels: list[str]
    image: str
    repositories: list[str]
    scope: str
    runner_group: str | None
    forks: str
    cpu: int | None
    memory_mib: int | None
    disk_gb: int | None
    max_runners: int | None
    max_per_repository: int | None
    priority: int
    min_ready: int
    network: str
    boot_timeout: float  # s
    idle_timeout: float  # s
    job_timeout: float  # s
    image_ready: bool
    demand: int
    runners: dict[str, int]
    held_up: str | None

    @classmethod
    def of(cls, pool: Pool, **now: Any) -> PoolOut:
        """Show *pool*, with what is true of it *now*."""
        names = {name for name in cls.model_fields if hasattr(pool, name)}
        values: dict[str, Any] = {name: getattr(pool, name) for name in names}
        values["labels"] = list(pool.runner_labels)
        for name in ("boot_timeout", "idle_timeout", "job_timeout"):
            values[name] = values[name].total_seconds()
        return cls(**values, **now)


class StatusOut(Out):
    """The state of the whole, on one page."""

    version: str
    started_at: datetime
    uptime: float  # s
    draining: bool
    looked_at: datetime | None  # when the Macs were last looked at; None: not since the start
    look_failed: str | None  # why the last look at them failed
    slots: int | None  # None: not known before the first look
    slots_used: int
    held: int  # of the slots in use, those that an operator holds for debugging
    queued: int
    in_progress: int
    oldest_unserved: datetime | None
    cooldowns: list[CooldownOut]
    quota: dict[str, dict[str, int | str]]
    warnings: list[str]


class HealthOut(Out):
    """Whether it lives."""

    status: str


class ReadyOut(Out):
    """Whether it can do its work, and why not."""

    ready: bool
    problems: list[str]  # each of them makes it not ready
    degraded: list[str]  # it works, with less


class HostDrainOut(Out):
    """Whether one Mac of several takes new VMs."""

    host: str
    draining: bool


class DrainOut(Out):
    """Whether anything new starts."""

    draining: bool


class WokenOut(Out):
    """The loop was asked to look again."""

    woken: bool


class KeyChangeOut(Out):
    """One key of a pool that a reload changed."""

    pool: str
    key: str
    old: str | None
    new: str | None


class ReloadOut(Out):
    """What a reload changed."""

    pools: list[str]
    changed: list[str]
    removed: list[str]
    added: list[str]
    changes: list[KeyChangeOut]
    needs_restart: list[str]


class Refusal(BaseModel):
    """An error answer."""

    detail: Any


def _runner_fields(runner: Runner) -> dict[str, Any]:
    names = (
        "name", "pool", "purpose", "slot", "state", "since", "created_at", "reason", "job_id", "image", "runner_version",
        "held_until", "guest_held_until",
    )  # fmt: skip
    values = {name: getattr(runner, name) for name in names}
    return values | {"target": str(runner.target) if runner.target else None, "stop_requested": runner.stop}
