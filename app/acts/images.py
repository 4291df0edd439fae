"""How images are brought here, kept up to date and let go, off the job path: the part of :mod:`app.perform` for that.

:mod:`app.acts.bases` is the part for preparing the bases that launches clone.
"""

from __future__ import annotations

import structlog

from app.acts.means import Means
from app.domain.images import current
from app.domain.world import World
from app.ports import VMError

log = structlog.get_logger(__name__)


class Images:
    """Carries out what the plan decided about images."""

    def __init__(self, means: Means) -> None:
        self._store, self._vms, self._sight = means.store, means.vms, means.sight
        self._clock, self._fail = means.clock, means.fail

    async def prepare(self, image: str) -> None:
        """Make an image clonable that is not."""
        self._sight.to_refresh.pop(image, None)
        try:
            await self._vms.prepare(image)
        except VMError as error:
            await self._fail("host" if error.host_wide else f"image:{image}", error.reason, str(error))
            return
        await self._store.succeed(f"image:{image}")
        self._sight.host_changed_at = self._clock()

    async def refresh(self, image: str, world: World) -> None:
        """Pull what an image is by now. Where that fails nothing waits: launches go on from what there is."""
        self._sight.to_refresh.pop(image, None)
        try:
            exact = await self._vms.prepare(image)
        except VMError as error:
            await self._fail(f"refresh:{image}", error.reason, str(error))
            return
        log.info("image_refreshed", image=exact)
        await self._store.succeed(f"refresh:{image}")
        before = current(image, world)
        if before is None or not exact.endswith(before.digest):
            await self._store.succeed(
                f"image:{image}"
            )  # what was wrong with the one before is no matter of this one's
        self._sight.host_changed_at = self._clock()

    async def drop_base(self, name: str, in_use: frozenset[str]) -> None:
        """Remove a base. Raises VMError."""
        self._sight.to_drop.discard(name)
        await self._vms.drop_base(name, in_use)
        log.info("base_dropped", vm=name)
        self._sight.host_changed_at = self._clock()
