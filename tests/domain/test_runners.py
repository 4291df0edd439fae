"""The table of transitions, and the one way to change state."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.domain.runners import (
    DEADLINES,
    TRANSITIONS,
    InvalidTransition,
    NotHoldable,
    Runner,
    RunnerState,
    StopRequest,
    advance,
    hold,
)
from tests.builders import NOW, a_pool, a_runner, ago

S = RunnerState


@pytest.mark.parametrize("state", list(S))
def test_every_live_state_can_stop(state: RunnerState) -> None:
    """Any live state may be torn down; gone is the end."""
    if state in {S.GONE, S.STOPPING}:
        assert S.STOPPING not in TRANSITIONS[state]
    else:
        assert S.STOPPING in TRANSITIONS[state]


@pytest.mark.parametrize("state", [state for state in S if state is not S.GONE])
def test_every_live_state_has_a_deadline_entry(state: RunnerState) -> None:
    """Every state that is not the last one says how long it may take."""
    assert state in DEADLINES


def test_every_state_can_be_reached() -> None:
    """No state is unreachable from the first."""
    reached, todo = set(), [S.CLAIMED]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo.extend(TRANSITIONS[state])
    assert reached == set(S)


def test_advance_stamps_the_time() -> None:
    """Setting the state stamps when it was entered, and why."""
    runner = advance(a_runner(S.READY), S.REGISTERED, at=NOW, reason="job 1 waits")
    assert (runner.state, runner.since, runner.reason) == (S.REGISTERED, NOW, "job 1 waits")


def test_illegal_transition_changes_nothing() -> None:
    """A transition that the table does not have raises."""
    with pytest.raises(InvalidTransition, match="gone cannot become ready"):
        advance(a_runner(S.GONE), S.READY, at=NOW, reason="")


def test_deadlines_follow_the_specification() -> None:
    """A runner keeps the deadlines it was launched with."""
    runner = a_runner(S.IDLE, spec=a_pool(idle_timeout=timedelta(minutes=1)), since=ago(seconds=50))
    assert runner.deadline() == NOW + timedelta(seconds=10)
    assert a_runner(S.STOPPING).deadline() is None


@pytest.mark.parametrize(
    ("runner", "minutes", "until"),
    [
        pytest.param(a_runner(S.IDLE), 30, 30, id="for as long as is asked"),
        pytest.param(a_runner(S.REGISTERED), 10**6, 24 * 60, id="a day at most"),
        pytest.param(a_runner(S.BUSY, since=ago(hours=6)), 30, 15, id="no longer than its job may take"),
    ],
)
def test_hold(runner: Runner, minutes: int, until: int) -> None:
    """A hold ends by itself."""
    held = hold(runner, timedelta(minutes=minutes), now=NOW)
    assert held.held_until == NOW + timedelta(minutes=until)
    assert held.is_held(NOW)
    assert not held.is_held(NOW + timedelta(minutes=until))


@pytest.mark.parametrize(
    "runner",
    [
        *(
            pytest.param(a_runner(state), id=state)
            for state in (S.CLAIMED, S.BOOTING, S.READY, S.STOPPING, S.GONE)
        ),
        pytest.param(a_runner(S.BUSY, stop=StopRequest.ASK), id="asked to stop"),
    ],
)
def test_not_holdable(runner: Runner) -> None:
    """There is nothing to keep before a runner is registered, and nothing once it ends."""
    with pytest.raises(NotHoldable):
        hold(runner, timedelta(minutes=5), now=NOW)
