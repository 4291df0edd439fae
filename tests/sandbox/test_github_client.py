"""The real client against the sandbox over HTTP, every request and answer checked against GitHub's description."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.clock import utcnow
from app.domain.jobs import JobStatus, Source
from app.domain.pools import Target
from app.github.auth import AppCredentials, TokenCredentials
from app.github.client import GitHubClient
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable, NameTaken, NotFound, Run, RunnerBusy
from app.sandbox import github_faults as fault
from app.sandbox.github import ModelGitHub
from app.sandbox.http import make_app
from tests.openapi import CheckedTransport
from tests.sandbox.github_world import ACME, LABELS, a_blob, a_github, running

TOOL = Target("ada", "tool")
NAME = "mini-mac-aaaaaaaa"


@dataclass(slots=True)
class Pair:
    """The client and the model behind it."""

    client: GitHubClient
    model: ModelGitHub
    checked: list[tuple[str, str, int]]


@pytest.fixture(params=["app", "token", "ghes"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    model = a_github(utcnow)
    app, base = model.accounts.app, "/api/v3" if request.param == "ghes" else ""
    transport = CheckedTransport(httpx.ASGITransport(make_app(model, base_path=base)), base_path=base)
    credentials: AppCredentials | TokenCredentials = AppCredentials(app_id=str(app.id), private_key=app.pem)
    if request.param == "token":
        credentials = TokenCredentials(token=model.accounts.add_token("ada").text)
    client = GitHubClient(
        credentials,
        api_url=f"https://ghes.example{base}" if base else "https://api.github.com",
        ca_path=None,
        api_version="2022-11-28" if base else "2026-03-10",
        metrics=Metrics(),
        downloads=Path("nowhere"),
        transport=transport,
    )
    async with client:
        yield Pair(client, model, transport.checked)
    assert transport.violations == []


@pytest.mark.parametrize(
    "target", [pytest.param(ACME, id="organization"), pytest.param(TOOL, id="repository")]
)
async def test_a_registration_comes_and_goes(pair: Pair, target: Target) -> None:
    """Mint, list, connect with the blob, deregister by id and by name: each as the port says."""
    minted = await pair.client.mint(target, name=NAME, labels=LABELS, group_id=1)
    with pytest.raises(NameTaken):
        await pair.client.mint(target, name=NAME, labels=LABELS, group_id=1)
    pair.model.runners.connect(minted.jit.encoded)
    (listed,) = await pair.client.registrations(target)
    assert (listed.id, listed.name, listed.online, listed.busy) == (minted.registration_id, NAME, True, False)
    assert await pair.client.deregister(target, name=NAME, registration_id=None) is True
    assert await pair.client.deregister(target, name=NAME, registration_id=listed.id) is False
    assert await pair.client.deregister(target, name=NAME, registration_id=None) is False
    assert pair.checked


async def test_a_busy_runner_stays(pair: Pair) -> None:
    """GitHub's 422 for a runner with a job is RunnerBusy."""
    session, _ = running(pair.model)
    with pytest.raises(RunnerBusy):
        await pair.client.deregister(ACME, name="mini-1", registration_id=session.registration.id)


async def test_many_runners_are_all_listed(pair: Pair) -> None:
    """Every page is read."""
    for number in range(205):
        a_blob(pair.model, f"mini-{number}")
    assert len(await pair.client.registrations(ACME)) == 205


async def test_jobs_and_runs(pair: Pair) -> None:
    """A job and its run are what the model holds; what is not there is NotFound."""
    fork = pair.model.accounts.add_repository("eve/app", visibility="public")
    job = pair.model.queue("acme/app", "test", LABELS, event="pull_request", head=fork)
    event = await pair.client.job("acme/app", job.id)
    assert (event.id, event.run_id, event.name, event.status) == (
        job.id,
        job.run.id,
        "test",
        JobStatus.QUEUED,
    )
    assert (event.labels, event.source, event.runner) == (LABELS, Source.LOOK, None)
    run = await pair.client.run("acme/app", job.run.id)
    assert run == Run(status="queued", conclusion=None, event="pull_request", fork=True)
    pair.model.workflows.fail_to_start(job.run)
    assert (await pair.client.run("acme/app", job.run.id)).conclusion == "startup_failure"
    gone = pair.model.workflows.add_run("acme/app", [], event="pull_request", fork_gone=True)
    assert (await pair.client.run("acme/app", gone.id)).fork
    for question in (pair.client.job("acme/app", 1), pair.client.run("acme/app", 1)):
        with pytest.raises(NotFound):
            await question


async def test_runner_groups(pair: Pair) -> None:
    """The default group, one by its name with its repositories, and one that is not there."""
    app = pair.model.accounts.repository("acme/app")
    pair.model.accounts.add_group("acme", "Few", visibility="selected", repositories=[app])
    default = await pair.client.runner_group("acme", None)
    few = await pair.client.runner_group("acme", "few")
    assert (default.id, default.allows_public) == (1, False)
    assert (few.id, few.visibility, few.repositories) == (2, "selected", ("acme/app",))
    with pytest.raises(NotFound):
        await pair.client.runner_group("acme", "nope")


async def test_who_we_are(pair: Pair) -> None:
    """The credentials prove themselves."""
    assert await pair.client.whoami()


async def test_a_lost_answer_is_no_refusal(pair: Pair) -> None:
    """A mint that answers 502 may have registered: it is unavailable, asked once, and the name is taken now."""
    pair.model.faults.add("mint", fault.answer(502, effect=True))
    with pytest.raises(GitHubUnavailable):
        await pair.client.mint(ACME, name=NAME, labels=LABELS, group_id=1)
    assert pair.model.faults.calls["mint"] == 1
    with pytest.raises(NameTaken):
        await pair.client.mint(ACME, name=NAME, labels=LABELS, group_id=1)


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        pytest.param(fault.secondary_limit(429, retry_after=7), 7, id="a secondary limit with a hint"),
        pytest.param(fault.secondary_limit(403), 60, id="one without"),
    ],
)
async def test_limits(pair: Pair, what: fault.Fault, seconds: int) -> None:
    """A rate limit is unavailable until the time GitHub names, a minute without one."""
    pair.model.faults.add("registrations", what)
    with pytest.raises(GitHubUnavailable) as caught:
        await pair.client.registrations(ACME)
    assert caught.value.retry_after is not None
    assert abs(caught.value.retry_after.total_seconds() - seconds) < 2


async def test_a_lacking_permission_is_named(pair: Pair) -> None:
    """What GitHub will not let us do is a refusal that names the permission."""
    for installation in pair.model.accounts.installations.values():
        installation.permissions = {"metadata": "read"}
    for token in pair.model.accounts.tokens.values():
        token.permissions = {"metadata": "read"}
    with pytest.raises(GitHubRefused, match="organization_self_hosted_runners"):
        await pair.client.registrations(ACME)
