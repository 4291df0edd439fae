"""How hosts of a fleet are had fetch images beforehand: the part of :mod:`app.perform` for that.

The VM in which it is done holds a slot under a runner's row, as that of a preparation does. Whenever we die, the next start
removes the VM and begins anew.
"""

from __future__ import annotations

import structlog

from app.acts.means import Means
from app.domain.pools import host_of
from app.domain.runners import Runner, RunnerState
from app.ports import VMError

log = structlog.get_logger(__name__)

BROKEN_OFF = frozenset({"interrupted", "stopped_by_operator"})  # the next one waits a while


class Pulls:
    """Carries out what the plan decided about images of a fleet."""

    def __init__(self, means: Means) -> None:
        self._store, self._vms, self._sight = means.store, means.vms, means.sight
        self._metrics, self._clock = means.metrics, means.clock
        self._move, self._fail = means.move, means.fail

    async def make(self, runner: Runner) -> None:
        """Have the runner's image fetched. Its VM is done with then; where that fails no launch waits for it."""
        image, at = runner.spec.image, self._clock()
        await self._move(runner.name, RunnerState.BOOTING, "fetch")
        try:
            facts = await self._vms.fetch(runner.name, runner.spec, host=host_of(runner.slot))
        except VMError as error:
            self._metrics.pulls.labels(error.reason).inc()
            await self._move(runner.name, RunnerState.STOPPING, error.reason)
            await self._fail("host" if error.host_wide else f"refresh:{image}", error.reason, str(error))
            return
        self._sight.images_at[facts.host, image] = at
        self._metrics.pulls.labels("ok").inc()
        log.info("image_fetched", image=facts.image, host=facts.host)
        await self._store.succeed(f"refresh:{image}")
        await self._move(runner.name, RunnerState.STOPPING, "fetched", image=facts.image)

    async def stopped(self, runner: Runner, reason: str) -> None:
        """Take note that a pull was broken off."""
        self._metrics.pulls.labels(reason).inc()
        if reason in BROKEN_OFF:
            detail = (
                f"{runner.name} was to have {runner.spec.image} fetched and was broken off: it is begun anew"
            )
            await self._fail(f"refresh:{runner.spec.image}", reason, detail)
