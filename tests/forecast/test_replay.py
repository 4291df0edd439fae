"""A replay against waits that are counted by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain.jobs import Job
from app.domain.pools import Pool, Scope, Start
from app.forecast.history import history
from app.forecast.outcome import Goal, Outcome, Setup
from app.forecast.replay import replay
from tests.builders import a_pool
from tests.forecast.past import START, TIMES, WARM, a_past_job

XL = a_pool(name="xl", labels=("mac", "xl"), max_runners=1, priority=5)
SOLO = a_pool(name="solo", labels=("solo",), priority=5)
ONE = Setup(macs=1, slots=1)
TURN = (
    60.0 + 4.0 + 10.0 + 1.0 + 2.0
)  # s, from one start to the next in a place: job, removal, boot, register, pick-up


def outcome_of(jobs: list[Job], setup: Setup, *pools: Pool) -> Outcome:
    outcome = replay(history(jobs, pools or (a_pool(),)), setup, TIMES)
    assert outcome is not None
    return outcome


def seconds(spans: tuple[timedelta, ...]) -> list[float]:
    return [round(span.total_seconds(), 3) for span in spans]


def at_once(count: int, **changes: Any) -> list[Job]:
    return [a_past_job(n + 1, **changes) for n in range(count)]


@pytest.mark.parametrize(
    ("jobs", "setup", "pools", "waits"),
    [
        pytest.param(at_once(1), ONE, (), [START], id="a place is free"),
        pytest.param(at_once(2), Setup(), (), [START, START], id="one job a place"),
        pytest.param(at_once(2), ONE, (), [START, START + TURN], id="the second waits for the place"),
        pytest.param(at_once(5), Setup(macs=2), (), [*[START] * 4, START + TURN], id="two Macs are four places"),
        pytest.param(
            [*at_once(1), a_past_job(2, 5.0)], ONE, (), [START, START + TURN - 5], id="that came a bit later"
        ),
        pytest.param(
            at_once(3, labels=("mac", "xl")), Setup(), (XL,), [START, START + TURN, START + 2 * TURN],
            id="a pool has a cap",
        ),
        pytest.param(
            [*at_once(2), a_past_job(3, 0.5, labels=("solo",))], ONE, (a_pool(), SOLO),
            [START, START + TURN - 0.5, START + 2 * TURN], id="a pool with priority gets the next place",
        ),
        pytest.param(
            [*at_once(2), a_past_job(3, 0.5, labels=("mac", "xl"))], ONE, (a_pool(), XL),
            [START, START + TURN, START + 2 * TURN - 0.5], id="GitHub gives its runner to an older job that fits it",
        ),
        pytest.param(
            [a_past_job(1), a_past_job(2, 1.0), a_past_job(3, 2.0, repository="acme/lib")], Setup(), (),
            [START, START - 1.0, START + TURN - 1.0], id="a repository without a runner goes before another's second job",
        ),
    ],
)  # fmt: skip
def test_waits(jobs: list[Job], setup: Setup, pools: tuple[Pool, ...], waits: list[float]) -> None:
    """Jobs wait as long as one counts by hand."""
    outcome = outcome_of(jobs, setup, *pools)
    assert seconds(outcome.waits) == pytest.approx(
        sorted(waits), abs=0.31
    )  # a question to GitHub may come between
    assert outcome.given_up == ()


def test_a_job_that_is_given_up_leaves_the_queue() -> None:
    """It starts if it can before its end, and then only runs up to it; else it costs no VM more than was begun."""
    jobs = [
        a_past_job(1),
        a_past_job(2, runner=None, lasts=30.0),
        a_past_job(3, 1000.0, runner=None, lasts=30.0),
    ]
    outcome = outcome_of(jobs, ONE)
    assert (seconds(outcome.waits), seconds(outcome.given_up)) == ([START, START], [30.0])
    assert outcome.job_time == timedelta(seconds=60 + 30 - START)
    assert outcome.launches == 2


def test_a_runner_whose_job_was_given_up_takes_the_next_or_goes() -> None:
    """It idles for the pool's idle_timeout, and what comes meanwhile starts at once."""
    given_up = a_past_job(1, runner=None, lasts=13.0)
    (wait,) = seconds(outcome_of([given_up, a_past_job(2, 100.0)], ONE).waits)
    assert wait == 2.0
    group = a_pool(scope=Scope.ORGANIZATION, runner_group="macs")
    waiting = a_past_job(2, 5.0, repository="acme/lib", organization=True)
    (wait,) = seconds(outcome_of([replace(given_up, organization=True), waiting], ONE, group).waits)
    assert wait == 13.0 + 2.0 - 5.0, "an organization's runner serves its other repositories"
    alone = outcome_of([given_up], ONE)
    assert (alone.launches, alone.waits) == (1, ())
    assert timedelta(minutes=5) <= alone.vm_time <= timedelta(minutes=5, seconds=30)


def test_a_job_ends_with_its_time() -> None:
    """A job that would run longer than the pool allows frees its place then."""
    pool = a_pool(job_timeout=timedelta(seconds=30))
    outcome = outcome_of(at_once(2), ONE, pool)
    assert seconds(outcome.waits) == pytest.approx([START, START + TURN - 30], abs=0.31)
    assert outcome.job_time == timedelta(seconds=60)


@pytest.mark.parametrize(
    ("jobs", "setup", "pools", "waits", "launches"),
    [
        pytest.param(
            [a_past_job(1), a_past_job(2, 1000.0)], Setup(min_ready=1), (), [START, WARM], 3,
            id="the second job finds a VM that is up, and another takes its place",
        ),
        pytest.param(
            [a_past_job(1), *(a_past_job(n, 1000.0) for n in (2, 3))], Setup(min_ready=1), (), [START, WARM, START], 4,
            id="the third of a burst boots its own",
        ),
        pytest.param(
            [a_past_job(1), a_past_job(2, 1000.0)], Setup(slots=1, min_ready=1), (a_pool(), SOLO),
            [START, START + 4.0], 4, id="a VM that is kept ready makes room for a job of another pool",
        ),
        pytest.param(
            at_once(3, labels=("mac", "xl")), Setup(min_ready=2), (XL,), [START, START + TURN, START + 2 * TURN], 4,
            id="a pool has a cap",
        ),
        pytest.param(
            at_once(3), Setup(start=Start.SNAPSHOT), (), [START - 4.0, START - 4.0, START - 8.0 + TURN], 3,
            id="a snapshot is resumed",
        ),
    ],
)  # fmt: skip
def test_faster_starts(
    jobs: list[Job], setup: Setup, pools: tuple[Pool, ...], waits: list[float], launches: int
) -> None:
    """With VMs that are kept ready or resumed jobs wait as long as one counts by hand, too."""
    outcome = outcome_of(jobs, setup, *pools)
    assert seconds(outcome.waits) == pytest.approx(sorted(waits), abs=0.31)
    assert outcome.launches == launches


def test_vms_that_are_kept_ready_cost_their_time() -> None:
    """They hold their places between jobs."""
    outcome = outcome_of([a_past_job(1), a_past_job(2, 1000.0)], Setup(slots=1, min_ready=1))
    assert seconds(outcome.waits) == pytest.approx([WARM, START], abs=0.31)
    assert outcome.utilisation > 0.99


def test_what_is_counted() -> None:
    """Places are used from the claim to the removal, jobs from their start to their end."""
    outcome = outcome_of(at_once(2), Setup())
    assert outcome.job_time == timedelta(seconds=120)
    assert outcome.vm_time == timedelta(seconds=2 * (10 + 1 + 2 + 60 + 4))
    assert outcome.span == timedelta(seconds=1 + 10 + 1 + 2 + 60 + 4)
    assert outcome.utilisation == pytest.approx(77 / 78)


def test_a_goal_that_is_missed_ends_the_replay() -> None:
    """With it only a set-up that meets it has an outcome."""
    past = history(at_once(20), (a_pool(),))
    assert replay(past, Setup(), TIMES, goal=Goal(within=timedelta(seconds=60), share=0.95)) is None
    assert replay(past, Setup(), TIMES, goal=Goal(within=timedelta(seconds=60), share=0.1)) is not None


def test_nothing_to_replay() -> None:
    """No job is no wait."""
    outcome = outcome_of([], Setup())
    assert (outcome.waits, outcome.utilisation, outcome.wait(0.5)) == ((), 0.0, timedelta(0))
