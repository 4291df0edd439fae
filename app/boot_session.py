"""Which run of the machine the monotonic clock counts from, and how far the wall clock was moved within it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SYSCTL = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")


@dataclass(frozen=True, slots=True)
class ClockMark:
    """Where the wall clock stood when the monotonic clock stood at nothing, in one run of the machine.

    Within that run two marks differ by how far the wall clock was set, or the machine slept, whoever was there to
    see it.
    """

    boot: str
    zero: datetime

    def __str__(self) -> str:
        return f"{self.boot} {self.zero.isoformat()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the mark of that text."""
        boot, _, zero = text.partition(" ")
        return cls(boot, datetime.fromisoformat(zero))

    def jump_since(self, earlier: Self) -> timedelta:
        """Return how far the wall clock was moved since *earlier*; nothing where that cannot be known."""
        return self.zero - earlier.zero if self.boot == earlier.boot else timedelta(0)


def boot_session() -> str:
    """Return what names this run of the machine, from its start to its next; where it does not say, this process alone."""
    try:
        if sys.platform == "darwin":
            return subprocess.run(
                SYSCTL, capture_output=True, text=True, timeout=5, check=True
            ).stdout.strip()
        return BOOT_ID.read_text().strip()
    except (OSError, subprocess.SubprocessError):
        return uuid4().hex
