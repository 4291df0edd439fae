"""When to look again: at the host, at GitHub's registrations, at a job.

Every look costs something (a process, a request out of a quota), so each has an interval that fits what hangs on
it. A pass never waits for a look; it works on the last one and says which is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.domain.actions import CheckJob, Look, LookAtGroup, LookAtHost, LookAtRegistrations, LookAtRelease
from app.domain.hearing import listen
from app.domain.jobs import Job, JobStatus
from app.domain.line import Line
from app.domain.pools import Forks, Target
from app.domain.runners import AT_GITHUB, RunnerState
from app.domain.sweep import orphan_keys
from app.domain.world import World

HOST_ACTIVE = timedelta(
    seconds=10
)  # while something runs or waits; the end of a VM is reported at once anyway
HOST_QUIET = timedelta(seconds=60)
LISTED = {
    RunnerState.REGISTERED: timedelta(seconds=10),  # it is about to come online
    RunnerState.IDLE: timedelta(seconds=30),
    RunnerState.BUSY: timedelta(seconds=60),
}
LISTED_QUIET = timedelta(minutes=30)  # nothing of ours there: only the sweep looks
LISTED_ORPHANS = timedelta(seconds=60)  # for the second look that a sweep needs
JOB_CHECK = timedelta(minutes=10)  # a waiting job may have ended without a webhook
JOB_YOUNG = timedelta(minutes=1)  # not worth a question yet
HELD_BACK = timedelta(hours=1)  # a job may wait for an approval for days, and be cancelled meanwhile
SETTLED = timedelta(seconds=5)  # a gated job turns "waiting" within moments of "queued"
RELEASE_LASTS = timedelta(hours=6)  # a new runner is published every few weeks
LATE_ARRIVAL = timedelta(minutes=10)  # queued long before we heard of it: ask before spending a slot


def needs_run(job: Job, *, forks: Forks, now: datetime) -> bool:
    """Whether the job's run must be asked for too: who sent it, or whether it is over although the job waits."""
    return (forks is Forks.DENY and job.fork is None) or now - job.queued_at >= LATE_ARRIVAL


def due(world: World, line: Line, now: datetime) -> list[Look]:
    """Return the looks that are due and not under way."""
    looks = [
        *_host(world, now),
        *_registrations(world, now),
        *_groups(line),
        *_jobs(world, now),
        *listen(world.hearing, world.pools, now),
        *_release(world, line, now),
    ]
    return [look for look in looks if look.key not in world.in_hand]


def _host(world: World, now: datetime) -> Iterator[Look]:
    look = world.host
    active = bool(world.live or world.demand or orphan_keys(world))
    changed = world.host_changed_at
    if (
        look is None
        or (changed is not None and look.at <= changed)
        or now - look.at >= (HOST_ACTIVE if active else HOST_QUIET)
    ):
        yield LookAtHost()


def _registrations(world: World, now: datetime) -> Iterator[Look]:
    wanted: dict[Target, timedelta] = dict.fromkeys(sorted(world.known_targets, key=str), LISTED_QUIET)
    for runner in world.live:
        if runner.target is not None and runner.state in AT_GITHUB:
            interval = min(LISTED[runner.state], wanted.get(runner.target, LISTED_QUIET))
            wanted[runner.target] = interval
    orphans = orphan_keys(world)
    for target, interval in wanted.items():
        look = world.registrations.get(target)
        if any(key.startswith(f"registration:{target}:") for key in orphans):
            interval = min(interval, LISTED_ORPHANS)
        if look is None or now - look.at >= interval:
            yield LookAtRegistrations(target)


def _groups(line: Line) -> Iterator[Look]:
    for unknown in sorted(line.unknown, key=lambda u: (u.organization, u.group or "")):
        yield LookAtGroup(unknown.organization, unknown.group)


def _jobs(world: World, now: datetime) -> Iterator[Look]:
    for demand in world.demand:
        poll = world.hearing.polls.get(demand.repository) if world.hearing else None
        for head in demand.heads:
            since = head.checked_at or head.received_at
            if now - since >= JOB_CHECK or (poll is not None and poll.misses(head.id, since=since)):
                yield CheckJob(head.id)
    for job in world.unsettled:
        young = JOB_YOUNG
        if job.status is JobStatus.WAITING:
            young = HELD_BACK if job.checked_at else SETTLED
        if now - (job.checked_at or job.started_at or job.received_at) >= young:
            yield CheckJob(job.id)


def asking_at(world: World, line: Line) -> Target | None:
    """Return where we may ask for the runner that GitHub expects: whoever may register one there may."""
    return min(world.known_targets or line.targets, key=str, default=None)


def _release(world: World, line: Line, now: datetime) -> Iterator[Look]:
    # Without a version to compare with there is nothing to ask for.
    asked = world.released_at
    if not world.versions or (asked is not None and asked <= now < asked + RELEASE_LASTS):
        return
    target = asking_at(world, line)
    if target is not None:
        yield LookAtRelease(target)
