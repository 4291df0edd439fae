"""How jobs are heard of when no webhook tells: which questions to GitHub are due.

Three of them, each at a pace of its own: the App's log of deliveries that failed, the repositories the App may see,
and, for each repository that a pool serves, the jobs that are queued there. The last costs requests, so it slows
down as GitHub's quota falls and pauses under a floor; what is left is kept for registering and removing runners
(docs/contracts/github.md §2.2, §7.1, §9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.actions import ListRepositories, Look, PollJobs, ReadDeliveryLog
from app.domain.pools import Pool
from app.domain.world import Hearing

LOG_EVERY = timedelta(minutes=2)
LIST_EVERY = timedelta(hours=1)
POLLS_A_MINUTE = 30  # of all repositories together; GitHub's secondary limits are for all of them
REFUSED = timedelta(minutes=10)  # before a repository that GitHub does not show us is asked for again
FLOOR = 0.2  # of the quota: below it no polls
AMPLE = 0.5  # above it polls go at their full pace
GLOB = frozenset("*?[")


def listen(hearing: Hearing | None, pools: tuple[Pool, ...], now: datetime) -> Iterator[Look]:
    """Yield the questions that are due; none where nobody said how to listen."""
    if hearing is None:
        return
    if _is_due(hearing.log_read_at, LOG_EVERY, now):
        yield ReadDeliveryLog()
    if _is_due(hearing.listed_at, LIST_EVERY, now):
        yield ListRepositories()
    served = watched(hearing, pools)
    for repository in served:
        poll = hearing.polls.get(repository)
        every = pace(hearing, repository, len(served))
        if every is None:
            continue
        if poll is not None and poll.refusal:
            every = max(every, REFUSED)
        if _is_due(poll.at if poll else None, every, now):
            yield PollJobs(repository)


def watched(hearing: Hearing, pools: tuple[Pool, ...]) -> tuple[str, ...]:
    """Return the known repositories that a pool serves, and those that a pool names in full; sorted."""
    named = {name for pool in pools for name in pool.repositories if GLOB.isdisjoint(name)}
    known = {name.casefold(): name for name in sorted(named | hearing.repositories)}
    return tuple(sorted(name for name in known.values() if any(pool.serves(name) for pool in pools)))


def pace(hearing: Hearing, repository: str, count: int) -> timedelta | None:
    """Return how long to wait between two polls of a repository, one of *count*; None: not now."""
    left = hearing.headroom.get(owner_of(repository), 1.0)
    if left < FLOOR:
        return None
    every = max(hearing.poll_interval, timedelta(minutes=1) * count / POLLS_A_MINUTE)
    return every * (AMPLE / left) ** 2 if left < AMPLE else every


def troubles(hearing: Hearing, pools: tuple[Pool, ...]) -> Iterator[str]:
    """Yield what keeps us from asking, one sentence each."""
    for repository in watched(hearing, pools):
        poll = hearing.polls.get(repository)
        if poll is not None and poll.refusal:
            yield f"GitHub does not show the jobs of {repository}: {poll.refusal}."
    for owner, left in sorted(hearing.headroom.items()):
        if left < FLOOR:
            yield f"{left:.0%} of GitHub's quota for {owner} are left: it is not asked for queued jobs until there is more."


def owner_of(repository: str) -> str:
    """Return the owner in ``owner/name``, folded as GitHub compares them."""
    return repository.partition("/")[0].casefold()


def _is_due(last: datetime | None, every: timedelta, now: datetime) -> bool:
    # A clock that was set back must not silence us.
    return last is None or not last <= now < last + every


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One attempt to deliver a webhook, as GitHub's log lists it."""

    id: int
    guid: str  # of the event: attempts of one event share it
    event: str
    at: datetime
    arrived: bool  # whoever was called answered with a 2xx


def missed(log: tuple[LogEntry, ...]) -> tuple[LogEntry, ...]:
    """Return one attempt of every ``workflow_job`` of which none arrived, the oldest first."""
    arrived = {entry.guid for entry in log if entry.arrived}
    failed = {
        entry.guid: entry for entry in log if entry.event == "workflow_job" and entry.guid not in arrived
    }
    return tuple(sorted(failed.values(), key=lambda entry: (entry.at, entry.id)))
