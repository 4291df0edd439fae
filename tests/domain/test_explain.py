"""explain(): every reason a job can wait for has its sentence."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain.explain import explain
from app.domain.jobs import JobStatus
from app.domain.pools import Forks, Scope
from app.domain.runners import RunnerState
from app.domain.world import Cooldown
from tests.builders import NOW, a_demand, a_host, a_job, a_pool, a_runner, a_vm, a_world, ago

J = JobStatus
COOLING = Cooldown(
    scope="pool:mac",
    reason="boot_timeout",
    detail="The guest did not answer within 300 s",
    failures=3,
    until=NOW + timedelta(minutes=2),
)


def full(*states: RunnerState) -> tuple[Any, ...]:
    return tuple(
        a_runner(state, name=f"mini-mac-aaaaaaa{slot}", slot=slot, job_id=9, since=ago(minutes=3))
        for slot, state in zip("ab", states, strict=True)
    )


@pytest.mark.parametrize(
    ("job", "world", "says"),
    [
        pytest.param(
            a_job(J.COMPLETED, conclusion="cancelled"), {}, "without ever having had a runner", id="cancelled"
        ),
        pytest.param(
            a_job(J.COMPLETED, conclusion="success", runner="r", started_at=ago(seconds=5)),
            {},
            "It ran on r after waiting 15 s and ended: success",
            id="completed",
        ),
        pytest.param(
            a_job(J.COMPLETED, note="GitHub no longer knows the job"), {}, "no longer knows", id="ended by us"
        ),
        pytest.param(
            a_job(J.IN_PROGRESS, runner="r", started_at=ago(minutes=3)),
            {},
            "running on r for 3 min",
            id="runs",
        ),
        pytest.param(a_job(J.WAITING), {}, "GitHub holds it back", id="gated"),
        pytest.param(a_job(labels=(), pool=None), {}, "asks for no labels", id="no labels"),
        pytest.param(
            a_job(labels=("gpu",), pool=None), {}, "No pool has all of its labels (gpu)", id="labels"
        ),
        pytest.param(
            a_job(repository="evil/app", pool=None),
            {},
            "add it to `repositories` of pool mac",
            id="not allowed",
        ),
        pytest.param(
            a_job(fork=True), {"pools": (a_pool(forks=Forks.DENY),)}, 'has forks = "deny"', id="fork"
        ),
        pytest.param(
            a_job(),
            {"pools": (a_pool(scope=Scope.ORGANIZATION),), "demand": (a_demand(),)},
            "is a user",
            id="blocked",
        ),
        pytest.param(
            a_job(),
            {"demand": (a_demand(),), "runners": (a_runner(RunnerState.BOOTING),)},
            "is booting",
            id="booting",
        ),
        pytest.param(
            a_job(),
            {"demand": (a_demand(),), "runners": (a_runner(RunnerState.IDLE),)},
            "waits for GitHub to hand it a job",
            id="idle",
        ),
        pytest.param(a_job(), {"demand": (a_demand(),), "draining": True}, "draining", id="draining"),
        pytest.param(
            a_job(), {"demand": (a_demand(),), "host": None}, "not been looked at", id="host unknown"
        ),
        pytest.param(
            a_job(),
            {"demand": (a_demand(),), "host": a_host(free_disk_gb=2), "min_free_disk_gb": 30},
            "2 GB free",
            id="disk",
        ),
        pytest.param(
            a_job(),
            {"demand": (a_demand(),), "host": a_host(images=frozenset())},
            "not on this host yet",
            id="image",
        ),
        pytest.param(
            a_job(),
            {"demand": (a_demand(),), "cooldowns": (COOLING,)},
            "did not answer within 300 s (failed 3 times, next try 12:02:00 UTC)",
            id="cooldown",
        ),
        pytest.param(
            a_job(),
            {
                "demand": (a_demand(3),),
                "runners": full(RunnerState.BUSY, RunnerState.BUSY),
            },
            "All 2 slots are in use",
            id="crowded",
        ),
        pytest.param(
            a_job(),
            {
                "demand": (a_demand(3),),
                "runners": tuple(
                    replace(runner, held_until=NOW + timedelta(minutes=5))
                    for runner in full(RunnerState.BUSY, RunnerState.BUSY)
                ),
            },
            "busy, held for debugging until 12:05:00 UTC",
            id="crowded by what is held",
        ),
        pytest.param(
            a_job(),
            {"demand": (a_demand(3),), "host": a_host(a_vm("x"), a_vm("y"))},
            "Other VMs on this Mac",
            id="strangers",
        ),
        pytest.param(a_job(), {"demand": (a_demand(),)}, "next in line", id="next"),
    ],
)
def test_sentence(job: Any, world: dict[str, Any], says: str) -> None:
    """The sentence names what the job waits for."""
    assert says in explain(job, a_world(**world), now=NOW)
