"""What a row of the plan's tables is made of: a world, and the plan for it as short tuples."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.domain.actions import (
    Action,
    Boot,
    CheckJob,
    Claim,
    Destroy,
    Hold,
    LookAtGroup,
    LookAtGuest,
    LookAtHost,
    LookAtRegistrations,
    LookAtRelease,
    Mint,
    Note,
    PrepareImage,
    Retire,
    SettleDebt,
    Stop,
    SweepRegistration,
    SweepVM,
)
from app.domain.jobs import JobStatus
from app.domain.plan import plan
from app.domain.runners import RunnerState
from app.domain.world import VMState
from tests.builders import NOW, TARGET, a_host, a_job, a_registration, a_runner, a_vm, a_world, ago, listing

S = RunnerState
NAME = "mini-mac-aaaaaaaa"
OTHER = "mini-mac-bbbbbbbb"
UP = a_host(a_vm())
DOWN = a_host(a_vm(state=VMState.STOPPED, ending="guest_powered_off"))
OFFLINE = {TARGET: listing(a_registration(online=False))}
DONE_LONG_AGO = a_job(
    JobStatus.COMPLETED, runner=NAME, completed_at=ago(minutes=6), checked_at=ago(minutes=1)
)
SOON = NOW + timedelta(minutes=10)
HELD = {"held_until": SOON, "guest_held_until": SOON}
QUIET = {TARGET: listing(a_registration())}


def decide(**world: Any) -> list[tuple[Any, ...]]:
    """Return the plan as short tuples, looks left out where a test does not ask for them."""
    return [short(action) for action in plan(a_world(**world), now=NOW)]


def short(action: Action) -> tuple[Any, ...]:
    match action:
        case Claim(slot, pool, _):
            return ("claim", slot, pool)
        case Boot(runner) | Destroy(runner) | Hold(runner) | SettleDebt(runner):
            return (type(action).__name__.lower(), runner.name)
        case Mint(runner=runner, target=target):
            return ("mint", runner.name, str(target))
        case Note(runner=runner, to=to):
            return ("note", runner.name, str(to))
        case Stop(runner=runner, reason=reason):
            return ("stop", runner.name, reason)
        case Retire(runner=runner, reason=reason, again=again):
            return ("retire", runner.name, reason, *(["again"] if again else []))
        case SweepVM(name):
            return ("sweep", name)
        case SweepRegistration(target, name, _):
            return ("sweep", f"{target}:{name}")
        case PrepareImage(image):
            return ("prepare", image)
        case LookAtHost():
            return ("look", "host")
        case LookAtRegistrations(target):
            return ("look", str(target))
        case LookAtGroup(organization, group):
            return ("look", organization, group)
        case LookAtGuest(runner):
            return ("ask guest", runner.name)
        case CheckJob(job_id):
            return ("check", job_id)
        case LookAtRelease(target):
            return ("look", "release", str(target))


def run(state: S, **changes: Any) -> dict[str, Any]:
    return {"runners": (a_runner(state, **changes),)}
