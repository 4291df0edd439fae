"""The timers: they ring the bell, ask GitHub now and then who we are, and forget what is too old.

They decide nothing. APScheduler drops a run that comes too late unless it is told otherwise, and skips one that
comes while its predecessor runs, which is what is wanted here. It counts by the wall clock: where that is set back by eight
hours it would be silent for as long, and where it is set ahead by months it would count each ring that was skipped. So somebody
else watches that clock, by the event loop's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.api.context import Health
from app.clock import utcnow
from app.db.store import Store
from app.ports import GitHubRefused, OutsideError, VMBackend
from app.reconcile import Reconciler

log = structlog.get_logger(__name__)

BELL = timedelta(seconds=5)  # deadlines are tens of seconds and more
IDENTITY = timedelta(minutes=1)
IDENTITY_LASTS = timedelta(hours=1)
RETENTION = timedelta(hours=1)
WATCH = timedelta(seconds=4)  # mostly before the next bell; more often would show in what idling costs
JUMP = timedelta(seconds=3)  # of the wall clock, in that time


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
        self.every(BELL, self._bell)
        self.every(IDENTITY, partial(self._identify, identify))
        self.every(RETENTION, self._forget)
        self._scheduler.start()
        self._do_all()
        self._watch(_wall_ahead())

    def every(self, span: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* every *span* from now on; where it fails, that is logged and it is tried again."""
        self._scheduler.add_job(work, "interval", seconds=span.total_seconds())

    def stop(self) -> None:
        """End; a job under way is cancelled."""
        self._watching.cancel()
        self._scheduler.shutdown(wait=False)

    def _watch(self, before: timedelta) -> None:
        """Where the wall clock was set, or the Mac slept, do everything at once and count from there."""
        ahead = _wall_ahead()
        if abs(ahead - before) >= JUMP:
            self._do_all()
        loop = asyncio.get_running_loop()
        self._watching = loop.call_later(WATCH.total_seconds(), self._watch, ahead)

    def _do_all(self) -> None:
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=utcnow())

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


def _wall_ahead() -> timedelta:
    """Return how far the wall clock is ahead of the event loop's: always the same, until it is set."""
    return utcnow() - datetime.fromtimestamp(asyncio.get_running_loop().time(), UTC)
