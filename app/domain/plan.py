"""What to do now: one function from what we see to what we do.

``plan`` looks at nothing and changes nothing. At most one action a runner: first the runners we have, in the
order in which waiting jobs need them, then free slots for the jobs that are left (``decide``, which is all that a forecast
needs), then orphans, images and the looks that are due.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from app.domain import goldens, images, preparation, pulls, warm
from app.domain.actions import Action, CheckJob, Claim, Mint, Reseat
from app.domain.case import Case
from app.domain.chores import gives_way
from app.domain.lifecycle import needs_unit, review, side_check
from app.domain.line import Line, Unit
from app.domain.looks import LATE_ARRIVAL, asking_at, due
from app.domain.places import Room, reseated
from app.domain.pools import Pool
from app.domain.runners import COMING, Purpose, Runner, RunnerState
from app.domain.sweep import sweep
from app.domain.warm import Spares
from app.domain.world import Cooldown, World

# GitHub is asked for one runner a second, and a turn is waited for some seconds: a hundred guests that are ready at once
# would be turned away by our own pace again and again, each time with its history.
MINTS_AT_ONCE = 3
HOST_LOOK_LASTS = timedelta(seconds=90)  # no launch on an older look: unknown room is no room

# Those furthest along serve first, so that a job never waits for a boot beside a runner that is up.
SUPPLY_ORDER = (
    RunnerState.IDLE,
    RunnerState.REGISTERED,
    RunnerState.READY,
    RunnerState.BOOTING,
    RunnerState.CLAIMED,
)


def plan(world: World, *, now: datetime) -> list[Action]:
    """Return what to do about *world* at *now*."""
    reseat = Reseat(tuple(reseated(world).items()))
    if reseat.slots and reseat.key not in world.in_hand:
        return [reseat]  # what is free is known in the pass after it
    line = Line(world, now)
    return _startable(
        [
            *decide(world, line, now),
            *sweep(world),
            *images.to_do(world, now),
            *goldens.to_drop(world),
            *due(world, line, now),
        ],
        world,
    )


def decide(world: World, line: Line, now: datetime) -> list[Action]:
    """Return what becomes of runners and slots."""
    units = supply(world, line, now)
    room = Room(world)
    idle = line.is_served and not any(pool.min_ready for pool in world.pools)
    pools = frozenset[str]() if idle else launchable(world, now)
    base = _due(world, line, now)
    claims = _claims(world, line, room, pools, base) or _golden(world, room, now)
    claims += _pulls(world, room, now)
    wanting = frozenset(name for name in pools if _slot_for(name, world, room) is None)
    pressed = _pressed(world, line, wanting, now)
    spares = Spares.of(world, units, now)
    kept = [] if claims else warm.claims(world, spares, room, pools)
    leaving = warm.renewed(world, spares, {claim.pool for claim in kept}, pools) if not claims else {}
    making = [runner for runner in world.live if not runner.serves_jobs and runner.name in pressed]
    leaving |= warm.yielding(world, line, room, spares, wanting, base, making)
    cases = [
        Case(
            runner=runner,
            world=world,
            now=now,
            unit=units.get(runner.name),
            pressed=runner.name in pressed,
            kept=runner.name in spares.kept,
            leaving=leaving.get(runner.name),
            asking=None if runner.serves_jobs else asking_at(world, line),
        )
        for runner in world.runners
    ]
    reviewed = [action for case in cases if (action := review(case)) is not None]
    checks = [look for case in cases if (look := side_check(case)) is not None]
    return _paced(_startable([*reviewed, *claims, *kept, *checks], world), world)


def _pressed(world: World, line: Line, wanting: frozenset[str], now: datetime) -> frozenset[str]:
    """Return the runners whose slot a job could use that they cannot serve; *wanting* are pools that have none for it."""
    if not wanting:
        return frozenset()
    waits = line.wants_a_slot(wanting)
    return frozenset(
        runner.name
        for runner in world.runners
        if (
            line.someone_else_waits(runner, wanting)
            if runner.serves_jobs
            else waits and gives_way(runner, world, now)
        )
    )


def _paced(actions: list[Action], world: World) -> list[Action]:
    """Leave out registrations beyond those that GitHub is asked for at a time; the others come as these are done."""
    mints = [action for action in actions if isinstance(action, Mint)]
    if not mints:
        return actions
    under_way = sum(
        runner.state in {RunnerState.READY, RunnerState.REGISTERED}
        and runner.registration_id is None
        and runner.name in world.in_hand
        for runner in world.live
    )
    late = mints[max(0, MINTS_AT_ONCE - under_way) :]
    return [action for action in actions if action not in late] if late else actions


def _startable(actions: list[Action], world: World) -> list[Action]:
    unique = {action.key: action for action in reversed(actions)}
    return [action for action in reversed(unique.values()) if action.key not in world.in_hand]


def supply(world: World, line: Line, now: datetime) -> dict[str, Unit]:
    """Give each runner without a job the unit of demand it will serve."""
    units: dict[str, Unit] = {}
    waiting = [runner for runner in world.runners if needs_unit(runner) and _may_serve(runner, world, now)]
    for runner in sorted(waiting, key=lambda r: (SUPPLY_ORDER.index(r.state), r.created_at, r.name)):
        unit = line.take_for(runner)
        if unit is not None:
            units[runner.name] = unit
    return units


def _may_serve(runner: Runner, world: World, now: datetime) -> bool:
    if runner.stop or runner.is_held(now):
        return False  # who debugs a runner may have broken it: its job is served by another one as well
    if world.draining and runner.state in COMING:
        return False
    return runner.state not in COMING or world.pool(runner.pool) == runner.spec


def launchable(world: World, now: datetime) -> frozenset[str]:
    """Return the pools whose launches nothing holds up, were a slot free."""
    if world.draining or hold_up(world, now) is not None:
        return frozenset()
    return frozenset(pool.name for pool in world.pools if pool_hold_up(pool, world, now) is None)


def _due(world: World, line: Line, now: datetime) -> preparation.Need | None:
    """Return the base that may be prepared once there is a slot for it."""
    found = preparation.next_one(world, now) if hold_up(world, now) is None else None
    return None if found is None or asking_at(world, line) is None else found


def _claims(
    world: World, line: Line, room: Room, pools: frozenset[str], due: preparation.Need | None
) -> list[Action]:
    """Return the claims of free slots, and take those out of *room*; *pools* may launch, and a base is *due*."""
    slot = room.slot_for(due.pool) if due else None
    if due is None or slot is None:
        return _launches(world, line, room, pools)
    claim = Claim(slot, due.pool.name, f"the base is prepared: {due.reason}", Purpose.BASE)
    if not due.urgent and (launches := _launches(world, line, room, pools)):
        return launches
    room.take(slot, due.pool)  # a slot that no job can use, or that the base needs first
    return [claim, *(_launches(world, line, room, pools) if due.urgent else [])]


def _golden(world: World, room: Room, now: datetime) -> list[Action]:
    """Return the claim of a slot in which a golden is made, while no job and no base wants one."""
    due = goldens.next_one(world, now)
    slot = room.slot_for(due.pool) if due else None
    if due is None or slot is None or hold_up(world, now) or pool_hold_up(due.pool, world, now):
        return []
    room.take(slot, due.pool)
    return [Claim(slot, due.pool.name, f"a golden is made: {due.reason}", Purpose.GOLDEN)]


def _pulls(world: World, room: Room, now: datetime) -> list[Action]:
    """Return the claims of slots that no job needs now, for pulls that are due."""
    if hold_up(world, now) is not None:
        return []
    claims: list[Action] = []
    for pull in pulls.next_ones(world, now):
        slot = room.slot_on(pull.host, pull.pool)
        if slot is not None:
            room.take(slot, pull.pool)
            claims.append(Claim(slot, pull.pool.name, f"the image is fetched: {pull.reason}", Purpose.PULL))
    return claims


def _launches(world: World, line: Line, room: Room, pools: frozenset[str]) -> list[Action]:
    spoken_for = room.copy()  # by jobs that are looked up first, too
    actions: list[Action] = []
    while True:
        unit = line.take_new(frozenset(name for name in pools if _slot_for(name, world, spoken_for)))
        slot = spoken_for.slot_for(unit.pool) if unit else None
        if unit is None or slot is None:
            break
        spoken_for.take(slot, unit.pool)
        head = unit.head
        if head.checked_at is None and head.received_at - head.queued_at >= LATE_ARRIVAL:
            actions.append(CheckJob(head.id))
            continue
        room.take(slot, unit.pool)
        actions.append(Claim(slot, unit.pool.name, f"job {head.id} of {unit.demand.repository} waits"))
        if _trouble(world, unit.pool):
            break  # one launch goes ahead of the others, to see whether it helps
    return actions


def _slot_for(name: str, world: World, room: Room) -> str | None:
    pool = world.pool(name)
    return room.slot_for(pool) if pool else None


def hold_up(world: World, now: datetime) -> str | None:
    """Return why no pool may launch now, as a short sentence; None: nothing holds launches up."""
    if world.host is None:
        return "the host has not been looked at yet"
    if now - world.host.at > HOST_LOOK_LASTS:
        return "the last look at the host is too old to launch on"
    free = world.host.free_disk_gb
    if free is not None and free < world.min_free_disk_gb:
        return (
            f"the host has {free:.0f} GB free, less than "
            f"min_free_disk_gb = {world.min_free_disk_gb:.0f}: free some space"
        )
    return _cooling(world, "host", now)


def pool_hold_up(pool: Pool, world: World, now: datetime) -> str | None:
    """Return why *pool* may not launch now, beside what holds up all pools."""
    unprepared = preparation.hold_up(pool, world, now)
    if unprepared is not None:
        return unprepared
    failed = _cooling(world, f"image:{pool.image}", now)
    if failed is not None:
        return failed
    here = world.host.images if world.host else None
    if here is not None and pool.image not in here:
        return f"the image {pool.image} is not on this host yet: it is pulled, or has to be built"
    return _cooling(world, f"pool:{pool.name}", now) or _probing(world, pool)


def _cooling(world: World, scope: str, now: datetime) -> str | None:
    for cooldown in world.cooldowns:
        if cooldown.scope == scope and cooldown.until > now:
            return f"{cooldown.detail} (failed {cooldown.failures} times, next try {cooldown.until:%H:%M:%S} UTC)"
    return None


def _trouble(world: World, pool: Pool) -> list[Cooldown]:
    return [c for c in world.cooldowns if c.scope in {"host", f"pool:{pool.name}"}]


def _probing(world: World, pool: Pool) -> str | None:
    """After a failure one launch goes ahead of the others; the rest waits for what becomes of it."""
    for cooldown in _trouble(world, pool):
        for runner in world.live:
            launching = runner.serves_jobs and runner.state in {RunnerState.CLAIMED, RunnerState.BOOTING}
            if launching and (cooldown.scope == "host" or runner.pool == pool.name):
                return f"{runner.name} goes ahead to see whether launches still fail: {cooldown.detail}"
    return None
