"""A web server that is a guest in somebody else's program and event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

GOODBYE = 1  # s that open connections are waited for at the end


class GuestServer(uvicorn.Server):
    """A server that leaves signals to the program it is a guest of, and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell so."""
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serving(app: Any, listener: socket.socket, **options: Any) -> AsyncIterator[None]:
    """Have an ASGI application answer on *listener*, which is closed in the end; *options* are uvicorn's."""
    quiet = {"log_config": None, "log_level": "critical", "access_log": False, "lifespan": "off"}
    server = GuestServer(uvicorn.Config(app, timeout_graceful_shutdown=GOODBYE, **(quiet | options)))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await server.up.wait()
    try:
        yield
    finally:
        server.should_exit = True
        await running
        listener.close()


def loopback(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket bound to loopback, or to another *host* of this machine; 0: any port that is free."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener
