"""A backend in front of the model controller, for tests of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from app.clock import utcnow
from app.domain.pools import Names, Pool
from app.sandbox.image import make_image
from app.sandbox.orchard.server import ACCOUNT, TOKEN, Shelf, shelf
from app.vm.orchard.backend import Limits, OrchardBackend
from app.vm.orchard.controller import Controller
from app.vm.orchard.execute import Access
from tests.builders import a_pool

IMAGE = "sequoia"
RUN_SH = (
    "#!/bin/sh\necho 'Listening for Jobs'\nuntil [ -f ../code ]; do sleep 0.1; done\nexit $(cat ../code)\n"
)
QUICK = Limits(chosen=0.6, placed=1.0, image=5.0, every=0.1, wait=2)


def spec(**changes: Any) -> Pool:
    return a_pool(**{"boot_timeout": timedelta(seconds=15)} | changes)


def access_to(made: Shelf, **changes: Any) -> Access:
    values: dict[str, Any] = {
        "url": f"{made.url}/v1",
        "account": ACCOUNT,
        "token": TOKEN,
        "tls": None,
        "server_name": None,
        "agent": "cidermill/test",
    }
    return Access(**values | changes)


class OrchardBench:
    """A shelf of Macs, and a backend that works with it."""

    def __init__(self, made: Shelf, place: Path) -> None:
        self.shelf, self.place = made, place
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.backends: list[OrchardBackend] = []
        self.vms = self.backend()

    def backend(self, **access: Any) -> OrchardBackend:
        made = OrchardBackend(
            Controller(access_to(self.shelf, **access)),
            state_dir=self.place / "state",
            names=Names("mini"),
            clock=utcnow,
            limits=QUICK,
        )
        made.on_end(lambda name, how: self.ended.put_nowait((name, how)))
        self.backends.append(made)
        return made

    async def left(self) -> list[str]:
        """Return the commands that still run in or with our directory, after a moment in which what was killed ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while self._commands():
                    await asyncio.sleep(0.05)
        return self._commands()

    def _commands(self) -> list[str]:
        """Return the commands that run in or with our directory."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if command and str(self.place) in f"{process.cwd()} {command}":
                    found.append(command)
        return found

    def trusting(self, certificate: Path | None) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate) if certificate else None)

    def homes(self, name: str) -> list[Path]:
        """Return the home directory of a VM's guest, on whichever Mac it is."""
        return list(self.place.glob(f"workers/*/vms/orchard-{name}-*/guest/Users/admin"))


@asynccontextmanager
async def orchard_bench(
    place: Path, *, macs: tuple[str, ...] = ("mini1",), tls: bool = False
) -> AsyncIterator[OrchardBench]:
    async with shelf(place, utcnow, macs=macs, tls=tls) as made:
        for worker in made.workers.values():
            make_image(worker.home, IMAGE, {"run.sh": (RUN_SH, 0o755)})
        bench = OrchardBench(made, place)
        try:
            yield bench
        finally:
            for backend in bench.backends:
                await backend.close()
