"""``python -m tests.simulation``: many stories, on every core; what went wrong is told with its trace.

    --seeds 1-1000   which stories
    --hours 0.5      how long each storm lasts, in simulated hours
    --minutes 5      begin no further story after so long
    --trace DIR      write the traces of stories that went wrong there

A story is its seed: it is told again, call by call, by ``--seeds SEED`` with the same hours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import looptime
import structlog

from tests.simulation.site import TURNS
from tests.simulation.story import STORM, Story

LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one story."""

    seed: int
    digest: str
    wrong: list[str]
    hours: float  # simulated
    jobs: int  # that one of our runners ran
    faults: Counter[str]
    trace: list[str]


def tell(seed: int, hours: float) -> Told:
    """Tell one story in this process."""
    structlog.configure(processors=[_say_nothing])
    asyncio.set_event_loop(None)
    with tempfile.TemporaryDirectory() as place:
        loop = looptime.new_event_loop(**TURNS)
        try:
            story = loop.run_until_complete(_tell(Path(place), seed, hours))
            site = story.site
            simulated = loop.time() / 3600
        finally:
            loop.close()
    ours = (job for job in story.jobs if job.runner_name and site.names.is_runner(job.runner_name))
    return Told(
        seed=seed,
        digest=site.trace.digest,
        wrong=site.witness.wrong,
        hours=simulated,
        jobs=sum(job.status == "completed" for job in ours),
        faults=site.trouble.injected,
        trace=site.trace.lines if site.witness.wrong else [],
    )


async def _tell(place: Path, seed: int, hours: float) -> Story:
    story = Story(place, seed, rates=STORM, hours=hours)
    await story.run()
    return story


def _say_nothing(_logger: object, _name: str, _event: structlog.types.EventDict) -> str:
    raise structlog.DropEvent


def seeds(text: str) -> list[int]:
    """Read ``7``, ``1-1000`` or ``3,5-9``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def tell_all(wanted: list[int], hours: float, minutes: float | None) -> Iterator[Told]:
    """Tell the stories side by side, each as it is done."""
    end = time.monotonic() + minutes * 60 if minutes else None
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = [pool.submit(tell, seed, hours) for seed in wanted]
        for story in waiting:
            if end is not None and time.monotonic() > end:
                for later in waiting:  # all of them: by its turn, each would have begun
                    later.cancel()
            if not story.cancelled():
                yield story.result()


def report(told: list[Told], hours: float, seconds: float) -> str:
    """Sum up."""
    faults: Counter[str] = sum((one.faults for one in told), Counter())
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in faults.most_common())
    bad = [one.seed for one in told if one.wrong]
    return (
        f"{len(told):,} stories, {sum(one.hours for one in told):,.0f} simulated hours in {seconds:,.0f} s, "
        f"{sum(one.jobs for one in told):,} jobs run, {faults.total():,} faults ({kinds}).\n"
        + (
            f"{len(bad)} went wrong: SEEDS={','.join(map(str, bad))} HOURS={hours:g}"
            if bad
            else "None went wrong."
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=seeds, default=seeds("1-100"))
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--trace", type=Path)
    options = parser.parse_args()
    began, told = time.monotonic(), []
    for one in tell_all(options.seeds, options.hours, options.minutes):
        told.append(one)
        if len(options.seeds) == 1:
            print(f"seed {one.seed} is {one.digest}")
        if one.wrong:
            print(
                f"seed {one.seed}: {'; '.join(one.wrong)}\n" + "\n".join(one.trace[-LAST_LINES:]), flush=True
            )
            if options.trace:
                options.trace.mkdir(parents=True, exist_ok=True)
                (options.trace / f"{one.seed}.txt").write_text("\n".join(one.trace) + "\n", encoding="utf-8")
    print(report(told, options.hours, time.monotonic() - began))
    return 1 if any(one.wrong for one in told) else 0


if __name__ == "__main__":
    sys.exit(main())
