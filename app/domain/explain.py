"""Why a job waits, in one sentence, from the same World and the same rules that decide.

It is the answer to "why is my job still queued?" on every surface, so it names what to change where something
has to be changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from app.domain.jobs import Job, JobStatus
from app.domain.line import Line
from app.domain.places import Room
from app.domain.plan import hold_up, pool_hold_up, supply
from app.domain.pools import Forks, Pool
from app.domain.runners import Purpose, Runner, RunnerState
from app.domain.world import World


def explain(job: Job, world: World, *, now: datetime) -> str:
    """Say in one sentence where *job* stands and what it waits for."""
    match job.status:
        case JobStatus.COMPLETED:
            return _completed(job)
        case JobStatus.IN_PROGRESS:
            since = _ago(now - (job.started_at or job.received_at))
            return f"It has been running on {job.runner or 'a runner GitHub did not name'} for {since}."
        case JobStatus.WAITING:
            return "GitHub holds it back (an approval, a wait timer or a concurrency group) and has not queued it yet."
        case JobStatus.QUEUED:
            return next(_why_queued(job, world, now))


def _completed(job: Job) -> str:
    if job.note:
        return f"It ended without running here: {job.note}."
    if job.runner is None:
        return f"It ended ({job.conclusion or 'no conclusion'}) without ever having had a runner."
    waited = f" after waiting {_ago(job.started_at - job.queued_at)}" if job.started_at else ""
    return f"It ran on {job.runner}{waited} and ended: {job.conclusion or 'no conclusion'}."


def _why_queued(job: Job, world: World, now: datetime) -> Iterator[str]:
    pool = world.pool(job.pool) if job.pool else None
    if pool is None:
        yield _no_pool(job, world)
        return
    if job.fork and pool.forks is Forks.DENY:
        yield f'It comes from a fork, and pool {pool.name} has forks = "deny".'
    line = Line(world, now)
    blocked = line.blocked.get((pool.name, job.repository))
    if blocked:
        yield f"Its runner has nowhere to register: {blocked}."
    serving = _serving(job, pool, world, line, now)
    if serving:
        yield f"{_describe(serving[0], now)}; {_waiting(job, pool, world)}."
    if world.draining:
        yield "CiderMill is draining and starts nothing new until `cidermill resume`."
    held = hold_up(world, now) or pool_hold_up(pool, world, now) or _class_hold_up(job, pool, world, now)
    if held:
        yield f"Launches for pool {pool.name} wait: {held}."
    yield _crowded(job, pool, world, now)


def _no_pool(job: Job, world: World) -> str:
    if not job.labels:
        return "It asks for no labels, so no pool can know it is meant for it: give it labels in `runs-on`."
    suiting = [pool.name for pool in world.pools if pool.suits(job.labels)]
    if suiting:
        return (
            f"{job.repository} is not on the list of any pool with its labels: "
            f"add it to `repositories` of pool {' or '.join(suiting)} if it may use this Mac."
        )
    return f"No pool has all of its labels ({', '.join(job.labels)})."


def _serving(job: Job, pool: Pool, world: World, line: Line, now: datetime) -> list[Runner]:
    """Return the runners on their way to the job's class, the furthest along first."""
    units = supply(world, line, now)
    ours = {
        name for name, unit in units.items() if unit.pool == pool and unit.demand.repository == job.repository
    }
    return sorted((r for r in world.live if r.name in ours), key=lambda r: r.since)


def _describe(runner: Runner, now: datetime) -> str:
    doing = {
        RunnerState.CLAIMED: "is about to boot",
        RunnerState.BOOTING: "is booting",
        RunnerState.READY: "has booted and is about to register",
        RunnerState.REGISTERED: "has registered and is coming online",
        RunnerState.IDLE: "is online and waits for GitHub to hand it a job",
    }
    return f"Runner {runner.name} {doing[runner.state]} (for {_ago(now - runner.since)})"


def _waiting(job: Job, pool: Pool, world: World) -> str:
    count = sum(d.count for d in world.demand if d.pool == pool.name and d.repository == job.repository)
    return f"{count} {'job' if count == 1 else 'jobs'} of {job.repository} wait in pool {pool.name}"


def _class_hold_up(job: Job, pool: Pool, world: World, now: datetime) -> str | None:
    owner = job.repository.partition("/")[0]
    scopes = {f"class:{pool.name}:{target}" for target in (job.repository, owner)}
    failed = next((c for c in world.cooldowns if c.scope in scopes and c.until > now), None)
    return f"{failed.detail} (next try {failed.until:%H:%M:%S} UTC)" if failed else None


def _crowded(job: Job, pool: Pool, world: World, now: datetime) -> str:
    ahead = sum(d.count for d in world.demand)
    mine = [r for r in world.live if r.pool == pool.name and r.serves_jobs]
    if pool.max_runners is not None and len(mine) >= pool.max_runners:
        return f"Pool {pool.name} runs {len(mine)} of its max_runners = {pool.max_runners}."
    if Room(world).slot_for(pool):
        return f"It is next in line; {_waiting(job, pool, world)}."
    live = [f"{r.name} {_doing(r, now)}" for r in world.live]
    hosts = world.host.hosts if world.host else ()
    closed = [f"{host.name}: {host.closed}" for host in hosts if host.closed]
    if closed:
        return f"No Mac has room for it ({len(live)} of {len(world.slots)} slots are in use; {'; '.join(closed)})."
    if not world.slots:
        return "No Mac is there to run it: see `orchard list workers`."
    if len(live) < len(world.slots):
        where = "this Mac" if len(hosts) == 1 else "the Macs"
        return f"Other VMs on {where} take the place of ours ({len(live)} of {len(world.slots)} slots are in use)."
    return f"All {len(world.slots)} slots are in use ({'; '.join(live)}); {ahead} jobs wait in all."


def _doing(runner: Runner, now: datetime) -> str:
    if runner.is_held(now) and runner.held_until is not None:
        return f"{runner.state}, held for debugging until {runner.held_until:%H:%M:%S} UTC"
    if runner.purpose is Purpose.PULL:
        return f"has {runner.spec.image} fetched, for {_ago(now - runner.created_at)}"
    if runner.purpose is Purpose.GOLDEN:
        return f"makes a golden of pool {runner.pool}, for {_ago(now - runner.created_at)}"
    if runner.purpose is Purpose.BASE:
        return f"prepares the base of {runner.spec.image}, for {_ago(now - runner.created_at)}"
    return f"{runner.state} for {_ago(now - runner.since)}"


def _ago(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
