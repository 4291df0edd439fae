"""The smallest set-up, among outcomes that a test makes up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.forecast.outcome import Goal, Outcome, Setup
from app.forecast.search import smallest

GOAL = Goal(within=timedelta(seconds=60), share=0.95)


def an_outcome(setup: Setup, *waits: float, given_up: tuple[float, ...] = ()) -> Outcome:
    return Outcome(
        setup=setup,
        waits=tuple(timedelta(seconds=wait) for wait in waits),
        given_up=tuple(timedelta(seconds=wait) for wait in given_up),
        launches=len(waits),
        span=timedelta(hours=1),
        vm_time=timedelta(hours=1),
        job_time=timedelta(hours=1),
    )


@pytest.mark.parametrize(
    ("places", "found"),
    [
        pytest.param(1, Setup(macs=1, slots=1), id="one slot"),
        pytest.param(2, Setup(macs=1, slots=2), id="one Mac"),
        pytest.param(3, Setup(macs=2, slots=2), id="two Macs"),
        pytest.param(15, Setup(macs=8, slots=2), id="the most"),
        pytest.param(17, None, id="none"),
    ],
)
def test_the_smallest(places: int, found: Setup | None) -> None:
    """It is the first of all that is good enough, and none where the largest is not."""

    def attempt(setup: Setup) -> Outcome | None:
        return an_outcome(setup, 20.0) if setup.places >= places else None

    result = smallest(GOAL, Setup(), most_macs=8, try_=attempt)
    assert (result.smallest.setup if result.smallest else None) == found
    assert result.largest == Setup(macs=8, slots=2)


@pytest.mark.parametrize(
    ("waits", "given_up", "share"),
    [
        pytest.param((), (), 1.0, id="no job"),
        pytest.param((10.0, 60.0, 61.0, 300.0), (), 0.5, id="those in time"),
        pytest.param((10.0,), (30.0,), 1.0, id="ended before its time was up: it does not count"),
        pytest.param((10.0,), (90.0,), 0.5, id="ended after it: it was late"),
    ],
)
def test_started_within(waits: tuple[float, ...], given_up: tuple[float, ...], share: float) -> None:
    """A job is in time, or late, or ended before that was decided."""
    assert an_outcome(Setup(), *waits, given_up=given_up).started_within(GOAL.within) == share
