"""How long what CiderMill waits for takes: measured in its own history, given, or stated defaults.

The defaults are those of a Mac mini with an image that holds the runner (sources: docs/forecast.md): a cold boot takes 13 to 15 s, a clone 0.1 s,
registering 0.7 s, and a job starts some 2 s after its runner is online. What is measured are medians.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from statistics import median

from app.domain.jobs import Job
from app.domain.pools import Start
from app.domain.runners import RunnerState
from app.forecast.outcome import Setup

FEW = 5  # fewer are no measurement
Way = Mapping[RunnerState, datetime]  # when a runner entered each of its states


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """One length for each stage of a job's way."""

    hear: timedelta = timedelta(seconds=1)  # GitHub queues a job → its webhook is here
    boot: timedelta = timedelta(seconds=13.6)  # a cold launch starts → the guest answers
    resume: timedelta = timedelta(seconds=7.6)  # the same, from a snapshot
    register: timedelta = timedelta(seconds=0.7)  # the guest answers → its runner is online
    pick_up: timedelta = timedelta(seconds=2)  # a job and an online runner → the job starts
    end: timedelta = timedelta(seconds=5)  # the job is over → its VM is gone and the slot is free

    def start(self, start: Start) -> timedelta:
        """How long a launch takes until the guest answers."""
        return self.boot if start is Start.COLD else self.resume

    def least(self, setup: Setup) -> timedelta:
        """How long a job waits at least; where VMs are kept ready it need not wait for one to start."""
        start = timedelta(0) if setup.min_ready else self.start(setup.start)
        return self.hear + start + self.register + self.pick_up


NAMES = tuple(field.name for field in fields(Timings))


def measured(
    timings: Timings, jobs: Iterable[Job], ways: Mapping[str, Way], resumed: Container[str] = ()
) -> tuple[Timings, frozenset[str]]:
    """Return *timings* with what a history shows in place of it, and the names of what that is.

    *ways* are runners by name, of which those *resumed* did not boot. Registering is not told apart from what follows
    it: its length is taken as it is, unless both together took less. GitHub's times are cut to whole seconds, which makes
    a start look earlier and an end later by as much: what is missing before the job is taken off what comes after it.
    """
    found: dict[str, list[timedelta]] = {"hear": [], "boot": [], "resume": [], "pick_up": [], "end": []}
    for name, way in ways.items():
        _note(found["resume" if name in resumed else "boot"], way, RunnerState.BOOTING, RunnerState.READY)
    for job in jobs:
        if job.runner is None or job.runner not in ways:
            continue  # it ran on no runner of ours
        way = ways[job.runner]
        found["hear"].append(job.received_at - job.queued_at)
        registered, gone = way.get(RunnerState.REGISTERED), way.get(RunnerState.GONE)
        if registered is not None and job.started_at is not None and job.queued_at <= registered:
            found["pick_up"].append(job.started_at - registered)
        if gone is not None and job.completed_at is not None:
            found["end"].append(gone - job.completed_at)
    medians = {name: _median(spans) for name, spans in found.items() if len(spans) >= FEW}
    return replace(timings, **_split(medians, timings.register)), frozenset(medians)


def _split(medians: Mapping[str, timedelta], register: timedelta) -> dict[str, timedelta]:
    """Return lengths, none below nothing, of which registering and picking up fill the span that was measured."""
    lengths = dict(medians)
    span = lengths.get("pick_up")
    if span is not None:
        lengths["register"] = min(register, max(span, timedelta(0)))
        lengths["pick_up"] = span - lengths["register"]
        if span < timedelta(0) and "end" in lengths:
            lengths["end"] += span
    return {name: max(length, timedelta(0)) for name, length in lengths.items()}


def _note(spans: list[timedelta], way: Way, one: RunnerState, other: RunnerState) -> None:
    if one in way and other in way:
        spans.append(way[other] - way[one])


def _median(spans: list[timedelta]) -> timedelta:
    seconds: Callable[[timedelta], float] = timedelta.total_seconds
    return timedelta(seconds=round(median(map(seconds, spans)), 3))
