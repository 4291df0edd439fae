"""How runners end: the part of :mod:`app.perform` for what is taken away, at GitHub and on the host.

Nothing in which a job may run is taken away: GitHub and the guest are asked first, and no answer is not a no.
"""

from __future__ import annotations

import structlog

from app.acts.means import Means
from app.domain import actions as do
from app.domain.jobs import JobStatus
from app.domain.lifecycle import SILENT, may_destroy
from app.domain.runners import Runner, RunnerState
from app.domain.versions import when_turned_away
from app.domain.world import GuestLook, World
from app.ports import RunnerBusy, VMError

log = structlog.get_logger(__name__)


class Ending:
    """Carries out what the plan decided about runners, VMs and registrations that are to go."""

    def __init__(self, means: Means) -> None:
        self._store, self._github, self._vms = means.store, means.github, means.vms
        self._sight, self._clock = means.sight, means.clock
        self._ask, self._move, self._fail = means.ask, means.move, means.fail

    async def retire(self, action: do.Retire, world: World) -> None:
        """Take a runner's registration away, unless a job runs on it. Raises OutsideError where nobody can tell."""
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
            await self.count_barren(action)
        elif guest is not None:
            await self._found_busy(runner, "guest_runs_a_job")
        elif runner.state is not RunnerState.BUSY and self._is_silent(runner.name):
            # It may run a job of which nobody can tell: the limit of a job ends it.
            await self._found_busy(runner, "guest_silent")
        else:
            msg = f"{runner.name} is not listed by GitHub and its guest does not answer: left alone for now"
            raise VMError(msg, reason="guest_unknown")

    async def count_barren(self, action: do.Stop | do.Retire) -> None:
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

    async def destroy(self, runner: Runner) -> None:
        """Remove the VM of a runner that is done with. Raises VMError."""
        await self._vms.delete(runner.name)
        await self._move(runner.name, RunnerState.GONE, runner.reason)
        self._sight.confirmed_absent(runner.name)

    async def settle(self, runner: Runner) -> None:
        """Take away a registration that a runner left behind. Raises OutsideError."""
        if runner.target is None:
            return
        await self._ask(
            self._github.deregister(runner.target, name=runner.name, registration_id=runner.registration_id)
        )
        await self._store.amend(runner.name, deregistered=True)
        self._sight.confirmed_unlisted(runner.target, runner.name)

    async def sweep_vm(self, name: str) -> None:
        """Remove a VM of ours that belongs to no runner. Raises VMError, also where a job runs in it."""
        guest = await self._probe(name)
        if guest is not None and guest.worker_alive:
            msg = f"VM {name} has our prefix and no runner, but runs a job: left alone until it ends"
            raise VMError(msg, reason="orphan_busy")
        log.warning("orphan_removed", vm=name)
        await self._vms.delete(name)
        self._sight.confirmed_absent(name)

    async def sweep_registration(self, action: do.SweepRegistration) -> None:
        """Take away a registration of ours that belongs to no runner. Raises OutsideError."""
        await self._ask(
            self._github.deregister(action.target, name=action.name, registration_id=action.registration_id)
        )
        log.warning("orphan_removed", registration=action.name, target=str(action.target))
        self._sight.confirmed_unlisted(action.target, action.name)
