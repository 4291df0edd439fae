"""The application in this process, with the sandbox: what it asks of GitHub and of its database can be counted.

GitHub is the model without HTTP, and without the pace that one App keeps to, which would hold up two thousand jobs for hours.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine, event

from app import logs
from app.configfile import load
from app.domain.world import World
from app.main import create_app
from app.sandbox.direct import DirectGitHub
from app.sandbox.github import ModelGitHub
from app.sandbox.serving import loopback, serving
from benchmarks.measures import PASSES
from tests.simulation.layers import Call, Port

UNDER_WAY = 20  # webhooks, while jobs are queued


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """A running application, and what it asked so far."""

    app: FastAPI
    model: ModelGitHub
    client: httpx.AsyncClient  # of its admin API
    github: Counter[str]
    database: Counter[str]  # statements, by their first word

    async def queue(self, count: int, repository: str, labels: tuple[str, ...], seconds: float) -> None:
        """Queue jobs, and let their webhooks be sent meanwhile."""
        for n in range(count):
            self.model.queue(repository, f"job {n}", labels, seconds=seconds)
            while len(self.model.workflows.jobs) - len(self.model.hooks.log) > UNDER_WAY:
                await asyncio.sleep(0)

    async def get(self, path: str) -> Any:
        """Return an answer of the admin API, as JSON."""
        return (await self.client.get(path)).raise_for_status().json()

    def world(self) -> World:
        """Return what the last pass saw."""
        world: World = self.app.state.context.reconciler.world
        return world

    async def passes(self) -> dict[str, float]:
        """Return the count of passes so far, and the sum of their seconds."""
        text = (await self.client.get("/metrics")).text
        return {what: float(value) for what, value in PASSES.findall(text)}


@asynccontextmanager
async def inside(
    model: ModelGitHub, api_url: str, place: Path, config: str, backend: Mapping[str, str]
) -> AsyncIterator[Inside]:
    """Run the application; *backend* are the settings of what runs its VMs."""
    logs.configure("error", "json", ())
    (place / "cidermill.toml").write_text(config, encoding="utf-8")
    key = place / "app.pem"
    key.touch(mode=0o600)
    key.write_text(model.accounts.app.pem, encoding="ascii")
    environ = {
        "HOME": str(place),
        "CIDERMILL_STATE_DIR": str(place / "state"),
        "CIDERMILL_GITHUB_API_URL": api_url,
        "CIDERMILL_GITHUB_APP_ID": str(model.accounts.app.id),
        "CIDERMILL_GITHUB_PRIVATE_KEY_PATH": str(key),
        "CIDERMILL_GITHUB_WEBHOOK_SECRET": model.app_hook.secret,
    }
    settings = load(environ | dict(backend), place)
    github: Counter[str] = Counter()
    app = create_app(settings, github=DirectGitHub(model), around=lambda part: _counted(part, github))
    with _statements() as database:
        async with _listening(app) as url:
            model.point_hook(f"{url}/webhooks/github")
            token = (place / "state" / "admin-token").read_text(encoding="ascii").strip()
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60.0) as client:
                while not (await client.get("/readyz")).is_success:  # there is no event
                    await asyncio.sleep(0.1)
                yield Inside(app=app, model=model, client=client, github=github, database=database)


def _counted(part: Any, calls: Counter[str]) -> Any:
    """Count what is asked of GitHub."""
    if not isinstance(part, DirectGitHub):
        return part

    def layer(verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            calls[verb] += 1
            return await call(*args, **kwargs)

        return passed

    return Port(part, layer)


@contextmanager
def _statements() -> Iterator[Counter[str]]:
    """Count every statement that any engine runs meanwhile."""
    counted: Counter[str] = Counter()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        counted[statement.split(maxsplit=1)[0]] += 1

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield counted
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@asynccontextmanager
async def _listening(app: FastAPI) -> AsyncIterator[str]:
    """Serve the application on loopback."""
    listener = loopback()
    async with serving(app, listener, lifespan="on"):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
