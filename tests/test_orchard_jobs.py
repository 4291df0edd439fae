"""Jobs end to end on a shelf of Macs: the real server, the sandbox's GitHub, and a controller: the model, and a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from app.clock import utcnow
from app.sandbox.demo import LABELS, MACS, ORCHARD_CONFIG
from app.sandbox.github import ModelGitHub
from app.sandbox.github_values import Job
from app.sandbox.image import make_image
from app.sandbox.orchard.server import shelf
from app.sandbox.outside import IMAGE, outside
from app.sandbox.runner import runner_files
from app.sandbox.server import Server
from tests.vm.real_orchard import real_shelf

pytestmark = pytest.mark.timeout(120)
REAL_KIND = """
[pool.orchard]
os = "linux"
arch = "amd64"
runtime = "vetu"
resources = { "org.cirruslabs.tart-vms" = 1 }
"""


@dataclass
class Fleet:
    """The server with its surroundings."""

    model: ModelGitHub
    server: Server
    labels: tuple[str, ...] = LABELS

    async def until_idle(self, jobs: list[Job], places: int) -> None:
        async with asyncio.timeout(90):
            while True:
                slots = await self.server.get("/api/v1/slots")
                over = all(job.status == "completed" for job in jobs)
                if over and [slot["state"] for slot in slots] == ["free"] * places:
                    return
                await asyncio.sleep(0.5)


@asynccontextmanager
async def on_model() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        model, api_url, place = await stack.enter_async_context(outside(1))
        made = await stack.enter_async_context(shelf(place, utcnow, macs=MACS, tls=True))
        for worker in made.workers.values():
            make_image(worker.home, IMAGE, runner_files())
        server = Server(place, api_url, model, ORCHARD_CONFIG, backend=made.settings)
        yield Fleet(model, await stack.enter_async_context(server))


@asynccontextmanager
async def on_real_orchard() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        model, api_url, place = await stack.enter_async_context(outside(1))
        made = await stack.enter_async_context(real_shelf(place))
        make_image(place / "workers" / "mini1", IMAGE, runner_files(), os="linux")
        server = Server(place, api_url, model, ORCHARD_CONFIG + REAL_KIND, backend=made.settings())
        labels = ("self-hosted", "Linux", "sequoia")
        yield Fleet(model, await stack.enter_async_context(server), labels)


@pytest.mark.parametrize(
    ("fleet", "places"),
    [
        pytest.param(on_model, 4, id="the model", marks=pytest.mark.long),
        pytest.param(on_real_orchard, 2, id="a real Orchard", marks=pytest.mark.orchard),
    ],
)
async def test_jobs_run_and_leave_nothing(
    fleet: Callable[[], AbstractAsyncContextManager[Fleet]], places: int
) -> None:
    """More jobs than places are all run, each on a Mac that its slot names, and no secret is on any disk."""
    async with fleet() as site:
        site.model.point_hook(f"{site.server.url}/webhooks/github")
        jobs = [
            site.model.queue("acme/app", f"test ({n})", site.labels, seconds=1.0) for n in range(places + 1)
        ]
        await site.until_idle(jobs, places)
        runners = await site.server.get("/api/v1/runners")
        assert {job.conclusion for job in jobs} == {"success"}
        assert len(runners) == places + 1
        assert {runner["slot"].partition("/")[0] for runner in runners} <= {"mini1", "mini2"}
        assert not site.model.runners.registrations
        # A guest's disk is cleaned by its worker a moment after the controller has forgotten the VM.
        leaks = site.server.leaks(site.model.secrets())
        assert [file for file in leaks if not file.startswith("workers/")] == []
