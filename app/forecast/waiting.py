"""Jobs that CiderMill has heard of and that wait, counted as the plan is told of them: by class, with the oldest few.

A class is counted anew only when one of its jobs comes, leaves or is asked about, and no more than its heads are looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from itertools import islice

from app.domain.world import Demand, Head
from app.forecast.github import Queue, Queued


class Waiting:
    """What waits, as far as it has been heard of."""

    def __init__(self, *, heads: int, hear: timedelta) -> None:
        self._heads, self._hear = heads, hear
        self._queues: dict[tuple[str, str], Queue] = {}  # by pool and repository
        self._demand: dict[tuple[str, str], Demand] = {}

    @property
    def demand(self) -> tuple[Demand, ...]:
        """All of it."""
        return tuple(self._demand.values())

    def __bool__(self) -> bool:
        """Whether any job waits."""
        return bool(self._demand)

    def add(self, queued: Queued) -> None:
        """Take in a job that was heard of just now; jobs come in the order in which they are queued."""
        self._queues.setdefault(queued.group, OrderedDict())[queued.past.job.id] = queued
        self._count(queued.group)

    def remove(self, queued: Queued) -> None:
        """Take out a job that starts or is given up, if it was heard of."""
        queue = self._queues.get(queued.group)
        if queue is not None and queue.pop(queued.past.job.id, None) is not None:
            self._count(queued.group)

    def note_check(self, queued: Queued, at: datetime) -> None:
        """Write down that by GitHub's word of *at* the job waits."""
        queued.checked_at = at
        self._count(queued.group)

    def _count(self, group: tuple[str, str]) -> None:
        queue = self._queues[group]
        if not queue:
            self._demand.pop(group, None)
            return
        job = next(iter(queue.values())).past.job
        self._demand[group] = Demand(
            pool=group[0],
            repository=group[1],
            organization=job.organization,
            private=job.private,
            count=len(queue),
            heads=tuple(map(self._head, islice(queue.values(), self._heads))),
        )

    def _head(self, queued: Queued) -> Head:
        job = queued.past.job
        return Head(
            id=job.id,
            queued_at=job.queued_at,
            received_at=job.queued_at + self._hear,
            checked_at=queued.checked_at,
            fork=False,
        )
