"""What a golden is made by and on: macOS restores no snapshot that another tart, macOS or machine took.

docs/contracts/tart.md §6: the file embeds tart's version, and is bound to the host. What our own program puts into a
guest before it is suspended counts too.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from pathlib import Path

from app.vm import settling
from app.vm.command import FLAGS, Tart


class System:
    """Tells what goldens are made by and on, and asks tart again only where its program is another one."""

    def __init__(self, tart: Tart) -> None:
        self._tart = tart
        self._seen: tuple[str, int, int] | None = None
        self._version = ""

    async def now(self) -> str:
        """Return it as it is now. Raises VMError where tart does not tell."""
        program = self._program()
        if program is None or program != self._seen:
            self._version = await self._tart.version()
            self._seen = program
        ours = hashlib.sha256(settling.settle_input()).hexdigest()[:8]
        host = f"macOS {platform.mac_ver()[0]} {os.uname().version}"
        return f"tart {self._version} {' '.join(FLAGS)}, {host}, {ours}"

    def _program(self) -> tuple[str, int, int] | None:
        found = shutil.which(self._tart.program, path=self._tart.env["PATH"])
        if found is None:
            return None
        place = Path(found).resolve()
        stat = place.stat()
        return str(place), stat.st_ino, stat.st_mtime_ns
