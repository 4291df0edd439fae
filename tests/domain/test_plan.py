"""plan(): a row per situation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

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
from app.domain.lifecycle import may_destroy
from app.domain.plan import plan
from app.domain.pools import Forks, Scope
from app.domain.runners import RunnerState, StopRequest
from app.domain.world import Cooldown, GroupLook, RunnerGroup, VMState
from tests.builders import (
    NOW,
    TARGET,
    a_demand,
    a_guest,
    a_head,
    a_host,
    a_job,
    a_pool,
    a_registration,
    a_runner,
    a_vm,
    a_world,
    ago,
    listing,
)

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


SITUATIONS = [
    # -- supply for demand
    pytest.param({}, [], id="nothing waits, nothing happens"),
    pytest.param({"demand": (a_demand(),)}, [("claim", "1", "mac")], id="a job waits: one slot"),
    pytest.param(
        {"demand": (a_demand(5),)},
        [("claim", "1", "mac"), ("claim", "2", "mac")],
        id="five jobs wait: both slots, no more",
    ),
    pytest.param({"demand": (a_demand(),), "draining": True}, [], id="draining starts nothing"),
    pytest.param({"demand": (a_demand(),), "host": None}, [("look", "host")], id="unknown room is no room"),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host(at=ago(minutes=2))},
        [("look", "host")],
        id="an old look at the host is no ground for a launch",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host(free_disk_gb=3.0), "min_free_disk_gb": 30.0},
        [],
        id="too little disk",
    ),
    pytest.param(
        {"demand": (a_demand(3),), "host": a_host(a_vm("someones-vm"))},
        [("claim", "1", "mac")],
        id="a stranger's VM takes one of Apple's two places",
    ),
    pytest.param(
        {"demand": (a_demand(3),), "host": a_host(a_vm("their-linux", counts=False))},
        [("claim", "1", "mac"), ("claim", "2", "mac")],
        id="a stranger's Linux VM takes none",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host(images=frozenset())},
        [("prepare", "sequoia")],
        id="the image is prepared first, off the job path",
    ),
    pytest.param({"demand": (a_demand(pool="gone"),)}, [], id="a pool that no longer exists"),
    pytest.param(
        {"demand": (a_demand(heads=(a_head(queued_at=ago(hours=2), checked_at=None),)),)},
        [("check", 1)],
        id="a job that was old when we heard of it is looked up before a slot is spent",
    ),
    pytest.param(
        {"demand": (a_demand(heads=(a_head(received_at=ago(minutes=11), checked_at=ago(minutes=11)),)),)},
        [("claim", "1", "mac"), ("check", 1)],
        id="heads of the queue are looked up now and then",
    ),
    # -- one runner serves one job
    pytest.param({"demand": (a_demand(),)} | run(S.CLAIMED), [("boot", NAME)], id="claimed: boot"),
    pytest.param(
        {"demand": (a_demand(),), "in_hand": frozenset({f"boot:{NAME}"})} | run(S.BOOTING),
        [],
        id="booting for the only job: nothing more to do",
    ),
    pytest.param(
        {"demand": (a_demand(2),), "in_hand": frozenset({f"boot:{NAME}"})} | run(S.BOOTING),
        [("claim", "2", "mac")],
        id="booting for one of two jobs: one more",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": UP} | run(S.READY), [("mint", NAME, "acme/app")], id="ready: mint"
    ),
    pytest.param(
        {"demand": (a_demand(heads=(a_head(checked_at=None),)),), "host": UP} | run(S.READY),
        [("check", 1)],
        id="ready: the job is looked up before the mint",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(checked_at=ago(seconds=18)),)),),
            "host": UP,
        }
        | run(S.READY, created_at=ago(seconds=19), since=ago(seconds=2)),
        [("check", 1)],
        id="a look made at once does not count: a gated job turns waiting a moment later",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(checked_at=ago(seconds=4)),)),),
            "host": UP,
        }
        | run(S.READY, created_at=ago(seconds=19), since=ago(seconds=2)),
        [("mint", NAME, "acme/app")],
        id="a look made beside the boot does",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(checked_at=None),)),),
            "in_hand": frozenset({f"boot:{NAME}"}),
        }
        | run(S.BOOTING),
        [("check", 1)],
        id="while it boots the job is looked up",
    ),
    pytest.param(
        {"demand": (a_demand(),), "registrations": QUIET, "host": UP} | run(S.IDLE),
        [],
        id="an idle runner is supply",
    ),
    pytest.param(
        {
            "demand": (a_demand(repository="acme/lib"),),
            "registrations": QUIET,
            "host": UP,
        }
        | run(S.IDLE),
        [("claim", "2", "mac")],
        id="a runner registered elsewhere is no supply",
    ),
    pytest.param(
        {"demand": (a_demand(),), "pools": (a_pool(forks=Forks.DENY),), "host": UP}
        | run(S.READY, spec=a_pool(forks=Forks.DENY)),
        [("check", 1)],
        id="forks denied: no mint before it is known who sent the run",
    ),
    # -- surplus
    pytest.param({"host": UP} | run(S.READY), [], id="surplus ready rests for the next job"),
    pytest.param(
        {"host": UP} | run(S.READY, since=ago(seconds=61)), [("stop", NAME, "surplus")], id="but not for long"
    ),
    pytest.param(
        {
            "host": UP,
            "slots": ("1",),
            "pools": (a_pool(), a_pool(name="other", labels=("x",))),
            "demand": (a_demand(pool="other"),),
        }
        | run(S.READY),
        [("stop", NAME, "surplus")],
        id="surplus ready goes at once when another class waits for its slot",
    ),
    pytest.param(run(S.CLAIMED), [("stop", NAME, "no_longer_needed")], id="cancelled before the boot"),
    pytest.param(
        {"in_hand": frozenset({f"boot:{NAME}"})} | run(S.BOOTING),
        [],
        id="cancelled during boot: let it finish",
    ),
    pytest.param(
        {
            "slots": ("1",),
            "pools": (a_pool(), a_pool(name="other", labels=("x",))),
            "demand": (a_demand(pool="other"),),
            "in_hand": frozenset({f"boot:{NAME}"}),
        }
        | run(S.BOOTING),
        [("stop", NAME, "no_longer_needed")],
        id="cancelled during boot, and its slot is wanted",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, since=ago(minutes=6)),
        [("retire", NAME, "idle_timeout")],
        id="idle too long: GitHub is asked first",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": QUIET,
            "slots": ("1",),
            "pools": (a_pool(), a_pool(name="other", labels=("x",))),
            "demand": (a_demand(pool="other"),),
        }
        | run(S.IDLE, since=ago(seconds=31)),
        [("retire", NAME, "surplus")],
        id="idle yields after half a minute when another class waits",
    ),
    # -- believing
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.REGISTERED), [("note", NAME, "idle")], id="online: idle"
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(busy=True))}} | run(S.IDLE),
        [("note", NAME, "busy")],
        id="GitHub lists it busy",
    ),
    pytest.param(
        {"host": UP, "work": {NAME: a_job(JobStatus.IN_PROGRESS, runner=NAME)}, "registrations": QUIET}
        | run(S.REGISTERED),
        [("note", NAME, "busy")],
        id="a job says it runs on it, whatever it was booted for",
    ),
    pytest.param(
        {"host": UP, "guests": {NAME: a_guest(worker_alive=True)}, "registrations": QUIET} | run(S.IDLE),
        [("note", NAME, "busy")],
        id="the guest runs a job",
    ),
    pytest.param(
        {
            "host": UP,
            "work": {NAME: a_job(JobStatus.IN_PROGRESS, runner=NAME)},
            "registrations": {TARGET: listing(a_registration(busy=True))},
        }
        | run(S.BUSY),
        [("note", NAME, "busy")],
        id="which job it runs becomes known",
    ),
    # -- the end of a VM
    *(
        pytest.param(
            {"host": DOWN, "registrations": QUIET} | run(state),
            [("stop", NAME, "guest_powered_off")],
            id=f"{state}: its VM ended",
        )
        for state in (S.READY, S.REGISTERED, S.IDLE, S.BUSY)
    ),
    pytest.param(
        {
            "host": DOWN,
            "registrations": QUIET,
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=2))},
        }
        | run(S.BUSY, job_id=1),
        [("stop", NAME, "job_completed")],
        id="busy: its job is over and its VM ended",
    ),
    pytest.param(
        {"host": a_host(), "registrations": QUIET} | run(S.BUSY, job_id=1),
        [("stop", NAME, "vm_vanished")],
        id="busy: the host does not list its VM any more",
    ),
    pytest.param(
        {"host": None, "registrations": QUIET} | run(S.BUSY, job_id=1),
        [("ask guest", NAME), ("look", "host")],
        id="busy: a look that failed is no absence",
    ),
    pytest.param(
        {"host": a_host(at=ago(seconds=9)), "registrations": QUIET} | run(S.IDLE),
        [],
        id="a look begun before the last transition proves nothing",
    ),
    pytest.param(run(S.STOPPING), [("destroy", NAME)], id="stopping: destroy"),
    pytest.param(
        {"in_hand": frozenset({f"boot:{NAME}"})} | run(S.STOPPING),
        [],
        id="stopping, but its boot has not ended",
    ),
    pytest.param({"in_hand": frozenset({NAME})} | run(S.STOPPING), [], id="one thing at a time for a runner"),
    # -- a busy runner is left alone
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing(a_registration(busy=True))},
            "work": {NAME: a_job(JobStatus.IN_PROGRESS, runner=NAME)},
            "draining": True,
            "pools": (),
        }
        | run(S.BUSY, job_id=1, since=ago(hours=6)),
        [],
        id="busy: neither draining nor a reload touches it",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.BUSY, since=ago(hours=6, minutes=16)),
        [("stop", NAME, "job_timeout")],
        id="busy: its time limit ends it",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.BUSY, stop=StopRequest.ASK, job_id=1),
        [("ask guest", NAME)],
        id="busy: an operator who asks does not end it",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.BUSY, stop=StopRequest.FORCE),
        [("stop", NAME, "forced_by_operator")],
        id="busy: an operator who forces does",
    ),
    # -- the guest stays up after its job
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=3))},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=5)),
        [],
        id="job over: the guest has a moment to power off",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=30))},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=5)),
        [("ask guest", NAME)],
        id="job over, guest still up: ask it",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=30))},
            "guests": {NAME: a_guest(runner_alive=False)},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=5)),
        [("stop", NAME, "job_completed")],
        id="job over, runner ended, guest still up: stop it",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: DONE_LONG_AGO},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=9)),
        [("stop", NAME, "job_completed")],
        id="job over long ago, guest does not answer",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: replace(DONE_LONG_AGO, checked_at=None)},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=9)),
        [("check", 1)],
        id="only a webhook said that the job is over: ask GitHub before ending what may run",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: DONE_LONG_AGO},
            "guests": {NAME: a_guest(worker_alive=True)},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=9)),
        [("stop", NAME, "job_completed")],
        id="job over long ago, and a process in the guest pretends to be its worker",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET, "guests": {NAME: a_guest()}}
        | run(S.BUSY, since=ago(minutes=11)),
        [("retire", NAME, "no_job")],
        id="busy without a job and without a worker",
    ),
    # -- registered, and it goes wrong
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(online=False))}}
        | run(S.REGISTERED, since=ago(minutes=4)),
        [("retire", NAME, "never_online")],
        id="never came online",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(online=False))}}
        | run(S.REGISTERED, delivered=False),
        [("ask guest", NAME)],
        id="nobody delivers any more: ask the guest whether it got it",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest(delivered=False, runner_alive=False)},
        }
        | run(S.REGISTERED, delivered=False),
        [("retire", NAME, "delivery_lost")],
        id="it did not: the JIT config died with us",
    ),
    pytest.param(
        {
            "demand": (a_demand(),),
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest(delivered=False, runner_alive=False)},
        }
        | run(S.REGISTERED, delivered=False),
        [("retire", NAME, "delivery_lost", "again")],
        id="it did not, and a job waits: the same VM gets another",
    ),
    pytest.param(
        {
            "demand": (a_demand(),),
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest(delivered=False, runner_alive=False)},
        }
        | run(S.REGISTERED, delivered=False, created_at=ago(minutes=10)),
        [("retire", NAME, "delivery_lost")],
        id="it did not, and its VM is ten minutes old: a fresh one",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest()},
        }
        | run(S.REGISTERED, delivered=False),
        [],
        id="it did: go on",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "guests": {NAME: a_guest(runner_alive=False, at=ago(seconds=1))},
        }
        | run(S.IDLE),
        [("stop", NAME, "ended_without_job")],
        id="the runner ended without a job",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}} | run(S.IDLE),
        [("ask guest", NAME)],
        id="its registration vanished: ask the guest",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "guests": {NAME: a_guest()}}
        | run(S.IDLE, since=ago(minutes=3)),
        [("retire", NAME, "ghost")],
        id="listening without a registration: a ghost",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(queued_at=ago(minutes=4), checked_at=ago(seconds=9)),)),),
            "host": UP,
            "registrations": QUIET,
        }
        | run(S.IDLE, since=ago(minutes=3)),
        [("retire", NAME, "deaf")],
        id="online beside a job that waits for it: deaf",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(queued_at=ago(minutes=4), checked_at=ago(minutes=4)),)),),
            "host": UP,
            "registrations": QUIET,
        }
        | run(S.IDLE, since=ago(minutes=3)),
        [],
        id="the job may be gone by now: not deaf",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": OFFLINE,
            "guests": {NAME: a_guest(runner_alive=False, exit_code=7)},
        }
        | run(S.REGISTERED),
        [("stop", NAME, "runner_too_old")],
        id="GitHub turned its runner away",
    ),
    # -- adoption
    pytest.param(
        {"demand": (a_demand(),), "host": UP} | run(S.BOOTING),
        [("boot", NAME)],
        id="booting when we died: go on",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": DOWN} | run(S.BOOTING),
        [("stop", NAME, "interrupted")],
        id="cloned but never started when we died",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host()} | run(S.BOOTING),
        [("stop", NAME, "interrupted")],
        id="not even cloned when we died: a new name, not this one",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": None} | run(S.BOOTING),
        [("look", "host")],
        id="adoption waits for a look",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": UP} | run(S.BOOTING, since=ago(minutes=6)),
        [("stop", NAME, "boot_timeout")],
        id="booting too long already",
    ),
    # -- unwanted
    *(
        pytest.param(
            {"host": UP, "draining": True, "registrations": OFFLINE} | run(state),
            [(verb, NAME, "draining")],
            id=f"draining: {state}",
        )
        for state, verb in (
            (S.CLAIMED, "stop"),
            (S.BOOTING, "stop"),
            (S.READY, "stop"),
            (S.REGISTERED, "retire"),
            (S.IDLE, "retire"),
        )
    ),
    pytest.param(
        {"host": UP, "pools": (a_pool(cpu=8),), "demand": (a_demand(),)} | run(S.READY),
        [("stop", NAME, "pool_changed"), ("claim", "2", "mac")],
        id="a reload changed the pool: the ready runner goes",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, stop=StopRequest.ASK),
        [("retire", NAME, "stopped_by_operator")],
        id="an operator asks for an idle runner",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, stop=StopRequest.FORCE),
        [("stop", NAME, "forced_by_operator")],
        id="an operator forces an idle runner",
    ),
    # -- held for debugging
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, held_until=SOON),
        [("hold", NAME)],
        id="a hold is told to the guest",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET, "in_hand": frozenset({f"hold:{NAME}"})}
        | run(S.IDLE, held_until=SOON, since=ago(hours=1)),
        [],
        id="a guest that cannot be told is held by us all the same",
    ),
    *(
        pytest.param(
            {"host": UP, "registrations": OFFLINE, "draining": True} | run(state, **HELD, since=ago(hours=1)),
            [],
            id=f"draining waits for a held one, and its time is not up: {state}",
        )
        for state in (S.REGISTERED, S.IDLE)
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET, "demand": (a_demand(),)} | run(S.IDLE, **HELD),
        [("claim", "2", "mac")],
        id="a held runner may be broken: a job gets another one",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: DONE_LONG_AGO},
            "guests": {NAME: a_guest(runner_alive=False)},
        }
        | run(S.BUSY, job_id=1, **HELD),
        [],
        id="its job is done: held all the same",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, held_until=ago(seconds=1), guest_held_until=ago(seconds=1)),
        [("stop", NAME, "job_completed")],
        id="the hold is over: it goes",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, guest_held_until=SOON),
        [("hold", NAME)],
        id="released: the guest is told first",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, stop=StopRequest.ASK, **HELD),
        [("stop", NAME, "job_completed")],
        id="asked to stop: the hold is over",
    ),
    pytest.param(
        {"host": DOWN, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, **HELD),
        [("stop", NAME, "job_completed")],
        id="a held VM that ended is no more",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(busy=True))}}
        | run(S.BUSY, since=ago(hours=7), **HELD),
        [("stop", NAME, "job_timeout")],
        id="no hold outlasts job_timeout",
    ),
    # -- debts and orphans
    pytest.param(
        {"registrations": {TARGET: listing()}}
        | run(S.GONE, target=TARGET, registration_id=7, deregistered=False),
        [("settledebt", NAME)],
        id="a registration left behind is a debt",
    ),
    pytest.param(
        {"registrations": {TARGET: listing()}}
        | run(S.GONE, target=TARGET, deregistered=False, since=ago(hours=26)),
        [],
        id="GitHub removes it by itself after a day",
    ),
    pytest.param({"host": a_host(a_vm(OTHER))}, [], id="an orphaned VM seen once may be a race"),
    pytest.param(
        {"host": a_host(a_vm(OTHER)), "seen_before": frozenset({f"vm:{OTHER}"})},
        [("sweep", OTHER)],
        id="seen twice it goes",
    ),
    pytest.param(
        {
            "host": a_host(a_vm("mini-base-0123456789ab"), a_vm("mini-2-mac-aaaaaaaa"), a_vm("my-vm")),
            "seen_before": frozenset({"vm:mini-base-0123456789ab", "vm:mini-2-mac-aaaaaaaa", "vm:my-vm"}),
        },
        [("sweep", "mini-2-mac-aaaaaaaa")],
        id="strangers and bases are never touched",
    ),
    pytest.param(
        {
            "registrations": {TARGET: listing(a_registration(OTHER))},
            "seen_before": frozenset({f"registration:acme/app:{OTHER}"}),
        },
        [("sweep", f"acme/app:{OTHER}")],
        id="a stale registration seen twice goes",
    ),
    # -- looks
    pytest.param({"host": a_host(at=ago(seconds=61))}, [("look", "host")], id="quiet: a look a minute"),
    pytest.param(
        {"host": a_host(at=ago(seconds=5)), "host_changed_at": ago(seconds=4)},
        [("look", "host")],
        id="something happened on the host",
    ),
    pytest.param(
        {"host": a_host(at=ago(seconds=61)), "in_hand": frozenset({"look:host"})}, [], id="one look at a time"
    ),
    pytest.param(
        {"known_targets": frozenset({TARGET})}, [("look", "acme/app")], id="known targets are swept"
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.IN_PROGRESS, runner=OTHER, started_at=ago(minutes=5)),)},
        [("check", 1)],
        id="a job that runs on a runner that is gone is read again",
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.WAITING),)},
        [("check", 1)],
        id="a job that is held back is asked about once: it may have been queued since",
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.WAITING, received_at=ago(seconds=4)),)}, [], id="not at once"
    ),
    pytest.param(
        {
            "known_targets": frozenset({TARGET}),
            "registrations": {TARGET: listing()},
            "versions": {"mac": "2.335.0"},
        },
        [("look", "release", "acme/app")],
        id="which runner GitHub expects",
    ),
    pytest.param(
        {
            "known_targets": frozenset({TARGET}),
            "registrations": {TARGET: listing()},
            "versions": {"mac": "2.335.0"},
            "released_at": ago(hours=5),
        },
        [],
        id="that changes rarely",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert decide(**world) == expected


def org(**changes: Any) -> dict[str, Any]:
    return {"demand": (a_demand(organization=True, **changes),)}


def group(**changes: Any) -> dict[tuple[str, str | None], GroupLook]:
    values: dict[str, Any] = {"id": 3, "name": "Default", "visibility": "all", "allows_public": False}
    return {("acme", None): GroupLook(at=ago(minutes=1), group=RunnerGroup(**values | changes))}


def test_auto_scope_asks_for_the_group_first() -> None:
    """With scope auto nothing is claimed before the organization's runner group is known."""
    assert decide(**org()) == [("look", "acme", None)]


@pytest.mark.parametrize(
    ("changes", "found", "target"),
    [
        pytest.param({}, {}, "acme", id="the pool admits the whole organization"),
        pytest.param({"private": False}, {}, "acme/app", id="the group forbids public repositories"),
        pytest.param(
            {"private": False}, {"allows_public": True}, "acme", id="the group allows public repositories"
        ),
        pytest.param(
            {},
            {"visibility": "selected", "repositories": ("acme/app",)},
            "acme",
            id="the group admits what we do",
        ),
        pytest.param(
            {},
            {"visibility": "selected", "repositories": ("acme/app", "acme2/x")},
            "acme/app",
            id="or more: no",
        ),
        pytest.param(
            {}, {"visibility": "selected"}, "acme/app", id="the group does not admit the repository"
        ),
    ],
)
def test_auto_scope(changes: dict[str, Any], found: dict[str, Any], target: str) -> None:
    """Auto registers at the organization only where its group admits nothing that the pool does not."""
    world = org(**changes) | {"groups": group(**found), "host": UP} | run(S.READY)
    assert decide(**world) == [("mint", NAME, target)]


def test_explicit_organization_of_a_user_is_blocked() -> None:
    """A class that cannot be registered anywhere costs no slot."""
    assert decide(pools=(a_pool(scope=Scope.ORGANIZATION),), demand=(a_demand(),)) == []


def a_cooldown(scope: str, **changes: Any) -> Cooldown:
    values: dict[str, Any] = {
        "scope": scope,
        "reason": "boot_timeout",
        "detail": "it failed",
        "failures": 2,
        "until": NOW + timedelta(minutes=1),
    }
    return Cooldown(**values | changes)


@pytest.mark.parametrize("scope", ["host", "pool:mac", "image:sequoia", "class:mac:acme/app"])
def test_cooldown_holds_launches_up(scope: str) -> None:
    """After a failure nothing of its scope starts until the cooldown is over."""
    assert decide(demand=(a_demand(),), cooldowns=(a_cooldown(scope),)) == []


@pytest.mark.parametrize("scope", ["host", "pool:mac"])
def test_one_probe_after_a_cooldown(scope: str) -> None:
    """When a cooldown is over one launch goes ahead of the others, and the rest wait for it."""
    over = (a_cooldown(scope, until=ago(seconds=1)),)
    assert decide(demand=(a_demand(3),), cooldowns=over) == [("claim", "1", "mac")]
    probing = decide(
        demand=(a_demand(3),), cooldowns=over, in_hand=frozenset({f"boot:{NAME}"}), **run(S.BOOTING)
    )
    assert probing == []


def test_another_pool_is_not_held_up() -> None:
    """A pool that fails does not starve the others."""
    pools = (a_pool(), a_pool(name="other", labels=("x",)))
    demand = (a_demand(), a_demand(pool="other"))
    assert decide(pools=pools, demand=demand, cooldowns=(a_cooldown("pool:mac"),)) == [
        ("claim", "1", "other")
    ]


def claims(**world: Any) -> list[str]:
    return [
        action.reason.split(" of ")[1].split(" ")[0]
        for action in plan(a_world(**world), now=NOW)
        if isinstance(action, Claim)
    ]


def test_priority_then_share_then_age() -> None:
    """The next slot goes by pool priority, then to the repository with the smallest share, then to the oldest."""
    pools = (a_pool(), a_pool(name="fast", labels=("x",), priority=5))
    older, newer = a_head(queued_at=ago(minutes=9)), a_head(id=2, queued_at=ago(minutes=1))
    demand = (
        a_demand(9, repository="acme/a", heads=(older, older)),
        a_demand(repository="acme/b", heads=(newer,)),
        a_demand(pool="fast", repository="acme/c", heads=(newer,)),
    )
    assert claims(pools=pools, demand=demand, slots=tuple("12345"), host=a_host(limit=None)) == [
        "acme/c", "acme/a", "acme/b", "acme/a", "acme/a",
    ]  # fmt: skip


def test_starving_goes_first() -> None:
    """A job that has waited half an hour goes first, whatever its pool's priority."""
    pools = (a_pool(), a_pool(name="fast", labels=("x",), priority=5))
    demand = (
        a_demand(repository="acme/a", heads=(a_head(queued_at=ago(minutes=31)),)),
        a_demand(pool="fast", repository="acme/c", heads=(a_head(id=2, queued_at=ago(minutes=29)),)),
    )
    assert claims(pools=pools, demand=demand, slots=("1",)) == ["acme/a"]


def test_caps() -> None:
    """A pool's cap on runners, and its cap per repository, are kept."""
    slots, host = tuple("1234"), a_host(limit=None)
    assert len(claims(pools=(a_pool(max_runners=1),), demand=(a_demand(5),), slots=slots, host=host)) == 1
    two = (a_demand(5), a_demand(5, repository="acme/b"))
    capped = claims(pools=(a_pool(max_per_repository=1),), demand=two, slots=slots, host=host)
    assert sorted(capped) == ["acme/app", "acme/b"]


@pytest.mark.parametrize(
    ("removed", "guest", "over", "expected"),
    [
        pytest.param(True, None, False, True, id="GitHub removed it: it was idle"),
        pytest.param(False, None, False, False, id="unlisted, guest silent: unknown is not idle"),
        pytest.param(False, None, True, True, id="unlisted, guest silent, but its job is over"),
        pytest.param(False, a_guest(worker_alive=True), True, False, id="the guest runs a job"),
        pytest.param(False, a_guest(), False, True, id="unlisted and the guest runs none"),
    ],
)
def test_may_destroy(removed: bool, guest: Any, over: bool, expected: bool) -> None:
    """GitHub's and the guest's word together decide whether a registered runner may go."""
    assert may_destroy(removed=removed, guest=guest, over=over) is expected
