"""What is replayed: jobs that are over, reduced to what the wait of others depends on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from app.domain.jobs import Job, JobStatus
from app.domain.pools import Pool, Start, pool_for

USUAL = ("self-hosted", "macOS", "ARM64")
SKIPPED = "skipped"  # its `if` was false: it never waited for a runner
EVERY_MAC = (
    "macos"  # how the labels begin that ask for a Mac, GitHub's own (macos-15) and a runner's of one's own
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJob:
    """A job that is over, with the pool it is demand of; ``job`` is as it was while it ran.

    ``lasts`` is how long it ran or, where it ended without ever having had a runner, how long it was waited for.
    """

    job: Job
    pool: Pool
    lasts: timedelta
    given_up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The jobs to replay, oldest first, and how many of those read are left out, and why."""

    jobs: tuple[PastJob, ...]
    pools: tuple[Pool, ...]
    unfinished: int = 0
    of_no_pool: int = 0


def history(jobs: Iterable[Job], pools: Sequence[Pool]) -> History:
    """Return what of *jobs* is replayed through *pools*."""
    # Their bases and goldens are made.
    pools = [replace(pool, prepare=False, prepare_script=None, start=Start.COLD) for pool in pools]
    found: list[PastJob] = []
    unfinished = of_no_pool = 0
    for job in sorted(jobs, key=lambda job: (job.queued_at, job.id)):
        lasts = _lasts(job)
        pool = pool_for(job.labels, job.repository, pools)
        if pool is None:
            of_no_pool += 1
        elif lasts is None:
            unfinished += job.conclusion != SKIPPED
        else:
            running = replace(job, status=JobStatus.IN_PROGRESS, completed_at=None)
            found.append(PastJob(job=running, pool=pool, lasts=lasts, given_up=job.started_at is None))
    return History(jobs=tuple(found), pools=tuple(pools), unfinished=unfinished, of_no_pool=of_no_pool)


def _lasts(job: Job) -> timedelta | None:
    if job.status is not JobStatus.COMPLETED or job.completed_at is None or job.conclusion == SKIPPED:
        return None
    return max(timedelta(0), job.completed_at - (job.started_at or job.queued_at))


def pool_of_labels(jobs: Iterable[Job], wanted: Sequence[str]) -> Pool:
    """Return one pool that would serve every job with all of the *wanted* labels; none wanted: every job for a Mac.

    It stands in where nothing is configured yet, or where jobs that run elsewhere so far are asked about.
    """
    asked = {tuple(job.labels) for job in jobs}
    labels = {label.casefold(): label for one in sorted(asked) if _is_meant(one, wanted) for label in one}
    return Pool(
        name="forecast",
        labels=tuple(labels.values()) or tuple(wanted) or USUAL,
        image="forecast",
        repositories=("*",),
        default_labels=False,
    )


def _is_meant(labels: Sequence[str], wanted: Sequence[str]) -> bool:
    folded = {label.casefold() for label in labels}
    if wanted:
        return {label.casefold() for label in wanted} <= folded
    return any(label.startswith(EVERY_MAC) for label in folded)
