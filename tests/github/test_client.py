"""The verbs of the GitHub client, against a small GitHub with state."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from app.domain.jobs import JobStatus, Source, merge
from app.domain.pools import Target
from app.domain.world import Registration, RunnerGroup
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable, NameTaken, NotFound, Run, RunnerBusy
from tests.builders import NOW, a_job
from tests.github.stub import BLOB, PAT, StubGitHub, connected, problem

ORGANIZATION, REPOSITORY = Target("acme"), Target("acme", "app")


def a_runner_row(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": number, "name": f"mini-mac-{number}", "status": "online", "busy": False} | changes


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(ORGANIZATION, "/orgs/acme/actions/runners/generate-jitconfig", id="an organization"),
        pytest.param(REPOSITORY, "/repos/acme/app/actions/runners/generate-jitconfig", id="a repository"),
    ],
)
async def test_mint(target: Target, path: str) -> None:
    """Minting sends the name, the labels and the group, and returns the id and the JIT config."""
    stub = StubGitHub()
    async with connected(stub) as client:
        minted = await client.mint(target, name="mini-mac-1", labels=("self-hosted", "mac"), group_id=3)
    assert (minted.registration_id, minted.jit.encoded) == (1, BLOB)
    (request,) = stub.seen("POST .*generate-jitconfig")
    assert request.url.path == path
    body = json.loads(request.content)
    assert body.pop("work_folder", "_work") == "_work"
    assert body == {"name": "mini-mac-1", "labels": ["self-hosted", "mac"], "runner_group_id": 3}


async def test_a_name_that_is_taken() -> None:
    """A name that GitHub has already, in whatever case, is told from other refusals."""
    stub = StubGitHub(runners={9: a_runner_row(9, name="MINI-mac-1")})
    async with connected(stub) as client:
        with pytest.raises(NameTaken, match="mini-mac-1"):
            await client.mint(ORGANIZATION, name="mini-mac-1", labels=("mac",), group_id=1)


async def test_registrations_follow_every_page() -> None:
    """All pages count, wherever GitHub says they are, and a runner that moved between pages counts once."""
    stub = StubGitHub(runners={n: a_runner_row(n) for n in range(1, 6)}, page=2)
    stub.runners[4]["id"] = 2
    stub.runners[5] |= {"status": "offline", "busy": True}
    async with connected(stub) as client:
        found = await client.registrations(ORGANIZATION)
    assert [one.id for one in found] == [1, 2, 3, 5]
    assert found[-1] == Registration(id=5, name="mini-mac-5", online=False, busy=True)
    assert [one.url.path for one in stub.seen("GET .*runners")] == [
        "/orgs/acme/actions/runners",
        "/organizations/5/actions/runners",
        "/organizations/5/actions/runners",
    ]


@pytest.mark.parametrize(
    ("leaving", "asked"),
    [
        pytest.param([], 3, id="nobody leaves"),
        pytest.param([1], 3 + 3, id="one leaves while the list is read: it is read again"),
        pytest.param([1, 2], 3 + 3 + 3, id="another leaves then: and again"),
        pytest.param([1, 2, 3], 3 + 3 + 2, id="it never holds still: all that was seen"),
    ],
)
async def test_a_list_that_changes_while_it_is_read(leaving: list[int], asked: int) -> None:
    """A runner that moves from a page not yet read to one that was is not taken for absent."""
    stub = StubGitHub(runners={n: a_runner_row(n) for n in range(1, 10)}, page=3)
    going = list(leaving)

    async def changing(request: httpx.Request) -> httpx.Response:
        response = await stub(request)
        if going and request.url.path.endswith("/runners") and "page" not in request.url.params:
            del stub.runners[going.pop(0)]
        return response

    async with connected(stub, transport=httpx.MockTransport(changing)) as client:
        found = {one.id for one in await client.registrations(ORGANIZATION)}
    assert set(stub.runners) <= found
    assert len(stub.seen("GET .*runners")) == asked


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, text="<html>log in first</html>"), id="a proxy's page"),
        pytest.param(httpx.Response(200, json=[]), id="a list"),
        pytest.param(httpx.Response(200, json={"total_count": 0}), id="no runners in it"),
        pytest.param(httpx.Response(200, json={"runners": [7]}), id="a runner that is no object"),
        pytest.param(
            httpx.Response(200, json={"runners": [{"id": "7", "name": "x"}]}), id="an id that is text"
        ),
    ],
)
async def test_an_unreadable_list_is_not_an_empty_one(answer: httpx.Response) -> None:
    """A list that cannot be read is unknown, never empty."""
    stub = StubGitHub()
    stub.force("GET .*runners", answer, answer, answer)
    async with connected(stub) as client:
        with pytest.raises(GitHubUnavailable):
            await client.registrations(ORGANIZATION)


@pytest.mark.parametrize("known", [pytest.param(True, id="id known"), pytest.param(False, id="by name")])
@pytest.mark.parametrize(
    "target", [pytest.param(ORGANIZATION, id="organization"), pytest.param(REPOSITORY, id="repo")]
)
async def test_deregister(target: Target, *, known: bool) -> None:
    """True once GitHub removed it, False when it is not there, and a name must be the whole name."""
    names = {1: "mini-mac-1x", 2: "Mini-Mac-1"}
    stub = StubGitHub(runners={n: a_runner_row(n, name=name) for n, name in names.items()})
    async with connected(stub) as client:
        number = 2 if known else None
        assert await client.deregister(target, name="mini-mac-1", registration_id=number) is True
        assert await client.deregister(target, name="mini-mac-1", registration_id=number) is False
    assert list(stub.runners) == [1]


async def test_a_busy_runner_is_kept() -> None:
    """A runner with a job stays, and that is an answer of its own."""
    stub = StubGitHub(runners={7: a_runner_row(7, busy=True)})
    async with connected(stub) as client:
        with pytest.raises(RunnerBusy):
            await client.deregister(ORGANIZATION, name="mini-mac-7", registration_id=7)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(problem(422, "Validation Failed"), GitHubRefused, id="422 that speaks of no job"),
        pytest.param(problem(422, 'Runner "x" is currently running a job'), RunnerBusy, id="other words"),
        pytest.param(httpx.Response(200, json={}), GitHubUnavailable, id="a success that is no 204"),
        pytest.param(
            httpx.Response(302, headers={"location": "/orgs/acme/actions/runners?per_page=1"}),
            GitHubUnavailable,
            id="a redirect that made a GET of it",
        ),
    ],
)
async def test_only_204_is_a_removal(answer: httpx.Response, error: type[Exception]) -> None:
    """Nothing but 204 means removed, and only a 422 that says so means busy."""
    stub = StubGitHub(runners={7: a_runner_row(7)})
    stub.force("DELETE", answer)
    async with connected(stub) as client:
        with pytest.raises(error):
            await client.deregister(ORGANIZATION, name="mini-mac-7", registration_id=7)


async def test_job_with_what_strict_models_refuse() -> None:
    """A status nobody knows, a null label and missing keys do not lose a job."""
    job = {"id": 3, "run_id": 30, "status": "pending", "labels": ["mac", None], "runner_name": ""}
    stub = StubGitHub(jobs={3: job | {"conclusion": "startup_failure"}})
    async with connected(stub) as client:
        event = await client.job("acme/app", 3)
    assert (event.status, event.labels, event.runner) == (JobStatus.WAITING, ("mac",), None)
    assert (event.repository, event.source) == ("acme/app", Source.LOOK)


async def test_a_look_overwrites_nothing_known() -> None:
    """GitHub's job object names neither owner nor visibility: what the webhook told of them stays."""
    known = a_job(organization=True, private=False, repository_id=5, workflow="CI")
    stub = StubGitHub(jobs={1: {"id": 1, "run_id": 10, "status": "in_progress", "runner_name": "mini-mac-1"}})
    async with connected(stub) as client:
        seen = merge(known, await client.job("acme/app", 1), at=NOW)
    assert (seen.organization, seen.private, seen.repository_id) == (True, False, 5)
    assert (seen.workflow, seen.labels, seen.url) == (known.workflow, known.labels, known.url)
    assert (seen.status, seen.runner) == (JobStatus.IN_PROGRESS, "mini-mac-1")


async def test_another_job_is_no_answer() -> None:
    """A job under another id than asked for is not taken."""
    stub = StubGitHub(jobs={3: {"id": 4, "status": "queued"}})
    async with connected(stub) as client:
        with pytest.raises(GitHubUnavailable):
            await client.job("acme/app", 3)


async def test_jobs_and_runs_that_are_not_there() -> None:
    """What GitHub does not know is not found, and not an outage."""
    async with connected(StubGitHub()) as client:
        with pytest.raises(NotFound):
            await client.job("acme/app", 3)
        with pytest.raises(NotFound):
            await client.run("acme/app", 3)


@pytest.mark.parametrize(
    ("head", "fork"),
    [
        pytest.param({"id": 5}, False, id="the repository itself"),
        pytest.param({"id": 6}, True, id="another repository"),
        pytest.param(None, True, id="a repository that is gone"),
        pytest.param({}, None, id="no id"),
    ],
)
async def test_run(head: dict[str, int] | None, fork: bool | None) -> None:
    """A run comes from a fork unless its head is known to be in the repository itself."""
    run = {"status": "completed", "conclusion": "startup_failure", "event": "pull_request"}
    stub = StubGitHub(runs={30: run | {"repository": {"id": 5}, "head_repository": head}})
    async with connected(stub) as client:
        if fork is None:
            with pytest.raises(GitHubUnavailable):
                await client.run("acme/app", 30)
        else:
            expected = Run(status="completed", conclusion="startup_failure", event="pull_request", fork=fork)
            assert await client.run("acme/app", 30) == expected
    assert stub.seen("GET .*runs")[0].url.params["exclude_pull_requests"] == "true"


GROUPS = [
    {"id": 1, "name": "Default", "default": True, "visibility": "all", "allows_public_repositories": False},
    {
        "id": 2,
        "name": "Linux",
        "default": False,
        "visibility": "private",
        "allows_public_repositories": False,
    },
    {"id": 3, "name": "Macs", "default": False, "visibility": "selected", "allows_public_repositories": True},
]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        pytest.param(
            None, RunnerGroup(id=1, name="Default", visibility="all", allows_public=False), id="default"
        ),
        pytest.param(
            "macs",
            RunnerGroup(
                id=3,
                name="Macs",
                visibility="selected",
                allows_public=True,
                repositories=("acme/a", "acme/b", "acme/c"),
            ),
            id="on a later page, with repositories on two",
        ),
    ],
)
async def test_runner_group(name: str | None, group: RunnerGroup) -> None:
    """A group is found by its name, or as the default, with every repository that it admits."""
    stub = StubGitHub(groups=GROUPS, group_repositories=["acme/a", "acme/b", "acme/c"], page=2)
    async with connected(stub) as client:
        assert await client.runner_group("acme", name) == group


async def test_no_such_group() -> None:
    """A group that is not there is named, with the mend."""
    async with connected(StubGitHub(groups=GROUPS)) as client:
        with pytest.raises(NotFound, match=r"'mac-minis'.*runner_group"):
            await client.runner_group("acme", "mac-minis")


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        pytest.param({}, None, id="all is well"),
        pytest.param(
            {"permissions": {"actions": "write", "administration": "write"}}, None, id="repositories"
        ),
        pytest.param({"permissions": {"administration": "write"}}, "Actions: read", id="no actions"),
        pytest.param(
            {"permissions": {"actions": "read", "administration": "read"}},
            "Self-hosted runners: write",
            id="no write",
        ),
        pytest.param({"events": ["push"]}, "Workflow job", id="not subscribed"),
    ],
)
async def test_whoami_of_an_app(change: dict[str, Any], lacks: str | None) -> None:
    """An App says its name, or what its registration lacks."""
    stub = StubGitHub()
    stub.app |= change
    async with connected(stub) as client:
        if lacks is None:
            assert await client.whoami() == "cider"
        else:
            with pytest.raises(GitHubRefused, match=lacks):
                await client.whoami()


async def test_a_token_needs_no_installation() -> None:
    """With a token everything is asked as its owner; a newline after it does no harm."""
    stub = StubGitHub(installations={})
    async with connected(stub, token=f"{PAT}\n") as client:
        assert await client.whoami() == "octocat"
        assert await client.registrations(REPOSITORY) == ()
    assert {one.headers["authorization"] for one in stub.requests} == {f"token {PAT}"}


async def test_quota_is_told_and_counted() -> None:
    """What GitHub's headers say of the quota is kept by installation and resource."""
    stub = StubGitHub()
    stub.quota_headers = {
        "x-ratelimit-limit": "5000",
        "x-ratelimit-remaining": "4321",
        "x-ratelimit-reset": "1767225600",
        "x-ratelimit-resource": "core",
    }
    metrics = Metrics()
    async with connected(stub, metrics=metrics) as client:
        assert client.quota() == {}
        await client.registrations(ORGANIZATION)
        left = {"limit": 5000, "remaining": 4321, "reset": "2026-01-01T00:00:00Z"}
        assert client.quota() == {"app/core": left, "acme/core": left}
    text = metrics.expose().decode()
    assert 'cidermill_github_quota_remaining{installation="acme",resource="core"} 4321.0' in text


async def test_calls_are_counted_by_outcome() -> None:
    """Each verb is counted once however often it was tried, with the code of its error."""
    stub, metrics = StubGitHub(), Metrics()
    stub.force("GET .*runners", httpx.Response(502))
    async with connected(stub, metrics=metrics) as client:
        await client.registrations(ORGANIZATION)
        with pytest.raises(NotFound):
            await client.job("acme/app", 1)
    text = metrics.expose().decode()
    assert 'cidermill_github_calls_total{call="registrations",outcome="ok"} 1.0' in text
    assert 'cidermill_github_calls_total{call="job",outcome="github_not_found"} 1.0' in text
    assert 'cidermill_github_call_seconds_count{call="registrations"} 1.0' in text
