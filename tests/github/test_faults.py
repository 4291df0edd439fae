"""The real client over HTTP against a GitHub that misbehaves: each fault, and what must come of it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.clock import utcnow
from app.domain.jobs import JobStatus
from app.domain.pools import Target
from app.github.auth import AppCredentials, TokenCredentials
from app.github.client import GitHubClient
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable, NameTaken, NotFound, OutsideError
from app.sandbox import github_faults as fault
from app.sandbox.github import ModelGitHub
from app.sandbox.github_faults import Fault
from app.sandbox.http import serve
from tests.sandbox.github_world import ACME, APP, a_blob, a_github

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
MINT: dict[str, Any] = {"name": "mini-mac-aaaaaaaa", "labels": ("self-hosted", "mac"), "group_id": 1}


@dataclass(slots=True)
class GitHubClock:
    """GitHub's clock, against which ours may be wrong."""

    ours_ahead: timedelta = field(default=timedelta())

    def __call__(self) -> datetime:
        return utcnow() - self.ours_ahead


@dataclass(slots=True)
class Pair:
    """The client, the model behind it, and the model's clock."""

    client: GitHubClient
    model: ModelGitHub
    clock: GitHubClock


@asynccontextmanager
async def a_pair(
    ours_ahead: timedelta = timedelta(), base: str = "", *, person: bool = False
) -> AsyncIterator[Pair]:
    """Connect a client, as the App or as a *person* with a token, which saves signing where it does not matter."""
    clock = GitHubClock(ours_ahead)
    model = a_github(clock)
    app = model.accounts.app
    credentials: AppCredentials | TokenCredentials = AppCredentials(app_id=str(app.id), private_key=app.pem)
    if person:
        credentials = TokenCredentials(token=model.accounts.add_token("ada").text)
    # Both ends without TLS: reading the system's authorities takes longer than most of these tests.
    sender = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(202)))
    async with serve(model, base_path=base, client=sender) as url:
        client = GitHubClient(
            credentials,
            api_url=url,
            ca_path=None,
            api_version="2026-03-10",
            metrics=Metrics(),
            downloads=Path("nowhere"),
            transport=httpx.AsyncHTTPTransport(verify=PLAIN),
        )
        async with client:
            yield Pair(client, model, clock)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with a_pair() as pair:
        yield pair


@pytest.fixture
async def person() -> AsyncIterator[Pair]:
    async with a_pair(person=True) as pair:
        yield pair


LONG = pytest.mark.long  # a variant of a row beside it
QUESTIONS: dict[str, Callable[[GitHubClient], Awaitable[object]]] = {
    "installation": lambda client: client.registrations(ACME),
    "token": lambda client: client.registrations(ACME),
    "registrations": lambda client: client.registrations(ACME),
    "job": lambda client: client.job("acme/app", 1),
    "run": lambda client: client.run("acme/app", 1),
    "groups": lambda client: client.runner_group("acme", None),
    "app": lambda client: client.whoami(),
    "deregister": lambda client: client.deregister(ACME, name="mini", registration_id=1),
}
LOST = [
    pytest.param(fault.answer(500), id="500"),
    pytest.param(fault.answer(503), id="503", marks=LONG),
    pytest.param(fault.page("<html><h1>502 Bad Gateway</h1></html>", 502), id="a proxy's 502"),
    pytest.param(fault.page("<html>Log in to the hotel's network</html>"), id="a page in place of JSON"),
    pytest.param(fault.page('{"total_count": 1, "runners": [{"id": 1, "na'), id="half a JSON"),
    pytest.param(fault.page("{'total_count': 0}"), id="malformed JSON", marks=LONG),
    pytest.param(fault.page(""), id="an empty 200", marks=LONG),
    pytest.param(fault.page("null"), id="null", marks=LONG),
    pytest.param(fault.page("[]"), id="a list", marks=LONG),
    pytest.param(fault.page('"ok"'), id="text", marks=LONG),
    pytest.param(fault.page("[" * 5000), id="JSON too deep to read"),
    pytest.param(fault.page('{"id": "1", "runners": 7, "runner_groups": {}}'), id="wrong shapes"),
    pytest.param(fault.reset(), id="a connection that breaks"),
    pytest.param(fault.cut(), id="a connection that breaks in the middle of the answer"),
]


@pytest.mark.parametrize("what", LOST)
async def test_no_answer_is_never_an_answer(pair: Pair, what: Fault) -> None:
    """Whatever comes in place of an answer, each verb says *unavailable*: never empty, never absent, never refused."""
    for verb, ask in QUESTIONS.items():
        pair.model.faults.add(verb, what, times=3)
        with pytest.raises(GitHubUnavailable) as caught:
            pytest.fail(f"{verb} answered {await ask(pair.client)}")
        assert "<html>" not in str(caught.value)
        pair.model.faults.clear()


@pytest.mark.parametrize("what", LOST)
async def test_a_lost_answer_to_a_mint(person: Pair, what: Fault) -> None:
    """A registration whose answer was lost is asked for once; it exists, its name is taken, and it can be removed."""
    lost = Fault(kind=what.kind, status=what.status, message=what.message, effect=True)
    person.model.faults.add("mint", lost)
    with pytest.raises(GitHubUnavailable):
        await person.client.mint(ACME, **MINT)
    assert person.model.faults.calls["mint"] == 1
    with pytest.raises(NameTaken, match="mini-mac-aaaaaaaa"):
        await person.client.mint(ACME, **MINT)
    assert await person.client.deregister(ACME, name=MINT["name"], registration_id=None) is True
    assert await person.client.registrations(ACME) == ()


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(fault.answer(502, effect=True), id="502"),
        pytest.param(fault.reset(effect=True), id="a connection that breaks"),
        pytest.param(fault.cut(effect=True), id="one that breaks in the middle of the answer"),
    ],
)
async def test_a_lost_answer_to_a_removal(person: Pair, what: Fault) -> None:
    """A removal whose answer was lost is asked again, and the registration found gone: not known to have run nothing."""
    a_blob(person.model, "mini-1")
    (listed,) = await person.client.registrations(ACME)
    person.model.faults.add("deregister", what)
    assert await person.client.deregister(ACME, name="mini-1", registration_id=listed.id) is False
    assert person.model.faults.calls["deregister"] == 2
    assert await person.client.registrations(ACME) == ()


async def test_an_outage_that_passes(person: Pair) -> None:
    """A moment's trouble on every verb at once does not show, a mint's alone excepted."""
    for what in (fault.answer(503), fault.reset(), fault.page("<html>")):
        person.model.faults.add("registrations", what)
        assert await person.client.registrations(ACME) == ()


# -- who we are ------------------------------------------------------------------------------------


async def test_a_key_that_was_replaced(pair: Pair) -> None:
    """With a key that the App no longer has everything is refused in words that name the key, a token lasting its hour."""
    await pair.client.registrations(ACME)
    pair.model.accounts.replace_key()
    assert await pair.client.registrations(ACME) == ()
    pair.model.accounts.revoke_tokens()
    questions: tuple[Callable[[], Awaitable[object]], ...] = (
        pair.client.whoami,
        lambda: pair.client.registrations(ACME),
        lambda: pair.client.mint(ACME, **MINT),
        lambda: pair.client.job("ada/tool", 1),
    )
    for ask in questions:
        with pytest.raises(GitHubRefused, match="a key that the App github_app_id still has"):
            await ask()


async def test_a_token_that_was_revoked(pair: Pair) -> None:
    """A token revoked before its time is replaced by one other, and nobody notices."""
    await pair.client.registrations(ACME)
    pair.model.accounts.revoke_tokens()
    await pair.client.mint(ACME, **MINT)
    await pair.client.registrations(ACME)
    assert pair.model.faults.calls["token"] == 2
    assert pair.model.faults.calls["mint"] == 2


async def test_an_app_that_is_suspended(pair: Pair) -> None:
    """A suspension is refused with its mend, with a token and without one, and over at once when it is lifted."""
    installation = pair.model.accounts.installation_of("acme")
    for _ in range(2):
        pair.model.suspend(installation)
        for ask in (QUESTIONS["registrations"], QUESTIONS["job"]):
            with pytest.raises(GitHubRefused, match="unsuspend it"):
                await ask(pair.client)
        pair.model.unsuspend(installation)
        assert await pair.client.registrations(ACME) == ()


async def test_an_app_that_is_uninstalled_and_comes_back(pair: Pair) -> None:
    """Where the App was taken away the mend is to install it; installed anew, under a new id, all goes on, a mint too."""
    await pair.client.registrations(ACME)
    first = pair.model.accounts.installation_of("acme")
    pair.model.uninstall(first)
    for _ in range(2):
        with pytest.raises(GitHubRefused, match="install the App on acme"):
            await pair.client.mint(ACME, **MINT)
    again = pair.model.accounts.install("acme")
    assert again.id != first.id
    await pair.client.mint(ACME, **MINT)
    assert len(await pair.client.registrations(ACME)) == 1


async def test_an_app_that_is_reinstalled_between_two_questions(pair: Pair) -> None:
    """A new installation id shows in no answer, even if the first question after it is a mint."""
    await pair.client.registrations(ACME)
    pair.model.uninstall(pair.model.accounts.installation_of("acme"))
    pair.model.accounts.install("acme")
    await pair.client.mint(ACME, **MINT)
    assert len(pair.model.runners.at(ACME)) == 1


@pytest.mark.parametrize("base", [pytest.param("", id="github.com"), pytest.param("/api/v3", id="GHES")])
async def test_a_repository_that_was_renamed(base: str) -> None:
    """GitHub sends questions about a former name on, a mint and a removal too, and they are answered as ever."""
    async with a_pair(base=base) as pair:
        job = pair.model.queue("acme/app")
        pair.model.rename(pair.model.accounts.repository("acme/app"), "application")
        assert (await pair.client.job("acme/app", job.id)).status is JobStatus.QUEUED
        minted = await pair.client.mint(APP, **MINT)
        assert [one.id for one in await pair.client.registrations(APP)] == [minted.registration_id]
        assert await pair.client.deregister(APP, name=MINT["name"], registration_id=minted.registration_id)
        assert pair.model.runners.at(Target("acme", "application")) == []


async def test_a_repository_that_moved_out_of_sight(pair: Pair) -> None:
    """Where the App does not see the repository under its new name, the mend speaks of the name."""
    home = pair.model.accounts.repository("acme/app")
    await pair.client.registrations(ACME)
    pair.model.rename(home, "application")
    pair.model.accounts.remove(home)
    for ask in (lambda: pair.client.job("acme/app", 1), lambda: pair.client.mint(APP, **MINT)):
        with pytest.raises(NotFound, match="renamed or moved"):
            await ask()


async def test_a_repository_that_was_deleted(pair: Pair) -> None:
    """What is gone is not found, and not an outage."""
    await pair.client.registrations(ACME)
    job = pair.model.queue("acme/app")
    pair.model.accounts.remove(pair.model.accounts.repository("acme/app"))
    with pytest.raises(NotFound):
        await pair.client.job("acme/app", job.id + 1)
    with pytest.raises(NotFound, match="App is installed there"):
        await pair.client.mint(APP, **MINT)


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "told"),
    [
        pytest.param(
            timedelta(minutes=10), "10 minutes ahead of", id="ten minutes ahead: issued in the future"
        ),
        pytest.param(timedelta(seconds=-599), "10 minutes behind", id="ten minutes behind: it has expired"),
        pytest.param(
            timedelta(seconds=75), "7[5-7] seconds ahead of", id="a minute ahead: it expires too late"
        ),
        pytest.param(timedelta(days=3), "4320 minutes ahead of", id="three days ahead"),
        pytest.param(timedelta(days=-365), "525600 minutes behind", id="a year behind"),
    ],
)
async def test_a_clock_that_is_wrong(off: timedelta, told: str) -> None:
    """GitHub refuses the App's JWT; the error says by how much our clock is off, and how to set it."""
    async with a_pair(off) as pair:
        for ask in (pair.client.whoami, lambda: pair.client.mint(ACME, **MINT)):
            with pytest.raises(GitHubRefused, match=f"this Mac's clock is {told} GitHub's: .*sntp -sS time"):
                await ask()
        # Set right, what was signed before is not used again.
        pair.clock.ours_ahead = timedelta()
        assert await pair.client.whoami()
        await pair.client.mint(ACME, **MINT)


@pytest.mark.parametrize("seconds", [-400, -30, 30, 59])
async def test_a_clock_that_is_a_little_wrong(seconds: int) -> None:
    """What GitHub bears does not show."""
    async with a_pair(timedelta(seconds=seconds)) as pair:
        await pair.client.mint(ACME, **MINT)


async def test_a_clock_that_goes_wrong_meanwhile(pair: Pair) -> None:
    """A token outlives its JWT: only when the next one is asked for does the clock show, and then in the same words."""
    await pair.client.registrations(ACME)
    pair.clock.ours_ahead = timedelta(minutes=-30)
    assert await pair.client.registrations(ACME) == ()
    pair.model.accounts.revoke_tokens()
    with pytest.raises(GitHubRefused, match="clock is 30 minutes behind"):
        await pair.client.registrations(ACME)


# -- limits, names and arguments -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "seconds"),
    [
        pytest.param(fault.secondary_limit(403), 60, id="403, told by the text alone"),
        pytest.param(fault.secondary_limit(429), 60, id="429 without a time"),
        pytest.param(fault.secondary_limit(403, retry_after=40), 40, id="403 with seconds"),
        pytest.param(fault.secondary_limit(429, retry_after=40), 40, id="429 with seconds"),
        pytest.param(fault.secondary_limit(403, retry_after=40, as_date=True), 40, id="403 with a date"),
        pytest.param(fault.secondary_limit(429, retry_after=40, as_date=True), 40, id="429 with a date"),
        pytest.param(fault.primary_limit(403, seconds=1200), 1200, id="primary, 403"),
        pytest.param(fault.primary_limit(429, seconds=1200), 1200, id="primary, 429"),
    ],
)
async def test_limits(what: Fault, seconds: int) -> None:
    """A limit is kept as long as GitHub says by its own clock, and then nothing at all is asked of it."""
    async with a_pair(timedelta(minutes=-5), person=True) as pair:
        pair.model.faults.add("mint", what)
        with pytest.raises(GitHubUnavailable, match="limit for token is reached") as caught:
            await pair.client.mint(ACME, **MINT)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after.total_seconds() == pytest.approx(seconds, abs=2)
        asked = pair.model.faults.calls.total()
        with pytest.raises(GitHubUnavailable):
            await pair.client.registrations(ACME)
        assert pair.model.faults.calls.total() == asked


@pytest.mark.parametrize(
    ("change", "error", "mend"),
    [
        pytest.param({"name": "Mini-1"}, NameTaken, "Mini-1", id="409, a name in other letters"),
        pytest.param(
            {"labels": ("x",) * 101}, GitHubRefused, "labels of the pool", id="422, too many labels"
        ),
        pytest.param(
            {"labels": ("x" * 257,)}, GitHubRefused, "labels of the pool", id="422, a label too long"
        ),
        pytest.param({"name": "x" * 65}, GitHubRefused, "name must be", id="422, a name too long"),
        pytest.param({"group_id": 7}, NotFound, "installed there", id="404, no such group"),
    ],
)
async def test_arguments_that_github_refuses(
    person: Pair, change: dict[str, Any], error: type[OutsideError], mend: str
) -> None:
    """What is wrong with a registration is told in GitHub's words, with the mend."""
    a_blob(person.model, "mini-1")
    with pytest.raises(error, match=mend):
        await person.client.mint(ACME, **(MINT | change))


async def test_a_group_that_is_full(person: Pair) -> None:
    """A full group is refused, and the mend is to make room in it."""
    person.model.accounts.group("acme", 1).limit = 0
    with pytest.raises(GitHubRefused, match="remove its offline runners"):
        await person.client.mint(ACME, **MINT)
