"""Bodies being read: each bounded in size and time, and all of them together in memory.

Where memory gets tight the body that has been coming longest gives way. GitHub's come in milliseconds, so the
slow ones of a stranger go first, however many there are, and a delivery finds room.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

MAX_BODY = 1_000_000  # bytes; a workflow_job is 8 to 15 kB
ALL_BODIES = 64_000_000  # bytes, of all that are being read
BODY_SECONDS = 10.0  # GitHub gives up then


@dataclass(eq=False, slots=True)
class Body:
    """One that is being read."""

    limit: asyncio.Timeout
    data: bytearray = field(default_factory=bytearray)
    gave_way: bool = False


class Bodies:
    """Reads bodies, within limits."""

    def __init__(self, room: int = ALL_BODIES) -> None:
        self._room = room  # bytes left
        self._reading: dict[Body, None] = {}  # the one that has been coming longest first

    async def read(self, request: Request) -> bytes:
        """Return the raw body. Raises HTTPException: 400, 413, or 503 where it gave way to others."""
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > MAX_BODY:
            raise _too_large()
        limit = asyncio.timeout(BODY_SECONDS)
        body = Body(limit)
        self._reading[body] = None
        try:
            async with limit:
                async for chunk in request.stream():
                    self._take(body, chunk)
        except TimeoutError as error:
            if body.gave_way:
                raise HTTPException(503, "Too much is being sent at once; redeliver it later.") from error
            raise HTTPException(400, f"The body did not arrive within {BODY_SECONDS:.0f} s.") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "The connection ended before the body did.") from error
        finally:
            self._forget(body)
        return bytes(body.data)

    def _take(self, body: Body, chunk: bytes) -> None:
        if len(body.data) + len(chunk) > MAX_BODY:
            raise _too_large()
        body.data += chunk
        if body in self._reading:
            self._room -= len(chunk)
        while self._room < 0:
            slowest = next(iter(self._reading))
            self._forget(slowest)
            if not slowest.limit.expired():
                slowest.gave_way = True
                slowest.limit.reschedule(asyncio.get_running_loop().time())

    def _forget(self, body: Body) -> None:
        if body in self._reading:
            del self._reading[body]
            self._room += len(body.data)


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {MAX_BODY} bytes.")
