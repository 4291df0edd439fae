"""Measure the targets of docs/design.md: ``python -m benchmarks [--short] [--check] [door|share|idle|counts|scale|…]``.

Everything runs on this machine, against the sandbox: times are control-plane times, and no Mac is involved. The
report names the machine; the same numbers go to benchmarks/results/ as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
from dataclasses import asdict
from pathlib import Path

import psutil

from app.clock import utcnow
from benchmarks import counts, dashboard, door, fleet, forecast, idle, policies, scale, share, starts, week
from benchmarks.measures import Measure

ALL = {
    "door": door.measure,
    "share": share.measure,
    "starts": starts.measure,
    "idle": idle.measure,
    "counts": counts.measure,
    "scale": scale.measure,
    "dashboard": dashboard.measure,
    "forecast": forecast.measure,
    "policies": policies.measure,
    "week": week.measure,
    "fleet": fleet.measure,
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("names", nargs="*", choices=[*ALL, []], help="which; all where none is named")
    parser.add_argument("--short", action="store_true", help="a rough look, in a minute or so")
    parser.add_argument("--check", action="store_true", help="fail where a target is not met")
    options = parser.parse_args()
    found: list[Measure] = []
    print(f"{'':58} {'measured':>10}      target   {environment()}")
    for name in options.names or ALL:
        for one in asyncio.run(ALL[name](short=options.short)):
            found.append(one)
            print(_line(one), flush=True)
    RESULTS.mkdir(exist_ok=True)
    report = {"at": utcnow().isoformat(), "environment": environment(), "short": options.short}
    file = RESULTS / f"{utcnow():%Y%m%d-%H%M%S}.json"
    file.write_text(json.dumps(report | {"measures": [asdict(one) for one in found]}, indent=1))
    print(f"\n{file}")
    if options.check and any(one.met is False for one in found):
        raise SystemExit(1)


def _line(one: Measure) -> str:
    verdict = {True: "met", False: "NOT met", None: ""}[one.met]
    return f"{one.name:58} {one.value:10.2f} {one.unit:4} {one.target:>8}  {verdict}"


def environment() -> str:
    """Return what the numbers depend on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


if __name__ == "__main__":
    main()
