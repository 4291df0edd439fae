"""Every line of the log that is about a runner or a job names it, whichever part of the program says it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app.domain.actions import Action, Boot, CheckJob, LookAtHost, Note, subject
from app.domain.runners import RunnerState
from app.sandbox import github_faults as faults
from tests.builders import a_runner
from tests.test_reconcile import a_site, queue

NAME = "mini-mac-aaaaaaaa"


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        pytest.param(Boot(a_runner(RunnerState.CLAIMED)), {"runner": NAME}, id="a runner without a job"),
        pytest.param(
            Note(runner=a_runner(RunnerState.IDLE), to=RunnerState.BUSY, reason="job_started", job_id=7),
            {"runner": NAME, "job": 7},
            id="a runner that gets one",
        ),
        pytest.param(
            Boot(a_runner(RunnerState.BUSY, job_id=7)), {"runner": NAME, "job": 7}, id="a runner that has one"
        ),
        pytest.param(CheckJob(7), {"job": 7}, id="a job"),
        pytest.param(LookAtHost(), {}, id="neither"),
    ],
)
def test_whom_an_action_is_about(action: Action, fields: dict[str, Any]) -> None:
    """An action says whom it is about."""
    assert subject(action) == fields


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs(processors=[merge_contextvars]) as kept:
        yield kept
    structlog.contextvars.clear_contextvars()


@pytest.mark.looptime
async def test_lines_of_a_jobs_life(tmp_path: Path, lines: list[Any]) -> None:
    """A job's life with a launch that fails: each line about it has the runner, and from its start on the job."""
    async with a_site(tmp_path) as site:
        site.start()
        site.model.faults.add("mint", faults.answer(502))
        job = queue(site)
        await site.until(site.is_drained)
    (runner,) = {line["runner"] for line in lines if "runner" in line and line.get("now") == "busy"}
    told = [line for line in lines if line["event"] in {"runner", "vm_ended", "failure", "guest_unknown"}]
    told += [line for line in lines if line["event"] == "action_failed" and runner in str(line["about"])]
    assert {line["event"] for line in told} >= {"runner", "failure"}
    assert [line for line in told if "runner" not in line] == []
    states = [line for line in told if line["event"] == "runner" and line["runner"] == runner]
    busy = next(number for number, line in enumerate(states) if line["now"] == "busy")
    assert [line.get("job") for line in states[busy:]] == [job.id] * len(states[busy:])
