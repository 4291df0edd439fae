"""The question and its answer: a history replayed with every set-up that is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from app.domain.pools import Pool, Start
from app.forecast.history import History, history
from app.forecast.outcome import Goal, Outcome, Setup
from app.forecast.replay import replay
from app.forecast.search import Found, smallest
from app.forecast.sources import Read
from app.forecast.timings import NAMES, Timings, measured

UNUSED = {Start.COLD: {"resume"}, Start.SNAPSHOT: {"boot"}}  # timings that nothing depends on


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is wanted to be known."""

    setups: tuple[Setup, ...]  # alike but for their Macs
    given: Mapping[str, timedelta] = field(
        default_factory=dict
    )  # timings to reckon with, whatever was measured
    goal: Goal | None = None  # the smallest set-up that meets it is searched
    most_macs: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How it would have gone."""

    said: str  # what was read
    history: History
    timings: Timings
    origins: Mapping[str, str]  # by name of a timing that counts: given, measured, default
    outcomes: tuple[Outcome, ...]
    found: Found | None


def answer(question: Question, read: Read, pools: Sequence[Pool]) -> Answer:
    """Replay what was read."""
    past = history(read.jobs, pools)
    timings, of_ours = measured(Timings(), read.jobs, read.ways, read.resumed)
    timings = replace(timings, **question.given)
    goal = question.goal
    known: dict[Setup, Outcome] = {}

    def attempt(setup: Setup, goal: Goal | None) -> Outcome | None:
        outcome = known.get(setup) or replay(past, setup, timings, goal=goal)
        if outcome is not None:
            known[setup] = outcome
        return outcome

    found = None
    if goal is not None:
        found = smallest(
            goal,
            question.setups[0],
            most_macs=question.most_macs,
            try_=lambda setup: attempt(setup, goal),
        )
    outcomes = [attempt(setup, None) for setup in question.setups]
    if found is not None and found.smallest is not None and found.smallest.setup not in question.setups:
        outcomes.append(found.smallest)
    return Answer(
        said=read.said,
        history=past,
        timings=timings,
        origins={
            name: _origin(name, question.given, of_ours)
            for name in NAMES
            if name not in UNUSED[question.setups[0].start]
        },
        outcomes=tuple(outcome for outcome in outcomes if outcome is not None),
        found=found,
    )


def _origin(name: str, given: Mapping[str, timedelta], of_ours: frozenset[str]) -> str:
    if name in given:
        return "given"
    return "measured" if name in of_ours else "default"
