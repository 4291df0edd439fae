"""A whole application over a real database, a model host and a small GitHub, its passes driven by the test."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from starlette.routing import BaseRoute

from app.api.broadcaster import Broadcaster
from app.api.context import Context, Health, Reloaded, ReloadRefused
from app.api.guard import guard
from app.db.database import Database, open_engine
from app.db.reader import Reader
from app.db.store import Store
from app.doctor.boot import GUEST
from app.doctor.finding import Finding
from app.doctor.server import DATABASE, SERVER
from app.domain.hearing import LogEntry
from app.domain.jobs import JobStatus, Source, WorkflowJobEvent
from app.domain.pools import Names, Pool, Target
from app.domain.runners import Runner
from app.domain.world import Registration, RunnerGroup
from app.main import ROUTERS
from app.metrics import Metrics, WorldCollector
from app.ports import JitConfig, Minted, NotFound, Package, Release, Run, RunnerBusy
from app.reconcile import Reconciler, Setup, replace_pools
from app.sandbox.host import ModelHost
from app.sandbox.hostparts import ModelVM
from tests.builders import NOW, a_pool
from tests.conftest import Clock
from tests.databases import new_database

SECRET = "webhook-secret-of-the-tests"
TOKEN = "admin-token-of-the-tests"
HOST = "cidermill.example"


@dataclass(slots=True)
class SmallGitHub:
    """As much of GitHub as a runner's life needs, behind ``ports.GitHub``."""

    jobs: dict[int, WorkflowJobEvent] = field(default_factory=dict)
    listed: dict[Target, dict[str, Registration]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=lambda: count(100))
    expected: str = "2.336.0"  # the version of the actions runner

    async def mint(self, target: Target, *, name: str, labels: tuple[str, ...], group_id: int) -> Minted:
        del labels, group_id
        self.calls["mint"] += 1
        made = Registration(id=next(self.numbers), name=name, online=False, busy=False)
        self.listed.setdefault(target, {})[name] = made
        return Minted(registration_id=made.id, jit=JitConfig("eyIucnVubmVyIjoi-of-the-tests"))

    async def registrations(self, target: Target) -> tuple[Registration, ...]:
        self.calls["registrations"] += 1
        return tuple(self.listed.get(target, {}).values())

    async def deregister(self, target: Target, *, name: str, registration_id: int | None) -> bool:
        del registration_id
        self.calls["deregister"] += 1
        found = self.listed.get(target, {}).get(name)
        if found is not None and found.busy:
            msg = f"{name} runs a job"
            raise RunnerBusy(msg)
        return self.listed.get(target, {}).pop(name, None) is not None

    async def job(self, repository: str, job_id: int) -> WorkflowJobEvent:
        self.calls["job"] += 1
        if job_id not in self.jobs:
            msg = f"{repository} has no job {job_id}"
            raise NotFound(msg)
        return replace(self.jobs[job_id], source=Source.LOOK)

    async def run(self, repository: str, run_id: int) -> Run:
        del repository, run_id
        self.calls["run"] += 1
        return Run(status="in_progress", conclusion=None, event="push", fork=False)

    async def runner_group(self, organization: str, name: str | None) -> RunnerGroup:
        del organization
        self.calls["runner_group"] += 1
        return RunnerGroup(id=1, name=name or "Default", visibility="all", allows_public=True)

    async def delivery_log(self, since: datetime) -> tuple[LogEntry, ...]:
        del since
        self.calls["delivery_log"] += 1
        return ()

    async def logged_delivery(self, delivery_id: int) -> WorkflowJobEvent | None:
        msg = f"there is no delivery {delivery_id}"
        raise NotFound(msg)

    async def repositories(self) -> tuple[str, ...]:
        self.calls["repositories"] += 1
        return ()

    async def queued_jobs(self, repository: str) -> tuple[WorkflowJobEvent, ...]:
        self.calls["queued_jobs"] += 1
        waiting = {JobStatus.QUEUED, JobStatus.IN_PROGRESS}
        return tuple(
            replace(job, source=Source.LOOK)
            for job in self.jobs.values()
            if job.repository == repository and job.status in waiting
        )

    async def latest_runner(self, target: Target) -> Release:
        del target
        return Release(version=self.expected, published_at=None)

    async def runner_package(self, target: Target) -> Package:
        del target
        self.calls["runner_package"] += 1
        return Package(version=self.expected, archive=Path("nowhere"), sha256="0" * 64)

    def headroom(self, target: Target) -> float:
        del target
        return 1.0

    async def whoami(self) -> str:
        return "the App of the tests"

    def quota(self) -> dict[str, dict[str, int | str]]:
        return {"acme/core": {"limit": 5000, "remaining": 4999}}

    def change(self, name: str, **changes: bool) -> None:
        """Have a registration be online or busy."""
        for target in self.listed.values():
            if name in target:
                target[name] = replace(target[name], **changes)


class HostWithLogs(ModelHost):
    """The model host, with kept output."""

    kept: dict[str, tuple[Path, ...]]

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.kept = {}

    def logs(self, name: str) -> tuple[Path, ...]:
        return self.kept.get(name, ())


class CountingReconciler(Reconciler):
    """The reconciler, which also counts how often its bell is rung."""

    wakes = 0

    def wake(self) -> None:
        self.wakes += 1
        super().wake()


@dataclass(slots=True, kw_only=True)
class Server:
    """A running application and the world around it."""

    app: FastAPI
    context: Context
    reconciler: CountingReconciler
    github: SmallGitHub
    vms: HostWithLogs
    clock: Clock
    engine: Engine
    on_disk: tuple[Pool, ...] | list[str]  # what a reload finds: pools, or what is wrong with them
    client: httpx.AsyncClient
    guids: Iterator[int] = field(default_factory=count)

    async def get(self, path: str, code: int = 200, /, **params: Any) -> Any:
        """Return the JSON of *path*."""
        answer = await self.client.get(path, params=params)
        assert answer.status_code == code, answer.text
        return answer.json()

    async def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """Bring a body to the webhook door, from nobody in particular."""
        return await self.client.post(
            "/webhooks/github", content=body, headers={"authorization": "", "host": "hook.example"} | headers
        )

    async def deliver(self, action: str = "queued", *, guid: str | None = None, **job: Any) -> httpx.Response:
        """Send what GitHub sends of a job."""
        body = json.dumps(a_payload(action, **job)).encode()
        return await self.post(body, signed(body, guid=guid or f"guid-{next(self.guids)}"))

    async def passes(self, number: int = 1, *, seconds: float = 0) -> None:
        """Make passes, each with all that comes of it, time going on in between."""
        for _ in range(number):
            await self.reconciler.turn()
            await self.reconciler.settle()
            self.clock.pass_(seconds=seconds)

    async def idle_runner(self) -> Runner:
        """Bring a job in, and go on until a runner waits for it at GitHub."""
        self.github.jobs[1] = WorkflowJobEvent(
            id=1, run_id=10, repository="acme/app", status=JobStatus.QUEUED, labels=("mac",)
        )
        assert (await self.deliver()).status_code == 202
        await self.passes(12, seconds=2)
        (runner,) = await self.context.reader.runners(live=True, limit=10)
        assert runner.state == "idle"
        return runner

    async def busy_runner(self) -> Runner:
        """Go on until a runner has a job."""
        runner = await self.idle_runner()
        self.github.change(runner.name, busy=True)
        self.vms.vms[runner.name].worker_alive = True
        await self.deliver("in_progress", status="in_progress", runner_name=runner.name)
        await self.passes(3, seconds=2)
        (runner,) = await self.context.reader.runners(live=True, limit=10)
        assert runner.state == "busy"
        return runner

    def rows(self, table: str) -> int:
        """Count the rows of a table."""
        with self.engine.connect() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608

    def flags(self) -> set[str]:
        """Return the switches that are set: what is noted without being asked for is none."""
        with self.engine.connect() as connection:
            return set(connection.execute(text("SELECT name FROM flag WHERE name != 'clock'")).scalars())

    @contextmanager
    def refusing(self, table: str) -> Iterator[None]:
        """Have the database refuse new rows of a table."""
        with self.engine.begin() as connection:
            connection.execute(
                text(f"CREATE TRIGGER full BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END")
            )
        yield
        with self.engine.begin() as connection:
            connection.execute(text("DROP TRIGGER full"))


def when(text: str) -> datetime:
    """Read a time of the API, which must be RFC 3339 in UTC."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def a_payload(action: str = "queued", **job: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": 1,
        "run_id": 10,
        "name": "build",
        "status": "queued",
        "labels": ["self-hosted", "mac"],
        "created_at": "2026-03-01T12:00:00Z",
        "started_at": "2026-03-01T12:00:00Z",
        "html_url": "https://github.com/acme/app/actions/runs/10/job/1",
    }
    repository = {"id": 5, "full_name": job.pop("repository", "acme/app"), "owner": {"type": "User"}}
    return {"action": action, "workflow_job": values | job, "repository": repository}


def signed(
    body: bytes, *, secret: str = SECRET, event: str = "workflow_job", guid: str = "g1"
) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid,
        "X-Hub-Signature-256": f"sha256={digest}",
        "Content-Type": "application/json",
    }


class QuickDoctor:
    """The doctor, who knows what he finds before he looks."""

    async def examine(self) -> list[Finding]:
        return [DATABASE.fine("it is whole"), SERVER.wrong("down", said="nobody listens")]

    async def boot(self) -> list[Finding]:
        return [GUEST.skipped("nothing is booted here")]


def build(context: Context) -> FastAPI:
    app = FastAPI(title="CiderMill")
    app.state.context, app.state.doctor = context, QuickDoctor()
    guard(app, context.hosts)
    app.router.routes.extend(routes())
    return app


@cache
def routes() -> list[BaseRoute]:
    """Return the API's routes, whose models FastAPI makes when they are first used: once a process, not for each test."""
    app = FastAPI(openapi_url=None)
    for router in ROUTERS:
        app.include_router(router)
    return app.router.routes


def a_context(
    database: Database, clock: Clock, github: SmallGitHub, vms: HostWithLogs, reload: Callable[[], Any]
) -> Context:
    pools = (a_pool(),)
    broadcaster = Broadcaster()
    store, reader, metrics = Store(database, pools, broadcaster.tell), Reader(database), Metrics()
    reconciler = CountingReconciler(
        Setup(names=Names("mini"), pools=pools, min_free_disk_gb=1.0),
        store=store,
        reader=reader,
        github=github,
        vms=vms,
        metrics=metrics,
        clock=clock,
        boot="one",
    )
    metrics.registry.register(WorldCollector(lambda: reconciler.world, clock))
    return Context(
        version="1.2.3",
        started_at=NOW,
        webhook_secrets=(SECRET, "the-secret-before"),
        admin_token=TOKEN,
        metrics_public=False,
        hosts=frozenset({HOST}),
        store=store,
        reader=reader,
        reconciler=reconciler,
        vms=vms,
        metrics=metrics,
        health=Health(
            github="the App of the tests", github_trouble=None, warnings=("one warning",), webhook_at=NOW
        ),
        clock=clock,
        reload=reload,
        quota=github.quota,
        events=broadcaster,
    )


@pytest.fixture
def database_path(tmp_path: Path) -> Path:
    return new_database(tmp_path / "cidermill.db")


@pytest.fixture
async def server(database_path: Path, clock: Clock) -> AsyncIterator[Server]:
    """Start an application that has not made a pass yet."""
    async with serving(database_path, clock) as server:
        yield server


@asynccontextmanager
async def serving(path: Path, clock: Clock) -> AsyncIterator[Server]:
    database = Database(open_engine(path))

    async def reload() -> Reloaded:
        if isinstance(server.on_disk, list):
            raise ReloadRefused(server.on_disk)
        await server.reconciler.configure(replace_pools(server.reconciler.setup, server.on_disk))
        names = tuple(pool.name for pool in server.on_disk)
        return Reloaded(pools=names, changed=names, removed=("mac",), needs_restart=("slots",))

    github, vms = SmallGitHub(), HostWithLogs(clock)
    context = a_context(database, clock, github, vms, reload)
    reconciler = context.reconciler
    assert isinstance(reconciler, CountingReconciler)
    app = build(context)

    def connected(vm: ModelVM) -> None:
        github.change(vm.name, online=True)

    vms.connected = connected
    await reconciler.begin()
    reconciler.wakes = 0
    transport = httpx.ASGITransport(app)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        server = Server(
            app=app,
            context=context,
            reconciler=reconciler,
            github=github,
            vms=vms,
            clock=clock,
            engine=database.engine,
            on_disk=(a_pool(name="other"),),
            client=client,
        )
        yield server
    await reconciler.close()
    database.close()
