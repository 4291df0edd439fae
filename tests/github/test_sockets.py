"""Real sockets whose other end misbehaves: each ends in time, as an outage. Time is virtual, the sockets are not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from app.domain.pools import Target
from app.github.client import GitHubClient
from app.ports import GitHubUnavailable
from tests.github.stub import PAT, StubGitHub, a_client

ACME = Target("acme")
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def sending(*parts: bytes) -> Answer:
    """Send so much and close."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def dripping(head: bytes, drop: bytes, apart: float) -> Answer:
    """Send *head* and then a drop every so many seconds, for ever."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(apart)

    return answer


def silent(head: bytes = b"") -> Answer:
    """Send *head* and nothing more, for ever."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await asyncio.Event().wait()

    return answer


@asynccontextmanager
async def a_server(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen on loopback and give every request the same answer; yield the URL and what was asked."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def a_caller(url: str) -> GitHubClient:
    transport = httpx.AsyncHTTPTransport(verify=PLAIN)
    return a_client(StubGitHub(), token=PAT, api_url=url, transport=transport)


async def mint(client: GitHubClient) -> None:
    await client.mint(ACME, name="mini-mac-1", labels=("mac",), group_id=1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(sending(), "broke", id="it closes without a word"),
        pytest.param(sending(b"HTTP/1.1 200"), "broke", id="it closes within the status"),
        pytest.param(sending(HEAD), "broke", id="it closes within the headers"),
        pytest.param(sending(HEAD + b"Content-Length: 99\r\n\r\n{"), "broke", id="it closes within the body"),
        pytest.param(
            sending(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{\r\n"),
            "broke",
            id="it closes within a chunk",
        ),
        pytest.param(sending(b"SSH-2.0-OpenSSH_9.6\r\n"), "broke", id="it is no web server"),
        pytest.param(sending(b"\x16\x03\x01\x02\x00" * 20), "broke", id="it speaks TLS"),
        pytest.param(
            sending(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
            "No usable answer",
            id="it says gzip and is not",
        ),
        pytest.param(
            sending(HEAD + b"Content-Length: 2\r\n\r\n\xff\xfe"), "cannot be read", id="it is no UTF-8"
        ),
        pytest.param(sending(HEAD + b"Content-Length: 0\r\n\r\n"), "cannot be read", id="it is empty"),
        pytest.param(
            sending(b"HTTP/1.1 301 Moved\r\nLocation: /orgs/acme/x\r\nContent-Length: 0\r\n\r\n"),
            "No usable answer",
            id="it sends us round and round",
        ),
    ],
)
async def test_answers_that_are_none(answer: Answer, told: str) -> None:
    """What breaks off, or is not HTTP, is an outage, and a mint is sent once for all that."""
    async with a_server(answer) as (url, asked), a_caller(url) as client:
        with pytest.raises(GitHubUnavailable, match=told):
            await mint(client)
        assert sum(request.startswith(b"POST") for request in asked) == 1


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("answer", "told", "seconds"),
    [
        pytest.param(silent(), "in time", 15, id="it never answers"),
        pytest.param(
            silent(HEAD + b"Content-Length: 99\r\n\r\n{"), "in time", 15, id="it stops within the body"
        ),
        pytest.param(
            dripping(HEAD + b"Content-Length: 9999\r\n\r\n", b" ", 8), "within 45 s", 45, id="its body drips"
        ),
        pytest.param(dripping(HEAD, b"X-Drop: 1\r\n", 8), "within 45 s", 45, id="its headers drip"),
    ],
)
async def test_answers_that_take_for_ever(answer: Answer, told: str, seconds: float) -> None:
    """Each wait has its end, and all of them together have theirs."""
    began = asyncio.get_running_loop().time()
    async with a_server(answer) as (url, asked), a_caller(url) as client:
        with pytest.raises(GitHubUnavailable, match=told):
            await mint(client)
        assert asyncio.get_running_loop().time() - began == pytest.approx(seconds, abs=1)
        assert len(asked) == 1


@pytest.mark.looptime
async def test_a_host_that_takes_no_connection() -> None:
    """A connection that is neither taken nor refused is given up after five seconds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # more than its queue holds
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        try:
            began = asyncio.get_running_loop().time()
            async with a_caller(f"http://127.0.0.1:{address[1]}") as client:
                with pytest.raises(GitHubUnavailable, match="in time"):
                    await mint(client)
            assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=1)
        finally:
            for one in waiting:
                one.close()
