"""Hands every change to everybody who listens, and never waits for anyone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from app.domain.changes import Change

LISTENERS = 64
BEHIND = 256  # changes that a listener may be behind, or it is let go

Queue = asyncio.Queue[Change | None]  # None: let go


class Broadcaster:
    """The listeners of one application. Only its event loop may use it."""

    def __init__(self) -> None:
        self._queues: set[Queue] = set()

    @property
    def is_full(self) -> bool:
        """Whether nobody else may listen."""
        return len(self._queues) >= LISTENERS

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._queues)

    def tell(self, change: Change) -> None:
        """Tell everybody; who is too far behind is let go."""
        for queue in [*self._queues]:
            if queue.qsize() >= BEHIND:
                self._queues.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(change)

    @contextmanager
    def listening(self) -> Iterator[AsyncIterator[Change]]:
        """Listen for as long as this lasts; the changes end when the listener is let go."""
        queue: Queue = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield _until_let_go(queue)
        finally:
            self._queues.discard(queue)


async def _until_let_go(queue: Queue) -> AsyncIterator[Change]:
    while (change := await queue.get()) is not None:
        yield change
