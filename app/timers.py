"""The timers: they ring the bell, ask GitHub now and then who we are, and forget what is too old.

They decide nothing. APScheduler drops a run that comes too late unless it is told otherwise, and skips one that
comes while its predecessor runs, which is what is wanted here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.api.context import Health
from app.db.store import Store
from app.ports import GitHubRefused, OutsideError, VMBackend
from app.reconcile import Reconciler

log = structlog.get_logger(__name__)

BELL = timedelta(seconds=5)  # deadlines are tens of seconds and more
IDENTITY = timedelta(minutes=1)
IDENTITY_LASTS = timedelta(hours=1)
RETENTION = timedelta(hours=1)


class Timers:
    """Three interval jobs in this process."""

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        store: Store,
        vms: VMBackend,
        health: Health,
        retention: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self._reconciler, self._store, self._vms = reconciler, store, vms
        self._health, self._retention, self._clock = health, retention, clock
        self._identified_at: datetime | None = None
        self._scheduler = AsyncIOScheduler(
            timezone="UTC",
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def start(self, identify: Callable[[], Awaitable[str]]) -> None:
        """Begin; *identify* asks GitHub who we are."""
        now = self._clock()
        add = self._scheduler.add_job
        add(self._bell, "interval", seconds=BELL.total_seconds())
        add(self._identify, "interval", [identify], seconds=IDENTITY.total_seconds(), next_run_time=now)
        add(self._forget, "interval", seconds=RETENTION.total_seconds(), next_run_time=now)
        self._scheduler.start()

    def every(self, span: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* every *span* from now on; where it fails, that is logged and it is tried again."""
        self._scheduler.add_job(work, "interval", seconds=span.total_seconds())

    def stop(self) -> None:
        """End; a job under way is cancelled."""
        self._scheduler.shutdown(wait=False)

    async def _bell(self) -> None:
        # A coroutine, or the scheduler would ring from a thread of its own.
        self._reconciler.wake()

    async def _identify(self, identify: Callable[[], Awaitable[str]]) -> None:
        now, health = self._clock(), self._health
        known_at = self._identified_at
        in_doubt = self._reconciler.sight.github_trouble is not None  # a key may have been taken away since
        if health.github and known_at and now - known_at < IDENTITY_LASTS and not in_doubt:
            return
        try:
            health.github = await identify()
        except OutsideError as error:
            health.github_trouble = str(error)
            if isinstance(error, GitHubRefused):
                health.github = None
            log.warning("github_not_identified", code=error.code, detail=str(error))
        else:
            self._identified_at, health.github_trouble = now, None
            log.info("github_identified", who=health.github)

    async def _forget(self) -> None:
        before = self._clock() - self._retention
        forgotten = await self._store.prune(before=before)
        self._vms.forget(before)
        if forgotten:
            log.info("forgotten", rows=forgotten)
