"""Bodies at the webhook door: how much of them is kept at once, and who gives way."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fastapi import HTTPException, Request
from starlette.types import Message

from app.api.bodies import BODY_SECONDS, MAX_BODY, Bodies
from tests.api.conftest import Server, signed
from tests.api.test_webhooks import BODY, call, outcome, piece

SIGNED = signed(b"never sent")
LARGE = b" " * (MAX_BODY - 1)


class Sender:
    """A client that sends what it is told to, when it is told to."""

    def __init__(self, **headers: str) -> None:
        self.pieces: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "http", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
        self.request = Request(scope, self.pieces.get)

    def send(self, body: bytes, *, more: bool = True) -> None:
        self.pieces.put_nowait(piece(body, more=more))


async def begun(bodies: Bodies, body: bytes) -> tuple[Sender, asyncio.Task[bytes]]:
    """Begin a body that then stalls."""
    sender = Sender()
    reading = asyncio.create_task(bodies.read(sender.request))
    sender.send(body)
    await asyncio.sleep(0.1)
    return sender, reading


async def refused(reading: asyncio.Task[bytes]) -> int:
    with pytest.raises(HTTPException) as refusal:
        await reading
    return refusal.value.status_code


@pytest.mark.looptime
async def test_the_slowest_gives_way() -> None:
    """Where memory gets tight what has been coming longest is ended, and what comes now is read."""
    bodies = Bodies(3 * MAX_BODY)
    stalled = [await begun(bodies, LARGE) for _ in range(3)]
    sender, reading = await begun(bodies, b"a delivery")
    sender.send(b", whole", more=False)
    assert await reading == b"a delivery, whole"
    assert await refused(stalled[0][1]) == 503
    assert not stalled[1][1].done()
    stalled[1][0].send(b"", more=False)
    assert await stalled[1][1] == LARGE
    assert await refused(stalled[2][1]) == 400


@pytest.mark.looptime
async def test_room_comes_back() -> None:
    """However a body ends, what it took is free again."""
    bodies = Bodies(MAX_BODY)
    for number in range(20):
        sender, reading = await begun(bodies, LARGE)
        if number % 4 == 0:
            sender.send(b"", more=False)
            assert await reading == LARGE
        elif number % 4 == 1:
            sender.send(b"too much")
            assert await refused(reading) == 413
        elif number % 4 == 2:
            sender.pieces.put_nowait({"type": "http.disconnect"})
            assert await refused(reading) == 400
        else:
            assert await refused(reading) == 400  # it never goes on


@pytest.mark.looptime
async def test_late_and_in_the_way() -> None:
    """A body whose time is up in the moment it has to give way ends as late, and nobody else is harmed."""
    bodies = Bodies(MAX_BODY)
    _, late = await begun(bodies, LARGE)
    sender = Sender()
    await asyncio.sleep(BODY_SECONDS - 0.2)
    reading = asyncio.create_task(bodies.read(sender.request))
    await asyncio.sleep(0.1)
    sender.send(b"x" * 1000, more=False)
    assert await reading == b"x" * 1000
    assert await refused(late) in {400, 503}


@pytest.mark.looptime
async def test_a_flood_of_stalled_bodies(server: Server) -> None:
    """However many stalled bodies there are, a delivery is recorded, and each of them ends with a refusal."""
    server.app.state.context = replace(server.context, bodies=Bodies(5 * MAX_BODY))
    flood = [asyncio.create_task(call(server, piece(LARGE, more=True), **SIGNED)) for _ in range(50)]
    await asyncio.sleep(1)
    assert await call(server, piece(BODY), **signed(BODY)) == 202
    statuses = await asyncio.gather(*flood)
    assert set(statuses) == {503, 400}
    assert statuses.count(400) <= 5
    assert outcome(server, "503") == statuses.count(503)


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param({}, id="none"),
        pytest.param({"X_Hub_Signature": "sha1=" + "0" * 40}, id="the old kind"),
        pytest.param({"X_Hub_Signature_256": "sha256=" + "0" * 63}, id="too short"),
        pytest.param({"X_Hub_Signature_256": "sha256=" + "0" * 64 + ", sha256=" + "0" * 64}, id="two"),
        pytest.param({"X_Hub_Signature_256": "sha256=" + "Ä" * 64}, id="no digits"),
        pytest.param({"X_Hub_Signature_256": ""}, id="empty"),
    ],
)
@pytest.mark.looptime
async def test_unsigned(server: Server, signature: dict[str, str]) -> None:
    """What is not even signed is refused before a byte of its body has come."""
    before = asyncio.get_running_loop().time()
    assert await call(server, **signature, content_length="15000") == 401
    assert asyncio.get_running_loop().time() == before
