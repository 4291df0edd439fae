"""The followers: copy the output of each runner to this host while it lives, so that it can be read afterwards.

A convenience and no evidence: the text comes from a machine that runs strangers' code, so the copy has a size limit
and nothing is concluded from it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from app.ports import VMError
from app.vm.copies import Copies
from app.vm.process import spawn
from app.vm.trouble import told_as_vm_error

log = structlog.get_logger(__name__)

LIMIT = 10_000_000  # bytes kept of a runner's output
LISTENING = b": Listening for Jobs"
CUT = b"\n[cidermill: cut here, there was more than 10 MB]\n"


class Follower:
    """Follows the runners' output, one process each."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._copies = Copies()
        self._listening: dict[str, datetime] = {}

    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], file: Path) -> None:
        """Copy what *argv* prints into *file*, from the beginning; nothing where that is under way."""
        self._copies.start(name, partial(self._copy, name, argv, env, file))

    def listening(self, name: str) -> datetime | None:
        """Return when the runner first said that it waits for a job; None: nobody heard it."""
        return self._listening.get(name)

    async def stop(self, name: str) -> None:
        """Stop following."""
        self._listening.pop(name, None)
        await self._copies.stop(name)

    async def close(self) -> None:
        """Stop all."""
        await self._copies.close()

    async def _copy(self, name: str, argv: Sequence[str], env: Mapping[str, str], file: Path) -> None:
        try:
            with told_as_vm_error(f"cannot keep the output in {file}"):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                child = await spawn(argv, env=env, stderr=DEVNULL)
                try:
                    await self._drain(name, child.process.stdout, file)
                finally:
                    # SIGINT ends the guest's `tail` too, which otherwise lives until it has something to say.
                    await child.end(signal.SIGINT)
        except VMError as error:
            log.warning("follow_failed", runner=name, reason=error.reason, detail=str(error))

    async def _drain(self, name: str, stream: asyncio.StreamReader | None, file: Path) -> None:
        kept, last = 0, b""
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as copy:
            while stream is not None and (chunk := await stream.read(65536)):
                copy.write(chunk[: LIMIT - kept])
                last = (last + chunk)[-len(LISTENING) - len(chunk) :]
                if LISTENING in last:
                    self._listening.setdefault(name, self._clock())
                kept += len(chunk)
                if kept >= LIMIT:
                    copy.write(CUT)
                    return
