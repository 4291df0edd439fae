"""One connection of the server: whatever comes over it, what is kept is bounded, and it ends in time.

The real protocol and parser over a transport in memory, on virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.api import connection
from app.api.connection import CONNECTIONS, HEAD_BYTES, PIPELINED, REQUEST_SECONDS, Connection
from app.api.guard import HEADERS
from app.cli.serve import KEEP_ALIVE

pytestmark = pytest.mark.looptime
WHOLE = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
BEGUN = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWERED = b"HTTP/1.1 204 "


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and ends at once where it is told to."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__({"peername": ("192.0.2.1", 4000), "sockname": ("127.0.0.1", 8000)})
        self.protocol, self.written, self.closed = protocol, b"", False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without reading anything."""
    del scope, receive
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    """Work without end, as on a slow disk."""
    del scope, receive, send
    await asyncio.sleep(3600)


class Listener:
    """A server's connections."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]] = at_once) -> None:
        self.config = Config(app, log_config=None, timeout_keep_alive=KEEP_ALIVE)
        self.config.load()
        self.state = ServerState()

    def connect(self) -> Wire:
        made = Connection(self.config, self.state, {}, asyncio.get_running_loop())
        wire = Wire(made)
        made.connection_made(wire)
        return wire

    async def send(self, *parts: bytes, seconds: float = 0) -> Wire:
        """Connect, and send parts as long as anybody listens, each followed by a pause."""
        wire = self.connect()
        for part in parts:
            if not wire.closed:
                wire.protocol.data_received(part)
            await asyncio.sleep(seconds)
        return wire


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def test_requests_are_answered(listener: Listener) -> None:
    """One connection serves one request after another, and is closed when none follows."""
    wire = await listener.send(WHOLE, WHOLE, WHOLE, seconds=KEEP_ALIVE - 1)
    assert wire.written.count(ANSWERED) == 3
    assert not wire.closed
    await asyncio.sleep(1.5)
    assert wire.closed


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="says nothing"),
        pytest.param([b"GET / HT"], id="half a line"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 60], id="a header a second"),
        pytest.param([BEGUN, *[b"."] * 60], id="a byte of a body a second"),
        pytest.param([CHUNKED, *[b"1\r\n.\r\n"] * 60], id="a chunk a second"),
        pytest.param([WHOLE + BEGUN, *[b"."] * 60], id="a whole request first"),
    ],
)
async def test_slow_requests_end(listener: Listener, parts: list[bytes]) -> None:
    """A request that is not whole in time ends with its connection, also when it has been answered already."""
    wire = listener.connect()
    for part in parts[: int(REQUEST_SECONDS) - 1]:
        wire.protocol.data_received(part)
        await asyncio.sleep(1)
        assert not wire.closed
    await asyncio.sleep(REQUEST_SECONDS + 1)
    assert wire.closed


ENDLESS = [b"x" * 60_000] * 5
READ_AT_ONCE = 262_144  # bytes, by asyncio's sockets


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"GET /", *ENDLESS], id="a URL"),
        pytest.param([b"GET / HTTP/1.1\r\n", *ENDLESS], id="a header's name"),
        pytest.param([b"GET / HTTP/1.1\r\nx: ", *ENDLESS], id="a header's value"),
        pytest.param([b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 7000, b"a:\r\n" * 7000], id="many headers at once"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 7000], id="many headers, one by one"),
        pytest.param([CHUNKED + b"0\r\nx: ", *ENDLESS], id="a trailer"),
        pytest.param([CHUNKED + b"0\r\n" + b"a:\r\n" * 7000, b"a:\r\n" * 7000], id="many trailers"),
        pytest.param([CHUNKED + b"1;", *ENDLESS], id="a chunk's extension"),
        pytest.param([b"GET / HTTP/1.1\r\nx: " + b"x" * 250_000, *ENDLESS], id="as much as is read at once"),
    ],
)
async def test_heads_without_end(listener: Listener, parts: list[bytes]) -> None:
    """Whatever of a request's head has no end is cut off, and little of it is kept."""
    wire = listener.connect()
    taken = 0
    for part in parts:
        if wire.closed:
            break
        wire.protocol.data_received(part)
        taken += len(part)
    assert wire.closed
    assert taken <= len(parts[0]) + HEAD_BYTES + 60_000
    kept = wire.protocol.headers or []
    assert sum(len(name) + len(value) for name, value in kept) <= HEAD_BYTES + READ_AT_ONCE
    await asyncio.sleep(0)


async def test_heads_of_github_fit(listener: Listener) -> None:
    """A head several times as large as GitHub's is taken, in one piece or in many."""
    request = b"GET / HTTP/1.1\r\n" + b"x-header: some value\r\n" * 1000 + b"\r\n"
    one, many = (
        await listener.send(request),
        await listener.send(*(request[n : n + 7] for n in range(0, len(request), 7))),
    )
    assert one.written.startswith(ANSWERED)
    assert many.written.startswith(ANSWERED)


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
        pytest.param(b"\x00" * 100, id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\x00b\r\n\r\n", id="a NUL in a header"),
        pytest.param(
            b"POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths, as request smuggling needs",
        ),
        pytest.param(b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", id="a negative length"),
        pytest.param(
            b"POST / HTTP/1.1\r\ncontent-length: " + b"9" * 40 + b"\r\n\r\n", id="a length beyond numbers"
        ),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    ],
)
async def test_nonsense(listener: Listener, nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP is refused with the headers of all answers, and ends the connection."""
    wire = await listener.send(nonsense)
    head = wire.written.split(b"\r\n\r\n")[0].decode().lower()
    assert head.startswith("http/1.1 400 ")
    assert all(f"{name}: {value}" in head for name, value in HEADERS.items())
    assert wire.closed
    assert {record.name for record in caplog.records} <= {connection.__name__}


async def test_pipelines_are_short() -> None:
    """Requests that come before the answer to the first one are few, or the connection ends."""
    listener = Listener(never)
    wire = listener.connect()
    wire.protocol.data_received(WHOLE * (PIPELINED + 1))
    assert not wire.closed
    wire.protocol.data_received(WHOLE * 1000)
    assert wire.closed
    assert len(wire.protocol.pipeline) <= PIPELINED
    await stop(listener)


async def test_the_slowest_gives_way() -> None:
    """Where there are too many connections, what has waited longest for a request ends; what is served goes on."""
    listener = Listener(never)
    served = await listener.send(WHOLE, seconds=1)
    first = await listener.send(BEGUN, seconds=1)
    second = await listener.send(BEGUN, seconds=1)
    others = [listener.connect() for _ in range(CONNECTIONS - 3)]
    newest = listener.connect()
    assert (served.closed, first.closed, second.closed, newest.closed) == (False, True, False, False)
    listener.connect()
    assert (served.closed, second.closed) == (False, True)
    assert not any(wire.closed for wire in others)
    assert len(listener.state.connections) == CONNECTIONS
    await stop(listener)


async def test_all_are_served() -> None:
    """Where every connection is being served, it is the new one that ends."""
    listener = Listener(never)
    wires = [listener.connect() for _ in range(CONNECTIONS)]
    for wire in wires:
        wire.protocol.data_received(WHOLE)
    assert listener.connect().closed
    assert not any(wire.closed for wire in wires)
    await stop(listener)


async def test_nothing_is_kept_of_the_gone(listener: Listener) -> None:
    """A connection that has ended leaves neither a timer nor an entry."""
    for parts in ([WHOLE], [BEGUN], [], [b"\x00"]):
        wire = await listener.send(*parts)
        wire.close()
        assert wire.protocol.since is None
    assert not listener.state.connections


async def stop(listener: Listener) -> None:
    for task in list(listener.state.tasks):
        task.cancel()
    await asyncio.sleep(0)
    for wire in [one.transport for one in list(listener.state.connections)]:
        wire.close()
    await asyncio.sleep(0)
