"""What runs the VMs, as the settings say: tart on this Mac, or a shelf of Macs behind an Orchard controller."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version

from app.domain.pools import Names
from app.ports import VMBackend
from app.settings import Settings
from app.vm.command import Tart, tart_home
from app.vm.tart import TartBackend


def tart_of(settings: Settings) -> Tart:
    """Return the tart command that the settings name."""
    return Tart(settings.tart_path, tart_home(settings.tart_home, os.environ), os.environ)


def backend_of(settings: Settings, clock: Callable[[], datetime]) -> VMBackend:
    """Return the backend that the settings name."""
    if settings.backend == "orchard":
        return _orchard(settings, clock)
    return TartBackend(
        tart=tart_of(settings),
        state_dir=settings.state_dir,
        names=Names(settings.host_name),
        slots=settings.slots,
        clock=clock,
    )


def _orchard(settings: Settings, clock: Callable[[], datetime]) -> VMBackend:
    # Imported here: whoever has one Mac needs none of it.
    from app.vm.orchard.backend import OrchardBackend
    from app.vm.orchard.controller import Controller, trust
    from app.vm.orchard.execute import Access

    url, token = settings.orchard_url or "", settings.orchard_token
    access = Access(
        url=f"{url}/v1",
        account=settings.orchard_account or "",
        token=token.get_secret_value() if token else "",
        tls=trust(url, settings.orchard_ca_path),
        server_name=settings.orchard_server_name,
        agent=f"cidermill/{version('cidermill')}",
    )
    return OrchardBackend(
        Controller(access), state_dir=settings.state_dir, names=Names(settings.host_name), clock=clock
    )
