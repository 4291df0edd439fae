"""What the pages show: the answers of the admin API, explained and drawn. No page knows more than the API does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.api import admin
from app.api.context import Context
from app.api.models import JobOut, Stage
from app.db.board import Course
from app.domain.explain import explain
from app.ledger import ledger
from app.web.charts import chart
from app.web.lately import Lately
from app.web.timeline import Timeline, timeline

WAITING, RUNNING, ENDED = 50, 50, 20  # jobs shown of each kind
FEW_SLOTS = 12  # of more than that, those with a runner alone are drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job that runs or ran, with its way as a bar."""

    job: JobOut
    waited: float | None  # s; None: it never started
    ran: float | None  # s
    timeline: Timeline


async def dashboard(context: Context, lately: Lately) -> dict[str, Any]:
    """Return what the dashboard shows. Raises HTTPException 503 before the first pass."""
    world, now = admin.world_of(context), context.clock()
    board = await context.reader.board(waiting=WAITING, running=RUNNING, ended=ENDED)
    counted = await lately.count(context.reader, now)
    day, week = counted.spans
    sight = context.reconciler.sight
    return {
        "status": await admin.status(context),
        "slots": await admin.slots(context),
        "macs": [host for host in await admin.hosts(context) if host.host],
        "few": FEW_SLOTS,
        "images": len({pool.image for pool in world.pools}),
        "pools": await admin.pools(context),
        "at_work": {course.job.runner: JobOut.of(course.job) for course in board.running},
        "waiting": _by_reason((explain(job, world, now=now), JobOut.of(job)) for job in board.waiting),
        "shown": len(board.waiting),
        "running": [_row(course, now) for course in board.running],
        "ended": [_row(course, now) for course in board.ended],
        "charts": [chart("Last day", day), chart("Last week", week)],
        "counted_at": counted.at,
        "health": context.health,
        "sight": sight,
    }


async def job(context: Context, job_id: int) -> dict[str, Any]:
    """Return what a job's page shows. Raises HTTPException 404 and 503."""
    detail = await admin.job(context, job_id)
    return {
        "job": detail,
        "stages": list(zip(detail.stages, _took(detail.stages), strict=True)),
        "timeline": timeline(detail.stages, detail.completed_at or context.clock()),
    }


def _by_reason(explained: Iterable[tuple[str, JobOut]]) -> dict[str, list[JobOut]]:
    """Put jobs that wait for the same reason together; the reason of the oldest comes first."""
    reasons: dict[str, list[JobOut]] = defaultdict(list)
    for why, job in explained:
        reasons[why].append(job)
    return reasons


def _row(course: Course, now: datetime) -> Row:
    job = JobOut.of(course.job)
    end = job.completed_at or now
    way = ledger(course.job, course.runner, course.history)
    return Row(
        job=job,
        waited=(job.started_at - job.queued_at).total_seconds() if job.started_at else None,
        ran=(end - job.started_at).total_seconds() if job.started_at else None,
        timeline=timeline([Stage.model_validate(stage) for stage in way], end),
    )


def _took(stages: list[Stage]) -> list[float | None]:
    """Return how long each stage lasted until the next, in seconds."""
    following = [stage.at for stage in stages[1:]]
    return [(end - stage.at).total_seconds() for stage, end in zip(stages, following, strict=False)] + [None]
