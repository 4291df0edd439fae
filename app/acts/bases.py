"""How the base that launches clone is prepared: the part of :mod:`app.perform` for that.

The VM in which it is done holds a slot under a runner's row. Whenever we die, that row says that something was under
way, the next start removes the VM, and launches go on from what they cloned before.
"""

from __future__ import annotations

import structlog

from app.acts.means import Means
from app.domain.pools import Target
from app.domain.runners import Runner, RunnerState
from app.ports import GitHubUnavailable, OutsideError, VMError

log = structlog.get_logger(__name__)

BROKEN_OFF = {
    "interrupted": "was interrupted by our own end: it is begun anew",
    "stopped_by_operator": "was stopped by an operator: `cidermill image prepare` begins anew",
}


class Bases:
    """Carries out what the plan decided about preparations."""

    def __init__(self, means: Means) -> None:
        self._store, self._github, self._vms = means.store, means.github, means.vms
        self._sight, self._metrics, self._clock = means.sight, means.metrics, means.clock
        self._ask, self._move, self._fail = means.ask, means.move, means.fail

    async def make(self, runner: Runner, target: Target) -> None:
        """Prepare the base of the runner's image. Its VM is done with then, whatever came of it."""
        image = runner.spec.image
        await self._move(runner.name, RunnerState.BOOTING, "prepare")
        try:
            package = await self._ask(self._github.runner_package(target))
            await self._vms.make_base(runner.name, runner.spec, package)
        except OutsideError as error:
            await self._failed(runner, error)
            return
        self._sight.host_changed_at = self._clock()  # before another pass could begin it anew
        self._sight.to_prepare.discard(image)
        log.info("base_prepared", image=image, runner_version=package.version)
        self._metrics.preparations.labels("ok").inc()
        await self._store.succeed(f"prepare:{image}", f"image:{image}")
        await self._move(runner.name, RunnerState.STOPPING, "prepared")

    async def _failed(self, runner: Runner, error: OutsideError) -> None:
        self._sight.to_prepare.discard(runner.spec.image)
        reason, at_least = error.code, None
        scope = f"prepare:{runner.spec.image}"
        if isinstance(error, VMError):
            reason, scope = error.reason, "host" if error.host_wide else scope
        elif isinstance(error, GitHubUnavailable):
            at_least = error.retry_after
        self._metrics.preparations.labels(reason).inc()
        await self._move(runner.name, RunnerState.STOPPING, reason)
        await self._fail(scope, reason, str(error), at_least=at_least)

    async def stopped(self, runner: Runner, reason: str) -> None:
        """Take note that a preparation was broken off. Where nothing else shall have its slot, the next one waits a while."""
        self._metrics.preparations.labels(reason).inc()
        detail = BROKEN_OFF.get(reason)
        if detail is not None:
            self._sight.to_prepare.discard(runner.spec.image)
            await self._fail(f"prepare:{runner.spec.image}", reason, f"{runner.name} {detail}")
