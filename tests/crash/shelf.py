"""A site on a real Orchard: two workers with stand-in VMs, and a wire to the controller that can lose its answers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx

from app.sandbox.github import ModelGitHub
from app.sandbox.image import make_image
from app.sandbox.outside import IMAGE, outside
from app.sandbox.runner import runner_files
from app.sandbox.server import free_port
from tests.crash.site import Site
from tests.vm.real_orchard import RealShelf, real_shelf

WORKERS = ("mini1", "mini2")
CONFIG = f"""\
host_name = "crash"

[[pool]]
name = "mac"
labels = ["mac"]
image = "{IMAGE}"
repositories = ["acme/*"]
cpu = 4
memory_mib = 4096

[pool.orchard]
os = "linux"
arch = "amd64"
runtime = "vetu"
resources = {{ "org.cirruslabs.tart-vms" = 1 }}
"""
KNOWN = b"CIDERMILL_PATIENCE"  # is stored, as every VM's startup script has it
BUFFER = 65536  # bytes


class Wire:
    """Passes on what is said to the controller, and cuts the connection instead of some answers.

    It shows the controller's own certificate, so that nobody notices it.
    """

    def __init__(self, shelf: RealShelf) -> None:
        self._shelf, self.port = shelf, free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.to_cut = 0  # answers to the creation of a VM
        self.was_cut = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen."""
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self._shelf.certificate, self._shelf.certificate.with_suffix(".key"))
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = ssl.create_default_context(cafile=str(self._shelf.certificate))
        port = int(self._shelf.url.rpartition(":")[2])
        with suppress(OSError, ssl.SSLError):
            there = await asyncio.open_connection(
                "127.0.0.1", port, ssl=tls, server_hostname="orchard-controller"
            )
            try:
                await self._relay(reader, writer, *there)
            finally:
                there[1].transport.abort()
        writer.transport.abort()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        there: asyncio.StreamWriter,
    ) -> None:
        """Relay until either side ends, or an answer is lost."""
        is_doomed = False

        async def ask() -> None:
            nonlocal is_doomed
            while data := await reader.read(BUFFER):
                if data.startswith(b"POST /v1/vms ") and self.to_cut:
                    self.to_cut -= 1
                    is_doomed = True
                there.write(data)

        async def answer() -> None:
            while data := await answers.read(BUFFER):
                if is_doomed:
                    self.was_cut += 1
                    return
                writer.write(data)

        both = {asyncio.create_task(ask()), asyncio.create_task(answer())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


class ShelfSite(Site):
    """One of our processes at a time, in front of a real Orchard."""

    labels = ("self-hosted", "Linux", "mac")

    def __init__(self, model: ModelGitHub, api_url: str, place: Path, shelf: RealShelf, wire: Wire) -> None:
        self.shelf, self.wire = shelf, wire
        super().__init__(model, api_url, place, CONFIG)
        self.env = {key: value for key, value in self.env.items() if not key.startswith("CIDERMILL_TART_")}
        self.env |= shelf.settings(wire.url)

    async def stored(self) -> list[dict[str, object]]:
        """Return all VMs that the controller knows; none while it is away."""
        try:
            answer = await self.shelf.ask("GET", "/vms")
        except httpx.TransportError:
            return []
        found: list[dict[str, object]] = answer.json()
        return found

    async def seen(self) -> list[str]:
        """Return what is wrong now: a secret that the controller shows to whoever may read."""
        shown = json.dumps(await self.stored())
        return ["a stored VM shows a secret" for secret in self.model.secrets() if secret in shown]

    def vms(self) -> list[str]:
        """Return the names of the VMs on the workers' disks."""
        return sorted(vm.name for vm in self.place.glob("workers/*/vms/orchard-*"))

    def processes(self) -> list[int]:
        """Return every process of this place but the shelf's own."""
        return [pid for pid in super().processes() if pid not in self.shelf.pids()]

    def shared_slots(self) -> list[str]:
        """Return nothing: a runner's slot follows its VM, so that its row does not say where it was since its claim."""
        return []

    async def problems(self) -> list[str]:
        """Return all that is not as it must be; the controller's database and every log are searched too."""
        wrong = [f"the controller still has {vm['name']}" for vm in await self.stored()]
        wrong += await super().problems()
        written = self.shelf.written()
        if not any(KNOWN in data for data in written.values()):
            wrong.append("the search of the database finds nothing, not even what is there")
        for secret in self.model.secrets():
            wrong += [
                f"a secret was written to {file}" for file, data in written.items() if secret.encode() in data
            ]
        return wrong


@asynccontextmanager
async def a_shelf(seed: int) -> AsyncIterator[ShelfSite]:
    """Make a site with a real Orchard, and take it away again with every process of it."""
    async with AsyncExitStack() as stack:
        model, api_url, place = await stack.enter_async_context(outside(seed))
        shelf = await stack.enter_async_context(real_shelf(place, workers=WORKERS))
        for worker in WORKERS:
            make_image(place / "workers" / worker, IMAGE, runner_files(), os="linux")
        wire = Wire(shelf)
        await stack.enter_async_context(wire.open())
        site = ShelfSite(model, api_url, place, shelf, wire)
        stack.push_async_callback(site.close)
        yield site
