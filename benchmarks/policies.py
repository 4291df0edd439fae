"""The same month of jobs on one Mac under several policies: how long jobs wait, and what the VMs cost.

All of it is simulated: no Mac is involved. Starts of VMs take the times stated in docs/forecast.md with their sources; to those
of GitHub and of a VM's end is added what our own control plane takes, measured on this machine right before.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from heapq import heapreplace

from app.domain.pools import Pool, Start
from app.forecast.history import History
from app.forecast.outcome import Outcome, Setup
from app.forecast.replay import replay
from app.forecast.timings import Timings
from benchmarks import share
from benchmarks.forecast import a_month
from benchmarks.measures import Measure

POOL = Pool(name="mac", labels=("mac",), image="sequoia", repositories=("acme/*",))
MINUTES = 6  # of a job, on average
MONTHS = {"quiet": 1_500, "busy": 5_000}  # jobs
POLICIES = {
    "cold on demand": Setup(),
    "snapshot on demand": Setup(start=Start.SNAPSHOT),
    "one VM kept ready": Setup(min_ready=1),
    "two VMs kept ready": Setup(min_ready=2),
    "one kept ready, snapshot": Setup(min_ready=1, start=Start.SNAPSHOT),
}


async def measure(*, short: bool) -> list[Measure]:
    """Replay a quiet and a busy month (a tenth of each in the short form)."""
    timings = with_ours(Timings(), await share.measure(short=True))
    found = []
    for name, jobs in MONTHS.items():
        past = a_month(jobs // 10 if short else jobs, seconds=60.0 * MINUTES, pools=(POOL,), large=0.0)
        outcomes: dict[str, Outcome | None] = {"always-on loop": always_on(past, Setup(), timings)}
        outcomes |= {policy: replay(past, setup, timings) for policy, setup in POLICIES.items()}
        for policy, outcome in outcomes.items():
            if outcome is not None:
                found += _measures(f"{name} month, {policy}", outcome)
    return found


def with_ours(timings: Timings, measured: list[Measure]) -> Timings:
    """Return *timings* with our own share, from a webhook to the first command and from a VM's end to the next launch."""
    to_launch, to_next = (timedelta(milliseconds=measured[n].value) for n in (0, 2))
    return replace(timings, hear=timings.hear + to_launch, end=timings.end + to_next)


def always_on(past: History, setup: Setup, timings: Timings) -> Outcome:
    """Let each place have a VM whose runner waits for a job, runs it, and is made anew; the oldest job goes first.

    No plan and no webhook is needed: runners are registered for all repositories at once, and always there.
    """
    again = timings.end + timings.boot + timings.register
    begun = past.jobs[0].job.queued_at
    free, waits, job_time = [begun] * setup.places, [], timedelta(0)
    for job in past.jobs:
        started_at = max(job.job.queued_at, free[0]) + timings.pick_up
        waits.append(started_at - job.job.queued_at)
        job_time += job.lasts
        heapreplace(free, started_at + job.lasts + again)
    span = max(free) - begun
    return Outcome(
        setup=setup,
        waits=tuple(sorted(waits)),
        given_up=(),
        launches=len(waits) + setup.places,
        span=span,
        vm_time=span * setup.places,
        job_time=job_time,
    )


def _measures(what: str, outcome: Outcome) -> list[Measure]:
    waits = {"p50": 0.5, "p90": 0.9, "p95": 0.95}
    return [
        *(
            Measure(f"{what}: wait {name}", outcome.wait(at).total_seconds(), "s")
            for name, at in waits.items()
        ),
        Measure(f"{what}: VMs", outcome.vm_time / timedelta(hours=1), "h"),
    ]
