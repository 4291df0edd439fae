"""Between rows and the values of the domain; times are aware and in UTC on both sides."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Row, Table
from sqlmodel import SQLModel

from app.db import tables
from app.domain.jobs import Job, JobStatus
from app.domain.pools import Pool, Start, Target
from app.domain.runners import Purpose, Runner, RunnerState, StopRequest
from app.domain.world import Cooldown


def table_of(model: type[SQLModel]) -> Table:
    """Return the table of a model, for statements of SQLAlchemy's Core."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


DELIVERY = table_of(tables.DeliveryRow)
JOB = table_of(tables.JobRow)
RUNNER = table_of(tables.RunnerRow)
HISTORY = table_of(tables.HistoryRow)
COOLDOWN = table_of(tables.CooldownRow)
FLAG = table_of(tables.FlagRow)

_POOL = TypeAdapter(Pool)
_JOB_FIELDS = tuple(field.name for field in fields(Job))
_RUNNER_FIELDS = tuple(field.name for field in fields(Runner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One row of a runner's history."""

    from_state: RunnerState | None
    to_state: RunnerState
    at: datetime
    reason: str


def job_values(job: Job) -> dict[str, Any]:
    """Return the columns of a job."""
    values = {name: getattr(job, name) for name in _JOB_FIELDS}
    values["labels"] = json.dumps(job.labels)
    return values


def job_from(row: Row[Any]) -> Job:
    """Return the job a row holds."""
    values = {name: getattr(row, name) for name in _JOB_FIELDS}
    values["labels"] = tuple(json.loads(row.labels))
    values["status"] = JobStatus(row.status)
    return Job(**values)


def runner_values(runner: Runner) -> dict[str, Any]:
    """Return the columns of a runner."""
    values = {name: getattr(runner, name) for name in _RUNNER_FIELDS}
    values["spec"] = _POOL.dump_json(runner.spec).decode()
    values["pool"] = runner.pool
    values["target"] = str(runner.target) if runner.target else None
    return values


def runner_from(row: Row[Any]) -> Runner:
    """Return the runner a row holds."""
    values = {name: getattr(row, name) for name in _RUNNER_FIELDS}
    values["spec"] = _pool_from(row.spec)
    values["state"] = RunnerState(row.state)
    values["target"] = Target.parse(row.target) if row.target else None
    values["stop"] = StopRequest(row.stop) if row.stop else None
    values["purpose"] = Purpose(row.purpose)
    values["start"] = Start(row.start)
    return Runner(**values)


@lru_cache(maxsize=64)
def _pool_from(spec: str) -> Pool:
    return _POOL.validate_json(spec)


def cooldown_values(cooldown: Cooldown) -> dict[str, Any]:
    """Return the columns of a cooldown."""
    return asdict(cooldown)


def cooldown_from(row: Row[Any]) -> Cooldown:
    """Return the cooldown a row holds."""
    return Cooldown(
        scope=row.scope, reason=row.reason, detail=row.detail, failures=row.failures, until=row.until
    )


def transition_from(row: Row[Any]) -> Transition:
    """Return the transition a row of history holds."""
    before = RunnerState(row.from_state) if row.from_state else None
    return Transition(from_state=before, to_state=RunnerState(row.to_state), at=row.at, reason=row.reason)
