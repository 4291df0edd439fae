"""The steps of the real process: every call of the store, of GitHub, of the host and of tart, just before and just after.

A step is named by the part, the verb and what tells its calls apart, such as ``store.advance busy`` or
``tart.exec probe``. Each is written to a trail before it is made and after its effect; at one of them the process
ends, as by ``kill -9``.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from app.domain.pools import BASE, GOLDEN, Pool
from app.vm.command import Tart
from tests.simulation.layers import Call, Layer, Port

BEFORE, AFTER = "before", "after"
PARTS = {
    "Store": "store",
    "GitHubClient": "github",
    "TartBackend": "vms",
    "OrchardBackend": "vms",
    "MarkedTart": "tart",
}
SAID = {
    "true": "true",
    "actions-runner.tar.gz": "install",
    "-s -- ~/actions-runner ": "finish",
    "-s -- ~/actions-runner": "settle",
    "/bin/sh -s": "set-up",
    "deliver.sh": "deliver",
    "probe.sh": "probe",
}


class Steps:
    """Marks each step in the file *trail*, and ends this process at the first one called *last*."""

    def __init__(self, trail: Path, last: str | None) -> None:
        self._trail = os.open(trail, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._last = last

    def around(self, part: Any) -> Any:
        """Put the marks round a part of the application."""
        return Port(part, self._layer(PARTS[type(part).__name__]))

    def mark(self, step: str, when: str) -> None:
        """Note that a step is being made, or has been; this may be the last thing the process does."""
        os.write(self._trail, f"{step} {when}\n".encode())
        if f"{step} {when}" == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _layer(self, part: str) -> Layer:
        def layer(verb: str, call: Call) -> Call:
            async def passed(*args: Any, **kwargs: Any) -> Any:
                step = " ".join(filter(None, [f"{part}.{verb}", detail(verb, args, kwargs)]))
                self.mark(step, BEFORE)
                answer = await call(*args, **kwargs)
                self.mark(step, AFTER)
                return answer

            return passed

        return layer


def detail(verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return what tells apart the calls of one verb."""
    match verb:
        case "advance":
            return str(args[1])
        case "record":
            return str(args[1].status)
        case "amend":
            return next(iter(kwargs))  # the others say when
        case "clone":
            return _what_is_cloned(*args)
        case "exec":
            words = " ".join(args[1])
            return next(name for text, name in SAID.items() if text in words)
    return ""


def _what_is_cloned(source: str, name: str) -> str:
    if f"-{GOLDEN}-" in source:
        return "suspended"
    return next((kind for kind in (BASE, GOLDEN) if f"-{kind}-" in name), "runner")


class MarkedTart(Tart):
    """Tart whose `run` is a step too: the backend starts that process itself.

    Its end, "after", is the beginning of the next step: nothing lies between them.
    """

    steps: Steps

    def run_argv(
        self, name: str, spec: Pool, share: Path | None = None, *, suspendable: bool = False
    ) -> list[str]:
        """Return the command, which is started next."""
        self.steps.mark("tart.run", BEFORE)
        return super().run_argv(name, spec, share, suspendable=suspendable)
