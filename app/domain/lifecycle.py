"""What to do about one runner: first believe what is already true, then decide on what was just believed.

One rule a state. Each takes the World, the runner's unit of demand (None: no job needs it) and whether a job it
cannot serve waits for a slot, and returns at most one action. A runner that GitHub knows is never destroyed on
our word alone: either its VM has ended, or GitHub was asked first (Retire), or its time is up.
"""

from __future__ import annotations

from datetime import timedelta

from app.domain.actions import (
    Action,
    Boot,
    CheckJob,
    Destroy,
    Hold,
    LookAtGuest,
    Mint,
    Note,
    Retire,
    SettleDebt,
    Stop,
)
from app.domain.case import Case
from app.domain.chores import review_chore
from app.domain.jobs import JobStatus
from app.domain.line import Unit
from app.domain.looks import SETTLED
from app.domain.pools import Forks
from app.domain.runners import COMING, WAITING, Runner, RunnerState, StopRequest
from app.domain.world import GuestLook

PRESSED_IDLE = timedelta(seconds=30)  # an idle runner yields after this when another class waits
POWER_OFF = timedelta(seconds=20)  # after its job a guest lingers 2 s and powers off by itself
GUEST_LOOK_LASTS = timedelta(seconds=30)
DEAF = timedelta(minutes=3)  # online beside a job that waits for it; GitHub hands one over within 60 s
REUSABLE = timedelta(minutes=10)  # the age of a VM up to which a lost JIT config is replaced
WORKED = "worked"  # how a VM ended whose runner had a job, which without webhooks may be all we hear of it
TOO_OLD = 7  # run.sh ends with it when GitHub turns the runner's version away
GHOST = timedelta(minutes=2)  # listening, but its registration is gone
JOBLESS = timedelta(minutes=10)  # busy, but GitHub knows no job and the guest runs no worker
FORGIVEN = timedelta(hours=25)  # GitHub itself removes an ephemeral runner that was offline for a day
SILENT = timedelta(minutes=5)  # that a guest may neither answer nor, when its job is over, power off


def review(case: Case) -> Action | None:
    """Return the one thing to do about a runner now."""
    runner = case.runner
    if runner.name in case.world.in_hand:
        return None
    match runner.state:
        case RunnerState.CLAIMED | RunnerState.BOOTING:
            return _review_launch(case) if runner.serves_jobs else review_chore(case)
        case RunnerState.READY:
            return _review_ready(case)
        case RunnerState.REGISTERED | RunnerState.IDLE:
            return _believe(case) or _tell_hold(case) or _review_waiting(case)
        case RunnerState.BUSY:
            return _review_work(case) or _tell_hold(case) or _review_rest(case)
        case RunnerState.STOPPING:
            # A boot that was told to end must have ended, or it would go on making what is being removed.
            return None if f"boot:{runner.name}" in case.world.in_hand else Destroy(runner)
        case RunnerState.GONE:
            return SettleDebt(runner) if runner.is_owed and case.age < FORGIVEN else None


def _review_launch(case: Case) -> Action | None:
    runner = case.runner
    unwanted = case.is_unwanted or case.leaving or _why_not_begun(case)
    if unwanted:
        return Stop(runner=runner, reason=unwanted)
    if f"boot:{runner.name}" in case.world.in_hand:
        return None  # it keeps its own time limit
    if runner.state is RunnerState.CLAIMED:
        return Boot(runner)
    if case.overdue:
        return Stop(runner=runner, reason="boot_timeout")
    if case.ending:
        return Stop(runner=runner, reason="interrupted")
    return Boot(runner) if case.is_up else None


def _why_not_begun(case: Case) -> str | None:
    # A boot that nobody needs any more is let finish, for the next job.
    needless = case.unit is None and not case.kept and case.runner.state is RunnerState.CLAIMED
    return "no_longer_needed" if needless else None


def _review_ready(case: Case) -> Action | None:
    runner, unit = case.runner, case.unit
    if case.ending:
        return Stop(runner=runner, reason=case.ending)
    if case.is_unwanted:
        return Stop(runner=runner, reason=case.is_unwanted)
    if unit is None:
        why = case.leaving or ("surplus" if case.overdue and not case.kept else None)
        return Stop(runner=runner, reason=why) if why else None
    if not is_verified(unit, runner):
        return CheckJob(unit.head.id)
    if unit.pool.forks is Forks.DENY and unit.head.fork is None:
        return CheckJob(unit.head.id)
    return Mint(
        runner=runner,
        target=unit.route.target,
        group_id=unit.route.group_id,
        reason=f"job {unit.head.id} waits",
    )


def is_verified(unit: Unit, runner: Runner) -> bool:
    """Whether GitHub was asked about the unit's job late enough to register for it."""
    checked = unit.head.checked_at
    if checked is None:
        return False
    if runner.state is RunnerState.READY and checked >= runner.since:
        return True
    return checked >= max(runner.created_at, unit.head.received_at + SETTLED)


def _believe(case: Case) -> Action | None:
    """Take note of what GitHub, the host and the guest already say."""
    runner = case.runner
    job = case.world.work.get(runner.name)
    if case.ending:
        barren = job is None and case.ending != WORKED
        return Stop(runner=runner, reason=_end_reason(case), barren=barren)
    if job is not None:
        return Note(runner=runner, to=RunnerState.BUSY, reason=f"job {job.id}", job_id=job.id)
    listed = case.world.registration(runner)
    if listed is not None and listed.busy:
        return Note(runner=runner, to=RunnerState.BUSY, reason="github_lists_it_busy")
    if case.guest is not None and case.guest.worker_alive:
        return Note(runner=runner, to=RunnerState.BUSY, reason="guest_runs_a_job")
    if listed is not None and listed.online and runner.state is RunnerState.REGISTERED:
        return Note(runner=runner, to=RunnerState.IDLE, reason="online")
    return None


def _tell_hold(case: Case) -> Action | None:
    """Tell a guest of a hold that is new to it, or of one that was taken back."""
    runner, telling = case.runner, Hold(case.runner)
    pointless = runner.held_until is not None and not case.is_held
    if pointless or runner.held_until == runner.guest_held_until or telling.key in case.world.in_hand:
        return None
    return telling


def _end_reason(case: Case) -> str:
    job = case.world.work.get(case.runner.name)
    if job is not None and job.status is JobStatus.COMPLETED:
        return "job_completed"
    return case.ending or "vm_ended"


def _review_waiting(case: Case) -> Action | None:
    runner, guest = case.runner, case.guest
    if runner.stop is StopRequest.FORCE:
        return Stop(runner=runner, reason="forced_by_operator")
    if case.is_held:
        return None
    if case.is_unwanted:
        return Retire(runner=runner, reason=case.is_unwanted)
    if case.overdue:
        late = "never_online" if runner.state is RunnerState.REGISTERED else "idle_timeout"
        return Retire(runner=runner, reason=late, barren=late == "never_online")
    if case.unit is None and case.pressed and case.age >= PRESSED_IDLE:
        return Retire(runner=runner, reason="surplus")
    if guest is not None and guest.delivered and not guest.runner_alive:
        reason = "runner_too_old" if guest.exit_code == TOO_OLD else "ended_without_job"
        return Stop(runner=runner, reason=reason, barren=True)
    if not runner.delivered and (guest is None or not guest.delivered):
        # Whoever was delivering is gone: the JIT config died with it.
        again = case.unit is not None and case.now - runner.created_at < REUSABLE
        return Retire(runner=runner, reason="delivery_lost", again=again) if guest else _ask_guest(case)
    if _is_deaf(case):
        return Retire(runner=runner, reason="deaf", barren=True)
    if case.world.is_unlisted(runner):
        return Retire(runner=runner, reason="ghost") if case.age >= GHOST else _ask_guest(case)
    return None


def _is_deaf(case: Case) -> bool:
    """Whether the runner is online and a job that GitHub says waits for such a one is not handed to it."""
    unit, since = case.unit, case.runner.since
    if unit is None or case.runner.state is not RunnerState.IDLE or case.age < DEAF:
        return False
    head = unit.head
    return case.now - head.queued_at >= DEAF and head.checked_at is not None and head.checked_at > since


def _review_work(case: Case) -> Action | None:
    """End a busy runner whatever its guest says, or take note of its job."""
    runner = case.runner
    if case.ending:
        return Stop(runner=runner, reason=_end_reason(case))
    if runner.stop is StopRequest.FORCE:
        return Stop(runner=runner, reason="forced_by_operator")
    if case.overdue:
        return Stop(runner=runner, reason="job_timeout")
    job = case.world.work.get(runner.name)
    if job is not None and runner.job_id != job.id:
        return Note(runner=runner, to=RunnerState.BUSY, reason=f"job {job.id}", job_id=job.id)
    return None


def _review_rest(case: Case) -> Action | None:
    """See to a busy runner whose job is over, or of which GitHub knows none."""
    runner, guest = case.runner, case.guest
    if case.is_held:
        return None
    job, over = case.world.work.get(runner.name), case.job_over
    if over is not None and over < POWER_OFF:
        return None
    if over is not None and over >= SILENT and job is not None:
        # GitHub is done with the job, and the registration was good for one: whatever the guest says, or does not.
        confirmed = job.checked_at is not None
        return Stop(runner=runner, reason="job_completed") if confirmed else CheckJob(job.id)
    if over is None and job is not None and not case.world.is_unlisted(runner):
        return None  # as it should be
    if guest is None or case.now - guest.at > GUEST_LOOK_LASTS:
        return _ask_guest(case)
    if guest.delivered and not guest.runner_alive:
        # Nothing runs in there any more; a registration that GitHub still calls busy becomes a debt.
        return Stop(runner=runner, reason="runner_ended" if over is None else "job_completed")
    if not guest.worker_alive and case.age >= JOBLESS and (over is not None or job is None):
        return Retire(runner=runner, reason="no_job")
    return None


def may_destroy(*, removed: bool, guest: GuestLook | None, over: bool) -> bool:
    """Whether a runner that GitHub was asked about may be torn down.

    *removed*: GitHub removed the registration now, so it was idle. Else there was none, which a job just taken
    would show as well: the guest's word decides, and without it only a job that GitHub calls completed.
    """
    if removed:
        return True
    return over if guest is None else not guest.worker_alive


def _ask_guest(case: Case) -> Action | None:
    look = LookAtGuest(case.runner)
    asked = case.guest is not None and case.now - case.guest.at <= GUEST_LOOK_LASTS
    return None if asked or look.key in case.world.in_hand else look


def side_check(case: Case) -> Action | None:
    """Return the look at a job that can be made beside a boot, so that the mint need not wait for it."""
    unit, runner = case.unit, case.runner
    if unit is None or runner.state not in COMING or runner.state is RunnerState.READY:
        return None
    if case.now < unit.head.received_at + SETTLED or is_verified(unit, runner):
        return None
    return CheckJob(unit.head.id)


def needs_unit(runner: Runner) -> bool:
    """Whether the runner counts as supply for waiting jobs."""
    return runner.serves_jobs and (runner.state in COMING or runner.state in WAITING)
