"""A history once more, through the plan that decides in earnest, on a clock that jumps from event to event.

Jobs come when they came and run as long as they ran; VMs, GitHub and everything between take the times they are said to
take, and nothing fails. What becomes of it is up to :func:`app.domain.plan.decide`, which is asked after an event as the
reconciler asks it with the rest of the plan, of a World in which every look is up to date. It is not asked where it has no
choice: a slot that is taken gets its VM, a job that runs is believed, a VM whose job is over is removed, and GitHub is asked
about a job beside the boot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

from app.domain import actions as do
from app.domain.jobs import Job
from app.domain.lifecycle import PRESSED_IDLE
from app.domain.line import Line
from app.domain.looks import SETTLED
from app.domain.plan import decide
from app.domain.pools import MACOS_VM, Names, Target
from app.domain.runners import Runner, RunnerState, advance
from app.domain.world import (
    VM,
    GroupLook,
    Host,
    HostLook,
    Registration,
    RegistrationsLook,
    RunnerGroup,
    VMState,
    World,
)
from app.forecast.github import Assignment, Queued
from app.forecast.history import History, PastJob
from app.forecast.outcome import Goal, Outcome, Setup
from app.forecast.timings import Timings
from app.forecast.waiting import Waiting

ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)  # of looks that do not age
ASK = timedelta(seconds=0.3)  # for GitHub's answer about a job
AT_WORK = frozenset({RunnerState.BUSY, RunnerState.STOPPING})  # nothing is decided until that is over
NAMES = Names("forecast")


def replay(history: History, setup: Setup, timings: Timings, *, goal: Goal | None = None) -> Outcome | None:
    """Return how *history* goes with *setup*; None once it cannot meet *goal* any more, where there is one."""
    return _Replay(history, setup, timings, goal).run()


@dataclass(slots=True)
class _Tally:
    """What is counted on the way."""

    waits: list[timedelta] = field(default_factory=list)
    given_up: list[timedelta] = field(default_factory=list)
    launches: int = 0
    vm_time: timedelta = timedelta(0)
    job_time: timedelta = timedelta(0)


class _Replay:
    """One run of it."""

    def __init__(self, history: History, setup: Setup, timings: Timings, goal: Goal | None) -> None:
        self._history, self._setup, self._timings, self._goal = history, setup, timings, goal
        self._begun = self._now = self._ended = history.jobs[0].job.queued_at if history.jobs else ALWAYS
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = count()
        self._hosts = (Host(room={MACOS_VM: setup.places}),)
        self._groups = _groups(history)
        self._github = Assignment()
        self._waiting = Waiting(heads=setup.places, hear=timings.hear)
        self._queued: dict[int, Queued] = {}  # not started, whether heard of or not
        self._runners: dict[str, Runner] = {}
        self._work: dict[str, Job] = {}
        self._in_hand: set[str] = set()
        self._host: HostLook | None = None  # None: VMs came or went since
        self._pools = tuple(replace(pool, min_ready=setup.min_ready) for pool in history.pools)
        self._images = frozenset(pool.image for pool in history.pools)
        self._tally = _Tally()
        self._late = 0
        self._may_be_late = int(len(history.jobs) * (1 - goal.share) + 1e-9) if goal else 0

    def run(self) -> Outcome | None:
        """Let everything happen."""
        coming = iter(self._history.jobs)
        self._next_arrival(coming)
        while self._events:
            self._now, _, happen = heappop(self._events)
            happen()
            if self._goal is not None and self._late > self._may_be_late:
                return None
        tally = self._tally
        for runner in self._runners.values():  # that are kept ready
            tally.vm_time += max(timedelta(0), self._ended - runner.created_at)
        return Outcome(
            setup=self._setup,
            waits=tuple(sorted(tally.waits)),
            given_up=tuple(sorted(tally.given_up)),
            launches=tally.launches,
            span=self._ended - self._begun,
            vm_time=tally.vm_time,
            job_time=tally.job_time,
        )

    def _at(self, when: datetime, happen: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._order), happen))

    def _after(self, span: timedelta, happen: Callable[[], None]) -> None:
        self._at(self._now + span, happen)

    # -- jobs ------------------------------------------------------------------------------------

    def _next_arrival(self, coming: Iterator[PastJob]) -> None:
        past = next(coming, None)
        if past is not None:
            self._at(past.job.queued_at, partial(self._arrive, past, coming))

    def _arrive(self, past: PastJob, coming: Iterator[PastJob]) -> None:
        self._next_arrival(coming)
        self._queued[past.job.id] = queued = Queued(past)
        self._github.queue(queued)
        self._match()
        if past.given_up:
            self._after(past.lasts, partial(self._give_up, queued))
        self._after(self._timings.hear, partial(self._hear, queued))

    def _hear(self, queued: Queued) -> None:
        if queued.past.job.id in self._queued:
            self._waiting.add(queued)
            self._after(SETTLED + ASK, partial(self._check, queued))
            self._turn()

    def _check(self, queued: Queued) -> None:
        """Have GitHub's word on a job that still waits, as the plan asks for it beside a boot; it holds good from now on."""
        if queued.past.job.id in self._queued:
            self._waiting.note_check(queued, ALWAYS)

    def _leave(self, queued: Queued) -> None:
        """Take a job that starts, or is given up, out of every queue."""
        del self._queued[queued.past.job.id]
        self._waiting.remove(queued)

    def _give_up(self, queued: Queued) -> None:
        if queued.past.job.id not in self._queued:
            return  # it runs by now, and ends with its run
        self._leave(queued)
        self._github.withdraw(queued)
        runner = self._runners.get(queued.runner or "")
        if runner is not None:
            self._github.idle[runner.name] = runner
            self._match()
        self._note_wait(self._tally.given_up, queued)
        self._turn()

    def _note_wait(self, waits: list[timedelta], queued: Queued) -> None:
        wait = self._now - queued.past.job.queued_at
        waits.append(wait)
        self._late += self._goal is not None and wait > self._goal.within

    # -- runners ---------------------------------------------------------------------------------

    def _match(self) -> None:
        for queued, runner in self._github.match():
            self._after(self._timings.pick_up, partial(self._pick_up, queued, runner.name))

    def _pick_up(self, queued: Queued, name: str) -> None:
        if queued.runner != name or queued.past.job.id not in self._queued:
            return
        past = queued.past
        self._leave(queued)
        self._note_wait(self._tally.waits, queued)
        self._work[name] = past.job
        self._move(name, RunnerState.BUSY, f"job {past.job.id}", job_id=past.job.id)
        self._in_hand.add(name)
        end = past.job.queued_at + past.lasts if past.given_up else self._now + past.lasts
        limit = self._now + past.pool.job_timeout
        if end > limit:
            self._at(limit, partial(self._end_in_time, name))
        self._at(end, partial(self._finish, name))
        self._turn()

    def _finish(self, name: str) -> None:
        runner = self._runners.get(name)
        if runner is not None and runner.state is RunnerState.BUSY:
            self._stop(runner, "job_completed")
            self._turn()

    def _end_in_time(self, name: str) -> None:
        self._in_hand.discard(name)
        self._pass()

    def _booted(self, name: str) -> None:
        key = f"boot:{name}"
        if key in self._in_hand:
            self._in_hand.discard(key)
            self._move(name, RunnerState.READY, "guest_answers")
            self._turn()

    def _online(self, name: str) -> None:
        self._in_hand.discard(name)
        self._github.idle[name] = self._runners[name]
        self._match()
        if name in self._github.idle:
            self._turn()

    def _gone(self, name: str) -> None:
        runner = self._runners.pop(name)
        self._in_hand.discard(name)
        self._work.pop(name, None)
        self._host = None
        self._ended = self._now
        self._tally.vm_time += self._now - runner.created_at
        self._turn()

    def _move(self, name: str, to: RunnerState, reason: str, **changes: Any) -> None:
        moved = advance(self._runners[name], to, at=self._now, reason=reason, **changes)
        self._runners[name] = moved
        if to is RunnerState.READY or to is RunnerState.IDLE:
            self._look_again(name, moved.deadline())
        if to is RunnerState.IDLE:
            self._look_again(name, self._now + PRESSED_IDLE)

    def _look_again(self, name: str, at: datetime | None) -> None:
        """Ask the plan at that time, if the runner is then in the state that it is in now."""
        state = self._runners[name].state

        def look() -> None:
            runner = self._runners.get(name)
            if runner is not None and runner.state is state:
                self._turn()

        if at is not None:
            self._at(at, look)

    # -- passes ----------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Make a pass, where anything could come of it."""
        if self._is_open():
            self._pass()

    def _is_open(self) -> bool:
        """Whether a place is free for a job that waits, or something is to be decided about a runner."""
        wanted = bool(self._waiting) or self._setup.min_ready > 0
        may_claim = wanted and len(self._runners) < self._setup.places
        return may_claim or any(runner.state not in AT_WORK for runner in self._runners.values())

    def _pass(self) -> None:
        changed = True
        while changed:
            world = self._world()
            done = [self._perform(action) for action in decide(world, Line(world, self._now), self._now)]
            changed = any(done) and self._is_open()

    def _perform(self, action: do.Action) -> bool:
        """Let what the plan says happen; True where it changes something at once, so that another pass follows."""
        match action:
            case do.Claim():
                self._claim(action)
                return self._setup.min_ready > 0  # what jobs leave is taken in the pass after theirs
            case do.Mint(runner):
                made = {"target": action.target, "registration_id": 1}
                self._move(runner.name, RunnerState.REGISTERED, action.reason, **made)
                self._in_hand.add(runner.name)
                self._after(self._timings.register, partial(self._online, runner.name))
                # A pass asks GitHub for a few at a time, and here it answers at once.
                return any(
                    other.state is RunnerState.READY and name not in self._in_hand
                    for name, other in self._runners.items()
                )
            case do.Note(runner):
                self._move(runner.name, action.to, action.reason, job_id=action.job_id)
            case do.Stop(runner) | do.Retire(runner):
                self._stop(runner, action.reason)
                return False
            case do.CheckJob(job_id):
                self._in_hand.add(action.key)
                self._after(ASK, partial(self._answer, job_id, action.key))
                return False
            case _:
                return False  # the rest is about looks, images, operators and leftovers, of which there are none here
        return True

    def _claim(self, action: do.Claim) -> None:
        pool = next(pool for pool in self._pools if pool.name == action.pool)
        self._tally.launches += 1
        name = f"{pool.name}-{self._tally.launches}"
        self._host = None
        self._runners[name] = Runner(
            name=name,
            slot=action.slot,
            spec=pool,
            state=RunnerState.BOOTING,
            since=self._now,
            created_at=self._now,
            delivered=True,
            deregistered=True,
        )
        self._in_hand.add(f"boot:{name}")
        self._after(self._timings.start(self._setup.start), partial(self._booted, name))

    def _stop(self, runner: Runner, reason: str) -> None:
        """Tear a runner down, unless GitHub gave it a job a moment ago and so keeps it.

        What follows a stop is the removal, whatever else there is: the plan is not asked for it.
        """
        given = runner.target is not None and runner.name not in self._github.idle
        if given and runner.name not in self._work:
            return
        if runner.state is RunnerState.BUSY:
            self._tally.job_time += self._now - runner.since
        self._github.idle.pop(runner.name, None)
        self._in_hand.discard(f"boot:{runner.name}")
        self._move(runner.name, RunnerState.STOPPING, reason)
        self._in_hand.add(runner.name)
        self._after(self._timings.end, partial(self._gone, runner.name))

    def _answer(self, job_id: int, key: str) -> None:
        self._in_hand.discard(key)
        queued = self._queued.get(job_id)
        if queued is None:
            return
        if queued.checked_at is None:
            self._waiting.note_check(queued, self._now)
        if any(runner.state is RunnerState.READY for runner in self._runners.values()):
            self._turn()

    def _world(self) -> World:
        return World(
            names=NAMES,
            pools=self._pools,
            demand=self._waiting.demand,
            runners=tuple(self._runners.values()),
            work=self._work,
            host=self._look_at_host(),
            registrations=self._look_at_registrations(),
            groups=self._groups,
            in_hand=frozenset(self._in_hand),
        )

    def _look_at_host(self) -> HostLook:
        if self._host is None:
            vms = tuple(VM(name=name, state=VMState.RUNNING, takes={MACOS_VM: 1}) for name in self._runners)
            self._host = HostLook(
                at=ALWAYS, vms=vms, hosts=self._hosts, free_disk_gb=1000.0, images=self._images
            )
        return self._host

    def _look_at_registrations(self) -> dict[Target, RegistrationsLook]:
        """List runners only where one is online without a job: of others what GitHub lists changes nothing."""
        looks = {}
        for target in {runner.target for runner in self._github.idle.values() if runner.target}:
            listed = tuple(
                Registration(id=0, name=name, online=name in self._github.idle, busy=False)
                for name, runner in self._runners.items()
                if runner.target == target
            )
            looks[target] = RegistrationsLook(at=ALWAYS, registrations=listed)
        return looks


def _groups(history: History) -> dict[tuple[str, str | None], GroupLook]:
    """Return the runner groups of all organizations, each as its pools need it."""
    group = RunnerGroup(id=1, name="Default", visibility="all", allows_public=True)
    owners = {past.job.repository.partition("/")[0] for past in history.jobs if past.job.organization}
    return {
        (owner, pool.runner_group): GroupLook(at=ALWAYS, group=group)
        for owner in owners
        for pool in history.pools
    }
