"""Why something on this host went wrong: a short code that stays the same, a sentence with the mend, and its scope.

The codes end up in the history of runners, in metrics and in docs/troubleshooting.md, which has a line for each.
Here are those that more than one table names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST_SAID = 300  # characters of what a program said that are passed on


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that goes wrong. ``host_wide``: any VM on this host would have met it, so all pools wait."""

    code: str
    detail: str
    host_wide: bool = False

    def said(self, line: str) -> Cause:
        """Return the cause with what a program said itself."""
        plain = "".join(filter(str.isprintable, line.strip()))[:MOST_SAID]
        return replace(self, detail=f"{self.detail} [{plain}]") if plain else self


DISK_FULL = Cause(
    "disk_full",
    "the host's disk is full: free some space, or remove images that no pool uses (`tart list`, `tart delete`)",
    host_wide=True,
)
HOST_EXHAUSTED = Cause(
    "host_exhausted",
    "this Mac gives us no more processes, threads, memory or open files: see what takes them (`lsof -p`, Activity "
    "Monitor), end it, and raise NumberOfFiles and NumberOfProcesses in the launch agent if that is not enough",
    host_wide=True,
)
SOFTNET_MISSING = Cause(
    "softnet_missing",
    'softnet is not installed: `brew install openai/tools/softnet`, or set network = "nat", which lets guests '
    "reach your local network",
    host_wide=True,
)
TART_MISSING = Cause(
    "tart_missing",
    "tart cannot be run: `brew install openai/tools/tart`, or set tart_path to where it is; while `brew upgrade` "
    "replaces it, wait",
    host_wide=True,
)
IMAGE_MISSING = Cause(
    "image_missing",
    "the image is not on this host: build it with packer, or name an image of a registry",
)
GUEST_SILENT = Cause(
    "guest_silent",
    "the guest does not answer, or not with what was asked: try the image by hand, `tart run` and then `tart exec "
    "NAME true`; its guest agent must start without a login",
)
