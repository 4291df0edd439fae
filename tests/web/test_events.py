"""Every transition is told as it happens, over real connections, and nobody who listens holds anything up."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from app.api.broadcaster import BEHIND, LISTENERS, Broadcaster
from app.api.connection import STREAM, Connection
from app.db.database import Database
from app.db.store import Delivery, Store
from app.domain.changes import Change, ChangeKind
from app.domain.jobs import JobStatus
from app.domain.runners import RunnerState
from tests.api.conftest import TOKEN, Server
from tests.builders import NOW, a_pool, a_runner, an_event

SOON = 10  # s; a real connection, on a machine that may be busy


@asynccontextmanager
async def listening(server: Server, port: int = 0) -> AsyncIterator[tuple[uvicorn.Server, httpx.AsyncClient]]:
    """Serve the application on loopback, by the protocol that `serve` uses."""
    config = uvicorn.Config(server.app, http=Connection, lifespan="off", log_config=None)
    config.load()
    served = uvicorn.Server(config)
    served.lifespan = config.lifespan_class(config)
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        port = bound.getsockname()[1]
        await served.startup(sockets=[bound])
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            yield served, client
        await served.shutdown()


async def told(lines: AsyncIterator[str]) -> tuple[str, dict[str, Any]]:
    """Return the next event."""
    name = ""
    async with asyncio.timeout(SOON):
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            if line.startswith("data: "):
                return name, json.loads(line.removeprefix("data: "))
    msg = "the stream ended"
    raise AssertionError(msg)


async def begun(answer: httpx.Response) -> AsyncIterator[str]:
    """Return the lines of a stream that has begun."""
    lines = answer.aiter_lines()
    assert await anext(lines) == ": listening"
    return lines


async def test_a_job_is_told(server: Server) -> None:
    """Who listens hears of a job and of each step of its runner, in order."""
    async with listening(server) as (_, client), client.stream("GET", STREAM) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = await begun(answer)
        runner = await server.idle_runner()
        heard = [await told(lines) for _ in range(6)]
    assert heard[0][0] == "job"
    assert (heard[0][1]["name"], heard[0][1]["was"], heard[0][1]["now"]) == ("1", None, "queued")
    assert [(name, change["name"]) for name, change in heard[1:]] == [("runner", runner.name)] * 5
    assert [change["now"] for _, change in heard[1:]] == ["claimed", "booting", "ready", "registered", "idle"]


async def test_a_listener_who_leaves_is_forgotten(server: Server) -> None:
    """A closed connection costs nothing more."""
    async with listening(server) as (_, client):
        async with client.stream("GET", STREAM) as answer:
            await begun(answer)
            assert server.context.events.listeners == 1
        async with asyncio.timeout(SOON):
            while server.context.events.listeners:
                await asyncio.sleep(0.01)


async def test_a_stop_waits_for_nobody(server: Server) -> None:
    """A stream that never ends does not keep the server from stopping."""
    async with listening(server) as (served, client), client.stream("GET", STREAM) as answer:
        lines = await begun(answer)
        async with asyncio.timeout(SOON):
            await served.shutdown()
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(line for line in [line async for line in lines])


async def test_one_too_many(server: Server) -> None:
    """Past the limit nobody else may listen, and is told what to do."""
    async with listening(server) as (_, client):
        with ExitStack() as others:
            for _ in range(LISTENERS):
                others.enter_context(server.context.events.listening())
            answer = await client.get(STREAM)
    assert answer.status_code == 503
    assert "close a dashboard" in answer.json()["detail"]


async def test_the_token_is_wanted(server: Server) -> None:
    """Nobody listens without the token."""
    async with listening(server) as (_, client):
        answer = await client.get(STREAM, headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401


async def test_a_slow_listener_is_let_go() -> None:
    """Who falls behind hears no more and holds nothing; who keeps up hears all."""
    broadcaster = Broadcaster()
    change = Change(kind=ChangeKind.DRAINING, name="", was=None, now=None)
    with broadcaster.listening() as slow, broadcaster.listening() as quick:
        heard = 0
        for _ in range(BEHIND + 2):
            broadcaster.tell(change)
            assert await anext(quick) == change
            heard += 1
        assert broadcaster.listeners == 1
        assert [each async for each in slow] == []
    assert heard == BEHIND + 2
    assert broadcaster.listeners == 0


async def test_every_transition_is_told(database: Database) -> None:
    """What the store changes it tells, once it is durable; what changed nothing is not told."""
    heard: list[tuple[str, str, str | None, str | None]] = []
    store = Store(database, [a_pool()], lambda c: heard.append((c.kind, c.name, c.was, c.now)))
    runner = a_runner(RunnerState.CLAIMED)
    for _ in range(2):  # the second delivery is the first one again
        await store.record(Delivery(guid="g", event="workflow_job"), an_event(), at=NOW)
    await store.claim(runner)
    await store.advance(runner.name, RunnerState.BOOTING, at=NOW, reason="launch")
    await store.observe(an_event(JobStatus.IN_PROGRESS, runner=runner.name), at=NOW)
    await store.end_job(1, at=NOW, note="gone")
    await store.reopen(1, at=NOW)
    await store.observe_all([an_event(JobStatus.COMPLETED)], at=NOW)
    await store.fail("host", "slow", "it is slow", at=NOW, jitter=0.5)
    await store.succeed("host", "pool:mac")
    await store.fail("host", "slow", "it is slow", at=NOW, jitter=0.5)
    await store.forget_failures()
    await store.set_draining(True)
    await store.set_draining(False)
    assert heard == [
        ("job", "1", None, "queued"),
        ("runner", runner.name, None, "claimed"),
        ("runner", runner.name, "claimed", "booting"),
        ("job", "1", "queued", "in_progress"),
        ("job", "1", None, "completed"),
        ("job", "1", "completed", "in_progress"),
        ("job", "1", "in_progress", "completed"),
        ("cooldown", "host", None, "slow"),
        ("cooldown", "host", "slow", None),
        ("cooldown", "host", None, "slow"),
        ("cooldown", "host", "slow", None),
        ("draining", "", None, "draining"),
        ("draining", "", None, None),
    ]
