"""Names of images in a registry, and where tart keeps them in its cache (docs/contracts/tart.md §7.1, §7.4)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

REMOTE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(:\d+)?)/(?P<space>[a-z0-9._/-]+?)"
    r"(:(?P<tag>[A-Za-z0-9._-]+)|@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class Remote(NamedTuple):
    """``host[:port]/namespace[:tag|@sha256:…]``."""

    host: str
    space: str
    reference: str

    @property
    def is_digest(self) -> bool:
        """Whether it names exactly one image."""
        return self.reference.startswith("sha256:")

    def __str__(self) -> str:
        separator = "@" if self.is_digest else ":"
        return f"{self.host}/{self.space}{separator}{self.reference}"

    def at(self, reference: str) -> Remote:
        """Return the name with another tag or digest."""
        return self._replace(reference=reference)

    def path(self, root: Path) -> Path:
        """Return its place in a cache; the colon of a port is percent-encoded."""
        return root / self.host.replace(":", "%3A") / self.space / self.reference

    def registry_lock(self, root: Path) -> Path:
        """Return the directory whose lock lets one pull a host at a time."""
        return root / self.host.replace(":", "%3A")


def remote(name: str) -> Remote | None:
    """Return a remote name's parts; None: it is none."""
    match = REMOTE.fullmatch(name)
    if match is None:
        return None
    return Remote(match["host"], match["space"], match["digest"] or match["tag"] or "latest")
