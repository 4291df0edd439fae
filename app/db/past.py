"""What a forecast is made from: the jobs that ended, and how the latest runners came and went."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import Connection, bindparam, text

from app.db.rows import HISTORY, JOB, job_from
from app.domain.jobs import Job
from app.domain.runners import RunnerState

ENDED = text(
    "SELECT * FROM job INDEXED BY ix_job_completed_at WHERE status = 'completed' AND completed_at >= :since"
).columns(*JOB.c).bindparams(bindparam("since", type_=JOB.c.completed_at.type))  # fmt: skip
WAYS = text(
    """
    SELECT runner, to_state, at FROM runner_history
    WHERE runner IN (SELECT name FROM runner ORDER BY created_at DESC LIMIT :limit) ORDER BY id
    """
).columns(HISTORY.c.runner, HISTORY.c.to_state, HISTORY.c.at)

Ways = dict[str, dict[RunnerState, datetime]]


def ended(connection: Connection, since: datetime) -> list[Job]:
    """Return the jobs that ended since then."""
    return [job_from(row) for row in connection.execute(ENDED, {"since": since})]


def ways(connection: Connection, limit: int) -> Ways:
    """Return when each of the *limit* latest runners last entered each of its states."""
    found: Ways = defaultdict(dict)
    for runner, state, at in connection.execute(WAYS, {"limit": limit}):
        found[runner][RunnerState(state)] = at
    return dict(found)
