"""What histories are made from: files, labels, times."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.runners import RunnerState
from app.forecast.events import Unreadable, read
from app.forecast.history import history, pool_of_labels
from app.forecast.timings import FEW, Timings, measured
from tests.builders import NOW, a_pool
from tests.forecast.past import a_past_job

LISTED = {
    "id": 7, "run_id": 3, "run_url": "https://api.github.com/repos/acme/app/actions/runs/3", "status": "completed",
    "conclusion": "success", "labels": ["macos-15"], "runner_name": "GitHub Actions 5",
    "created_at": "2026-03-01T12:00:00Z", "started_at": "2026-03-01T12:00:09Z", "completed_at": "2026-03-01T12:05:09Z",
}  # fmt: skip


def event(action: str, **changes: Any) -> dict[str, Any]:
    late = {} if action == "completed" else {"conclusion": None, "completed_at": None}
    if action == "queued":
        late |= {"started_at": None, "runner_name": None}
    job = LISTED | {"status": action} | late | changes
    return {"action": action, "workflow_job": job, "repository": {"full_name": "acme/app"}}


EVENTS = [event("completed"), event("queued"), event("in_progress")]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n".join(map(json.dumps, EVENTS)), id="a line an event, in any order"),
        pytest.param(json.dumps(EVENTS, indent=2), id="a list of events"),
        pytest.param(json.dumps({"total_count": 1, "jobs": [LISTED]}), id="an answer of gh api"),
        pytest.param(
            json.dumps({"jobs": []}) + json.dumps({"jobs": [LISTED]}), id="pages one after the other"
        ),
        pytest.param(json.dumps([{"jobs": [LISTED]}]), id="pages in a list"),
        pytest.param(json.dumps(LISTED), id="a job alone"),
    ],
)
def test_files(tmp_path: Path, text: str) -> None:
    """Whatever form it has, a file gives the same job."""
    file = tmp_path / "events.json"
    file.write_text(text, encoding="utf-8")
    (job,), _ = read(file)
    assert (job.id, job.repository, job.labels, job.runner) == (
        7,
        "acme/app",
        ("macos-15",),
        "GitHub Actions 5",
    )
    (past,) = history([job], [pool_of_labels([job], ())]).jobs
    assert (past.job.queued_at, past.lasts, past.given_up) == (NOW, timedelta(minutes=5), False)


def test_files_that_are_none(tmp_path: Path) -> None:
    """What is no JSON is named with its line, what is no job is counted, and a file that is not there is said."""
    file = tmp_path / "events.json"
    file.write_text('{"zen": "Design for failure."}\n' + json.dumps(LISTED), encoding="utf-8")
    jobs, strange = read(file)
    assert (len(jobs), strange) == (1, 1)
    file.write_text("{}\nhello", encoding="utf-8")
    with pytest.raises(Unreadable, match="line 2: this is not JSON"):
        read(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Unreadable, match="not UTF-8"):
        read(file)
    with pytest.raises(Unreadable, match="Cannot read"):
        read(tmp_path / "none")


def test_what_is_left_out() -> None:
    """Jobs of no pool, that are not over, or that were skipped are not replayed; all but the last are counted."""
    jobs = [
        a_past_job(2, 5.0),
        a_past_job(1),
        a_past_job(3, labels=("gpu",)),
        a_past_job(4, repository="stranger/tool"),
        a_past_job(5, completed_at=None),
        a_past_job(6, runner=None, conclusion="skipped"),
        a_past_job(7, 9.0, runner=None, lasts=30.0),
    ]
    past = history(jobs, [a_pool()])
    assert [(one.job.id, one.given_up) for one in past.jobs] == [(1, False), (2, False), (7, True)]
    assert (past.of_no_pool, past.unfinished) == (2, 1)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        pytest.param((), [1, 2], id="every job for a Mac"),
        pytest.param(("XL",), [2, 4], id="with a label of one's own"),
        pytest.param(("gpu", "xl"), [], id="labels that nobody asked for"),
    ],
)
def test_jobs_by_labels(wanted: tuple[str, ...], meant: list[int]) -> None:
    """Without configuration labels say which jobs are meant."""
    jobs = [
        a_past_job(1, labels=("macos-15",)),
        a_past_job(2, labels=("self-hosted", "macOS", "xl")),
        a_past_job(3, labels=("ubuntu-latest",)),
        a_past_job(4, labels=("linux", "xl")),
    ]
    assert [one.job.id for one in history(jobs, [pool_of_labels(jobs, wanted)]).jobs] == meant


def test_times_are_measured_where_there_are_enough() -> None:
    """Medians of a history take the place of the defaults; a few runners are no measurement."""
    jobs, ways = [], {}
    for n in range(FEW):
        job = a_past_job(
            n, 100.0 * n, runner=f"mini-mac-{n}", received_at=NOW + timedelta(seconds=100 * n + 3)
        )
        registered = job.queued_at + timedelta(seconds=1)
        jobs.append(job)
        ways[f"mini-mac-{n}"] = {
            RunnerState.BOOTING: job.queued_at - timedelta(seconds=20),
            RunnerState.READY: job.queued_at + timedelta(seconds=n),
            RunnerState.REGISTERED: registered,
            RunnerState.GONE: job.queued_at + timedelta(seconds=65 + 9),
        }
    timings, found = measured(Timings(), jobs, ways)
    assert found == {"hear", "boot", "pick_up", "end"}
    assert timings == Timings(
        hear=timedelta(seconds=3),
        boot=timedelta(seconds=22),
        pick_up=timedelta(seconds=4) - Timings().register,
        end=timedelta(seconds=9),
    )
    assert measured(Timings(), jobs[:1], ways | {"x": {}})[1] == {"boot"}
    timings, found = measured(Timings(), jobs[:1], ways, resumed=set(ways))
    assert (found, timings.resume, timings.boot) == ({"resume"}, timedelta(seconds=22), Timings().boot)
