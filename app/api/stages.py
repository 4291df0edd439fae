"""A job's way as stages with times: from the job's own times and the history of the runner that took it."""

from __future__ import annotations

from app.api.models import Stage
from app.db.rows import Transition
from app.domain.jobs import Job
from app.domain.runners import Runner, RunnerState

NAMES = {
    RunnerState.CLAIMED: "slot",
    RunnerState.BOOTING: "boot",
    RunnerState.READY: "ready",
    RunnerState.REGISTERED: "registered",
    RunnerState.IDLE: "online",
    RunnerState.GONE: "destroyed",
}


def stages_of(job: Job, runner: Runner | None, history: list[Transition]) -> list[Stage]:
    """Return the stages reached, in order of time. The runner may be older than the job: it took what came."""
    stages = [Stage(name="queued", at=job.queued_at), Stage(name="received", at=job.received_at)]
    for transition in history:
        name = NAMES.get(transition.to_state)
        if name is not None and runner is not None:
            stages.append(Stage(name=name, at=transition.at, detail=transition.reason))
    if job.started_at is not None:
        stages.append(Stage(name="picked up", at=job.started_at, detail=job.runner or ""))
    if job.completed_at is not None:
        stages.append(Stage(name="done", at=job.completed_at, detail=job.conclusion or job.note or ""))
    return sorted(stages, key=lambda stage: stage.at)
