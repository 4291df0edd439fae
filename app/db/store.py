"""Everything that is written. One method, one durable transaction; domain values in and out.

Decisions that depend on a row are made inside the transaction that changes it, by the pure functions of the
domain. What the database refuses comes out as a named error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import ReturningDelete

from app.boot_session import ClockMark
from app.db.database import Database
from app.db.rows import (
    COOLDOWN,
    DELIVERY,
    FLAG,
    JOB,
    RUNNER,
    cooldown_from,
    cooldown_values,
    job_from,
    runner_values,
)
from app.db.writing import (
    CLOCK,
    DRAINING,
    LOG_REACHED,
    RELEASE,
    add_history,
    job_change,
    load_runner,
    prune,
    runner_change,
    save_job,
    save_runner,
    set_flag,
    shift,
    upsert,
)
from app.domain.changes import Change, ChangeKind
from app.domain.cooldowns import after_failure
from app.domain.jobs import Job, JobStatus, WorkflowJobEvent, merge
from app.domain.pools import Pool, pool_for
from app.domain.runners import Runner, RunnerState, StopRequest, advance, hold

R = TypeVar("R")
# The webhook door's statements are built once: building one costs more than running it.
NEW_DELIVERY = insert(DELIVERY).on_conflict_do_nothing()
LIVE = RUNNER.c.state != RunnerState.GONE
JOB_BY_ID = select(JOB).where(JOB.c.id == bindparam("job"))


class SlotTaken(Exception):
    """A live runner already holds the slot (or bears the name)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook delivery, as far as it is recorded."""

    guid: str
    event: str
    action: str | None = None
    hook_id: str | None = None


class Store:
    """Writes of the service's state; see :class:`app.db.reader.Reader` for reads."""

    def __init__(
        self, database: Database, pools: Sequence[Pool] = (), tell: Callable[[Change], None] = lambda _: None
    ) -> None:
        """Write to *database*; *tell* hears of every transition, once it is durable."""
        self._db = database
        self._pools = tuple(pools)
        self._tell = tell

    async def trouble(self) -> str | None:
        """Return what keeps anything from being written, and the mend; None: nothing that is known."""
        return await self._db.trouble_now()

    async def configure(self, pools: Sequence[Pool]) -> None:
        """Take *pools* as the ones in force, and give every job that is not over its pool by them."""
        self._pools = tuple(pools)

        def work(connection: Connection) -> None:
            rows = connection.execute(select(JOB).where(JOB.c.status != JobStatus.COMPLETED)).all()
            changed = [
                {"job": job.id, "to": to}
                for job in map(job_from, rows)
                if (to := self._pool_of(job)) != job.pool
            ]
            for change in changed:
                connection.execute(update(JOB).where(JOB.c.id == change["job"]).values(pool=change["to"]))

        await self._db.write(work)

    async def record(self, delivery: Delivery, event: WorkflowJobEvent | None, *, at: datetime) -> bool:
        """Record a delivery and fold its event into the job, both or neither.

        False: this delivery was recorded before, and nothing changed.
        """

        def work(connection: Connection) -> tuple[bool, list[Change]]:
            values = {
                "guid": delivery.guid,
                "event": delivery.event,
                "action": delivery.action,
                "hook_id": delivery.hook_id,
                "job_id": event.id if event else None,
                "received_at": at,
            }
            if connection.execute(NEW_DELIVERY, values).rowcount == 0:
                return False, []
            changes: list[Change] = []
            if event is not None:
                self._fold(connection, event, at, changes)
            return True, changes

        return await self._write(work)

    async def observe(
        self, event: WorkflowJobEvent, *, at: datetime, fork: bool | None = None, note: str | None = None
    ) -> Job:
        """Fold GitHub's answer about a job in; it counts as checked at *at*."""

        def work(connection: Connection) -> tuple[Job, list[Change]]:
            changes: list[Change] = []
            job = self._fold(connection, event, at, changes)
            job = replace(job, checked_at=at, fork=job.fork if fork is None else fork, note=note or job.note)
            save_job(connection, job)
            return job, changes

        return await self._write(work)

    async def observe_all(self, events: Sequence[WorkflowJobEvent], *, at: datetime) -> list[Job]:
        """Fold GitHub's answers about several jobs in, all or none; return the jobs nobody had told us of."""

        def work(connection: Connection) -> tuple[list[Job], list[Change]]:
            found: list[Job] = []
            changes: list[Change] = []
            for event in events:
                known = connection.execute(JOB_BY_ID, {"job": event.id}).first()
                job = replace(self._fold(connection, event, at, changes), checked_at=at)
                save_job(connection, job)
                if known is None:
                    found.append(job)
            return found, changes

        return await self._write(work) if events else []

    async def mark_checked(self, job_id: int, *, at: datetime) -> None:
        """Note that GitHub was asked about a job and could not answer: what we know stands."""
        await self._db.write(
            lambda connection: connection.execute(update(JOB).where(JOB.c.id == job_id).values(checked_at=at))
        )

    async def end_job(self, job_id: int, *, at: datetime, note: str) -> None:
        """End a job that GitHub no longer knows, or whose run is over; *note* says which."""
        values = {"status": JobStatus.COMPLETED, "completed_at": at, "checked_at": at, "note": note}
        await self._db.write(
            lambda connection: connection.execute(
                update(JOB).where(JOB.c.id == job_id, JOB.c.status != JobStatus.COMPLETED).values(**values)
            )
        )
        self._tell(job_change(job_id, None, JobStatus.COMPLETED, at))

    async def reopen(self, job_id: int, *, at: datetime) -> None:
        """Take back that a job is over: a webhook said so, and GitHub, asked at *at*, says that it runs."""
        values = {"status": JobStatus.IN_PROGRESS, "conclusion": None, "completed_at": None, "checked_at": at}
        await self._db.write(
            lambda connection: connection.execute(update(JOB).where(JOB.c.id == job_id).values(**values))
        )
        self._tell(job_change(job_id, JobStatus.COMPLETED, JobStatus.IN_PROGRESS, at))

    async def claim(self, runner: Runner) -> None:
        """Take a slot for a new runner. Raises SlotTaken."""

        def work(connection: Connection) -> None:
            connection.execute(insert(RUNNER), runner_values(runner))
            add_history(connection, runner, None)

        try:
            await self._db.write(work)
        except IntegrityError as error:
            msg = f"slot {runner.slot} is held already, {runner.name} cannot have it"
            raise SlotTaken(msg) from error
        self._tell(runner_change(None, runner))

    async def advance(
        self,
        name: str,
        to: RunnerState,
        *,
        at: datetime,
        reason: str,
        **changes: Any,
    ) -> tuple[Runner, Runner]:
        """Move a runner to another state, with *changes* to its fields, and write its history row.

        Returns it as it was and as it is. Raises InvalidTransition and UnknownRunner.
        """

        def work(connection: Connection) -> tuple[Runner, Runner]:
            before = load_runner(connection, name)
            after = advance(before, to, at=at, reason=reason, **changes)
            save_runner(connection, after)
            add_history(connection, after, before.state)
            return before, after

        before, after = await self._db.write(work)
        self._tell(runner_change(before, after))
        return before, after

    async def amend(self, name: str, **changes: Any) -> Runner:  # fields of Runner
        """Change what we know of a runner, not its state. Raises UnknownRunner."""

        def work(connection: Connection) -> Runner:
            runner = replace(load_runner(connection, name), **changes)
            save_runner(connection, runner)
            return runner

        return await self._db.write(work)

    async def reseat(self, slots: Mapping[str, str]) -> None:
        """Give live runners other slots, which may be one another's. Raises SlotTaken."""

        def work(connection: Connection) -> None:
            for name in slots:  # out of the way first, since each change is checked at once
                connection.execute(
                    update(RUNNER).where(RUNNER.c.name == name, LIVE).values(slot=f"moving {name}")
                )
            for name, slot in slots.items():
                connection.execute(update(RUNNER).where(RUNNER.c.name == name, LIVE).values(slot=slot))

        try:
            await self._db.write(work)
        except IntegrityError as error:
            msg = f"a slot of {', '.join(slots.values())} is held already"
            raise SlotTaken(msg) from error

    async def request_stop(self, name: str, request: StopRequest) -> Runner:
        """Write down that an operator wants a runner to end; force stays force. Raises UnknownRunner."""

        def work(connection: Connection) -> Runner:
            runner = load_runner(connection, name)
            if runner.stop is not StopRequest.FORCE:
                runner = replace(runner, stop=request)
                save_runner(connection, runner)
            return runner

        return await self._db.write(work)

    async def fail(
        self,
        scope: str,
        reason: str,
        detail: str,
        *,
        at: datetime,
        jitter: float,
        at_least: timedelta = timedelta(0),
    ) -> None:
        """Count a failure: nothing of *scope* is tried again until its cooldown is over, which lasts *at_least* so long."""

        def work(connection: Connection) -> None:
            query = select(COOLDOWN).where(COOLDOWN.c.scope == scope, COOLDOWN.c.reason == reason)
            row = connection.execute(query).first()
            cooldown = after_failure(
                cooldown_from(row) if row else None,
                scope=scope,
                reason=reason,
                detail=detail,
                at=at,
                jitter=jitter,
            )
            cooldown = replace(cooldown, until=max(cooldown.until, at + at_least))
            connection.execute(upsert(COOLDOWN), cooldown_values(cooldown))

        await self._db.write(work)
        self._tell(Change(kind=ChangeKind.COOLDOWN, name=scope, was=None, now=reason, reason=detail, at=at))

    async def succeed(self, *scopes: str) -> None:
        """Forget the failures of *scopes*: it worked."""
        mended = (
            delete(COOLDOWN)
            .where(COOLDOWN.c.scope.in_(scopes))
            .returning(COOLDOWN.c.scope, COOLDOWN.c.reason)
        )
        await self._forget(mended)

    async def note_clock(self, mark: ClockMark) -> None:
        """Note how the wall clock stands to the monotonic one."""
        await self._db.write(lambda connection: set_flag(connection, CLOCK, str(mark)))

    async def shift_times(self, jump: timedelta, mark: ClockMark) -> None:
        """Move the times that spans are measured from by *jump*, as the wall clock was, which stands at *mark* now.

        Jobs must be asked about anew.
        """
        await self._db.write(lambda connection: shift(connection, jump, mark))

    async def hold(self, name: str, span: timedelta, *, at: datetime) -> Runner:
        """Keep a runner's VM for debugging, for *span*. Raises NotHoldable and UnknownRunner."""

        def work(connection: Connection) -> Runner:
            runner = hold(load_runner(connection, name), span, now=at)
            save_runner(connection, runner)
            return runner

        return await self._db.write(work)

    async def forget_failures(self) -> None:
        """Forget every failure: somebody says that it is mended."""
        await self._forget(delete(COOLDOWN).returning(COOLDOWN.c.scope, COOLDOWN.c.reason))

    async def _forget(self, mended: ReturningDelete[Any]) -> None:
        rows = await self._db.write(lambda connection: connection.execute(mended).all())
        for row in rows:
            self._tell(Change(kind=ChangeKind.COOLDOWN, name=row.scope, was=row.reason, now=None))

    async def set_draining(self, draining: bool) -> None:
        """Start or stop draining; it outlives a restart."""

        def work(connection: Connection) -> None:
            if draining:
                set_flag(connection, DRAINING, "1")
            else:
                connection.execute(delete(FLAG).where(FLAG.c.name == DRAINING))

        await self._db.write(work)
        self._tell(Change(kind=ChangeKind.DRAINING, name="", was=None, now=DRAINING if draining else None))

    async def note_log_reached(self, at: datetime) -> None:
        """Note up to when GitHub's delivery log was read."""
        await self._db.write(lambda connection: set_flag(connection, LOG_REACHED, at.isoformat()))

    async def note_release(self, version: str, published_at: datetime | None, *, at: datetime) -> datetime:
        """Note the runner version that GitHub expects; return since when it does, as far as we know."""

        def work(connection: Connection) -> datetime:
            row = connection.execute(select(FLAG).where(FLAG.c.name == RELEASE)).first()
            known, _, since = str(row.value).partition(" ") if row else ("", "", "")
            first_seen = datetime.fromisoformat(since) if known == version else at
            found = published_at or first_seen
            set_flag(connection, RELEASE, f"{version} {found.isoformat()}")
            return found

        return await self._db.write(work)

    async def prune(self, *, before: datetime) -> int:
        """Forget deliveries, ended jobs and gone runners older than *before*; return how many."""
        return await self._db.write(lambda connection: prune(connection, before))

    async def _write(self, work: Callable[[Connection], tuple[R, list[Change]]]) -> R:
        """Make a write, and tell what it changed; *work* may be run twice, and only one of them counts."""
        result, changes = await self._db.write(work)
        for change in changes:
            self._tell(change)
        return result

    def _fold(
        self, connection: Connection, event: WorkflowJobEvent, at: datetime, changes: list[Change]
    ) -> Job:
        row = connection.execute(JOB_BY_ID, {"job": event.id}).first()
        known = job_from(row) if row else None
        job = merge(known, event, at=at)
        job = replace(job, pool=self._pool_of(job))
        if job != known:
            save_job(connection, job)
        if known is None or known.status is not job.status:
            changes.append(job_change(job.id, known.status if known else None, job.status, at))
        return job

    def _pool_of(self, job: Job) -> str | None:
        if job.status is JobStatus.COMPLETED:
            return job.pool
        pool = pool_for(job.labels, job.repository, self._pools)
        return pool.name if pool else None
