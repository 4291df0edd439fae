"""One HTTP connection: bounded in its headers, in the time a request may take to come, and in number.

uvicorn's own bounds none of that: headers may grow without end, a request may never end, and with
``limit_concurrency`` whoever holds enough connections keeps everybody else out. Here the one that has waited longest
for the rest of a request gives way, so that a stranger's slow requests never hold up GitHub, whose deliveries come
in milliseconds. Addresses say nothing: behind a tunnel all requests have the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.api.guard import HEADERS

CONNECTIONS = 2048  # a burst of GitHub's may come on connections of its own, each
HEAD_BYTES = 32_768  # of a request's URL, headers and trailers; GitHub's have 1 kB
REQUEST_SECONDS = 15.0  # for a whole request, from the connection's start or its own first byte
STREAM = "/api/v1/events"
PIPELINED = 8  # requests that may wait on one connection for the answers to those before


class TooMuch(ValueError):
    """It is more than is taken of one connection."""


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits; ``since`` is when it began to wait for a request, None while it has one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = logging.getLogger(__name__)
        self.since: float | None = None
        self._late: asyncio.TimerHandle | None = None
        self._head = 0  # bytes that came since the end of a request, or since a part of its body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take a connection; where there are too many, the one that has waited longest is ended."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._arm()
        if len(self.connections) > CONNECTIONS:
            waiting = {
                c.since: c for c in self.connections if isinstance(c, Connection) and c.since is not None
            }
            waiting[min(waiting)].give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes. The parser keeps a header that has no end to itself, so bytes are what is counted."""
        self._head += len(data)
        super().data_received(data)
        if self._head > HEAD_BYTES:
            self.send_400_response("The request's headers are too large.")
        elif self.since is not None and self._late is None and not self.transport.is_closing():
            self._arm()

    def shutdown(self) -> None:
        """End the connection when its answer is whole; one that never is, ends at once."""
        if self.since is None and self.scope["path"] == STREAM:
            self.transport.close()
        else:
            super().shutdown()

    def give_up(self) -> None:
        """End the connection at once."""
        self._disarm()
        self.connections.discard(self)
        self.transport.abort()

    # What the parser calls. What is raised here is answered 400, and ends the connection.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= PIPELINED:
            raise TooMuch
        self._disarm()
        self.since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            raise TooMuch
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Have the request whole."""
        self._disarm()
        self._head = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn ends a connection on which none begins."""
        super().on_response_complete()
        if self.since is None and self.cycle.response_complete:
            self.since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, in the form of all our answers, and end the connection."""
        self._disarm()
        if self.transport.is_closing():
            return
        body = json.dumps({"detail": msg}).encode()
        kind = {"content-type": "application/json", "content-length": f"{len(body)}", "connection": "close"}
        lines = [f"{name}: {value}\r\n".encode() for name, value in (HEADERS | kind).items()]
        self.transport.write(b"".join([STATUS_LINE[400], *lines, b"\r\n", body]))
        self.transport.close()

    def _arm(self) -> None:
        self._late = self.loop.call_later(REQUEST_SECONDS, self.give_up)

    def _disarm(self) -> None:
        self.since = None
        if self._late is not None:
            self._late.cancel()
            self._late = None
