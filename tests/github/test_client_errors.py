"""What each of GitHub's refusals and failures becomes, what is asked again, and that no error holds a secret."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.pools import Target
from app.github.auth import AppCredentials
from app.github.client import GitHubClient
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable, NotFound, OutsideError
from tests.github.stub import BLOB, PAT, Forced, Seconds, StubGitHub, connected, http_date, pem, problem

ORGANIZATION, REPOSITORY = Target("acme"), Target("acme", "app")
MINT = {"name": "mini-mac-1", "labels": ("mac",), "group_id": 1}
NOW = 1767225600  # GitHub's clock, in its Date header
DATE = http_date(NOW)
HOSTED = "POST .*generate-jitconfig"


def limited(status: int, message: str = "", **headers: str) -> httpx.Response:
    return problem(status, message, date=DATE, **headers)


@pytest.mark.parametrize(
    ("answer", "error", "mend"),
    [
        pytest.param(
            problem(
                403,
                "Resource not accessible by integration",
                x_accepted_github_permissions="administration=write",
            ),
            GitHubRefused,
            "administration: write",
            id="a permission that GitHub names",
        ),
        pytest.param(
            problem(403, "Resource not accessible by integration"),
            GitHubRefused,
            "organization_self_hosted_runners: write",
            id="a permission that it does not name",
        ),
        pytest.param(
            problem(403, "Repository level self-hosted runners are disabled on this repository."),
            GitHubRefused,
            'scope = "organization"',
            id="organization policy",
        ),
        pytest.param(
            problem(403, "This installation has been suspended"), GitHubRefused, "unsuspend", id="suspended"
        ),
        pytest.param(
            problem(422, "Runner group 1 has reached max limit of 10000 runners."),
            GitHubRefused,
            "offline runners",
            id="group full",
        ),
        pytest.param(
            problem(403, "the `acme` organization has an IP allow list enabled"),
            GitHubRefused,
            "address",
            id="IP list",
        ),
        pytest.param(problem(422, "Invalid Argument"), GitHubRefused, "Invalid Argument", id="invalid"),
        pytest.param(
            httpx.Response(422, json={"message": "Validation Failed", "errors": ["labels are odd"]}),
            GitHubRefused,
            "labels are odd",
            id="invalid, with details",
        ),
        pytest.param(problem(404, "Not Found"), NotFound, "installed", id="unknown or hidden"),
        pytest.param(problem(410, "Gone"), GitHubRefused, "github_api_version", id="version too new"),
        pytest.param(
            httpx.Response(403, text="<html>Forbidden</html>"), GitHubRefused, "permission", id="no JSON"
        ),
        pytest.param(httpx.Response(500), GitHubUnavailable, "500", id="500"),
        pytest.param(httpx.Response(502, text="<html>Unicorn!</html>"), GitHubUnavailable, "502", id="502"),
        pytest.param(httpx.Response(408), GitHubUnavailable, "408", id="408"),
        pytest.param(httpx.ReadTimeout("slow"), GitHubUnavailable, "in time", id="no answer in time"),
        pytest.param(httpx.ConnectTimeout("slow"), GitHubUnavailable, "in time", id="no connection in time"),
        pytest.param(
            httpx.ConnectError("All attempts failed"), GitHubUnavailable, "reached", id="no connection"
        ),
        pytest.param(
            httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
            GitHubUnavailable,
            "github_ca_path",
            id="a certificate of one's own",
        ),
        pytest.param(httpx.ReadError("reset"), GitHubUnavailable, "broke", id="a lost connection"),
        pytest.param(
            httpx.Response(201, json={"runner": {"id": 3}}), GitHubUnavailable, "read", id="no JIT config"
        ),
        pytest.param(httpx.Response(201, text="ok"), GitHubUnavailable, "read", id="a success without JSON"),
    ],
)
async def test_what_a_failed_mint_becomes(answer: Forced, error: type[OutsideError], mend: str) -> None:
    """Each way to fail has the error that says what to do, in words; and a mint is asked once only."""
    stub = StubGitHub()
    stub.force(HOSTED, answer)
    async with connected(stub) as client:
        with pytest.raises(error) as caught:
            await client.mint(ORGANIZATION, **MINT)
    assert mend in str(caught.value)
    assert "<html>" not in str(caught.value)
    assert len(stub.seen(HOSTED)) == 1
    assert stub.runners == {}


@pytest.mark.parametrize(
    ("route", "answer", "maybe"),
    [
        pytest.param(HOSTED, httpx.ConnectError("refused"), False, id="not reached"),
        pytest.param(HOSTED, httpx.ConnectTimeout("slow"), False, id="not reached in time"),
        pytest.param(HOSTED, httpx.ReadTimeout("slow"), True, id="not answered in time"),
        pytest.param(HOSTED, httpx.ReadError("reset"), True, id="broken off"),
        pytest.param(HOSTED, httpx.Response(502), True, id="an outage"),
        pytest.param(HOSTED, httpx.Response(201, text="ok"), True, id="an answer that cannot be read"),
        pytest.param(HOSTED, problem(403, "secondary rate limit"), False, id="refused for a limit"),
        pytest.param(
            "POST .*access_tokens", httpx.Response(502), False, id="an outage where tokens are made"
        ),
        pytest.param(
            "POST .*access_tokens", httpx.ReadTimeout("slow"), False, id="a token not given in time"
        ),
        pytest.param("GET .*installation", httpx.Response(502), False, id="an outage at the look-up"),
        pytest.param("GET .*installation", httpx.ReadError("reset"), False, id="a look-up broken off"),
    ],
)
async def test_whether_a_mint_may_have_registered(route: str, answer: Forced, maybe: bool) -> None:
    """Only where GitHub certainly did nothing is that said, and then nothing was registered."""
    stub = StubGitHub()
    stub.force(route, *[answer] * 3)
    async with connected(stub) as client:
        with pytest.raises(GitHubUnavailable) as caught:
            await client.mint(ORGANIZATION, **MINT)
    assert caught.value.maybe_done is maybe
    assert stub.runners == {}


async def test_what_was_not_even_asked() -> None:
    """Within a limit, and over our own budget, nothing is asked, and so nothing was done."""
    stub, clock = StubGitHub(), Seconds()
    stub.force("GET .*runners", problem(429, "slow down"))
    async with connected(stub, clock=clock) as client:
        with pytest.raises(GitHubUnavailable):
            await client.registrations(ORGANIZATION)
        with pytest.raises(GitHubUnavailable, match="rate limit") as limited:
            await client.mint(ORGANIZATION, **MINT)
        clock.now += 61
        made = [
            asyncio.create_task(client.mint(ORGANIZATION, **(MINT | {"name": f"mini-{number}"})))
            for number in range(9)
        ]
        with pytest.raises(GitHubUnavailable, match="60 new things a minute") as over:
            await asyncio.gather(*made)
        for task in made:
            task.cancel()
        await asyncio.gather(*made, return_exceptions=True)
    assert (limited.value.maybe_done, over.value.maybe_done) == (False, False)


@pytest.mark.parametrize("target", [None, ORGANIZATION], ids=["who we are", "where it is installed"])
async def test_an_app_id_that_is_wrong(target: Target | None) -> None:
    """GitHub says 404 to an App that there is not: that names the App id, and not an App that is not installed."""
    stub = StubGitHub()
    stub.force("GET (/app|.*installation)$", problem(404, "Integration not found"))
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused, match="github_app_id names no App"):
            await (client.registrations(target) if target else client.whoami())


async def test_a_long_answer_is_cut() -> None:
    """GitHub's words are kept short, on one line, and without what looks like a token."""
    stub = StubGitHub()
    stub.force(HOSTED, problem(422, f"no\n{PAT}\n" + "x" * 5000))
    async with connected(stub) as client:
        with pytest.raises(GitHubRefused) as caught:
            await client.mint(ORGANIZATION, **MINT)
    text = str(caught.value)
    assert len(text) < 500
    assert "\n" not in text
    assert PAT not in text


OUTAGE: list[Forced] = [httpx.Response(503), httpx.ReadError("reset"), httpx.ReadTimeout("slow")]


@pytest.mark.parametrize("failures", [OUTAGE[:2], OUTAGE], ids=["two failures", "three failures"])
@pytest.mark.parametrize("verb", ["GET", "DELETE"])
async def test_what_changes_nothing_twice_is_asked_again(verb: str, failures: list[Forced]) -> None:
    """A short outage does not show for GET and DELETE; a longer one does, after three tries."""
    stub = StubGitHub(runners={7: {"id": 7, "name": "mini-mac-7", "status": "online", "busy": False}})
    stub.force(f"{verb} .*runners", *failures)
    async with connected(stub) as client:

        async def ask() -> Any:
            if verb == "GET":
                return await client.registrations(ORGANIZATION)
            return await client.deregister(ORGANIZATION, name="mini-mac-7", registration_id=7)

        if len(failures) < 3:
            assert await ask()
        else:
            with pytest.raises(GitHubUnavailable):
                await ask()
    assert len(stub.seen(f"{verb} .*runners")) == 3


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        pytest.param(limited(403, retry_after="17"), 17, id="secondary, in seconds"),
        pytest.param(limited(429, retry_after=http_date(NOW + 90)), 90, id="secondary, as a date"),
        pytest.param(limited(429, retry_after="soon"), 60, id="secondary, as nonsense"),
        pytest.param(limited(429, retry_after="-5"), 60, id="secondary, negative"),
        pytest.param(limited(403, retry_after=http_date(NOW - 90)), 1, id="secondary, in the past"),
        pytest.param(limited(403, retry_after="9" * 30), 3600, id="secondary, for ever"),
        pytest.param(
            limited(
                403, "API rate limit exceeded", x_ratelimit_remaining="0", x_ratelimit_reset=str(NOW + 1200)
            ),
            1200,
            id="primary",
        ),
        pytest.param(limited(429, x_ratelimit_remaining="0"), 60, id="primary, no reset"),
        pytest.param(
            limited(403, x_ratelimit_remaining="0", x_ratelimit_reset="soon"), 60, id="primary, nonsense"
        ),
        pytest.param(
            limited(403, x_ratelimit_remaining="0", x_ratelimit_reset=str(NOW - 900)), 1, id="primary, past"
        ),
        pytest.param(
            limited(403, x_ratelimit_remaining="0", x_ratelimit_reset="9" * 15), 3600, id="primary, absurd"
        ),
        pytest.param(
            limited(403, "You have exceeded a secondary rate limit.", x_ratelimit_remaining="4000"),
            60,
            id="secondary, told by its text alone",
        ),
        pytest.param(limited(429), 60, id="429 and nothing else"),
        pytest.param(httpx.Response(429, json={"message": None}), 60, id="429 with a null message"),
    ],
)
@pytest.mark.parametrize("route", ["GET .*runners", "POST .*access_tokens"])
async def test_rate_limits(answer: httpx.Response, seconds: int, route: str) -> None:
    """However a limit is told, its time is kept: nothing is asked before, with the time left, and all is well after."""
    stub, clock = StubGitHub(), Seconds()
    stub.force(route, answer)
    async with connected(stub, clock=clock) as client:
        with pytest.raises(GitHubUnavailable) as caught:
            await client.registrations(ORGANIZATION)
        assert caught.value.retry_after == timedelta(seconds=seconds)
        asked = len(stub.requests)
        clock.now += seconds - 0.5
        with pytest.raises(GitHubUnavailable) as caught:
            await client.mint(REPOSITORY, **MINT)
        assert caught.value.retry_after == timedelta(seconds=0.5)
        assert len(stub.requests) == asked
        clock.now += 1
        await client.mint(REPOSITORY, **MINT)


async def test_a_limit_holds_for_its_installation_alone() -> None:
    """Each installation has limits of its own."""
    stub = StubGitHub(installations={"acme": 11, "other": 12})
    stub.force("GET /orgs/acme/actions/runners", limited(429, retry_after="30"))
    async with connected(stub, clock=Seconds()) as client:
        with pytest.raises(GitHubUnavailable):
            await client.registrations(ORGANIZATION)
        assert await client.registrations(Target("other")) == ()


async def test_an_outage_with_a_time_is_not_asked_again() -> None:
    """A 503 that names its time is left for then."""
    stub = StubGitHub()
    stub.force("GET .*runners", httpx.Response(503, headers={"retry-after": "20"}))
    async with connected(stub) as client:
        with pytest.raises(GitHubUnavailable) as caught:
            await client.registrations(ORGANIZATION)
    assert caught.value.retry_after == timedelta(seconds=20)
    assert len(stub.seen("GET .*runners")) == 1


TOKEN = "ghs_42_leaked.abcdefghij-klmnopqrstuvwxyz_ABCDEFGHIJ"


@pytest.mark.parametrize(
    ("route", "answer"),
    [
        pytest.param(HOSTED, problem(401, "Bad credentials"), id="401"),
        pytest.param(HOSTED, problem(403, f"not with {TOKEN}"), id="an answer that repeats the token"),
        pytest.param(HOSTED, httpx.Response(500, text=BLOB), id="an outage"),
        pytest.param(HOSTED, httpx.Response(201, json={"encoded_jit_config": BLOB}), id="half an answer"),
        pytest.param(HOSTED, httpx.Response(201, text=BLOB), id="an answer that is no JSON"),
        pytest.param(
            HOSTED,
            httpx.LocalProtocolError(f"Illegal header value b'token {TOKEN}'"),
            id="a header that cannot be sent",
        ),
        pytest.param(
            "POST .*access_tokens", httpx.Response(201, json={"token": TOKEN}), id="a token without an end"
        ),
        pytest.param(
            "POST .*access_tokens",
            httpx.Response(
                201,
                json={
                    "token": TOKEN,
                    "expires_at": "2036-01-01T00:00:00.123Z",
                    "permissions": {},
                    "repository_selection": "all",
                },
            ),
            id="an end with fractions",
        ),
        pytest.param("POST .*access_tokens", problem(403, "suspended"), id="no token"),
        pytest.param("GET .*installation", problem(401, "could not be decoded"), id="a bad key"),
    ],
)
async def test_no_error_holds_a_secret(route: str, answer: Forced, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error, nor what it is chained to, nor any log line shows a token, the key or a JIT config."""
    caplog.set_level(logging.DEBUG)
    stub = StubGitHub()
    stub.force(route, answer, answer, answer)
    async with connected(stub) as client:
        with pytest.raises(OutsideError) as caught:
            await client.mint(ORGANIZATION, **MINT)
    shown = [*traceback.format_exception(caught.value), *_chain(caught.value), caplog.text]
    for secret in [*stub.secrets(), TOKEN, *(one.headers["authorization"][7:] for one in stub.requests)]:
        assert not [text for text in shown if secret in text]


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        yield repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        pytest.param("nonsense", GitHubUnavailable, id="no key at all"),
        pytest.param(pem().replace("A", "B"), GitHubUnavailable, id="a broken key"),
    ],
)
async def test_a_key_that_cannot_sign(key: str, told: type[OutsideError]) -> None:
    """A key that cannot sign becomes an error of ours that does not show it."""
    client = GitHubClient(
        AppCredentials(app_id="42", private_key=key),
        api_url="https://api.github.test",
        ca_path=None,
        api_version="2026-03-10",
        metrics=Metrics(),
        downloads=Path("nowhere"),
        transport=httpx.MockTransport(StubGitHub()),
    )
    async with client:
        with pytest.raises(told) as caught:
            await client.whoami()
    assert key not in "".join(traceback.format_exception(caught.value))
