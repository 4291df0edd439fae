"""The rows, and what the database itself refuses.

Rows stay in this package; everything else sees values of :mod:`app.domain`. The constraints are the last guard
against our own bugs: two live runners in one slot are an ``IntegrityError``, not a third VM.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field, SQLModel

from app.domain.jobs import JobStatus
from app.domain.pools import Start
from app.domain.runners import Purpose, RunnerState

SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


def _one_of(column: str, values: type[JobStatus | RunnerState]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


class DeliveryRow(SQLModel, table=True):
    """A webhook delivery that was durably accepted; a second one of the same GUID changes nothing."""

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_received_at", "received_at"),)

    guid: str = Field(primary_key=True)
    event: str
    action: str | None = None
    hook_id: str | None = None
    job_id: int | None = None
    received_at: datetime


class JobRow(SQLModel, table=True):
    """A job as GitHub last told us."""

    __tablename__ = "job"
    __table_args__ = (
        _one_of("status", JobStatus),
        # The line of waiting jobs is read in every pass: it must not cost a look at the jobs that ended.
        Index(
            "ix_job_line",
            "pool",
            "repository",
            "queued_at",
            "id",
            "fork",
            sqlite_where=text("status = 'queued' AND pool IS NOT NULL"),
        ),
        Index("ix_job_open", "status", sqlite_where=text("status != 'completed'")),
        Index("ix_job_runner", "runner", sqlite_where=text("runner IS NOT NULL")),
        Index("ix_job_received_at", "received_at", "id"),
        Index("ix_job_completed_at", "completed_at", sqlite_where=text("status = 'completed'")),
    )

    id: int = Field(primary_key=True)
    run_id: int
    run_attempt: int
    name: str
    workflow: str | None = None
    repository: str
    repository_id: int
    organization: bool
    private: bool
    labels: str  # a JSON list
    status: str
    conclusion: str | None = None
    runner: str | None = None  # any runner's name, ours or not: no foreign key
    url: str
    queued_at: datetime
    received_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    pool: str | None = None
    checked_at: datetime | None = None
    fork: bool | None = None
    note: str | None = None


class RunnerRow(SQLModel, table=True):
    """A runner: one attempt, one name, one slot."""

    __tablename__ = "runner"
    __table_args__ = (
        _one_of("state", RunnerState),
        Index("uq_runner_live_slot", "slot", unique=True, sqlite_where=text("state != 'gone'")),
        Index("ix_runner_debt", "name", sqlite_where=text("target IS NOT NULL AND NOT deregistered")),
        Index("ix_runner_created_at", "created_at"),
    )

    name: str = Field(primary_key=True)
    slot: str
    pool: str
    spec: str  # the pool as it was at the launch, JSON
    state: str
    since: datetime
    created_at: datetime
    reason: str = ""
    target: str | None = None
    registration_id: int | None = None
    delivered: bool = False
    deregistered: bool = False
    job_id: int | None = None
    stop: str | None = None
    image: str | None = None
    runner_version: str | None = None
    held_until: datetime | None = None
    guest_held_until: datetime | None = None
    purpose: str = Field(default=Purpose.JOBS, sa_column_kwargs={"server_default": Purpose.JOBS})
    source: str | None = None
    cloned_at: datetime | None = None
    minted_at: datetime | None = None
    delivered_at: datetime | None = None
    listening_at: datetime | None = None
    start: str = Field(default=Start.COLD, sa_column_kwargs={"server_default": Start.COLD})


class HistoryRow(SQLModel, table=True):
    """One transition of a runner: our audit log, and the answer to "why?"."""

    __tablename__ = "runner_history"
    __table_args__ = (Index("ix_runner_history_runner", "runner", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    runner: str = Field(foreign_key="runner.name", ondelete="CASCADE")
    from_state: str | None = None
    to_state: str
    at: datetime
    reason: str


class CooldownRow(SQLModel, table=True):
    """Failures of one kind in one scope, and when the next try may be made."""

    __tablename__ = "cooldown"

    scope: str = Field(primary_key=True)
    reason: str = Field(primary_key=True)
    detail: str
    failures: int
    until: datetime


class FlagRow(SQLModel, table=True):
    """A switch that must survive a restart, such as *draining*."""

    __tablename__ = "flag"

    name: str = Field(primary_key=True)
    value: str
