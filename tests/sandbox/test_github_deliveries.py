"""The sandbox's GitHub: what it tells of a job, in which shape, and what goes wrong on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.jobs import JobStatus
from app.github.webhook import parse
from app.sandbox.github import ModelGitHub
from app.sandbox.github_hooks import Chaos, HookFault, Mishap
from app.sandbox.github_values import ApiError
from app.sandbox.github_workflows import JobSpec
from app.sandbox.http import signed
from tests.conftest import Clock
from tests.sandbox.github_world import LABELS, a_github, actions, connected, running, told

SAMPLES = Path(__file__).parents[1] / "samples" / "github-webhooks"


def sample(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SAMPLES / f"workflow_job.{name}.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    ("action", "name"),
    [
        pytest.param("queued", "queued.self-hosted-with-deployment", id="queued"),
        pytest.param("waiting", "waiting.self-hosted", id="waiting"),
        pytest.param("in_progress", "in_progress.app", id="in progress"),
        pytest.param("completed", "completed.success", id="completed"),
    ],
)
def test_payloads_have_the_shape_of_real_ones(clock: Clock, action: str, name: str) -> None:
    """Every key of a real delivery is there with a value of the same kind, down to the steps."""
    model = a_github(clock)
    model.queue("acme/app", labels=LABELS, gated=True)
    session, _ = running(model)
    model.runners.finish(session)
    ours = {d.payload["action"]: d.payload for d in told(model)}[action]
    real = sample(name)
    for part in ("workflow_job", "repository", "sender"):
        assert set(real[part]) <= set(ours[part])
    for key, value in real["workflow_job"].items():
        assert _kind(ours["workflow_job"][key]) == _kind(value), key
    if real["workflow_job"]["steps"]:
        assert set(ours["workflow_job"]["steps"][0]) == set(real["workflow_job"]["steps"][0])
    assert set(ours) == {"action", "workflow_job", "repository", "organization", "sender", "installation"}


def _kind(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("number", [pytest.param(n, id=f"job {n}") for n in (1, 2)])
def test_a_job_that_ended_without_a_runner_says_null_or_nothing(clock: Clock, number: int) -> None:
    """Both ways of saying "no runner" are seen, and our reader takes them for the same."""
    model = a_github(clock)
    jobs = [model.queue("acme/app", labels=LABELS) for _ in range(number)]
    model.cancel(jobs[-1])
    last = told(model)[-1]
    fields = {last.payload["workflow_job"][key] for key in ("runner_id", "runner_name")}
    assert fields == ({0, ""} if jobs[-1].id % 2 else {None})
    body, headers = signed(last)
    event = parse({k.lower(): v for k, v in headers.items()}, body, [model.app_hook.secret]).job
    assert event is not None
    assert (event.status, event.runner, event.conclusion) == (JobStatus.COMPLETED, None, "cancelled")


@pytest.mark.parametrize(
    ("story", "seen"),
    [
        pytest.param(
            lambda m: m.workflows.approve(m.queue("acme/app", gated=True)),
            [("queued", "waiting"), ("waiting", "waiting"), ("queued", "queued")],
            id="a gate: queued while waiting, waiting, queued",
        ),
        pytest.param(
            lambda m: m.workflows.skip("acme/app"),
            [("completed", "completed")],
            id="skipped: completed alone",
        ),
        pytest.param(
            lambda m: m.workflows.fail_to_start(m.queue("acme/app").run),
            [("queued", "queued")],
            id="a startup failure: queued, and then nothing",
        ),
        pytest.param(
            lambda m: m.workflows.stray_check("acme/app"),
            [("completed", "completed")] * 2,
            id="a check run that is no job",
        ),
    ],
)
def test_stories(clock: Clock, story: Any, seen: list[tuple[str, str]]) -> None:
    """The odd lives of docs/contracts/github.md §1.4 send what is written there."""
    model = a_github(clock)
    story(model)
    assert actions(model) == seen


def test_a_startup_failure_leaves_its_job_queued_for_ever(clock: Clock) -> None:
    """The run is over, the job says queued, no runner is given it and no time ends it."""
    model = a_github(clock)
    job = model.queue("acme/app", labels=LABELS)
    model.workflows.fail_to_start(job.run)
    connected(model)
    clock.pass_(days=2)
    model.tick()
    assert (job.status, job.runner, job.run.status, job.run.conclusion) == (
        "queued",
        None,
        "completed",
        "startup_failure",
    )


def test_a_rerun_has_new_ids_and_repeats_what_was_over(clock: Clock) -> None:
    """Failed jobs come again under new ids in the same run; those that had passed say completed once more."""
    model = a_github(clock)
    run = model.workflows.add_run(
        "acme/app", [JobSpec(name="a", labels=LABELS), JobSpec(name="b", labels=LABELS)]
    )
    kept, failed = run.jobs
    with pytest.raises(ApiError):
        model.workflows.rerun(run)
    for _ in run.jobs:
        session = connected(model)
        job = model.runners.start(session)
        model.runners.finish(session, "failure" if job is failed else "success")
    told(model)
    model.workflows.rerun(run, failed_only=True)
    assert sorted(actions(model)) == [("completed", "completed"), ("queued", "queued")]
    again = run.jobs[1]
    assert (run.attempt, run.status, run.jobs[0]) == (2, "in_progress", kept)
    assert (again.id > failed.id, again.attempt, again.name, again.status) == (True, 2, "b", "queued")


def test_a_run_with_one_running_job_is_in_progress(clock: Clock) -> None:
    """A run's status comes from its jobs, as the poll for queued runs must know."""
    model = a_github(clock)
    run = model.workflows.add_run("acme/app", [JobSpec(labels=LABELS), JobSpec(labels=LABELS)])
    assert run.status == "queued"
    model.runners.start(connected(model))
    assert sorted(job.status for job in run.jobs) == ["in_progress", "queued"]
    assert run.status == "in_progress"


def later(clock: Clock, model: ModelGitHub, seconds: float) -> int:
    clock.pass_(seconds=seconds)
    return len(told(model))


@pytest.mark.parametrize(
    ("fault", "at_once", "after", "logged"),
    [
        pytest.param(HookFault(mishap=Mishap.VANISH), 0, 0, [], id="never made"),
        pytest.param(
            HookFault(mishap=Mishap.UNREACHABLE), 0, 0, ["failed to connect to host"], id="unreachable"
        ),
        pytest.param(HookFault(mishap=Mishap.LATE, seconds=90), 0, 1, ["OK"], id="late"),
        pytest.param(HookFault(mishap=Mishap.TWICE, seconds=90), 1, 1, ["OK", "OK"], id="twice"),
        pytest.param(HookFault(mishap=Mishap.HELD), 0, 0, [], id="held"),
    ],
)
def test_mishaps(clock: Clock, fault: HookFault, at_once: int, after: int, logged: list[str]) -> None:
    """Each mishap happens to one event, and the log shows what was tried."""
    model = a_github(clock)
    model.hooks.faults.append(fault)
    model.queue("acme/app")
    assert (len(told(model)), later(clock, model, 90)) == (at_once, after)
    assert [delivery.status for delivery in model.hooks.log] == logged
    assert len({delivery.guid for delivery in model.hooks.log}) == min(len(logged), 1)


def test_a_payload_can_be_changed(clock: Clock) -> None:
    """``workflow_job: null`` has been delivered, so it can be here."""
    model = a_github(clock)
    model.hooks.faults.append(
        HookFault(mishap=Mishap.CHANGED, change=lambda payload: payload | {"workflow_job": None})
    )
    model.queue("acme/app")
    (delivery,) = told(model)
    assert json.loads(delivery.body)["workflow_job"] is None


def test_held_deliveries_come_in_any_order(clock: Clock) -> None:
    """What is held is released in the order asked for."""
    model = a_github(clock)
    model.hooks.holding = True
    session, _ = running(model)
    model.runners.finish(session)
    assert told(model) == []
    model.hooks.release([2, 1, 0])
    assert [action for action, _ in actions(model)] == ["completed", "in_progress", "queued"]


def test_chaos_loses_a_share(clock: Clock) -> None:
    """By chance, but by the seed's chance, some deliveries are lost, some late, some come twice."""
    model = a_github(clock)
    model.hooks.chaos = Chaos(vanish=0.25, late=0.25, twice=0.25)
    for _ in range(100):
        model.queue("acme/app")
    at_once = len(told(model))
    assert 30 < at_once < 75
    assert 30 < later(clock, model, 301) < 75


def test_the_log_pages_newest_first_and_forgets(clock: Clock) -> None:
    """Pages follow a cursor without loss or repetition, a status filter narrows them, three days end them."""
    model = a_github(clock)
    for number in range(5):
        model.queue("acme/app", f"job {number}")
        for delivery in model.hooks.take():
            code = 503 if number == 3 else 202
            model.hooks.record(
                delivery, status="OK" if code == 202 else "Invalid HTTP Response: 503", status_code=code
            )
    seen, cursor = [], None
    while True:
        page, cursor = model.hooks.page(model.app_hook, per_page=2, cursor=cursor, status=None)
        seen += [delivery.payload["workflow_job"]["name"] for delivery in page]
        if cursor is None:
            break
    assert seen == [f"job {n}" for n in (4, 3, 2, 1, 0)]
    failed, _ = model.hooks.page(model.app_hook, per_page=9, cursor=None, status="failure")
    assert [delivery.status_code for delivery in failed] == [503]
    clock.pass_(days=3, seconds=1)
    assert model.hooks.page(model.app_hook, per_page=9, cursor=None, status=None) == ([], None)


def test_redelivery_keeps_the_guid(clock: Clock) -> None:
    """A redelivery is a new entry under the old GUID; the failed one stays."""
    model = a_github(clock)
    model.hooks.faults.append(HookFault(mishap=Mishap.UNREACHABLE))
    model.queue("acme/app")
    (failed,) = model.hooks.log
    model.hooks.redeliver(model.app_hook, failed.id)
    (again,) = told(model)
    assert (again.guid, again.redelivery, again.id > failed.id) == (failed.guid, True, True)
    assert [delivery.status for delivery in model.hooks.log] == ["failed to connect to host", "OK"]
    with pytest.raises(ApiError):
        model.hooks.redeliver(model.app_hook, 1)


def test_two_hooks_hear_one_event_under_one_guid(clock: Clock) -> None:
    """An App's hook and a repository's get the same GUID; only the App's names an installation."""
    model = a_github(clock)
    hook = model.add_hook("acme/app")
    model.queue("acme/app")
    first, second = told(model)
    assert (first.guid, first.hook, second.hook) == (second.guid, model.app_hook, hook)
    assert ("installation" in first.payload, "installation" in second.payload) == (True, False)


@pytest.mark.parametrize(
    "change", ["uninstalled", "suspended", "other repositories", "no actions:read", "no hook"]
)
def test_who_hears_nothing(clock: Clock, change: str) -> None:
    """No event reaches an App that is not installed, suspended, elsewhere, without permission or without hook."""
    model = a_github(clock)
    installation = model.accounts.installation_of("acme")
    match change:
        case "uninstalled":
            model.uninstall(installation)
        case "suspended":
            model.suspend(installation)
        case "other repositories":
            installation.repositories = set()
        case "no actions:read":
            del installation.permissions["actions"]
        case _:
            model.app_hook.events = frozenset()
    told(model)
    model.queue("acme/app")
    assert told(model) == []


def test_installation_events_come_unasked(clock: Clock) -> None:
    """An App is told of suspensions and removals, and of a ping, without subscribing."""
    model = a_github(clock)
    installation = model.accounts.installation_of("acme")
    model.suspend(installation)
    model.unsuspend(installation)
    model.uninstall(installation)
    model.ping()
    seen = [(delivery.event, delivery.action) for delivery in told(model)]
    assert seen == [
        ("installation", "suspend"),
        ("installation", "unsuspend"),
        ("installation", "deleted"),
        ("ping", None),
    ]
