"""Layers round the calls a process makes: what watches them, breaks them, or ends the process between two.

A layer gets a verb and the call behind it and returns the call to make instead. A :class:`Port` puts layers
round every coroutine verb of a store, a host or a GitHub; the first is the outermost.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Call = Callable[..., Awaitable[Any]]
Layer = Callable[[str, Call], Call]


class Port:
    """An object whose coroutine verbs pass through *layers*; everything else of it stays as it is."""

    def __init__(self, inner: object, *layers: Layer) -> None:
        self._inner, self._layers = inner, layers

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._inner, verb)
        if not inspect.iscoroutinefunction(call):
            return call
        for layer in reversed(self._layers):
            call = layer(verb, call)
        return call


@dataclass(slots=True)
class Fuse:
    """Ends a process at one of its calls: just before the call, or after its effect and before its answer.

    What has ended goes no further: the call at which it ended, and any that the rest of it still makes, is never
    answered, until whoever holds the process takes it away.
    """

    at: int | None = None  # which call; None: none
    after: bool = False
    trail: list[str] = field(default_factory=list)  # the calls made
    burnt: bool = False
    on_end: Callable[[], None] = lambda: None

    def layer(self, verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            await self._go_on()
            self.trail.append(verb)
            mine = len(self.trail) == self.at
            if mine and not self.after:
                self.burn()
            await self._go_on()
            answer = await call(*args, **kwargs)
            if mine:
                self.burn()
            await self._go_on()
            return answer

        return passed

    def burn(self) -> None:
        """End the process here and now."""
        self.burnt = True
        self.on_end()

    async def _go_on(self) -> None:
        if self.burnt:
            await asyncio.get_running_loop().create_future()
