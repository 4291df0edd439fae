"""Runs the small commands that tell about this machine; what cannot be run says nothing, and that is no failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.ports import VMError
from app.vm.causes import Cause
from app.vm.process import run

SECONDS = 10.0
LATE = Cause("doctor_slow", "it hangs: try it by hand")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said; ``code`` None: it could not be run, or did not end."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.code == 0


class Shell(Protocol):
    """Runs one command."""

    async def __call__(self, argv: Sequence[str]) -> Said:
        """Run *argv*; never raises."""


class RealShell:
    """Runs commands on this machine, in tart's environment: no setting of ours is in it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    async def __call__(self, argv: Sequence[str]) -> Said:
        """Run *argv*, for ten seconds at most."""
        try:
            result = await run(argv, env={**self._env, "LC_ALL": "C"}, timeout=SECONDS, late=LATE)
        except VMError as error:
            return Said(None, "", str(error))
        return Said(result.code, result.out, result.err)
