"""How the goldens are made whose clones launches resume: the part of :mod:`app.perform` for that.

As with a base, the VM in which it is done holds a slot under a runner's row: whenever we die, that row says that
something was under way, the next start removes the VM, and launches boot as they would without any golden.
"""

from __future__ import annotations

import structlog

from app.acts.means import Means
from app.domain.pools import Start
from app.domain.runners import Runner, RunnerState
from app.ports import GuestFacts, VMError

log = structlog.get_logger(__name__)

BROKEN_OFF = {
    "interrupted": "was interrupted by our own end: it is begun anew",
    "stopped_by_operator": "was stopped by an operator: it is begun anew",
}


class Goldens:
    """Carries out what the plan decided about goldens, and takes note of how launches fare with them."""

    def __init__(self, means: Means) -> None:
        self._store, self._vms, self._sight = means.store, means.vms, means.sight
        self._metrics, self._clock = means.metrics, means.clock
        self._move, self._fail = means.move, means.fail

    async def make(self, runner: Runner) -> None:
        """Make a golden of the runner's pool. Its VM is done with then, whatever came of it."""
        await self._move(runner.name, RunnerState.BOOTING, "golden")
        try:
            await self._vms.make_golden(runner.name, runner.spec)
        except VMError as error:
            self._metrics.goldens.labels(error.reason).inc()
            await self._move(runner.name, RunnerState.STOPPING, error.reason)
            scope = "host" if error.host_wide else f"golden:{runner.pool}"
            await self._fail(scope, error.reason, str(error))
            return
        self._sight.host_changed_at = self._clock()  # before another pass could begin it anew
        log.info("golden_made", pool=runner.pool)
        self._metrics.goldens.labels("ok").inc()
        await self._move(runner.name, RunnerState.STOPPING, "golden_made")

    async def stopped(self, runner: Runner, reason: str) -> None:
        """Take note that it was broken off. Where nothing else shall have its slot, the next one waits a while."""
        self._metrics.goldens.labels(reason).inc()
        detail = BROKEN_OFF.get(reason)
        if detail is not None:
            await self._fail(f"golden:{runner.pool}", reason, f"{runner.name} {detail}")

    async def drop(self, name: str) -> None:
        """Remove a golden. Raises VMError."""
        await self._vms.drop_golden(name)
        log.info("golden_dropped", vm=name)
        self._sight.host_changed_at = self._clock()

    async def launched(self, runner: Runner, facts: GuestFacts) -> None:
        """Take note of how a VM came up: after a resume that failed, the next golden waits, more each time."""
        self._metrics.starts.labels(runner.pool, facts.start).inc()
        scope = f"golden:{runner.pool}"
        if facts.trouble is not None:
            self._sight.host_changed_at = self._clock()  # its golden serves no more
            await self._fail(scope, facts.trouble.reason, str(facts.trouble))
        elif facts.start is Start.SNAPSHOT:
            await self._store.succeed(scope)
