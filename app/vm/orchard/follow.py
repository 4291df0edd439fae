"""The followers: copy the output of each runner to this host while it lives, so that it can be read afterwards.

A convenience and no evidence. Such a connection breaks whenever the worker begins a new session, and is made again
from where the copy ends.
"""

from __future__ import annotations

import asyncio
import io
import os
from contextlib import aclosing
from functools import partial
from pathlib import Path

import structlog

from app.ports import VMError
from app.vm.copies import Copies
from app.vm.follow import CUT, LIMIT
from app.vm.orchard import execute
from app.vm.orchard.execute import Access
from app.vm.trouble import told_as_vm_error

log = structlog.get_logger(__name__)

AGAIN = 5.0  # s after a connection broke
WAIT = 5  # s for the guest to be reached
OPENING = 20.0  # s


class Follower:
    """Follows the runners' output, one connection each."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._copies = Copies()

    def start(self, name: str, file: Path) -> None:
        """Copy what the runner in VM *name* prints into *file*; nothing where that is under way."""
        self._copies.start(name, partial(self._copy, name, file))

    async def stop(self, name: str) -> None:
        """Stop following."""
        await self._copies.stop(name)

    async def close(self) -> None:
        """Stop all."""
        await self._copies.close()

    async def _copy(self, name: str, file: Path) -> None:
        try:
            with told_as_vm_error(f"cannot keep the output in {file}"):
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(descriptor, "wb", buffering=0) as copy:
                    kept = os.fstat(descriptor).st_size
                    while kept < LIMIT:
                        await self._some(name, copy, kept)
                        kept = os.fstat(descriptor).st_size
                        await asyncio.sleep(AGAIN)
        except VMError as error:
            log.warning("follow_failed", runner=name, reason=error.reason, detail=str(error))

    async def _some(self, name: str, copy: io.FileIO, kept: int) -> None:
        """Copy from where the copy ends, until the connection breaks. Raises VMError where the VM is gone."""
        command = ("/bin/sh", "-c", f'exec tail -c +{kept + 1} -F "$HOME/.cidermill/runner.log" 2>/dev/null')
        try:
            pieces = execute.output(self._access, name, command, wait=WAIT, open_timeout=OPENING)
            async with aclosing(pieces):
                async for piece in pieces:
                    copy.write(piece[: LIMIT - kept])
                    kept += len(piece)
                    if kept >= LIMIT:
                        copy.write(CUT)
                        return
        except VMError as error:
            if error.reason == "vm_vanished":
                raise
