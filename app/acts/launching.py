"""How a runner comes to its job: the part of :mod:`app.perform` from the slot that it takes to the job that it took."""

from __future__ import annotations

import structlog

from app.acts.goldens import Goldens
from app.acts.means import Means
from app.domain import actions as do
from app.domain.drift import Launch
from app.domain.jobs import Job
from app.domain.pools import BASE, GOLDEN, TOKEN_ALPHABET, TOKEN_LENGTH, Start, host_of, runner_name
from app.domain.preparation import UNSERVING
from app.domain.runners import Purpose, Runner, RunnerState
from app.domain.world import World
from app.ledger import spans, start_of
from app.ports import GitHubRefused, GitHubUnavailable, NotFound, OutsideError, VMError

log = structlog.get_logger(__name__)

PLACES = {
    Purpose.BASE: BASE,
    Purpose.GOLDEN: GOLDEN,
}  # where the pool stands, in names of what serves no jobs


class Launching:
    """Carries out what the plan decided about runners that are to take a job."""

    def __init__(self, means: Means, goldens: Goldens) -> None:
        self._store, self._reader, self._goldens = means.store, means.reader, goldens
        self._github, self._vms = means.github, means.vms
        self._sight, self._metrics = means.sight, means.metrics
        self._clock, self._chance = means.clock, means.chance
        self._ask, self._move, self._fail = means.ask, means.move, means.fail

    async def claim(self, action: do.Claim, world: World) -> None:
        """Take a slot for a runner."""
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

    async def boot(self, runner: Runner) -> None:
        """Bring the runner's VM up, until its guest is ready."""
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

    async def mint(self, action: do.Mint) -> None:
        """Register the runner at GitHub, and hand the guest its JIT config. Raises VMError where that may not have arrived."""
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

    async def note(self, action: do.Note, world: World) -> None:
        """Write down what became of a runner."""
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
