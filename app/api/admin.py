"""The admin API: what runs, what waits and why, and the few things an operator may do about it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import StreamingResponse

from app.api.context import AdminOnly, Context, Ctx, ReloadRefused, Responses
from app.api.kept import followed, once
from app.api.models import (
    CooldownOut,
    DrainOut,
    HoldIn,
    HostDrainOut,
    HostOut,
    JobDetail,
    JobOut,
    JobPage,
    PoolOut,
    Refusal,
    ReloadOut,
    RunnerDetail,
    RunnerOut,
    SlotOut,
    Stage,
    StatusOut,
    WokenOut,
)
from app.api.warnings import warnings_of
from app.db.reader import JobFilter
from app.db.writing import UnknownRunner
from app.domain import pulls
from app.domain.explain import explain
from app.domain.images import is_ready
from app.domain.jobs import JobStatus
from app.domain.plan import hold_up, pool_hold_up
from app.domain.pools import host_of
from app.domain.runners import NotHoldable, Purpose, RunnerState, StopRequest
from app.domain.world import World
from app.ledger import ledger, start_of
from app.ports import UnknownHost, VMError

MAX_ID = 2**63 - 1  # GitHub's ids, and SQLite's integers
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
CURSOR = "^[0-9]{1,16}-[0-9]{1,19}$"  # time received and id; whatever fits is a place in the list
NAME = Path(pattern="^[a-z0-9][a-z0-9-]{0,62}$", description="A runner's name.")
HOST = Path(
    pattern="^[A-Za-z0-9:._-]{1,100}$", description="A Mac's name, as in its slots: `mini2` of `mini2/1`."
)
UNAUTHORIZED: dict[str, Any] = {"model": Refusal, "description": "No valid admin token"}
MISSING: dict[str, Any] = {"model": Refusal, "description": "There is none such"}

router = APIRouter(prefix="/api/v1", tags=["admin"], dependencies=[AdminOnly], responses={401: UNAUTHORIZED})


def world_of(context: Context) -> World:
    """Return the world as the last pass saw it, or answer 503 in the moment before the first."""
    world = context.reconciler.world
    if world is None:
        raise HTTPException(503, "The first pass is still under way: ask again in a moment.")
    return world


HOST_ANSWERS: Responses = {
    404: MISSING,
    503: {"model": Refusal, "description": "What drives the Macs does not answer"},
}
NOT_YET: Responses = {503: {"model": Refusal, "description": "The first pass is still under way"}}


@router.get("/status", responses=NOT_YET)
async def status(context: Ctx) -> StatusOut:
    """Return the state of the whole."""
    world, now = world_of(context), context.clock()
    counts = await context.reader.counts()
    return StatusOut(
        version=context.version,
        started_at=context.started_at,
        uptime=(now - context.started_at).total_seconds(),
        draining=world.draining,
        looked_at=world.host.at if world.host else None,
        look_failed=context.reconciler.sight.host_trouble,
        slots=len(world.slots) if world.host else None,
        slots_used=len(world.live),
        held=sum(runner.is_held(now) for runner in world.live),
        queued=counts.get(JobStatus.QUEUED, 0),
        in_progress=counts.get(JobStatus.IN_PROGRESS, 0),
        oldest_unserved=min((demand.oldest for demand in world.demand), default=None),
        cooldowns=[CooldownOut.of(cooldown) for cooldown in world.cooldowns],
        quota=context.quota(),
        warnings=warnings_of(context),
    )


@router.get("/slots")
async def slots(context: Ctx) -> list[SlotOut]:
    """Return every slot and what holds it; before the Macs were looked at only those that are held are known."""
    holders = {runner.slot: runner for runner in await context.reader.runners(live=True, limit=1000)}
    world = context.reconciler.world
    hosts = world.host.hosts if world and world.host else ()
    closed = {host.name: host.closed for host in hosts if host.closed}
    names = list(dict.fromkeys([*(world.slots if world else ()), *sorted(holders)]))
    return [
        SlotOut(
            slot=slot,
            state=holder.state if (holder := holders.get(slot)) else "free",
            preparing=holder.spec.image if holder and holder.purpose is Purpose.BASE else None,
            pulling=holder.spec.image if holder and holder.purpose is Purpose.PULL else None,
            runner=holder.name if holder else None,
            pool=holder.pool if holder else None,
            since=holder.since if holder else None,
            held_until=holder.held_until if holder else None,
            closed=closed.get(host_of(slot)),
        )
        for slot in names
    ]


@router.get("/hosts", responses=NOT_YET)
async def hosts(context: Ctx) -> list[HostOut]:
    """Return every Mac, by name; none before the first look."""
    world = world_of(context)
    used = Counter(host_of(runner.slot) for runner in world.live)
    pulling = {host_of(runner.slot): runner.spec.image for runner in pulls.under_way(world)}
    return [
        HostOut(
            host=host.name,
            state=host.state,
            closed=host.closed or None,
            slots=len(host.slots),
            used=used[host.name],
            images=sorted({p.image for p in world.pools if (host.name, p.image) in world.images_at}),
            pulling=pulling.get(host.name),
            seen_at=host.seen_at,
        )
        for host in sorted(world.host.hosts if world.host else (), key=lambda host: host.name)
    ]


@router.get("/jobs")
async def jobs(
    context: Ctx,
    status: JobStatus | None = None,
    repository: Annotated[str | None, Query(max_length=200)] = None,
    pool: Annotated[str | None, Query(max_length=63)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        str | None, Query(pattern=CURSOR, description="`next_cursor` of the page before.")
    ] = None,
) -> JobPage:
    """Return jobs, newest first."""
    wanted = JobFilter(status=status, repository=repository, pool=pool)
    after = _read_cursor(cursor) if cursor else None
    found = await context.reader.jobs(wanted, limit=limit + 1, after=after)
    page = found[:limit]
    more = len(found) > limit
    following = _cursor(page[-1].received_at, page[-1].id) if more else None
    return JobPage(items=[JobOut.of(job) for job in page], next_cursor=following)


def _cursor(at: datetime, job_id: int) -> str:
    return f"{(at - EPOCH) // MICROSECOND}-{job_id}"


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    at, _, job_id = cursor.partition("-")
    return EPOCH + int(at) * MICROSECOND, min(int(job_id), MAX_ID)


@router.get("/jobs/{job_id}", responses={404: MISSING, **NOT_YET})
async def job(context: Ctx, job_id: Annotated[int, Path(ge=0, le=MAX_ID)]) -> JobDetail:
    """Return a job, its way so far, and why it stands where it does."""
    found = await context.reader.job(job_id)
    if found is None:
        raise HTTPException(404, f"No job {job_id} is recorded.")
    ran_on = await context.reader.runner(found.runner) if found.runner else None
    return JobDetail(
        **JobOut.of(found).model_dump(),
        stages=[Stage.model_validate(stage) for stage in ledger(found, *(ran_on or (None, [])))],
        start=start_of(found, *ran_on) if ran_on else None,
        explanation=explain(found, world_of(context), now=context.clock()),
    )


@router.get("/runners")
async def runners(
    context: Ctx, *, live: bool = False, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[RunnerOut]:
    """Return runners, newest first; `live=true` leaves out those that are gone."""
    return [RunnerOut.of(runner) for runner in await context.reader.runners(live=live, limit=limit)]


@router.get("/runners/{name}", responses={404: MISSING})
async def runner(context: Ctx, name: Annotated[str, NAME]) -> RunnerDetail:
    """Return a runner with its history."""
    found = await context.reader.runner(name)
    if found is None:
        raise HTTPException(404, f"No runner {name} is recorded.")
    return RunnerDetail.with_history(*found)


@router.delete(
    "/runners/{name}",
    status_code=202,
    responses={404: MISSING, 409: {"model": Refusal, "description": "It has ended already"}},
)
async def stop(context: Ctx, name: Annotated[str, NAME], *, force: bool = False) -> RunnerOut:
    """Stop a runner: GitHub is asked first, and one that works is left alone unless `force` is given."""
    found = await context.reader.runner(name)
    if found is not None and found[0].state is RunnerState.GONE:
        raise HTTPException(409, f"Runner {name} has ended already.")
    try:
        asked = await context.store.request_stop(name, StopRequest.FORCE if force else StopRequest.ASK)
    except UnknownRunner as error:
        raise HTTPException(404, f"No runner {name} is recorded.") from error
    context.reconciler.wake()
    return RunnerOut.of(asked)


@router.post(
    "/runners/{name}/hold",
    responses={
        400: {"model": Refusal, "description": "The body is no JSON"},
        404: MISSING,
        409: {"model": Refusal, "description": "There is no VM to keep, or it is ending"},
    },
)
async def hold(context: Ctx, name: Annotated[str, NAME], wanted: HoldIn) -> RunnerOut:
    """Keep a runner's VM for debugging, after its job too; the slot comes free by itself when the time is over."""
    span = timedelta(minutes=wanted.minutes)
    try:
        held = await context.store.hold(name, span, at=context.clock())
    except UnknownRunner as error:
        raise HTTPException(404, f"No runner {name} is recorded.") from error
    except NotHoldable as error:
        why = f"{error}: only a registered, idle or busy one has a VM to keep."
        raise HTTPException(409, why) from error
    context.reconciler.wake()
    return RunnerOut.of(held)


@router.delete("/runners/{name}/hold", responses={404: MISSING})
async def release(context: Ctx, name: Annotated[str, NAME]) -> RunnerOut:
    """Keep a runner's VM no longer than usual."""
    try:
        released = await context.store.amend(name, held_until=None)
    except UnknownRunner as error:
        raise HTTPException(404, f"No runner {name} is recorded.") from error
    context.reconciler.wake()
    return RunnerOut.of(released)


@router.get(
    "/runners/{name}/logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}}}, 404: MISSING},
)
async def logs(
    context: Ctx,
    name: Annotated[str, NAME],
    *,
    follow: Annotated[bool, Query(description="Go on until the runner is gone.")] = False,
) -> StreamingResponse:
    """Return the kept output of the VM and of the runner in it. It is text of the job's: trust none of it."""
    files = context.vms.logs(name)
    if not files and not (follow and await context.reader.runner(name)):
        raise HTTPException(404, f"No output of {name} is kept.")
    output = followed(context, name) if follow else once(files)
    return StreamingResponse(output, media_type="text/plain; charset=utf-8")


@router.get("/pools", responses=NOT_YET)
async def pools(context: Ctx) -> list[PoolOut]:
    """Return the pools in force, with demand, supply and health."""
    world, now = world_of(context), context.clock()
    shown = []
    for pool in context.reconciler.setup.pools:
        states = Counter(
            str(runner.state) for runner in world.live if runner.pool == pool.name and runner.serves_jobs
        )
        waiting = sum(demand.count for demand in world.demand if demand.pool == pool.name)
        shown.append(
            PoolOut.of(
                pool,
                image_ready=is_ready(pool.image, world),
                demand=waiting,
                runners=dict(states),
                held_up=hold_up(world, now) or pool_hold_up(pool, world, now),
            )
        )
    return shown


@router.post("/drain")
async def drain(context: Ctx) -> DrainOut:
    """Start nothing new, and let what runs finish; it outlives a restart."""
    return await _set_draining(context, draining=True)


@router.post("/resume")
async def resume(context: Ctx) -> DrainOut:
    """Start runners again."""
    return await _set_draining(context, draining=False)


async def _set_draining(context: Context, *, draining: bool) -> DrainOut:
    await context.store.set_draining(draining)
    context.reconciler.wake()
    return DrainOut(draining=draining)


@router.post("/hosts/{host}/drain", responses=HOST_ANSWERS)
async def drain_host(context: Ctx, host: Annotated[str, HOST]) -> HostDrainOut:
    """Have one Mac of several take no new VMs, and let what runs there finish."""
    return await _pause(context, host, paused=True)


@router.post("/hosts/{host}/resume", responses=HOST_ANSWERS)
async def resume_host(context: Ctx, host: Annotated[str, HOST]) -> HostDrainOut:
    """Have one Mac of several take VMs again."""
    return await _pause(context, host, paused=False)


async def _pause(context: Context, host: str, *, paused: bool) -> HostDrainOut:
    try:
        await context.vms.pause(host, paused=paused)
    except UnknownHost as error:
        raise HTTPException(404, f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    except VMError as error:
        raise HTTPException(503, f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    context.reconciler.host_changed()
    return HostDrainOut(host=host, draining=paused)


@router.post("/reconcile", status_code=202)
async def reconcile(context: Ctx) -> WokenOut:
    """Look at the host again now, and try at once whatever waits after failures."""
    await context.store.forget_failures()
    context.reconciler.host_changed()
    return WokenOut(woken=True)


@router.post(
    "/reload",
    responses={409: {"model": Refusal, "description": "The configuration is not valid; nothing changed"}},
)
async def reload(context: Ctx) -> ReloadOut:
    """Read the configuration again and take its pools; all of it or nothing."""
    try:
        done = await context.reload()
    except ReloadRefused as refusal:
        raise HTTPException(409, refusal.problems) from refusal
    return ReloadOut.model_validate(done)
