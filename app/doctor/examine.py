"""All checks together, as far as they apply here: on this machine, at GitHub, and of our own files."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from app.doctor import fleet_checks, github, github_checks, host, host_checks, mac, mac_checks, server
from app.doctor.finding import Finding, Level
from app.doctor.shell import Shell
from app.domain.pools import Names, Pool
from app.domain.world import World
from app.github.auth import AppCredentials, TokenCredentials
from app.github.session import connect
from app.ports import GitHubRefused, VMBackend
from app.settings import Settings
from app.vm.command import Tart

IS_MAC = sys.platform == "darwin"
NOT_A_MAC = "this is no Mac"
ELSEWHERE = "the VMs run on other Macs, which Orchard drives"
NO_APP = "a token is used, and this is about Apps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is examined, and with what."""

    settings: Settings
    pools: tuple[Pool, ...]  # in force, which a reload may have changed
    tart: Tart
    vms: VMBackend
    shell: Shell
    clock: Callable[[], datetime]
    is_mac: bool = IS_MAC
    ping_wait: float = github.PING_WAIT


async def examine(place: Place, world: World | None = None) -> list[Finding]:
    """Return every finding; *world* is the running server's."""
    parts = await asyncio.gather(of_mac(place), of_host(place, world), of_github(place), of_files(place))
    return [finding for part in parts for finding in part]


def worst(findings: list[Finding]) -> Level:
    """Return the worst there is: what decides the exit code."""
    order = (Level.FAILURE, Level.WARNING, Level.OK)
    return next((level for level in order if any(f.level is level for f in findings)), Level.OK)


async def of_mac(place: Place) -> list[Finding]:
    """Check macOS, where the VMs run here."""
    if place.settings.backend == "orchard":
        return [check.skipped(ELSEWHERE) for check, _ in mac_checks.CHECKS]
    if not place.is_mac:
        return [check.skipped(NOT_A_MAC) for check, _ in mac_checks.CHECKS]
    found = await mac.gather(place.shell, tart_home=place.tart.home)
    facts = mac_checks.MacFacts(mac=found, pools=place.pools)
    return [look(facts) for _, look in mac_checks.CHECKS]


async def of_host(place: Place, world: World | None = None) -> list[Finding]:
    """Check tart and what runs here, or the fleet that runs VMs for us."""
    settings = place.settings
    if settings.backend == "orchard":
        fleet = await fleet_checks.gather(place.vms, place.pools)
        return [finding for _, look in fleet_checks.CHECKS for finding in look(fleet)]
    found = await host.gather(
        place.shell,
        place.tart,
        place.vms,
        pools=place.pools,
        names=Names(settings.host_name),
        slots=settings.slots,
        min_free_gb=settings.min_free_disk_gb,
        world=world,
    )
    now = place.clock()
    return [finding for _, look in host_checks.CHECKS for finding in look(found, now)]


async def of_github(place: Place) -> list[Finding]:
    """Check what GitHub says of us."""
    settings = place.settings
    found = await ask(place)
    asked = github_checks.Asked(
        github=found,
        pools=place.pools,
        poll_interval=settings.poll_interval,
        public_url=settings.public_url,
    )
    return list(_told(asked))


async def ask(place: Place) -> github.GitHubFacts:
    """Ask GitHub anew."""
    settings = place.settings
    try:
        connection = connect(
            api_url=settings.github_api_url,
            ca_path=settings.github_ca_path,
            api_version=settings.github_api_version,
            transport=None,
        )
    except GitHubRefused as error:
        return github.GitHubFacts(at=place.clock(), refused=str(error))
    asker = github.Asker(_credentials(settings), connection, clock=place.clock, ping_wait=place.ping_wait)
    return await asker.ask()


def _credentials(settings: Settings) -> AppCredentials | TokenCredentials:
    if settings.github_token is not None:
        return TokenCredentials(token=settings.github_token.get_secret_value())
    return AppCredentials(app_id=settings.github_app_id or "", private_key=settings.private_key())


def _told(asked: github_checks.Asked) -> Iterator[Finding]:
    found = asked.github
    for check, look in github_checks.CHECKS:
        if (found.refused or found.unavailable) and check.name != "credentials":
            yield check.skipped("GitHub did not answer as it should (see credentials)")
        elif not found.is_app and check.name not in github_checks.WITHOUT_APP:
            yield check.skipped(NO_APP)
        else:
            yield from look(asked)


async def of_files(place: Place) -> list[Finding]:
    """Check the configuration and what lies in the state directory."""
    state_dir = place.settings.state_dir
    found = await asyncio.to_thread(lambda: list(server.database(state_dir / "cidermill.db")))
    return [*server.configuration(place.settings), *found, *server.admin_token(state_dir)]
