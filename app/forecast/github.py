"""GitHub as far as it decides who waits: jobs that are queued, and runners that are online without one.

A job goes to any online runner of its repository or organization whose labels include its own; among several the
oldest goes first. Nobody pairs a runner with the job it was made for (docs/contracts/github.md §5.1).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from app.domain.pools import Target
from app.domain.runners import Runner
from app.forecast.history import PastJob


@dataclass(slots=True)
class Queued:
    """A job that has not started yet."""

    past: PastJob
    checked_at: datetime | None = None  # when GitHub was last asked about it
    runner: str | None = None  # that it was given to

    @property
    def group(self) -> tuple[str, str]:
        """The pool and the repository that it is counted under."""
        return self.past.pool.name, self.past.job.repository

    @property
    def place(self) -> tuple[datetime, int]:
        """Where it stands in the queue."""
        return self.past.job.queued_at, self.past.job.id


Queue = OrderedDict[int, Queued]  # oldest first; what leaves at its head costs nothing


class Assignment:
    """Hands jobs to runners."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, tuple[str, ...]], Queue] = {}  # by repository, folded, and labels
        self.idle: dict[str, Runner] = {}  # online without a job, in the order in which they came

    def queue(self, queued: Queued) -> None:
        """Take in a job; jobs come in the order in which they are queued."""
        job = queued.past.job
        self._queue(queued)[job.id] = queued

    def withdraw(self, queued: Queued) -> None:
        """Forget a job that is given out or over."""
        self._queue(queued).pop(queued.past.job.id, None)

    def match(self) -> list[tuple[Queued, Runner]]:
        """Give out all jobs that some idle runner fits."""
        pairs = []
        for name, runner in list(self.idle.items()):
            queued = self._oldest_for(runner)
            if queued is not None:
                queued.runner = name
                self.withdraw(queued)
                del self.idle[name]
                pairs.append((queued, runner))
        return pairs

    def _queue(self, queued: Queued) -> Queue:
        job = queued.past.job
        return self._queues.setdefault((job.repository.casefold(), job.labels), OrderedDict())

    def _oldest_for(self, runner: Runner) -> Queued | None:
        heads = [
            next(iter(queue.values()))
            for (repository, labels), queue in self._queues.items()
            if queue and _is_at(runner.target, repository) and runner.spec.suits(labels)
        ]
        return min(heads, key=lambda queued: queued.place, default=None)


def _is_at(target: Target | None, repository: str) -> bool:
    if target is None:
        return False
    at = str(target).casefold()
    return repository == at if target.repository else repository.partition("/")[0] == at
