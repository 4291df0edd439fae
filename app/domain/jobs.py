"""GitHub's jobs as we know them, and how one more observation is folded in.

Webhooks arrive late, twice and in any order, and a look at GitHub's API can be older than a webhook that
overtook it. :func:`merge` makes the order not matter: a job only ever moves forward, from *queued* or
*waiting* through *in_progress* to *completed*, and a late event fills gaps but never revives anything
(docs/contracts/github.md §1.5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class JobStatus(StrEnum):
    """What GitHub says of a job, reduced to what matters here: only *queued* is demand."""

    WAITING = "waiting"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"

    @classmethod
    def from_github(cls, text: str | None) -> JobStatus:
        """Read any status; what we do not know (``pending``, ``requested``, tomorrow's word) is no demand."""
        try:
            return cls(text or "")
        except ValueError:
            return cls.WAITING


RANK = {
    JobStatus.WAITING: 1,
    JobStatus.QUEUED: 1,
    JobStatus.IN_PROGRESS: 2,
    JobStatus.COMPLETED: 3,
}


class Source(StrEnum):
    """Where an observation came from: GitHub's answer to a question outweighs an event that may be stale."""

    WEBHOOK = "webhook"
    LOOK = "look"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowJobEvent:
    """One observation of a job: a delivery, or an answer of GitHub's API."""

    id: int
    run_id: int
    run_attempt: int = 1
    name: str = ""
    workflow: str | None = None
    repository: str  # "owner/name"
    repository_id: int = 0
    organization: bool = False  # the owner is an organization, not a user
    private: bool = True
    labels: tuple[str, ...] = ()
    status: JobStatus
    conclusion: str | None = None
    runner: str | None = None  # name of the runner that took it, whoever's it is
    url: str = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    source: Source = Source.WEBHOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as GitHub last told us, and what we found out about it beside that."""

    id: int
    run_id: int
    run_attempt: int
    name: str
    workflow: str | None
    repository: str
    repository_id: int
    organization: bool
    private: bool
    labels: tuple[str, ...]
    status: JobStatus
    conclusion: str | None
    runner: str | None
    url: str
    queued_at: datetime
    received_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    pool: str | None = None  # the one pool it is demand of, by today's configuration
    checked_at: datetime | None = None  # when we last asked GitHub about it; None: it must be asked
    fork: bool | None = None  # the run comes from another repository; None: not asked
    note: str | None = None  # why it ended, where GitHub's conclusion does not say


def merge(job: Job | None, event: WorkflowJobEvent, *, at: datetime) -> Job:
    """Fold *event*, observed at *at*, into *job*; the result never stands further back than *job* did."""
    if job is None:
        return _first(event, at)
    known = replace(
        job,
        name=job.name or event.name,
        workflow=job.workflow or event.workflow,
        labels=job.labels or event.labels,
        url=job.url or event.url,
    )
    step = RANK[event.status] - RANK[job.status]
    if step < 0 or job.status is JobStatus.COMPLETED:
        return known
    if step == 0 and event.status is not job.status:
        # Queued and waiting alternate, and their events carry no order: only asking settles it.
        doubt = event.source is Source.WEBHOOK
        return replace(known, status=event.status, checked_at=None if doubt else job.checked_at)
    # That a job is over is believed; before a VM that works on is ended for it, GitHub is asked.
    doubt = _is_over(event) and event.source is Source.WEBHOOK
    return replace(
        known,
        status=event.status,
        checked_at=None if doubt else job.checked_at,
        conclusion=event.conclusion or job.conclusion,
        runner=event.runner or job.runner,
        started_at=_started(event) or job.started_at,
        completed_at=event.completed_at or job.completed_at or (at if _is_over(event) else None),
    )


def _first(event: WorkflowJobEvent, at: datetime) -> Job:
    return Job(
        id=event.id,
        run_id=event.run_id,
        run_attempt=event.run_attempt,
        name=event.name,
        workflow=event.workflow,
        repository=event.repository,
        repository_id=event.repository_id,
        organization=event.organization,
        private=event.private,
        labels=event.labels,
        status=event.status,
        conclusion=event.conclusion,
        runner=event.runner,
        url=event.url,
        queued_at=event.queued_at or event.started_at or at,
        received_at=at,
        started_at=_started(event),
        completed_at=event.completed_at or (at if _is_over(event) else None),
    )


def _started(event: WorkflowJobEvent) -> datetime | None:
    # GitHub fills started_at of every job; without a runner it only repeats created_at.
    running = event.status is JobStatus.IN_PROGRESS or (_is_over(event) and event.runner is not None)
    return event.started_at if running else None


def _is_over(event: WorkflowJobEvent) -> bool:
    return event.status is JobStatus.COMPLETED
