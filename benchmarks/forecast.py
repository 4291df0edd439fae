"""A forecast of a month: what replaying it through the plan costs, in processor time, which no neighbour changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import process_time

from app.domain.jobs import Job, JobStatus
from app.domain.pools import Pool
from app.forecast.history import History, history
from app.forecast.outcome import Setup
from app.forecast.replay import replay
from app.forecast.timings import Timings
from benchmarks.measures import Measure

MONTH = timedelta(days=30)
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
POOLS = (
    Pool(name="small", labels=("mac",), image="sequoia", repositories=("acme/*",)),
    Pool(name="large", labels=("mac", "xl"), image="sequoia", repositories=("acme/*",), max_runners=1),
)


async def measure(*, short: bool) -> list[Measure]:
    """Measure with a month of 50,000 jobs (a tenth in the short form) on one Mac and on four."""
    jobs = 5_000 if short else 50_000
    found = []
    for macs in (1, 4):
        past = a_month(jobs, seconds=75.0 * macs)
        before = process_time()
        replay(past, Setup(macs=macs), Timings())
        spent = process_time() - before
        goal = "≤ 60" if macs == 1 and not short else ""
        what = f"forecast of {jobs:,} jobs on {2 * macs} slots, processor time"
        found.append(Measure(what, spent, "s", goal))
    return found


def a_month(
    jobs: int, *, seconds: float, seed: int = 1, pools: Sequence[Pool] = POOLS, large: float = 0.1
) -> History:
    """Return that many jobs of so many seconds on average, more of them by day, in bursts as a workflow's matrix makes.

    A share of them is *large*, and asks for the label ``xl``.
    """
    chance = random.Random(seed)  # noqa: S311  # a simulation's chance
    made: list[Job] = []
    while len(made) < jobs:
        at = BEGIN + timedelta(
            days=chance.randrange(MONTH.days), hours=chance.triangular(0, 24, 15), seconds=chance.random()
        )
        repository = f"acme/r{min(int(chance.expovariate(0.3)), 9)}"
        labels = ("self-hosted", "mac", *(("xl",) if chance.random() < large else ()))
        for _ in range(min(chance.choice((1, 1, 2, 4)), jobs - len(made))):
            started = at + timedelta(seconds=60)
            made.append(
                Job(
                    id=len(made) + 1, run_id=1, run_attempt=1, name="build", workflow="CI", repository=repository,
                    repository_id=1, organization=False, private=True, labels=labels, status=JobStatus.COMPLETED,
                    conclusion="success", runner="r", url="", queued_at=at, received_at=at, started_at=started,
                    completed_at=started + timedelta(seconds=chance.gammavariate(2.0, seconds / 2)),
                )
            )  # fmt: skip
    return history(made, pools)
