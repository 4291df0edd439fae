"""Rows within a transaction: how each is written, and what is told of it.

The statements are built once where they may be: building one costs more than running it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from app.boot_session import ClockMark
from app.db.rows import (
    COOLDOWN,
    DELIVERY,
    FLAG,
    HISTORY,
    JOB,
    RUNNER,
    cooldown_from,
    cooldown_values,
    job_values,
    runner_from,
    runner_values,
)
from app.domain.changes import Change, ChangeKind
from app.domain.jobs import Job, JobStatus
from app.domain.runners import Runner, RunnerState

DRAINING = "draining"  # names of flags
LOG_REACHED = "delivery_log_reached"
RELEASE = "runner_release"
CLOCK = "clock"


class UnknownRunner(LookupError):
    """There is no runner of that name."""


def set_flag(connection: Connection, name: str, value: str) -> None:
    """Set one of the flags."""
    connection.execute(upsert(FLAG), {"name": name, "value": value})


def job_change(job_id: int, was: JobStatus | None, now: JobStatus, at: datetime) -> Change:
    """Return what is told of a job's new status."""
    return Change(kind=ChangeKind.JOB, name=str(job_id), was=was, now=now, at=at)


def runner_change(before: Runner | None, after: Runner) -> Change:
    """Return what is told of a runner's new state."""
    was = before.state if before else None
    return Change(
        kind=ChangeKind.RUNNER, name=after.name, was=was, now=after.state, reason=after.reason, at=after.since
    )


def save_job(connection: Connection, job: Job) -> None:
    """Write a job, new or known."""
    connection.execute(upsert(JOB), job_values(job))


def load_runner(connection: Connection, name: str) -> Runner:
    """Return a runner. Raises UnknownRunner."""
    row = connection.execute(select(RUNNER).where(RUNNER.c.name == name)).first()
    if row is None:
        raise UnknownRunner(name)
    return runner_from(row)


def save_runner(connection: Connection, runner: Runner) -> None:
    """Write a runner that is known."""
    values = runner_values(runner)
    connection.execute(update(RUNNER).where(RUNNER.c.name == runner.name).values(**values))


def add_history(connection: Connection, runner: Runner, before: RunnerState | None) -> None:
    """Note that a runner is in its state since its time, and which it was in before."""
    connection.execute(
        insert(HISTORY),
        {
            "runner": runner.name,
            "from_state": before,
            "to_state": runner.state,
            "at": runner.since,
            "reason": runner.reason,
        },
    )


@cache
def upsert(table: Table) -> Insert:
    """Return what writes a whole row of *table*, new or known; built once."""
    statement = insert(table)
    key = [column.name for column in table.primary_key]
    changes = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=changes)


def shift(connection: Connection, jump: timedelta, mark: ClockMark) -> None:
    """Move the times that spans are measured from by *jump*, and have open jobs asked about anew."""
    for row in connection.execute(select(RUNNER).where(RUNNER.c.state != RunnerState.GONE)).all():
        runner = runner_from(row)
        times = {"since": runner.since + jump, "created_at": runner.created_at + jump}
        for name in ("held_until", "guest_held_until"):
            if (until := getattr(runner, name)) is not None:
                times[name] = until + jump
        connection.execute(update(RUNNER).where(RUNNER.c.name == runner.name).values(**times))
    for row in connection.execute(select(COOLDOWN)).all():
        cooldown = cooldown_from(row)
        moved = replace(cooldown, until=cooldown.until + jump)
        connection.execute(upsert(COOLDOWN), cooldown_values(moved))
    still_open = JOB.c.status != JobStatus.COMPLETED
    connection.execute(update(JOB).where(still_open).values(checked_at=None))
    set_flag(connection, CLOCK, str(mark))


def prune(connection: Connection, before: datetime) -> int:
    """Remove deliveries, ended jobs and gone runners older than *before*; return how many."""
    over = JOB.c.status == JobStatus.COMPLETED
    gone = RUNNER.c.state == RunnerState.GONE
    return sum(
        connection.execute(statement).rowcount
        for statement in (
            delete(DELIVERY).where(DELIVERY.c.received_at < before),
            delete(JOB).where(over, JOB.c.completed_at < before),
            delete(RUNNER).where(gone, RUNNER.c.since < before),
        )
    )
