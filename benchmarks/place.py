"""The real server on the sandbox, configured for a benchmark."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from app.sandbox.github import ModelGitHub
from app.sandbox.outside import IMAGE, outside
from app.sandbox.server import Server

SEED = 1

# Notes when each command is started and when it ended: the stand-in itself, a Python program, takes longer to begin than what
# is measured.
NOTE = """\
#!/bin/bash
began=$EPOCHREALTIME
echo "$began $1 ${{*: -1}} $2" >>'{log}'
[ "$1" = run ] && exec '{tart}' "$@"
'{tart}' "$@"
code=$?
what=$1
[ "${{*: -1}}" = true ] && what=true
echo "$began $EPOCHREALTIME $what" >>'{ended}'
exit $code
"""

# Two pools with a slot each: one that a test keeps busy, and one that is looked at.
POOLS = f"""\
slots = 2
host_name = "bench"
min_free_disk_gb = 0
log_level = "warning"

[[pool]]
name = "busy"
labels = ["busy"]
image = "{IMAGE}"
repositories = ["acme/*"]
max_runners = 1

[[pool]]
name = "quick"
labels = ["quick"]
image = "{IMAGE}"
repositories = ["acme/*"]
max_runners = 1
"""


@asynccontextmanager
async def running(
    config: str, *, before: Callable[[Path], None] = lambda _: None
) -> AsyncIterator[tuple[Server, ModelGitHub, Path]]:
    """Run the server; *before* may put things into its directory first."""
    async with outside(SEED) as (model, api_url, place):
        note_commands(place)
        server = Server(place, api_url, model, config)
        before(place)
        async with server:
            model.point_hook(f"{server.url}/webhooks/github")
            yield server, model, place


def started_log(place: Path) -> Path:
    """Return the file that tells when each command of tart was started: time, verb, last argument, first one."""
    return place / "started.log"


def ended_log(place: Path) -> Path:
    """Return the file that tells of each command that ended: when it started and ended, and its verb (``true`` is a probe)."""
    return place / "ended.log"


def note_commands(place: Path) -> None:
    """Have each command of the stand-in tart noted when it starts."""
    tart = place / "bin" / "tart"
    stand_in = tart.rename(tart.with_name("tart-stand-in"))
    tart.write_text(
        NOTE.format(log=started_log(place), ended=ended_log(place), tart=stand_in), encoding="utf-8"
    )
    tart.chmod(0o755)
