"""What happened at a site, line by line, so that a story that went wrong can be read, and compared with another telling."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from app.domain.jobs import WorkflowJobEvent
from app.domain.runners import Runner
from app.ports import JitConfig, OutsideError
from tests.simulation.layers import Call, Layer

QUIET = frozenset(
    {"follow", "look", "registrations", "headroom", "repositories", "delivery_log", "queued_jobs"}
)


class Trace:
    """The lines so far. A look that found nothing wrong is counted in the digest, not shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Return a mark of everything that happened: equal for equal stories."""
        return self._digest.hexdigest()[:16]

    def add(self, what: str, *, quiet: bool = False) -> None:
        """Write a line, with the time on the loop."""
        line = f"{asyncio.get_running_loop().time():10.3f} {what}"
        self._digest.update(line.encode())
        if not quiet:
            self.lines.append(line)

    def layer(self, port: str) -> Layer:
        """Return a layer that writes down every call of a port, and what came of it."""

        def layer(verb: str, call: Call) -> Call:
            async def passed(*args: Any, **kwargs: Any) -> Any:
                asked = f"{port}.{verb}({', '.join([*map(_short, args), *map(_short, kwargs.values())])})"
                try:
                    answer = await call(*args, **kwargs)
                except OutsideError as error:
                    self.add(f"{asked} failed: {error.code}: {error}")
                    raise
                except asyncio.CancelledError:
                    self.add(f"{asked} cut off")
                    raise
                self.add(asked, quiet=verb in QUIET)
                return answer

            return passed

        return layer


def _short(value: object) -> str:
    match value:
        case JitConfig():
            return "jit"
        case WorkflowJobEvent():
            return f"job {value.id} {value.status}"
        case Runner():
            return value.name
        case str() | int() | None:
            return str(value)
        case _:
            return type(value).__name__
