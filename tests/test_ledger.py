"""A job's way, stage by stage, and what it is counted as."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.db.rows import Transition
from app.domain.jobs import JobStatus
from app.domain.pools import Start
from app.domain.runners import Runner, RunnerState
from app.ledger import ledger, spans, start_of
from tests.builders import NOW, a_job, a_runner

S = RunnerState
WAY = ("claimed", "booting", "ready", "registered", "busy")


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def life(*seconds: float) -> list[Transition]:
    return [
        Transition(from_state=None, to_state=S(state), at=at(when), reason="")
        for state, when in zip(WAY, seconds, strict=False)
    ]


def runner(**seconds: float) -> Runner:
    return a_runner(S.BUSY, **{f"{name}_at": at(when) for name, when in seconds.items()})


JOB = a_job(JobStatus.IN_PROGRESS, queued_at=at(0), received_at=at(1), started_at=at(30))
COLD = life(2, 3, 18, 19, 31)
WARM = life(-90, -89, -70, 3, 31)
KNOWN = {"minted": 20.0, "delivered": 21.0, "listening": 25.0}


@pytest.mark.parametrize(
    ("ran_on", "history", "start", "expected"),
    [
        pytest.param(
            runner(cloned=4, **KNOWN),
            COLD,
            "cold",
            {"received": 1, "slot": 1, "clone": 1, "boot": 1, "ready": 14, "registered": 1, "minted": 1,
             "delivered": 1, "listening": 4, "picked up": 5},
            id="a cold start",
        ),
        pytest.param(
            runner(cloned=-88, **KNOWN),
            WARM,
            "warm",
            {"received": 1, "registered": 2, "minted": 17, "delivered": 1, "listening": 4, "picked up": 5},
            id="a warm start: what was before the job is no part of its wait",
        ),
        pytest.param(
            replace(runner(cloned=4, **KNOWN), start=Start.SNAPSHOT),
            life(2, 3, 9, 19, 31),
            "snapshot",
            {"received": 1, "slot": 1, "clone": 1, "boot": 1, "ready": 5, "registered": 10, "minted": 1,
             "delivered": 1, "listening": 4, "picked up": 5},
            id="one that was resumed",
        ),
        pytest.param(
            replace(runner(cloned=-88, **KNOWN), start=Start.SNAPSHOT),
            WARM,
            "warm",
            {"received": 1, "registered": 2, "minted": 17, "delivered": 1, "listening": 4, "picked up": 5},
            id="a warm start: how the VM came up does not matter",
        ),
        pytest.param(
            runner(),
            COLD,
            "cold",
            {"received": 1, "slot": 1, "boot": 1, "ready": 15, "registered": 1, "picked up": 11},
            id="where less is known, the parts are longer",
        ),
    ],
)  # fmt: skip
def test_way(ran_on: Runner, history: list[Transition], start: str, expected: dict[str, float]) -> None:
    """The parts of a job's wait are told apart, and together they are all of it."""
    found = dict(spans(JOB, ran_on, history))
    assert found == expected
    assert sum(found.values()) == 30
    assert start_of(JOB, ran_on, history) == start


def test_a_job_without_a_runner() -> None:
    """Until there is one, its own times are all there is; then those of the runner stand among them, in order."""
    assert [stage.name for stage in ledger(a_job(), None, [])] == ["queued", "received"]
    stages = ledger(JOB, runner(cloned=4, **KNOWN), COLD)
    assert [stage.at for stage in stages] == sorted(stage.at for stage in stages)
