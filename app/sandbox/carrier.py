"""What makes the model's time pass and its deliveries travel, on the running event loop.

The model only knows what is due when; this sleeps until then (on real or virtual time), ticks the model, and
hands each due delivery to whoever carries it. Deliveries travel side by side, as GitHub's do: a slow receiver
delays none of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

from app.sandbox.github import ModelGitHub
from app.sandbox.github_hooks import Delivery

Send = Callable[[Delivery], Awaitable[None]]  # delivers one, and records its fate with model.hooks.record


class Carrier:
    """One model's passing of time; ``async with`` it, or await :meth:`run`."""

    def __init__(self, model: ModelGitHub, send: Send) -> None:
        self._model = model
        self._send = send
        self._changed = asyncio.Event()
        self._travelling: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        self._model.ground.changed = self._changed.set
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, giving up what is on its way."""
        self._model.ground.changed = lambda: None
        tasks = [task for task in (self._task, *self._travelling) if task is not None]
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(
                outcome, Exception
            ):  # not a cancellation: something is wrong with the sandbox itself
                raise outcome

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            self._changed.clear()
            self._model.tick()
            for delivery in self._model.hooks.take():
                task = asyncio.create_task(self._carry(delivery))
                self._travelling.add(task)
                task.add_done_callback(self._travelling.discard)
            await self._rest()

    async def _carry(self, delivery: Delivery) -> None:
        await self._send(delivery)

    async def _rest(self) -> None:
        due = self._model.next_due()
        seconds = None if due is None else max(0.0, (due - self._model.now()).total_seconds())
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass  # something is due


def in_process(model: ModelGitHub, receive: Callable[[Delivery], Awaitable[int]]) -> Send:
    """Return a Send that calls *receive*, which answers with a status code."""

    async def send(delivery: Delivery) -> None:
        code = await receive(delivery)
        status = "OK" if 200 <= code < 400 else f"Invalid HTTP Response: {code}"
        model.hooks.record(delivery, status=status, status_code=code)

    return send
