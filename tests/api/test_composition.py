"""The application as it is composed for real: its own loop and timers, over a model host and a small GitHub."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from app.configfile import ConfigError
from app.main import create_app
from app.reload import changes
from app.settings import Settings
from tests.api.conftest import SECRET, TOKEN, HostWithLogs, SmallGitHub, a_payload, signed
from tests.builders import a_pool, an_event
from tests.conftest import Clock

BODY = json.dumps(a_payload()).encode()


def some_settings(state_dir: Path, pool: str = "mac", **changes: Any) -> Settings:
    values = {
        "github_token": "token-of-the-tests",
        "github_webhook_secret": SECRET,
        "admin_token": TOKEN,
        "host_name": "mini",
        "state_dir": state_dir,
        "min_free_disk_gb": 1,
        "pool": [{"name": pool, "labels": ["mac"], "image": "sequoia", "repositories": ["acme/*"]}],
    }
    return Settings.model_validate(values | changes)


class RunningClock(Clock):
    """A clock that goes on by itself, as looks must be later than what they are to prove."""

    def __call__(self) -> datetime:
        self.pass_(milliseconds=1)
        return self.now


@asynccontextmanager
async def started(
    folder: Path, reread: Callable[[], Settings] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application on a state directory, and stop it; every reading of its clock is a little later."""
    clock = RunningClock()
    github = SmallGitHub()
    github.jobs[1] = an_event(labels=("mac",))
    app = create_app(
        some_settings(folder), github=github, vms=HostWithLogs(clock), clock=clock, reread=reread
    )
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers
        ) as client,
    ):
        yield client


async def is_ready(client: httpx.AsyncClient) -> bool:
    """Whether the first pass is over, and nothing keeps it from work."""
    return (await client.get("/readyz")).status_code == 200


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what the loop brings about by itself."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0)


async def test_from_webhook_to_registration(tmp_path: Path) -> None:
    """A delivery wakes the loop, which goes on by itself until GitHub knows a runner for the job."""
    async with started(tmp_path) as client:

        async def is_registered() -> bool:
            found = (await client.get("/api/v1/runners")).json()
            return any(runner["state"] in {"registered", "idle"} for runner in found)

        assert (await client.post("/webhooks/github", content=BODY, headers=signed(BODY))).status_code == 202
        await until(is_registered)
        await until(partial(is_ready, client))


async def test_what_outlives_a_restart(tmp_path: Path) -> None:
    """Draining, jobs and the deliveries already known are there again after a stop and a start."""
    async with started(tmp_path) as client:
        await client.post("/api/v1/drain")
        await client.post("/webhooks/github", content=BODY, headers=signed(BODY))
    async with started(tmp_path) as client:
        assert (await client.post("/webhooks/github", content=BODY, headers=signed(BODY))).status_code == 202
        assert [job["id"] for job in (await client.get("/api/v1/jobs")).json()["items"]] == [1]
        outcomes = (await client.get("/metrics")).text
        assert 'cidermill_webhooks_total{outcome="known"} 1.0' in outcomes

        async def is_draining() -> bool:
            answer = await client.get("/api/v1/status")
            return bool(answer.status_code == 200 and answer.json()["draining"])

        await until(is_draining)


async def test_reload(tmp_path: Path) -> None:
    """What is on disk is taken whole: its pools now, and the names of what must wait for a restart."""
    new = some_settings(tmp_path, pool="other", log_level="debug")
    async with started(tmp_path, lambda: new) as client:
        answer = await client.post("/api/v1/reload")
        assert answer.json() == {
            "pools": ["other"],
            "changed": ["other"],
            "removed": ["mac"],
            "needs_restart": ["log_level"],
            "added": ["other"],
            "changes": [],
        }


async def test_a_hangup_reloads(tmp_path: Path) -> None:
    """SIGHUP does what the API does; one that finds nothing valid changes nothing and is outlived."""
    on_disk: list[Settings] = []

    def reread() -> Settings:
        if not on_disk:
            raise ConfigError(["slots = 9: too many"])
        return on_disk[0]

    async with started(tmp_path, reread) as client:

        async def names() -> list[str]:
            pools = await client.get("/api/v1/pools")
            return [pool["name"] for pool in pools.json()] if pools.status_code == 200 else []

        async def is_begun() -> bool:
            return await names() == ["mac"]

        async def is_taken() -> bool:
            return await names() == ["other"]

        os.kill(os.getpid(), signal.SIGHUP)
        await until(is_begun)
        on_disk.append(some_settings(tmp_path, pool="other"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(is_taken)


def test_each_key_that_changed() -> None:
    """A change shows as text what was and what is, and nothing that stayed."""
    new = a_pool(cpu=8, repositories=("acme/*", "zoo/kit"), job_timeout=timedelta(hours=1), image="tahoe")
    assert [(change.key, change.old, change.new) for change in changes(a_pool(), new)] == [
        ("image", "sequoia", "tahoe"),
        ("repositories", "acme/*", "acme/*, zoo/kit"),
        ("cpu", None, "8"),
        ("job_timeout", "22500s", "3600s"),
    ]


async def test_reload_refused(tmp_path: Path) -> None:
    """A configuration that is not valid changes nothing, and each reason is told."""

    def reread() -> Settings:
        raise ConfigError(["slots = 9: too many", "image: it is required"])

    async with started(tmp_path, reread) as client:
        answer = await client.post("/api/v1/reload")
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            ["slots = 9: too many", "image: it is required"],
        )

        async def is_unchanged() -> bool:
            pools = await client.get("/api/v1/pools")
            return pools.status_code == 200 and [pool["name"] for pool in pools.json()] == ["mac"]

        await until(is_unchanged)


async def test_nothing_else_is_served(tmp_path: Path) -> None:
    """Beside the routes and their document there is nothing."""
    async with started(tmp_path) as client:
        for path in ("/docs", "/redoc", "/api/v1/nothing", "/jobs"):
            assert (await client.get(path)).status_code == 404
