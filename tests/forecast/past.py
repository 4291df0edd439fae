"""Plain functions that build histories."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.domain.jobs import Job, JobStatus
from app.forecast.timings import Timings
from tests.builders import NOW, a_job

TIMES = Timings(
    hear=timedelta(seconds=1),
    boot=timedelta(seconds=10),
    resume=timedelta(seconds=6),
    register=timedelta(seconds=1),
    pick_up=timedelta(seconds=2),
    end=timedelta(seconds=4),
)
START = 14.0  # s, from queued to started where a place is free
WARM = 4.0  # s, the same where a VM is kept ready


def a_past_job(number: int, at: float = 0.0, *, lasts: float = 60.0, **changes: Any) -> Job:
    """Return a job queued *at* so many seconds, that ran so long, or was waited for so long if it has no runner."""
    queued_at = NOW + timedelta(seconds=at)
    ran = changes.get("runner", "r") is not None
    started_at = queued_at + timedelta(seconds=5) if ran else None
    values: dict[str, Any] = {
        "id": number,
        "conclusion": "success" if ran else "cancelled",
        "runner": "r",
        "queued_at": queued_at,
        "received_at": queued_at,
        "started_at": started_at,
        "completed_at": (started_at or queued_at) + timedelta(seconds=lasts),
    }
    return a_job(JobStatus.COMPLETED, **values | changes)
