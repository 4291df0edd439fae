"""The ledger of a job's way: when it reached each stage, from the job's own times and the life of the runner that took it.

It answers where a job's wait went, for people as a list and for the metrics as spans. Times are GitHub's (queued, picked up,
done) and ours (the rest), by clocks that agree to a second or so. *warm*: the guest was ready when we heard of the job, which
then waited for no boot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from app.db.rows import Transition
from app.domain.jobs import Job
from app.domain.runners import Runner, RunnerState

WARM = "warm"
NAMES = {
    RunnerState.CLAIMED: "slot",
    RunnerState.BOOTING: "clone",
    RunnerState.READY: "ready",
    RunnerState.REGISTERED: "registered",
    RunnerState.IDLE: "online",
    RunnerState.GONE: "destroyed",
}
TO_PICK_UP = (
    "received",
    "slot",
    "clone",
    "boot",
    "ready",
    "registered",
    "minted",
    "delivered",
    "listening",
    "picked up",
)
ORDER = ("queued", *TO_PICK_UP[:-1], "online", "picked up", "done", "destroyed")  # of what came at one moment


@dataclass(frozen=True, slots=True)
class Reached:
    """A stage, and since when."""

    name: str
    at: datetime
    detail: str = ""


def ledger(job: Job, runner: Runner | None, history: Sequence[Transition]) -> list[Reached]:
    """Return the stages reached, in order of time. The runner may be older than the job: it took what came."""
    found = [Reached("queued", job.queued_at), Reached("received", job.received_at)]
    if runner is not None:
        found += _of_runner(runner, history)
    if job.started_at is not None:
        found.append(Reached("picked up", job.started_at, job.runner or ""))
    if job.completed_at is not None:
        found.append(Reached("done", job.completed_at, job.conclusion or job.note or ""))
    return sorted(found, key=lambda stage: (stage.at, ORDER.index(stage.name)))


def _of_runner(runner: Runner, history: Sequence[Transition]) -> Iterator[Reached]:
    for step in history:
        name = NAMES.get(step.to_state)
        if name == "clone" and runner.cloned_at is None:
            name = "boot"  # nobody saw where the one ended and the other began
        if name is not None:
            yield Reached(name, step.at, step.reason)
    steps = {
        "boot": (runner.cloned_at, runner.image or ""),
        "minted": (runner.minted_at, str(runner.target or "")),
        "delivered": (runner.delivered_at, ""),
        "listening": (runner.listening_at, ""),
    }
    for name, (at, detail) in steps.items():
        if at is not None:
            yield Reached(name, at, detail)


def start_of(job: Job, runner: Runner, history: Sequence[Transition]) -> str:
    """Return how the job's runner was started, as seen by the job: one that was up beforehand is warm, however it came up."""
    ready = min((step.at for step in history if step.to_state is RunnerState.READY), default=None)
    return WARM if ready is not None and ready <= job.received_at else runner.start


def spans(job: Job, runner: Runner, history: Sequence[Transition]) -> Iterator[tuple[str, float]]:
    """Yield each stage on the job's way to being picked up, and the seconds from the one before it."""
    way = [stage for stage in ledger(job, runner, history) if stage.at >= job.queued_at]
    way = [stage for stage in way if stage.name == "queued" or stage.name in TO_PICK_UP]
    for before, stage in pairwise(way):
        yield stage.name, (stage.at - before.at).total_seconds()
        if stage.name == "picked up":
            return
