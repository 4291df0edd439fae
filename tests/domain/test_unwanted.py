"""plan() of runners that an operator, a drain or a reload does not want, and of those that are held for debugging."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.runners import StopRequest
from tests.builders import (
    TARGET,
    a_demand,
    a_guest,
    a_pool,
    a_registration,
    ago,
    listing,
)
from tests.domain.situations import DONE_LONG_AGO, DOWN, HELD, NAME, OFFLINE, QUIET, SOON, UP, S, decide, run

SITUATIONS = [
    *(
        pytest.param(
            {"host": UP, "draining": True, "registrations": OFFLINE} | run(state),
            [(verb, NAME, "draining")],
            id=f"draining: {state}",
        )
        for state, verb in (
            (S.CLAIMED, "stop"),
            (S.BOOTING, "stop"),
            (S.READY, "stop"),
            (S.REGISTERED, "retire"),
            (S.IDLE, "retire"),
        )
    ),
    pytest.param(
        {"host": UP, "pools": (a_pool(cpu=8),), "demand": (a_demand(),)} | run(S.READY),
        [("stop", NAME, "pool_changed"), ("claim", "2", "mac")],
        id="a reload changed the pool: the ready runner goes",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, stop=StopRequest.ASK),
        [("retire", NAME, "stopped_by_operator")],
        id="an operator asks for an idle runner",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, stop=StopRequest.FORCE),
        [("stop", NAME, "forced_by_operator")],
        id="an operator forces an idle runner",
    ),
    # -- held for debugging
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.IDLE, held_until=SOON),
        [("hold", NAME)],
        id="a hold is told to the guest",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET, "in_hand": frozenset({f"hold:{NAME}"})}
        | run(S.IDLE, held_until=SOON, since=ago(hours=1)),
        [],
        id="a guest that cannot be told is held by us all the same",
    ),
    *(
        pytest.param(
            {"host": UP, "registrations": OFFLINE, "draining": True} | run(state, **HELD, since=ago(hours=1)),
            [],
            id=f"draining waits for a held one, and its time is not up: {state}",
        )
        for state in (S.REGISTERED, S.IDLE)
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET, "demand": (a_demand(),)} | run(S.IDLE, **HELD),
        [("claim", "2", "mac")],
        id="a held runner may be broken: a job gets another one",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: DONE_LONG_AGO},
            "guests": {NAME: a_guest(runner_alive=False)},
        }
        | run(S.BUSY, job_id=1, **HELD),
        [],
        id="its job is done: held all the same",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, held_until=ago(seconds=1), guest_held_until=ago(seconds=1)),
        [("stop", NAME, "job_completed")],
        id="the hold is over: it goes",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, guest_held_until=SOON),
        [("hold", NAME)],
        id="released: the guest is told first",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, stop=StopRequest.ASK, **HELD),
        [("stop", NAME, "job_completed")],
        id="asked to stop: the hold is over",
    ),
    pytest.param(
        {"host": DOWN, "registrations": {TARGET: listing()}, "work": {NAME: DONE_LONG_AGO}}
        | run(S.BUSY, job_id=1, **HELD),
        [("stop", NAME, "job_completed")],
        id="a held VM that ended is no more",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(busy=True))}}
        | run(S.BUSY, since=ago(hours=7), **HELD),
        [("stop", NAME, "job_timeout")],
        id="no hold outlasts job_timeout",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert decide(**world) == expected
