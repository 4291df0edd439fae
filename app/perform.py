"""How each action is carried out: write the intent, act, write the outcome.

Every action is idempotent, and "already gone" is success. A crash between any two lines leaves a state that the
next pass understands: the rows say what was meant, the looks say what came of it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar, assert_never

import structlog

from app.bases import Bases
from app.db.reader import Reader
from app.db.store import Store
from app.domain import actions as do
from app.domain.drift import Launch
from app.domain.jobs import Job, JobStatus
from app.domain.lifecycle import SILENT, may_destroy
from app.domain.looks import needs_run
from app.domain.pools import (
    BASE,
    GOLDEN,
    TOKEN_ALPHABET,
    TOKEN_LENGTH,
    Forks,
    Start,
    Target,
    host_of,
    runner_name,
)
from app.domain.preparation import UNSERVING
from app.domain.runners import Purpose, Runner, RunnerState
from app.domain.versions import when_turned_away
from app.domain.world import GroupLook, GuestLook, RegistrationsLook, RunnerRelease, World
from app.goldens import Goldens
from app.images import Images
from app.intake import Intake
from app.ledger import spans, start_of
from app.metrics import Metrics
from app.ports import (
    GitHub,
    GitHubRefused,
    GitHubUnavailable,
    NotFound,
    OutsideError,
    RunnerBusy,
    VMBackend,
    VMError,
)
from app.pulls import Pulls
from app.sight import Sight

log = structlog.get_logger(__name__)
T = TypeVar("T")
PLACES = {
    Purpose.BASE: BASE,
    Purpose.GOLDEN: GOLDEN,
}  # where the pool stands, in names of what serves no jobs


class Performer:
    """Carries out the actions of a plan."""

    def __init__(
        self,
        *,
        store: Store,
        reader: Reader,
        github: GitHub,
        vms: VMBackend,
        sight: Sight,
        metrics: Metrics,
        clock: Callable[[], datetime],
        chance: random.Random,
    ) -> None:
        self._store, self._reader = store, reader
        self._github, self._vms = github, vms
        self._sight, self._metrics, self._clock = sight, metrics, clock
        self._chance = chance
        self._intake = Intake(
            store=store,
            reader=reader,
            github=github,
            sight=sight,
            metrics=metrics,
            clock=clock,
            ask=self._ask,
        )
        self._images = Images(store=store, vms=vms, sight=sight, clock=clock, fail=self._fail)
        self._pulls = Pulls(
            store=store,
            vms=vms,
            sight=sight,
            metrics=metrics,
            clock=clock,
            move=self._move,
            fail=self._fail,
        )
        self._bases = Bases(
            store=store,
            github=github,
            vms=vms,
            sight=sight,
            metrics=metrics,
            clock=clock,
            ask=self._ask,
            move=self._move,
            fail=self._fail,
        )
        self._goldens = Goldens(
            store=store,
            vms=vms,
            sight=sight,
            metrics=metrics,
            clock=clock,
            move=self._move,
            fail=self._fail,
        )

    async def perform(self, action: do.Action, world: World) -> None:
        """Carry *action* out. Raises OutsideError where trying again later may help."""
        match action:
            case do.Claim():
                await self._claim(action, world)
            case do.Reseat(slots):
                await self._store.reseat(dict(slots))
                log.info("reseated", slots=dict(slots))
            case do.Boot(runner):
                await self._boot(runner)
            case do.FetchImage(runner):
                await self._pulls.make(runner)
            case do.MakeBase(runner, target):
                await self._bases.make(runner, target)
            case do.MakeGolden(runner):
                await self._goldens.make(runner)
            case do.Mint():
                await self._mint(action)
            case do.Note():
                await self._note(action, world)
            case do.Hold(runner):
                await self._vms.hold(runner.name, runner.held_until)
                await self._store.amend(runner.name, guest_held_until=runner.held_until)
            case do.Stop(runner=runner, reason=reason):
                await self._move(runner.name, RunnerState.STOPPING, reason)
                await self._count_stopped(action)
            case do.Retire():
                await self._retire(action, world)
            case do.Destroy(runner):
                await self._destroy(runner)
            case do.SettleDebt(runner):
                await self._settle(runner)
            case do.SweepVM(name):
                await self._sweep_vm(name)
            case do.SweepRegistration():
                await self._sweep_registration(action)
            case do.PrepareImage(image):
                await self._images.prepare(image)
            case do.RefreshImage(image):
                await self._images.refresh(image, world)
            case do.DropBase(name, in_use):
                await self._images.drop_base(name, in_use)
            case do.DropGolden(name):
                await self._goldens.drop(name)
            case do.LookAtHost():
                await self._look_at_host(world)
            case do.LookAtRegistrations(target):
                at = self._clock()
                found = await self._ask(self._github.registrations(target))
                look = RegistrationsLook(at=at, registrations=found)
                self._sight.saw_registrations(target, look, world)
            case do.LookAtGroup():
                await self._look_at_group(action)
            case do.LookAtGuest(runner):
                self._sight.guests[runner.name] = await self._vms.probe(runner.name)
            case do.CheckJob(job_id):
                await self._check_job(job_id, world)
            case do.ReadDeliveryLog():
                await self._intake.read_log()
            case do.ListRepositories():
                await self._intake.list_repositories()
            case do.PollJobs(repository):
                await self._intake.poll(repository)
            case do.LookAtRelease(target):
                await self._look_at_release(target)
            case _:
                assert_never(action)

    async def _move(self, name: str, to: RunnerState, reason: str, **changes: Any) -> None:
        """Change a runner's state: the one place where transitions are logged and counted."""
        before, after = await self._store.advance(name, to, at=self._clock(), reason=reason, **changes)
        log.info("runner", runner=name, pool=after.pool, was=before.state, now=to, reason=reason)
        self._metrics.transition(before, after)

    async def _claim(self, action: do.Claim, world: World) -> None:
        pool = world.pool(action.pool)
        if pool is None:
            return
        token = "".join(self._chance.choices(TOKEN_ALPHABET, k=TOKEN_LENGTH))
        now = self._clock()
        runner = Runner(
            name=runner_name(world.names.host, PLACES.get(action.purpose, pool.name), token),
            slot=action.slot,
            spec=pool,
            state=RunnerState.CLAIMED,
            since=now,
            created_at=now,
            reason=action.reason,
            purpose=action.purpose,
        )
        await self._store.claim(runner)
        log.info("runner", runner=runner.name, pool=pool.name, now=runner.state, reason=action.reason)
        self._metrics.transition(None, runner)

    async def _boot(self, runner: Runner) -> None:
        if runner.state is RunnerState.CLAIMED:
            await self._move(runner.name, RunnerState.BOOTING, "launch")
        began = self._clock()
        try:
            facts = await self._vms.start(runner.name, runner.spec, host=host_of(runner.slot))
        except VMError as error:
            await self._move(runner.name, RunnerState.STOPPING, error.reason)
            scope = f"image:{runner.spec.image}" if error.reason in UNSERVING else f"pool:{runner.pool}"
            await self._fail("host" if error.host_wide else scope, error.reason, str(error))
            return
        await self._move(
            runner.name,
            RunnerState.READY,
            "guest_answers" if facts.start is Start.COLD else "guest_resumed",
            image=facts.image,
            runner_version=facts.runner_version,
            source=facts.source,
            cloned_at=facts.cloned_at,
            start=facts.start,
        )
        if facts.cloned_at is not None and facts.trouble is None:
            launch = Launch.of(began, facts.cloned_at, self._clock(), facts.start)
            self._sight.launches.note(runner.pool, launch)
        if facts.host:
            self._sight.images_at.setdefault((facts.host, runner.spec.image), self._clock())
        if facts.runner_version is not None:
            self._sight.versions[runner.pool] = facts.runner_version
        await self._goldens.launched(runner, facts)
        await self._store.succeed("host", f"pool:{runner.pool}")

    async def _mint(self, action: do.Mint) -> None:
        runner, scope = action.runner, f"class:{action.runner.pool}:{action.target}"
        # The intent first: from here on GitHub may know the name, whatever becomes of us or of its answer.
        await self._move(runner.name, RunnerState.REGISTERED, action.reason, target=action.target)
        self._sight.known_targets.add(action.target)
        try:
            minted = await self._ask(
                self._github.mint(
                    action.target,
                    name=runner.name,
                    labels=runner.spec.runner_labels,
                    group_id=action.group_id,
                )
            )
        except GitHubUnavailable as error:
            if error.maybe_done:
                await self._move(runner.name, RunnerState.STOPPING, error.code)
            else:
                await self._move(runner.name, RunnerState.READY, error.code, target=None)
            await self._fail(scope, error.code, str(error), at_least=error.retry_after)
            return
        except OutsideError as error:
            nothing_made = isinstance(error, GitHubRefused | NotFound)
            await self._move(runner.name, RunnerState.STOPPING, error.code, deregistered=nothing_made)
            await self._fail(scope, error.code, str(error))
            return
        await self._store.amend(runner.name, registration_id=minted.registration_id, minted_at=self._clock())
        # A delivery that fails may have arrived all the same: the guest is asked before anything is destroyed.
        try:
            await self._vms.deliver(runner.name, runner.spec, minted.jit)
        except VMError as error:
            await self._fail("host" if error.host_wide else scope, error.reason, str(error))
            raise
        await self._store.amend(runner.name, delivered=True, delivered_at=self._clock())

    async def _note(self, action: do.Note, world: World) -> None:
        runner = action.runner
        if action.to is runner.state:
            await self._store.amend(runner.name, job_id=action.job_id)
        else:
            job_id = action.job_id or runner.job_id
            listening_at = runner.listening_at or self._vms.listening(runner.name)
            await self._move(
                runner.name,
                action.to,
                action.reason,
                job_id=job_id,
                delivered=True,
                listening_at=listening_at,
            )
        job = world.work.get(runner.name)
        if job is not None and runner.job_id is None:
            await self._account(job)
        if action.to is RunnerState.BUSY:
            await self._store.succeed(f"class:{runner.pool}:{runner.target}", f"image:{runner.spec.image}")

    async def _account(self, job: Job) -> None:
        """Count how long a job waited, and for what."""
        found = await self._reader.runner(job.runner) if job.runner else None
        if found is not None:
            runner, history = found
            self._metrics.picked_up(job, start_of(job, runner, history), spans(job, runner, history))

    async def _retire(self, action: do.Retire, world: World) -> None:
        runner = action.runner
        if runner.target is None:
            return
        guest = await self._probe(runner.name)
        if guest is not None and guest.worker_alive:
            await self._found_busy(runner, "guest_runs_a_job")
            return
        try:
            removed = await self._ask(
                self._github.deregister(
                    runner.target, name=runner.name, registration_id=runner.registration_id
                )
            )
        except RunnerBusy:
            if runner.state is RunnerState.BUSY:
                raise
            await self._found_busy(runner, "github_says_busy")
            return
        if not removed:
            guest = await self._probe(runner.name)
        job = world.work.get(runner.name)
        over = job is not None and job.status is JobStatus.COMPLETED and job.checked_at is not None
        if may_destroy(removed=removed, guest=guest, over=over):
            if action.again:
                # Nobody ever used the name at GitHub, and it is free there again.
                await self._move(
                    runner.name, RunnerState.READY, action.reason, target=None, registration_id=None
                )
                return
            await self._move(runner.name, RunnerState.STOPPING, action.reason, deregistered=True)
            await self._count_barren(action)
        elif guest is not None:
            await self._found_busy(runner, "guest_runs_a_job")
        elif runner.state is not RunnerState.BUSY and self._is_silent(runner.name):
            # It may run a job of which nobody can tell: the limit of a job ends it.
            await self._found_busy(runner, "guest_silent")
        else:
            msg = f"{runner.name} is not listed by GitHub and its guest does not answer: left alone for now"
            raise VMError(msg, reason="guest_unknown")

    async def _count_stopped(self, action: do.Stop) -> None:
        match action.runner.purpose:
            case Purpose.JOBS:
                await self._count_barren(action)
            case Purpose.BASE:
                await self._bases.stopped(action.runner, action.reason)
            case Purpose.PULL:
                await self._pulls.stopped(action.runner, action.reason)
            case Purpose.GOLDEN:
                await self._goldens.stopped(action.runner, action.reason)

    async def _count_barren(self, action: do.Stop | do.Retire) -> None:
        """Let the next runner of the class wait, more each time, or a broken image would boot VMs in a loop."""
        runner = action.runner
        if action.barren and action.reason == "runner_too_old":
            detail = (
                f"GitHub turned away actions runner {runner.runner_version or 'of unknown version'} of image "
                f"{runner.spec.image} as too old: {when_turned_away(runner.spec)}"
            )
            await self._fail(f"image:{runner.spec.image}", action.reason, detail)
        elif action.barren:
            detail = f"{runner.name} was registered and ended without a job ({action.reason}): see its log"
            await self._fail(f"class:{runner.pool}:{runner.target}", action.reason, detail)

    async def _found_busy(self, runner: Runner, reason: str) -> None:
        if runner.state is not RunnerState.BUSY:
            await self._move(runner.name, RunnerState.BUSY, reason, delivered=True)
            await self._store.succeed(f"class:{runner.pool}:{runner.target}")

    def _is_silent(self, name: str) -> bool:
        since = self._sight.silent_since.get(name)
        return since is not None and self._clock() - since >= SILENT

    async def _probe(self, name: str) -> GuestLook | None:
        try:
            look = await self._vms.probe(name)
        except VMError as error:
            self._sight.silent_since.setdefault(name, self._clock())
            log.info("guest_unknown", runner=name, code=error.code, detail=str(error))
            return None
        self._sight.guests[name] = look
        self._sight.silent_since.pop(name, None)
        return look

    async def _destroy(self, runner: Runner) -> None:
        await self._vms.delete(runner.name)
        await self._move(runner.name, RunnerState.GONE, runner.reason)
        self._sight.confirmed_absent(runner.name)

    async def _settle(self, runner: Runner) -> None:
        if runner.target is None:
            return
        await self._ask(
            self._github.deregister(runner.target, name=runner.name, registration_id=runner.registration_id)
        )
        await self._store.amend(runner.name, deregistered=True)
        self._sight.confirmed_unlisted(runner.target, runner.name)

    async def _sweep_vm(self, name: str) -> None:
        guest = await self._probe(name)
        if guest is not None and guest.worker_alive:
            msg = f"VM {name} has our prefix and no runner, but runs a job: left alone until it ends"
            raise VMError(msg, reason="orphan_busy")
        log.warning("orphan_removed", vm=name)
        await self._vms.delete(name)
        self._sight.confirmed_absent(name)

    async def _sweep_registration(self, action: do.SweepRegistration) -> None:
        await self._ask(
            self._github.deregister(action.target, name=action.name, registration_id=action.registration_id)
        )
        log.warning("orphan_removed", registration=action.name, target=str(action.target))
        self._sight.confirmed_unlisted(action.target, action.name)

    async def _look_at_host(self, world: World) -> None:
        try:
            look = await self._vms.look()
        except VMError as error:
            self._sight.host_trouble = str(error)
            raise
        self._sight.saw_host(look, world)

    async def _look_at_group(self, action: do.LookAtGroup) -> None:
        key = action.organization, action.group
        at = self._clock()
        try:
            group = await self._ask(self._github.runner_group(*key))
        except (NotFound, GitHubRefused) as error:
            self._sight.groups[key] = GroupLook(at=at, group=None, refusal=str(error))
        else:
            self._sight.groups[key] = GroupLook(at=at, group=group)

    async def _look_at_release(self, target: Target) -> None:
        now = self._clock()
        found = await self._ask(self._github.latest_runner(target))
        since = await self._store.note_release(found.version, found.published_at, at=now)
        self._sight.release = RunnerRelease(version=found.version, since=since)
        self._sight.released_at = now

    async def _check_job(self, job_id: int, world: World) -> None:
        job = await self._reader.job(job_id)
        if job is None:
            return
        pool = world.pool(job.pool) if job.pool else None
        forks = pool.forks if pool else Forks.ALLOW
        now = self._clock()
        try:
            event = await self._ask(self._github.job(job.repository, job.id))
            wanted = event.status is JobStatus.QUEUED and needs_run(job, forks=forks, now=now)
            run = await self._ask(self._github.run(job.repository, job.run_id)) if wanted else None
        except NotFound:
            await self._store.end_job(job.id, at=now, note="GitHub no longer knows the job")
            await self._store.mark_checked(job.id, at=now)
        except (GitHubUnavailable, GitHubRefused):
            # What we know stands, and the launch goes on; where it must not, the plan sees that fork is unknown.
            if job.status is JobStatus.QUEUED:
                await self._store.mark_checked(job.id, at=now)
            raise
        else:
            if run is not None and run.status == JobStatus.COMPLETED:
                note = f"its run is over ({run.conclusion}), although GitHub still lists the job as queued"
                await self._store.end_job(job.id, at=now, note=note)
            elif job.status is JobStatus.COMPLETED and event.status is JobStatus.IN_PROGRESS:
                log.warning(
                    "job_goes_on", job=job.id, detail="a webhook called it completed, GitHub does not"
                )
                await self._store.reopen(job.id, at=now)
            else:
                await self._store.observe(event, at=now, fork=run.fork if run else None)

    async def _ask(self, question: Awaitable[T]) -> T:
        """Await an answer of GitHub, keeping in sight whether it answers at all."""
        try:
            answer = await question
        except (GitHubUnavailable, GitHubRefused) as error:
            self._sight.github_trouble = str(error)
            raise
        except OutsideError:
            self._sight.github_trouble = None
            raise
        self._sight.github_trouble = None
        return answer

    async def _fail(self, scope: str, reason: str, detail: str, *, at_least: timedelta | None = None) -> None:
        log.warning("failure", scope=scope, reason=reason, detail=detail)
        self._metrics.failures.labels(scope.partition(":")[0], reason).inc()
        await self._store.fail(
            scope,
            reason,
            detail,
            at=self._clock(),
            jitter=self._chance.random(),
            at_least=at_least or timedelta(0),
        )
