"""A fleet behind a real Orchard controller: how soon all its places are taken, and what a job costs as it grows.

The workers are synthetic and the guests are played (:mod:`tests.vm.synthetic`), GitHub is the model without HTTP, and
without the pace that one App keeps to, which would hold up two thousand jobs for hours. All but Orchard itself is one
process here, so that a pass shares its time with the load.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from app import logs
from app.configfile import load
from app.main import create_app
from app.sandbox.direct import DirectGitHub
from app.sandbox.github import ModelGitHub
from app.sandbox.outside import IMAGE, outside
from app.sandbox.serving import GuestServer, loopback
from benchmarks.measures import Measure
from tests.simulation.layers import Call, Port
from tests.vm.real_orchard import TOKENS, located
from tests.vm.synthetic import Guests, synthetic_fleet

SEED = 1
SCHEDULER = 5.0  # s, between two passes of the controller's scheduler
LOOK = 0.5  # s
LONG, QUICK = 10.0, 0.5  # s, that the first jobs take, which fill all places, and the others
UNDER_WAY = 20  # webhooks, while the jobs are queued
LIMIT = 3600.0  # s
LABELS = ("self-hosted", "Linux", "mac")
CONFIG = f"""\
host_name = "bench"

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
PASSES = re.compile(r"^cidermill_pass_seconds_(sum|count) ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a number of jobs took."""

    jobs: int
    well: int  # of them that ended so
    full: float  # s, from the first job until every place was taken
    seconds: float  # until all was over
    passes: float
    pass_seconds: float  # all of them
    orchard: Counter[str]  # calls, by what was asked
    github: Counter[str]

    @property
    def scheduler_passes(self) -> int:
        """How many passes of the controller's scheduler went by until every place was taken."""
        return int(self.full // SCHEDULER) + 1

    def for_a_job(self, *, lists: bool) -> float:
        """Return the calls to the controller that a job cost; the *lists* are of the whole fleet, whoever it is for."""
        counted = {what: n for what, n in self.orchard.items() if (what in LISTS) is lists}
        return sum(counted.values()) / self.jobs


LISTS = frozenset({"GET /v1/vms", "GET /v1/workers", "GET /v1/controller/info"})


async def measure(*, short: bool) -> list[Measure]:
    """Measure with 10 and with 50 workers, 20 jobs for each place (4 in the short form). Without a binary, nothing."""
    try:
        located()
    except pytest.skip.Exception as reason:
        print(f"fleet: skipped, {reason}")  # a benchmark's report
        return []
    logs.configure("error", "json", ())
    found: list[Measure] = []
    for workers in (10, 50):
        work = await worked(workers, 2 * workers * (4 if short else 20))
        size = f"{workers} workers, {work.jobs:,} jobs"
        found += [
            Measure(f"{size}: passes of its scheduler until full", work.scheduler_passes, "", "≤ 6"),
            Measure(f"{size}: a pass, mean", 1000 * work.pass_seconds / work.passes, "ms"),
            Measure(f"{size}: calls to Orchard a job", work.for_a_job(lists=False), ""),
            Measure(f"{size}: lists of the fleet a job", work.for_a_job(lists=True), ""),
            Measure(f"{size}: calls to GitHub a job", work.github.total() / work.jobs, ""),
            Measure(f"{size}: jobs a minute", 60 * work.jobs / work.seconds, ""),
        ]
    return found


async def worked(workers: int, jobs: int) -> Work:
    """Run *jobs* on a fleet to their end."""
    loop = asyncio.get_running_loop()
    places = 2 * workers
    github: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        model, api_url, place = await stack.enter_async_context(outside(SEED))
        (place / "fleet").mkdir()
        guests = Guests(await stack.enter_async_context(synthetic_fleet(place / "fleet", workers)), model)
        await stack.enter_async_context(guests.serving())
        settings = load(_environment(model, api_url, place, guests.url), place)
        app = create_app(settings, github=DirectGitHub(model), around=lambda part: counted(part, github))
        url = await stack.enter_async_context(listening(app))
        model.point_hook(f"{url}/webhooks/github")
        guests.calls.clear()
        github.clear()
        token = (place / "state" / "admin-token").read_text(encoding="ascii").strip()
        client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60.0)
        await stack.enter_async_context(client)
        before = await passes(client)
        began = loop.time()
        for n in range(jobs):
            model.queue("acme/app", f"job {n}", LABELS, seconds=LONG if n < places else QUICK)
            while n - len(model.hooks.log) > UNDER_WAY:
                await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT):
            while await guests.placed() < places:
                await asyncio.sleep(LOOK)
            full = loop.time() - began
            while (
                any(job.status != "completed" for job in model.workflows.jobs.values())
                or await guests.placed()
            ):
                await asyncio.sleep(LOOK)
        after = await passes(client)
        return Work(
            jobs=jobs,
            well=sum(job.conclusion == "success" for job in model.workflows.jobs.values()),
            full=full,
            seconds=loop.time() - began,
            passes=after["count"] - before["count"],
            pass_seconds=after["sum"] - before["sum"],
            orchard=guests.calls,
            github=github,
        )


def counted(part: Any, calls: Counter[str]) -> Any:
    """Count what is asked of GitHub."""
    if not isinstance(part, DirectGitHub):
        return part

    def layer(verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            calls[verb] += 1
            return await call(*args, **kwargs)

        return passed

    return Port(part, layer)


async def passes(client: httpx.AsyncClient) -> dict[str, float]:
    """Return how many passes there were, and how long they took."""
    return {what: float(value) for what, value in PASSES.findall((await client.get("/metrics")).text)}


def _environment(model: ModelGitHub, api_url: str, place: Path, orchard: str) -> dict[str, str]:
    (place / "cidermill.toml").write_text(CONFIG, encoding="utf-8")
    key = place / "app.pem"
    key.touch(mode=0o600)
    key.write_text(model.accounts.app.pem, encoding="ascii")
    return {
        "HOME": str(place),
        "CIDERMILL_STATE_DIR": str(place / "state"),
        "CIDERMILL_GITHUB_API_URL": api_url,
        "CIDERMILL_GITHUB_APP_ID": str(model.accounts.app.id),
        "CIDERMILL_GITHUB_PRIVATE_KEY_PATH": str(key),
        "CIDERMILL_GITHUB_WEBHOOK_SECRET": model.app_hook.secret,
        "CIDERMILL_BACKEND": "orchard",
        "CIDERMILL_ORCHARD_URL": orchard,
        "CIDERMILL_ORCHARD_ACCOUNT": "cidermill",
        "CIDERMILL_ORCHARD_TOKEN": TOKENS["cidermill"],
    }


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """Serve the application on loopback."""
    listener = loopback()
    config = uvicorn.Config(
        app, log_config=None, log_level="critical", access_log=False, timeout_graceful_shutdown=1
    )
    server = GuestServer(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await server.up.wait()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
