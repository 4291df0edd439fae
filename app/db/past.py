"""What is learned from the past: the jobs that ended, how the latest runners came and went, and how long launches took."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import Connection, bindparam, text

from app.db.rows import HISTORY, JOB, RUNNER, job_from
from app.domain.drift import Launch
from app.domain.jobs import Job
from app.domain.pools import Start
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
RESUMED = text("SELECT name FROM runner WHERE start = 'snapshot' ORDER BY created_at DESC LIMIT :limit")
LAUNCHES = text(
    """
    SELECT pool, cloned_at, start,
        (SELECT min(at) FROM runner_history WHERE runner = name AND to_state = 'booting') AS began,
        (SELECT min(at) FROM runner_history WHERE runner = name AND to_state = 'ready') AS ready_at
    FROM (SELECT * FROM runner INDEXED BY ix_runner_created_at ORDER BY created_at DESC LIMIT :limit)
    WHERE cloned_at IS NOT NULL AND ready_at IS NOT NULL ORDER BY created_at
    """
).columns(
    RUNNER.c.pool, RUNNER.c.cloned_at, RUNNER.c.start, began=HISTORY.c.at.type, ready_at=HISTORY.c.at.type
)
LATEST = 500  # runners of all pools that tell what is usual

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


def resumed(connection: Connection, limit: int) -> frozenset[str]:
    """Return the names of so many of the latest runners whose VM did not boot but was resumed."""
    return frozenset(connection.execute(RESUMED, {"limit": limit}).scalars())


def launches(connection: Connection) -> list[tuple[str, Launch]]:
    """Return the latest launches whose every step is known, each with its pool, oldest first."""
    rows = connection.execute(LAUNCHES, {"limit": LATEST})
    return [(row.pool, Launch.of(row.began, row.cloned_at, row.ready_at, Start(row.start))) for row in rows]
