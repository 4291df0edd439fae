"""How jobs that no webhook told of are taken in, by the same store that webhooks are written to.

Everything here may be done twice and cut off anywhere: a delivery is recorded once whoever brings it, a job only
moves forward, and the place reached in the delivery log is noted after what lies before it.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from app.acts.means import Means
from app.db.store import Delivery
from app.domain.hearing import LogEntry, missed
from app.domain.world import Poll
from app.ports import GitHubRefused, NotFound

log = structlog.get_logger(__name__)

OVERLAP = timedelta(minutes=10)  # a delivery may take minutes to appear in the log
FIRST_LOOK = timedelta(hours=24)  # no job waits longer at GitHub
AT_ONCE = 200  # deliveries fetched by one reading; the next follows at once


class Intake:
    """Takes in what GitHub tells when it is asked for jobs."""

    def __init__(self, means: Means) -> None:
        self._store, self._reader, self._github = means.store, means.reader, means.github
        self._sight, self._metrics = means.sight, means.metrics
        self._clock, self._ask = means.clock, means.ask

    async def read_log(self) -> None:
        """Fetch every delivery that failed to arrive since the log was last read, and record what it tells."""
        now = self._clock()
        reached = await self._reader.log_reached()
        since = max(reached - OVERLAP, now - FIRST_LOOK) if reached else now - FIRST_LOOK
        entries = await self._ask(self._github.delivery_log(since))
        unknown = await self._reader.unknown_deliveries(entry.guid for entry in missed(entries))
        lost = [entry for entry in missed(entries) if entry.guid in unknown]
        for entry in lost[:AT_ONCE]:
            await self._fetch(entry)
        whole = len(lost) <= AT_ONCE
        upto = max((entry.at for entry in entries), default=reached) if whole else lost[AT_ONCE - 1].at
        if upto is not None and upto != reached:
            await self._store.note_log_reached(upto)
        self._sight.log_read_at = now if whole else None

    async def _fetch(self, entry: LogEntry) -> None:
        try:
            event = await self._ask(self._github.logged_delivery(entry.id))
        except NotFound:
            event = None  # it is not kept any longer
        delivery = Delivery(guid=entry.guid, event=entry.event)
        if await self._store.record(delivery, event, at=self._clock()):
            self._metrics.recovered.inc()
            self._sight.missed_at = self._clock()
            log.warning("delivery_recovered", delivery=entry.guid, job=event.id if event else None)

    async def list_repositories(self) -> None:
        """Learn which repositories the App may see."""
        now = self._clock()
        self._sight.repositories |= set(await self._ask(self._github.repositories()))
        self._sight.listed_at = now

    async def poll(self, repository: str) -> None:
        """Take in the jobs that are queued in a repository."""
        now = self._clock()
        try:
            events = await self._ask(self._github.queued_jobs(repository))
        except (NotFound, GitHubRefused) as error:
            self._sight.polls[repository] = Poll(at=now, refusal=str(error))
            return
        found = await self._store.observe_all(events, at=now)
        for job in found:
            log.warning("job_found", job=job.id, repository=job.repository)
        self._metrics.found.inc(len(found))
        self._sight.polls[repository] = Poll(at=now, jobs=frozenset(event.id for event in events))
