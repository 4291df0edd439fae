"""A Mac that gets slow is told of, after a restart too, on virtual time."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.site import VIRTUAL_TIME
from tests.simulation.trouble import Latency
from tests.test_reconcile import a_site, queue

pytestmark = VIRTUAL_TIME


async def test_boots_get_slow(tmp_path: Path) -> None:
    """What is usual is kept in the database; three slow boots in a row are told of, whichever process saw the others."""
    async with a_site(tmp_path, latency=Latency(boot=(5.0, 6.0), verb=(0.1, 0.1))) as site:

        async def jobs(count: int) -> list[str]:
            for _ in range(count):
                queue(site, seconds=1)
            await site.until(site.is_drained, within=2000)
            return list(site.reconciler.sight.launches.warnings())

        site.start()
        assert await jobs(10) == []
        await site.kill()
        site.start()
        site.trouble.latency = Latency(boot=(50.0, 60.0), verb=(0.1, 0.1))
        assert await jobs(1) == []
        (warning,) = await jobs(3)
        assert warning.startswith("The boot of pool mac takes 5")
        assert "times its usual 5." in warning
