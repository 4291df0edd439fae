"""The webhook door: what is durable is answered 202, what is not is answered so that it comes again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from starlette.types import Message
from structlog.testing import capture_logs

from app.api.bodies import MAX_BODY
from app.domain.jobs import Job
from tests.api.conftest import SECRET, Server, a_payload, signed

SAMPLES = Path(__file__).parent.parent / "samples" / "github-webhooks"
BODY = json.dumps(a_payload()).encode()


async def the_job(server: Server) -> Job:
    job = await server.context.reader.job(1)
    assert job is not None
    return job


def outcome(server: Server, name: str) -> float:
    value = server.context.metrics.registry.get_sample_value("cidermill_webhooks_total", {"outcome": name})
    return value or 0.0


async def test_recorded(server: Server) -> None:
    """A delivery is in the database by the time it is answered, and the bell has been rung."""
    answer = await server.deliver()
    assert (answer.status_code, answer.content) == (202, b"")
    assert (server.rows("delivery"), server.rows("job"), server.reconciler.wakes) == (1, 1, 1)
    assert (await the_job(server)).pool == "mac"
    assert outcome(server, "recorded") == 1


async def test_known(server: Server) -> None:
    """The same delivery again is accepted, changes nothing, and rings no bell."""
    await server.deliver(guid="same")
    answer = await server.deliver("completed", guid="same", status="completed")
    assert answer.status_code == 202
    assert (await the_job(server)).status == "queued"
    assert (server.rows("delivery"), server.reconciler.wakes) == (1, 1)
    assert outcome(server, "known") == 1


async def test_nothing_is_asked_inside_a_request(server: Server) -> None:
    """Recording a delivery asks neither GitHub nor the host anything: that is a pass's business."""
    await server.deliver()
    await server.deliver("in_progress", status="in_progress", runner_name="mini-mac-aaaaaaaa")
    assert not server.github.calls
    assert not server.vms.calls


@pytest.mark.parametrize(
    ("event", "body"),
    [
        pytest.param("ping", (SAMPLES / "ping.organization-hook.json").read_bytes(), id="a ping"),
        pytest.param(
            "installation", (SAMPLES / "installation.created.json").read_bytes(), id="an installation"
        ),
        pytest.param("push", b"not even json", id="an event nobody asked for"),
        pytest.param(
            "workflow_job", json.dumps(a_payload() | {"workflow_job": None}).encode(), id="a job that is null"
        ),
        pytest.param("workflow_job", json.dumps(a_payload("renamed")).encode(), id="an action of tomorrow"),
    ],
)
async def test_not_for_us(server: Server, event: str, body: bytes) -> None:
    """What is authentic and not for us is acknowledged and forgotten."""
    answer = await server.post(body, signed(body, event=event))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (server.rows("delivery"), server.rows("job"), server.reconciler.wakes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        pytest.param(401, BODY, {}, id="no signature"),
        pytest.param(401, BODY, signed(BODY, secret="guess"), id="another secret"),
        pytest.param(401, BODY + b" ", signed(BODY), id="a body that was changed"),
        pytest.param(401, b"", {}, id="nothing at all"),
        pytest.param(400, b"{", signed(b"{"), id="half a JSON"),
        pytest.param(400, b"[]", signed(b"[]"), id="a list"),
        pytest.param(400, BODY, signed(BODY, event=""), id="no event"),
        pytest.param(400, BODY, signed(BODY, guid=""), id="no delivery id"),
        pytest.param(401, b" " * (MAX_BODY + 1), {}, id="too large, and unsigned"),
        pytest.param(413, b" " * (MAX_BODY + 1), signed(b" " * (MAX_BODY + 1)), id="too large"),
    ],
)
async def test_refused(server: Server, status: int, body: bytes, headers: dict[str, str]) -> None:
    """What is refused leaves no trace but its count, and says why without any secret."""
    answer = await server.post(body, headers)
    assert answer.status_code == status
    assert SECRET not in answer.text
    assert len(answer.json()["detail"]) > 10
    assert (server.rows("delivery"), server.reconciler.wakes) == (0, 0)
    assert outcome(server, str(status)) == 1


async def test_largest_body(server: Server) -> None:
    """A body of exactly the limit is read."""
    body = BODY + b" " * (MAX_BODY - len(BODY))
    assert (await server.post(body, signed(body))).status_code == 202


async def test_secret_before(server: Server) -> None:
    """While a secret is rotated both are accepted."""
    headers = signed(BODY, secret="the-secret-before")
    assert (await server.post(BODY, headers)).status_code == 202


@pytest.mark.parametrize("table", ["delivery", "job"])
async def test_not_stored(server: Server, table: str) -> None:
    """What cannot be stored is answered 503 and not recorded at all, so that a redelivery is accepted."""
    with server.refusing(table), capture_logs() as logged:
        answer = await server.deliver(guid="again")
        assert answer.status_code == 503
        assert "redeliver" in answer.json()["detail"]
        assert (server.rows("delivery"), server.rows("job"), server.reconciler.wakes) == (0, 0, 0)
    assert [(line["event"], line["delivery"]) for line in logged] == [("delivery_not_stored", "again")]
    assert (await server.deliver(guid="again")).status_code == 202
    assert (server.rows("delivery"), server.rows("job"), server.reconciler.wakes) == (1, 1, 1)


async def test_no_table(server: Server) -> None:
    """A database that is damaged is answered 503 like one that is full."""
    with server.engine.begin() as connection:
        connection.execute(text("ALTER TABLE delivery RENAME TO gone"))
    with capture_logs():
        assert (await server.deliver()).status_code == 503
    assert outcome(server, "503") == 1


STEPS: dict[str, dict[str, Any]] = {
    "queued": {"status": "queued"},
    "in_progress": {
        "status": "in_progress", "runner_name": "mini-mac-aaaaaaaa", "started_at": "2026-03-01T12:01:00Z",
    },
    "completed": {
        "status": "completed", "conclusion": "success", "runner_name": "mini-mac-aaaaaaaa",
        "started_at": "2026-03-01T12:01:00Z", "completed_at": "2026-03-01T12:05:00Z",
    },
}  # fmt: skip


@pytest.mark.parametrize("order", list(permutations(STEPS)), ids="-".join)
async def test_any_order(server: Server, order: tuple[str, ...]) -> None:
    """Whatever the order, and however often each comes, the job ends the same."""
    for action in order + order[::-1]:
        assert (await server.deliver(action, **STEPS[action])).status_code == 202
    job = await the_job(server)
    assert (job.status, job.conclusion, job.runner) == ("completed", "success", "mini-mac-aaaaaaaa")
    assert (job.queued_at.minute, job.started_at and job.started_at.minute) == (0, 1)
    assert job.completed_at is not None
    assert job.completed_at.minute == 5
    assert server.rows("job") == 1


async def test_many_at_once(server: Server) -> None:
    """Deliveries that come together are all recorded, each once."""
    answers = await asyncio.gather(
        *(server.deliver(guid=f"g{n % 20}", id=n % 20, name=f"job {n}") for n in range(60))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert (server.rows("delivery"), server.rows("job"), server.reconciler.wakes) == (20, 20, 20)


async def test_chunked_over_the_limit(server: Server) -> None:
    """A body of unknown length is cut off at the limit: the rest of it is never read."""
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65536
            yield b" " * 65536

    answer = await server.client.post("/webhooks/github", content=chunks(), headers=signed(b""))
    assert answer.status_code == 413
    assert sent < 2 * MAX_BODY


async def call(server: Server, *messages: Message, **headers: str) -> int:
    """Send a request piece by piece, and return the status; after the last piece nothing more ever comes."""
    pieces, statuses = list(messages), []

    async def receive() -> Message:
        if pieces:
            return pieces.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/webhooks/github",
        "raw_path": b"/webhooks/github",
        "root_path": "",
        "query_string": b"",
        "headers": [(k.replace("_", "-").lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "server": ("localhost", 80),
        "client": ("192.0.2.1", 4000),
    }
    await server.app(scope, receive, send)
    return int(statuses[0])


def piece(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_body_in_pieces(server: Server) -> None:
    """A body that comes in pieces is one body."""
    pieces = [piece(BODY[n : n + 50], more=n + 50 < len(BODY)) for n in range(0, len(BODY), 50)]
    assert await call(server, *pieces, **signed(BODY)) == 202


async def test_connection_lost(server: Server) -> None:
    """A connection that ends within the body is no error of ours, and records nothing."""
    status = await call(server, piece(BODY[:50], more=True), {"type": "http.disconnect"}, **signed(BODY))
    assert status == 400
    assert server.rows("delivery") == 0


@pytest.mark.looptime
async def test_body_that_never_ends(server: Server) -> None:
    """A body that stops coming is given up when GitHub would have given up itself."""
    before = asyncio.get_running_loop().time()
    assert await call(server, piece(BODY[:50], more=True), **signed(BODY)) == 400
    assert asyncio.get_running_loop().time() - before == pytest.approx(10, abs=1)


@pytest.mark.parametrize("length", ["²", "-1", "x", "9" * 6000, ""])
async def test_lengths_that_are_none(server: Server, length: str) -> None:
    """A length that is no number never breaks the door; the body itself is what is measured."""
    status = await call(server, piece(BODY), content_length=length, **signed(BODY))
    assert status == (413 if length.startswith("9") else 202)


async def test_other_methods(server: Server) -> None:
    """Only a POST is a delivery."""
    assert (await server.client.get("/webhooks/github")).status_code == 405
