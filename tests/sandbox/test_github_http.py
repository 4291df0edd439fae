"""The sandbox's GitHub over HTTP: all it answers is what GitHub's own description allows."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from app.clock import utcnow
from app.sandbox import github_faults as fault
from app.sandbox.github import ModelGitHub
from app.sandbox.github_hooks import Hook
from app.sandbox.http import make_app, serve
from app.sandbox.http_limits import Limits
from app.sandbox.http_table import endpoints
from tests.conftest import Clock
from tests.openapi import CheckedTransport, Violation, github
from tests.sandbox.github_world import ACME, APP, LABELS, a_blob, a_github, app_jwt, connected, running, told

BASE = "https://api.github.com"


class Api:
    """A client of the application, every call checked against GitHub's description."""

    def __init__(self, model: ModelGitHub, *, base_path: str = "", limits: Limits | None = None) -> None:
        self.model = model
        app = make_app(model, base_path=base_path, limits=limits)
        self.transport = CheckedTransport(httpx.ASGITransport(app), base_path=base_path)
        self.client = httpx.AsyncClient(transport=self.transport, base_url=BASE + base_path)

    async def __call__(self, method: str, path: str, *, auth: str = "token", **more: Any) -> httpx.Response:
        model = self.model
        match auth:
            case "jwt":
                credential = app_jwt(model)
            case "token":
                credential = model.accounts.mint_token(model.accounts.installation_of("acme").id).text
            case _:
                credential = auth
        headers = {"authorization": f"Bearer {credential}"} | more.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **more)


@pytest.fixture
def model(clock: Clock) -> ModelGitHub:
    return a_github(clock)


@pytest.fixture
async def api(model: ModelGitHub) -> AsyncIterator[Api]:
    api = Api(model)
    async with api.client:
        yield api


MANIFEST = {
    "url": "https://example.org/",
    "redirect_url": "http://127.0.0.1:9/callback",
    "hook_attributes": {"url": "https://hook.example.org/webhooks/github", "active": True},
    "default_permissions": {"administration": "write", "actions": "read", "metadata": "read"},
    "default_events": ["workflow_job"],
}


def furnish(model: ModelGitHub) -> dict[str, object]:
    """Fill the model with one of everything, and return the ids that paths name."""
    app = model.accounts.repository("acme/app")
    group = model.accounts.add_group("acme", "few", visibility="selected", repositories=[app])
    fork = model.accounts.add_repository("eve/app", visibility="public")
    session, job = running(model, "runs")
    model.runners.finish(session)
    idle = connected(model, "idle", labels=("other",)).registration
    model.queue("acme/app", labels=("gpu",), event="pull_request", head=fork)
    own = {"repo": model.add_hook("acme/app"), "org": model.add_hook("acme")}
    model.queue("acme/app", gated=True)
    told(model)
    logged = {hook.id: delivery.id for delivery in model.hooks.log for hook in [delivery.hook]}

    def of(hook: Hook) -> dict[str, int]:
        return {"hook_id": hook.id, "delivery_id": logged[hook.id]}

    acme = model.accounts.account("acme")
    return {
        "code": model.manifests.confirm(MANIFEST, "macs", acme),
        "runner_id": idle.id,
        "runner_group_id": group.id,
        "job_id": job.id,
        "run_id": job.run.id,
        "installation_id": model.accounts.installation_of("acme").id,
        "org": "acme",
        "owner": "acme",
        "repo": "app",
        "username": "ada",
        "tag": f"v{model.runners.expected.version}",
        "app hook": of(model.app_hook),
        "repo hook": of(own["repo"]),
        "org hook": of(own["org"]),
    }


BODIES = {
    "mint": {"name": "fresh", "runner_group_id": 1, "labels": ["self-hosted", "mac"], "work_folder": "_work"},
    "token": {"permissions": {"actions": "read"}},
    "make_group": {"name": "macs", "visibility": "selected", "selected_repository_ids": [700_001]},
    "open_group": {"selected_repository_ids": [700_001]},
    "hook_config": {"url": "https://new.example.org/hook", "content_type": "json"},
}


@pytest.mark.parametrize("endpoint", [pytest.param(e, id=f"{e.method} {e.path}") for e in endpoints()])
async def test_every_endpoint_answers_as_documented(api: Api, endpoint: Any) -> None:
    """Each endpoint's good answer, and the request for it, keep to GitHub's description."""
    ids = furnish(api.model)
    kind = (
        "repo hook" if "/repos/" in endpoint.path else "org hook" if "/orgs/" in endpoint.path else "app hook"
    )
    hooks = ids[kind]
    assert isinstance(hooks, dict)
    if endpoint.verb == "release":  # there is one alone, of the runner itself
        ids |= {"owner": "actions", "repo": "runner"}
    path = endpoint.path.format(**(ids | hooks))
    auth = "jwt" if endpoint.auth == "jwt" else "token"
    if endpoint.verb == "user" or (kind != "app hook" and "hook_id" in endpoint.path):
        permissions = {"repository_hooks": "read", "organization_hooks": "read"}
        auth = api.model.accounts.add_token("ada", permissions).text
    if endpoint.verb in {"registration", "deregister"} and "/repos/" in endpoint.path:
        runner, _ = api.model.runners.mint(APP, name="of-one", labels=LABELS, group_id=1)
        path = endpoint.path.format(**(ids | {"runner_id": runner.id}))
    body = BODIES.get(endpoint.verb) if endpoint.method != "GET" else None
    answer = await api(endpoint.method, path, auth=auth, json=body)
    assert answer.is_success, answer.text
    ((method, _, status),) = api.transport.checked
    assert (method, status) == (endpoint.method, answer.status_code)


def test_no_endpoint_is_our_invention() -> None:
    """Every path of the table is one of GitHub's."""
    ours = {(endpoint.method, endpoint.path) for endpoint in endpoints()}
    theirs = {(operation.method, operation.template) for operation in github().operations}
    assert ours == theirs


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        pytest.param("GET", "/app", {"auth": "nonsense"}, 401, id="no JWT"),
        pytest.param("GET", "/app", {"auth": "token"}, 401, id="a token where the App itself must ask"),
        pytest.param(
            "GET", "/orgs/acme/actions/runners", {"auth": "jwt"}, 401, id="a JWT where a token must"
        ),
        pytest.param("GET", "/orgs/nope/installation", {"auth": "jwt"}, 404, id="not installed there"),
        pytest.param("GET", "/repos/acme/app/actions/jobs/1", {}, 404, id="no such job"),
        pytest.param("GET", "/repos/ada/tool/actions/runs", {}, 404, id="another owner's repository"),
        pytest.param("DELETE", "/orgs/acme/actions/runners/99", {}, 404, id="no such runner"),
        pytest.param("GET", "/app/hook/deliveries?cursor=x", {"auth": "jwt"}, 422, id="a bad cursor"),
        pytest.param(
            "GET", "/app", {"auth": "jwt", "headers": {"x-github-api-version": "2021-01-01"}}, 410, id="old"
        ),
    ],
)
async def test_refusals(api: Api, method: str, path: str, more: dict[str, Any], status: int) -> None:
    """Refusals have GitHub's status and the shape of its errors."""
    answer = await api(method, path, **more)
    assert answer.status_code == status
    assert {"message", "documentation_url", "status"} <= set(answer.json())


async def test_busy_and_taken(api: Api) -> None:
    """Deleting a busy runner is 422, minting a taken name 409, an unknown type of argument 422."""
    session, _ = running(api.model)
    busy = await api("DELETE", f"/orgs/acme/actions/runners/{session.registration.id}")
    path = "/orgs/acme/actions/runners/generate-jitconfig"
    taken = await api("POST", path, json={"name": "Mini-1", "runner_group_id": 1, "labels": ["x"]})
    with pytest.raises(Violation, match="labels"):
        await api("POST", path, json={"name": "x", "runner_group_id": 1, "labels": []})
    assert (busy.status_code, taken.status_code) == (422, 409)


async def test_a_lacking_permission_is_named(api: Api) -> None:
    """403 says in a header which permission the endpoint wants."""
    api.model.accounts.installation_of("acme").permissions = {"actions": "read"}
    answer = await api("GET", "/orgs/acme/actions/runners")
    assert answer.status_code == 403
    assert answer.headers["x-accepted-github-permissions"] == "organization_self_hosted_runners=read"


async def test_pages_link_to_each_other(clock: Clock) -> None:
    """Lists come in pages with absolute links below the base path, without loss or repetition."""
    model = a_github(clock)
    for number in range(5):
        a_blob(model, f"mini-{number}")
    api = Api(model, base_path="/api/v3")
    async with api.client:
        answer = await api("GET", "/orgs/acme/actions/runners?per_page=2")
        names = [runner["name"] for runner in answer.json()["runners"]]
        while "next" in answer.links:
            assert answer.links["next"]["url"].startswith(f"{BASE}/api/v3/orgs/acme/")
            answer = await api("GET", answer.links["next"]["url"])
            names += [runner["name"] for runner in answer.json()["runners"]]
    assert answer.json()["total_count"] == 5
    assert names == [f"mini-{number}" for number in range(5)]


async def test_unchanged_answers_are_free(api: Api) -> None:
    """A matching ETag answers 304 and costs nothing; a change answers anew."""
    token = api.model.accounts.mint_token(api.model.accounts.installation_of("acme").id).text
    path = "/repos/acme/app/actions/runs?status=queued&per_page=100&exclude_pull_requests=true"
    first = await api("GET", path, auth=token)
    tag = {"if-none-match": first.headers["etag"]}
    same = await api("GET", path, auth=token, headers=tag)
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["x-ratelimit-remaining"] == first.headers["x-ratelimit-remaining"] == "4999"
    api.model.queue("acme/app")
    assert (await api("GET", path, auth=token, headers=tag)).json()["total_count"] == 1


async def test_the_quota_ends_and_comes_back(clock: Clock) -> None:
    """The call after the last is 403 with nothing remaining; after the reset time calls go on."""
    model = a_github(clock)
    api = Api(model, limits=Limits(clock, limit=1))
    token = model.accounts.add_token("ada").text
    async with api.client:
        answers = [await api("GET", "/orgs/acme/actions/runners", auth=token) for _ in range(2)]
        clock.pass_(minutes=60)
        answers.append(await api("GET", "/orgs/acme/actions/runners", auth=token))
    assert [answer.status_code for answer in answers] == [200, 403, 200]
    assert answers[1].headers["x-ratelimit-remaining"] == "0"
    assert int(answers[1].headers["x-ratelimit-reset"]) == int(clock().timestamp())


@pytest.mark.parametrize(
    ("what", "status", "headers"),
    [
        pytest.param(fault.answer(502), 502, {}, id="502"),
        pytest.param(
            fault.primary_limit(429, seconds=9), 429, {"x-ratelimit-remaining": "0"}, id="primary limit"
        ),
        pytest.param(
            fault.secondary_limit(403, retry_after=7), 403, {"retry-after": "7"}, id="secondary limit"
        ),
        pytest.param(fault.slow(0), 200, {}, id="slow"),
    ],
)
async def test_faults(api: Api, what: fault.Fault, status: int, headers: dict[str, str]) -> None:
    """A fault is met by one call of its verb, and by no other."""
    api.model.faults.add("registrations", what)
    answer = await api("GET", "/orgs/acme/actions/runners")
    other = await api("GET", "/orgs/acme/actions/runner-groups")
    assert (answer.status_code, other.status_code) == (status, 200)
    assert headers.items() <= dict(answer.headers).items()


async def test_an_answer_that_went_wrong_after_its_work(api: Api) -> None:
    """A mint that answers 502 may have registered the runner."""
    api.model.faults.add("mint", fault.answer(502, effect=True))
    body = {"name": "mini-1", "runner_group_id": 1, "labels": ["x"]}
    answer = await api("POST", "/orgs/acme/actions/runners/generate-jitconfig", json=body)
    assert answer.status_code == 502
    assert [runner.name for runner in api.model.runners.at(ACME)] == ["mini-1"]


async def test_a_broken_connection() -> None:
    """Over a socket a lost answer is a lost connection, and the work is done."""
    model = a_github(utcnow)
    token = model.accounts.add_token("ada").text
    model.faults.add("mint", fault.reset(effect=True))
    async with serve(model) as url, httpx.AsyncClient(base_url=url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(
                "/orgs/acme/actions/runners/generate-jitconfig",
                json={"name": "mini-1", "runner_group_id": 1, "labels": ["x"]},
                headers={"authorization": f"token {token}"},
            )
    assert [runner.name for runner in model.runners.at(ACME)] == ["mini-1"]


class Receiver(httpx.AsyncBaseTransport):
    """A webhook receiver that answers what it is told to, and counts."""

    def __init__(self, *answers: int | type[httpx.TransportError]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return httpx.Response(answer, text="told")
        raise answer("made up")


async def tried(model: ModelGitHub, count: int) -> None:
    """Wait until so many deliveries are in the log."""
    async with asyncio.timeout(5):
        while len(model.hooks.log) < count:  # the model has no event to wait for
            await asyncio.sleep(0)


async def test_deliveries_are_signed_and_logged() -> None:
    """Each delivery is tried once, with GitHub's headers and signature; the log says what became of it."""
    model = a_github(utcnow)
    receiver = Receiver(202, 503, httpx.ConnectError, httpx.ReadTimeout)
    async with serve(model, client=httpx.AsyncClient(transport=receiver)):
        for number in range(4):
            model.queue("acme/app", f"job {number}")
            await tried(model, number + 1)
    assert [(delivery.status, delivery.status_code) for delivery in model.hooks.log] == [
        ("OK", 202),
        ("Invalid HTTP Response: 503", 503),
        ("failed to connect to host", 502),
        ("timed out", 504),
    ]
    request = receiver.requests[0]
    digest = hmac.new(model.app_hook.secret.encode(), request.content, hashlib.sha256).hexdigest()
    assert request.headers["x-hub-signature-256"] == f"sha256={digest}"
    assert request.headers["x-github-event"] == "workflow_job"
    assert request.headers["x-github-hook-id"] == str(model.app_hook.id)
    assert request.headers["x-github-hook-installation-target-type"] == "integration"
    assert b"X-Github-Delivery" in dict(request.headers.raw)
    assert json.loads(request.content)["workflow_job"]["name"] == "job 0"


async def test_a_hook_may_send_forms() -> None:
    """With content type *form* the JSON comes in a field, and the signature is over the form."""
    model = a_github(utcnow)
    model.app_hook.content_type = "form"
    receiver = Receiver(202)
    async with serve(model, client=httpx.AsyncClient(transport=receiver)):
        model.queue("acme/app")
        await tried(model, 1)
    (request,) = receiver.requests
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.content.startswith(b"payload=%7B")


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        pytest.param(lambda body: body.pop("runner_name"), "runner_name", id="a missing key"),
        pytest.param(lambda body: body.update(status="sleeping"), "status", id="an unknown status"),
        pytest.param(lambda body: body.update(run_id="7"), "run_id", id="a wrong type"),
        pytest.param(lambda body: body.update(started_at="yesterday"), "started_at", id="a wrong format"),
    ],
)
async def test_the_check_itself_finds_what_is_wrong(
    model: ModelGitHub, change: Callable[[dict[str, Any]], object], wrong: str
) -> None:
    """An answer that GitHub would not give is refused by the check, which says where."""
    body = model.shapes.job(model.queue("acme/app"))
    change(body)
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    async with httpx.AsyncClient(transport=CheckedTransport(inner), base_url=BASE) as client:
        with pytest.raises(Violation, match=wrong):
            await client.get("/repos/acme/app/actions/jobs/1")


@pytest.mark.parametrize(
    ("method", "path", "wrong"),
    [
        pytest.param("GET", "/orgs/acme/actions/queue", "no documented operation", id="an unknown path"),
        pytest.param("GET", "/app/installations?per=1", "not documented", id="an unknown parameter"),
        pytest.param("GET", "/orgs/acme/actions/runners/seven", "runner_id", id="a number that is none"),
        pytest.param(
            "POST", "/app/hook/deliveries/1/attempts", "not documented", id="a body where none belongs"
        ),
    ],
)
async def test_the_check_itself_finds_bad_requests(method: str, path: str, wrong: str) -> None:
    """A request that GitHub does not document never leaves."""
    inner = httpx.MockTransport(lambda _: pytest.fail("it left"))
    async with httpx.AsyncClient(transport=CheckedTransport(inner), base_url=BASE) as client:
        with pytest.raises(Violation, match=wrong):
            await client.request(method, path, json={"x": 1} if method == "POST" else None)


async def test_labels_of_a_served_runner(api: Api) -> None:
    """Known system labels are read-only, others custom, as in GitHub's lists."""
    a_blob(api.model, labels=(*LABELS, "sequoia"))
    (runner,) = (await api("GET", "/orgs/acme/actions/runners?name=MINI-1")).json()["runners"]
    kinds = {label["name"]: label["type"] for label in runner["labels"]}
    assert kinds == {"self-hosted": "read-only", "macOS": "read-only", "sequoia": "custom"}
    assert (runner["os"], runner["status"], runner["busy"]) == ("unknown", "offline", False)
