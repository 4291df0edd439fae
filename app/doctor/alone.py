"""The doctor without a server: the same checks, from the process of whoever asks."""

from __future__ import annotations

import os

from app.backend import backend_of, tart_of
from app.clock import utcnow
from app.configfile import ConfigError, lock_state_dir, prepare_state_dir
from app.doctor import boot, mac, mac_checks
from app.doctor.examine import IS_MAC, NOT_A_MAC, Place, ask, examine
from app.doctor.finding import Finding
from app.doctor.shell import RealShell
from app.settings import Settings
from app.vm.command import environment, tart_home


class Alone:
    """Examines this machine by *settings*."""

    def __init__(self, settings: Settings) -> None:
        tart = tart_of(settings)
        self._settings = settings
        self._place = Place(
            settings=settings,
            pools=settings.pools,
            tart=tart,
            vms=backend_of(settings, utcnow),
            shell=RealShell(tart.env),
            clock=utcnow,
        )

    async def examine(self) -> list[Finding]:
        """Return every finding."""
        return await examine(self._place)

    async def boot(self) -> list[Finding]:
        """Boot a VM of each image, one after another, while no server can start."""
        settings, pools = self._settings, boot.one_a_image(self._place.pools)
        try:
            prepare_state_dir(settings)
            lock_state_dir(settings)
        except ConfigError as error:
            return [boot.told(boot.Tried(pool=pool, no_slot=error.problems[0]), ()) for pool in pools]
        expected = [one.expected_runner for one in (await ask(self._place)).installed]
        tries = [
            await boot.boot_here(
                self._place.vms,
                pool,
                settings.host_name,
                min_free_gb=settings.min_free_disk_gb,
            )
            for pool in pools
        ]
        return [boot.told(tried, expected) for tried in tries]


async def unconfigured() -> list[Finding]:
    """Return what can be said before anything is configured: of the Mac itself."""
    if not IS_MAC:
        return [check.skipped(NOT_A_MAC) for check, _ in mac_checks.CHECKS]
    home = tart_home(None, os.environ)
    found = await mac.gather(RealShell(environment(os.environ, home)), tart_home=home)
    return [look(mac_checks.MacFacts(mac=found)) for _, look in mac_checks.CHECKS]
