"""What a start takes beyond what the outside takes for it: from the webhook until the guest has the JIT config.

The stand-in's VMs take as long to boot, and to be resumed, as a Mac's do. The outside's own time is that of tart's commands
and of the boot or resume; the call to GitHub for the JIT config is taken for ours, since the sandbox answers it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from app.sandbox.github import ModelGitHub
from app.sandbox.outside import IMAGE
from app.sandbox.server import Server
from app.sandbox.tart import faults
from benchmarks.measures import Measure, percentile
from benchmarks.place import ended_log, running, started_log

MAC = {"boot_seconds": 13.6, "resume_seconds": 7.6}  # of a Mac mini (docs/forecast.md)
QUICK = {"boot_seconds": 2.0, "resume_seconds": 1.0}  # of the short form
LIMIT_SECONDS = 300.0
CONFIG = f"""\
slots = 1
host_name = "bench"
min_free_disk_gb = 0
log_level = "warning"

[[pool]]
name = "mac"
labels = ["mac"]
image = "{IMAGE}"
repositories = ["acme/*"]
"""
WAYS = {"cold": "", "warm": "min_ready = 1\n", "snapshot": 'start = "snapshot"\n'}


async def measure(*, short: bool) -> list[Measure]:
    """Measure ten starts of each kind, three in the short form."""
    found: list[Measure] = []
    for way, options in WAYS.items():
        async with running(
            CONFIG + options, before=lambda place: faults.write(place / "tart", **(QUICK if short else MAC))
        ) as (server, model, place):
            if way == "snapshot":
                await _until_golden(server)
            beyond = [await _start(server, model, place, way) for _ in range(3 if short else 10)]
        found.append(
            Measure(
                f"{way} start beyond the outside's own time, p50",
                1000 * percentile(beyond, 0.5),
                "ms",
                "≤ 150",
            )
        )
    return found


async def _start(server: Server, model: ModelGitHub, place: Path, way: str) -> float:
    """Run a job, and return the seconds until its delivery that the outside did not take."""
    await _until_slot(server, "ready" if way == "warm" else None)
    job = model.queue("acme/app", way, ("mac",), seconds=0.0)
    async with asyncio.timeout(LIMIT_SECONDS):
        while job.status != "completed":
            await asyncio.sleep(0.05)
    told = await server.get(f"/api/v1/jobs/{job.id}")
    if told["start"] != way:
        msg = f"the start was to be {way} and was {told['start']}"
        raise RuntimeError(msg)
    stages = told["stages"]
    at = {stage["name"]: datetime.fromisoformat(stage["at"]).timestamp() for stage in stages}
    received, delivered = at["received"], at["delivered"]
    outside = covered(_outside(place), received, delivered)
    return delivered - received - outside


async def _until_slot(server: Server, state: str | None) -> None:
    """Wait until the slot is free, or its runner in a state."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while [slot["state"] if slot["runner"] else None for slot in await server.get("/api/v1/slots")] != [
            state
        ]:
            await asyncio.sleep(0.1)


async def _until_golden(server: Server) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not any(image["goldens"] for image in await server.get("/api/v1/images")):
            await asyncio.sleep(0.1)


def _outside(place: Path) -> list[tuple[float, float]]:
    """Return from when to when the outside was at work: each command, the boot, and the one probe that it takes to see its end.

    Of the looks at the host, only one that a launch waits for counts: at whether the clone is a suspended VM.
    """
    spans: list[tuple[float, float]] = []
    probe: list[tuple[float, float]] = []
    booted = (place / "tart" / "dhcpd_leases").stat().st_mtime
    lines = [line.split() for line in started_log(place).read_text(encoding="utf-8").splitlines()]
    run = max(float(at) for at, verb, *_ in lines if verb == "run")
    for line in ended_log(place).read_text(encoding="utf-8").splitlines():
        began, ended, what = line.split()
        if what == "true":
            probe = [(float(began), float(ended))]
        elif what not in {"list", "stop", "delete"} or (what == "list" and float(ended) <= run):
            spans.append((float(began), float(ended)))
    return [*spans, *probe, (run, booted)]


def covered(spans: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Return how much of the time from *begin* to *end* is in any of *spans*."""
    total = 0.0
    for one, other in sorted(spans):
        one = max(one, begin)
        if min(other, end) > one:
            total += min(other, end) - one
            begin = min(other, end)
    return total
