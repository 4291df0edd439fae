"""GitHub, asked for real: the sandbox's REST API, arranged so that one thing is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import stamina
from _pytest.mark import ParameterSet

from app.clock import utcnow
from app.doctor.finding import Level
from app.doctor.github import Asker, GitHubFacts
from app.doctor.github_checks import CHECKS, Asked
from app.domain.pools import Pool, Scope
from app.github.auth import AppCredentials, TokenCredentials
from app.github.session import connect
from app.sandbox.carrier import Carrier
from app.sandbox.github import ModelGitHub
from app.sandbox.github_faults import answer
from app.sandbox.github_hooks import HookFault, Mishap
from app.sandbox.http import make_app, over_http
from app.setup.manifest import NO_WEBHOOK
from tests.builders import a_pool
from tests.doctor.seen import expect

URL = "https://hook.example.org/webhooks/github"


@pytest.fixture(autouse=True)
def no_waiting_between_tries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@dataclass(slots=True)
class Site:
    """A GitHub where all is well, a pool that fits it, and what answers at the other end of the tunnel."""

    model: ModelGitHub
    pool: Pool = field(
        default_factory=lambda: a_pool(
            repositories=("acme/app", "acme/site"), scope=Scope.ORGANIZATION, runner_group="macs"
        )
    )
    status: int = 202  # of the server, to a webhook; 0: nobody listens
    ahead: timedelta = timedelta()  # of our clock
    public_url: str | None = "https://hook.example.org"
    credentials: AppCredentials | TokenCredentials | None = None
    changes: dict[str, Any] = field(
        default_factory=dict
    )  # to what was learnt: what the sandbox cannot be brought to
    pings: bool = True
    wait: float = 3.0  # s, for what becomes of a ping

    def clock(self) -> datetime:
        return utcnow() + self.ahead


def a_site() -> Site:
    model = ModelGitHub(utcnow, random.Random(1), hook_url=URL)
    accounts = model.accounts
    app, site = (
        accounts.add_repository("acme/app"),
        accounts.add_repository("acme/site", visibility="public"),
    )
    accounts.add_repository("acme/other")
    accounts.add_group("acme", "macs", visibility="selected", allows_public=True, repositories=[app, site])
    accounts.install("acme")
    return Site(model)


async def learnt(site: Site) -> Asked:
    def receive(_request: httpx.Request) -> httpx.Response:
        if not site.status:
            msg = "nobody listens"
            raise httpx.ConnectError(msg)
        return httpx.Response(site.status)

    model = site.model
    transport = httpx.ASGITransport(make_app(model))
    sender = httpx.AsyncClient(transport=httpx.MockTransport(receive))
    async with sender, Carrier(model, over_http(model, sender)):
        if site.pings:
            model.ping()
        connection = connect(
            api_url="https://api.github.com", ca_path=None, api_version="2026-03-10", transport=transport
        )
        known = AppCredentials(app_id=str(model.accounts.app.id), private_key=model.accounts.app.pem)
        asker = Asker(
            site.credentials or known, connection, clock=site.clock, ping_wait=site.wait, ping_every=0.02
        )
        facts = replace(await asker.ask(), **site.changes)
    return Asked(
        github=facts,
        pools=(site.pool,),
        poll_interval=timedelta(seconds=60),
        public_url=site.public_url,
    )


def row(check: str, code: str, name: str, arrange: Callable[[Site], object]) -> ParameterSet:
    return pytest.param(check, code, arrange, id=name)


def put(**changes: Any) -> Callable[[Site], object]:
    """Return what sets attributes of the site."""
    return lambda site: [setattr(site, name, value) for name, value in changes.items()]


def pool(**changes: Any) -> Callable[[Site], object]:
    return lambda site: setattr(site, "pool", replace(site.pool, **changes))


def learn(**changes: Any) -> Callable[[Site], object]:
    return put(changes=changes)


def a_key_of_nobody(site: Site) -> None:
    site.credentials = AppCredentials(
        app_id=str(site.model.accounts.app.id), private_key=site.model.accounts.app.pem
    )
    site.model.accounts.replace_key()


def fail_deliveries(site: Site, times: int, *, then: int = 0) -> None:
    for _ in range(times):
        site.model.hooks.faults.append(HookFault(mishap=Mishap.UNREACHABLE))
        site.model.ping()
    for _ in range(then):
        site.model.ping()


def grant(**permissions: str) -> Callable[[Site], object]:
    """Return what gives the App these permissions, and its installation what the App had."""
    return lambda site: setattr(site.model.accounts.app, "permissions", permissions)


def install_with(**permissions: str) -> Callable[[Site], object]:
    return lambda site: setattr(site.model.accounts.installation_of("acme"), "permissions", permissions)


def group(**changes: Any) -> Callable[[Site], object]:
    return lambda site: [
        setattr(site.model.accounts.groups["acme"][2], name, value) for name, value in changes.items()
    ]


def hook(**changes: Any) -> Callable[[Site], object]:
    return lambda site: [setattr(site.model.app_hook, name, value) for name, value in changes.items()]


def left(remaining: int) -> dict[str, dict[str, int | str]]:
    return {"acme/core": {"limit": 5000, "remaining": remaining, "reset": "2026-03-01T13:00:00Z"}}


TABLE = [
    row("credentials", "refused", "a key that was replaced", a_key_of_nobody),
    row("credentials", "unavailable", "an outage", lambda site: site.model.faults.add("app", answer(503), times=9)),
    row("permissions", "lacking", "no permission for runners", grant(actions="read")),
    row("permissions", "lacking", "no permission for jobs", grant(organization_self_hosted_runners="write")),
    row("permissions", "not_accepted", "a change that nobody accepted", install_with(actions="read")),
    row("events", "missing", "no subscription", lambda site: setattr(site.model.accounts.app, "events", ())),
    row("installation", "missing", "another organization", pool(repositories=("acme/app", "zenith/app"))),
    row(
        "installation", "suspended", "a suspended installation",
        lambda site: setattr(site.model.accounts.installation_of("acme"), "suspended_at", utcnow()),
    ),
    row("installation", "unseen", "a repository that the App does not see", pool(repositories=("acme/app", "acme/gone"))),
    row(
        "installation", "trouble", "an installation that shows nothing",
        lambda site: site.model.faults.add("repositories", answer(404, "Not Found"), times=9),
    ),
    row("runner-group", "missing", "a group that is not there", pool(runner_group="minis")),
    row("runner-group", "too_open", "a group that was opened to all", group(visibility="all")),
    row("runner-group", "falls_back", "the same, and scope auto", lambda site: [pool(scope=Scope.AUTO)(site), group(visibility="all")(site)]),
    row("runner-group", "no_public", "a public repository, and a group that forbids it", group(allows_public=False)),
    row(
        "runner-group", "not_admitted", "a repository that was taken out of the group",
        lambda site: site.model.accounts.groups["acme"][2].repositories.remove(site.model.accounts.repository("acme/app").id),
    ),
    row("webhook-url", "none", "no webhook", hook(url="")),
    row("webhook-url", "elsewhere", "a webhook to another path", hook(url="https://hook.example.org/")),
    row("webhook-url", "unreached", "an App of the setup's, before there is a tunnel", hook(url=NO_WEBHOOK)),
    row("deliveries", "skipped", "webhooks that go nowhere", hook(url=NO_WEBHOOK)),
    row("redelivery", "skipped", "webhooks that go nowhere", hook(url=NO_WEBHOOK)),
    row("webhook-url", "drifted", "a tunnel that moved", put(public_url="https://new.example.org")),
    row("webhook-url", "form", "a form", hook(content_type="form")),
    row("webhook-url", "insecure", "no check of the certificate", learn(hook_insecure=True)),
    row("deliveries", "none", "no delivery ever", put(pings=False)),
    row("deliveries", "last_failed", "a tunnel that is down", lambda site: [put(pings=False)(site), fail_deliveries(site, 2)]),
    row("deliveries", "some_failed", "a tunnel that was down", lambda site: fail_deliveries(site, 2)),
    row("deliveries", "unseen", "a log that is not shown", lambda site: site.model.faults.add("deliveries", answer(404, "Not Found"), times=9)),
    row("redelivery", "failed", "a server that refuses", put(status=401)),
    row("redelivery", "failed", "a server that is down", put(status=0)),
    row("redelivery", "skipped", "nothing to send again", put(pings=False)),
    row("redelivery", "late", "GitHub that takes its time", put(wait=0.0)),
    row("quota", "low", "a sixth of the quota", learn(quota=left(800))),
    row("quota", "gone", "no quota", learn(quota=left(0))),
    row("github-clock", "skewed", "half a minute", put(ahead=timedelta(seconds=30))),
    row("github-clock", "far_off", "five minutes behind", put(ahead=timedelta(minutes=-5))),
]  # fmt: skip


@pytest.mark.parametrize(("check", "code", "arrange"), TABLE)
async def test_what_is_wrong_is_found(check: str, code: str, arrange: Callable[[Site], object]) -> None:
    """Each trouble is found at a GitHub where it is so, with its mend."""
    site = a_site()
    arrange(site)
    asked = await learnt(site)
    looks = {one.name: look for one, look in CHECKS}
    found = list(looks[check](asked))
    assert code in {one.code or str(one.level) for one in found}, found
    for one in found:
        expect(one, one.code or str(one.level))


async def test_where_all_is_well_nothing_is_found() -> None:
    """A good App is fine in every respect, and what was learnt of it holds no secret."""
    site = a_site()
    asked = await learnt(site)
    assert {one.level for _, look in CHECKS for one in look(asked)} == {Level.OK}
    assert asked.github.installed[0].expected_runner == "2.336.0"
    told = repr(asked.github)
    assert not [secret for secret in site.model.secrets() if secret in told]


async def test_the_error_names_the_mend_of_what_github_says() -> None:
    """GitHub's own reason is told apart from its mend."""
    site = a_site()
    a_key_of_nobody(site)
    asked = await learnt(site)
    (found,) = CHECKS[0][1](asked)
    assert "could not be decoded" in found.what
    assert found.mend.startswith("check that github_private_key_path")


async def test_a_token_is_known_as_such() -> None:
    """With a token the user is named."""
    site = a_site()
    site.credentials = TokenCredentials(token=site.model.accounts.add_token("sandbox-maintainer").text)
    asked = await learnt(site)
    assert asked.github == GitHubFacts(
        at=asked.github.at,
        name="sandbox-maintainer",
        is_app=False,
        clock_ahead=asked.github.clock_ahead,
        quota=asked.github.quota,
    )
