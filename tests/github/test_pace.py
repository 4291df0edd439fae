"""How fast GitHub is asked to make things, and what of its quota is left for what must always go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import httpx
import pytest

from app.clock import utcnow
from app.domain.pools import Target
from app.github.pace import APART, BURST, PATIENCE, PER_HOUR, PER_MINUTE, Pace
from app.ports import GitHubUnavailable
from app.sandbox.http_limits import Limits
from tests.conftest import Clock
from tests.github.stub import Seconds, StubGitHub, connected, http_date, problem
from tests.sandbox.github_world import ACME

NOW = 1767225600


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def turns(pace: Pace, count: int) -> list[float]:
    """Take so many turns one after the other, waiting out what is refused, and return when each was."""
    taken: list[float] = []
    while len(taken) < count:
        try:
            await pace.turn("make something")
            taken.append(loop_time())
        except GitHubUnavailable as error:
            await asyncio.sleep(error.retry_after.total_seconds() if error.retry_after else 0)
    return taken


@pytest.mark.looptime
async def test_turns() -> None:
    """A few at once, then one a second, sixty a minute and 450 an hour; no hour and no minute holds more."""
    taken = await turns(Pace("acme", loop_time), 1000)
    assert taken[BURST - 1] == 0
    assert all(after - before > APART - 0.01 for before, after in pairwise(taken[BURST - 1 : PER_MINUTE]))
    for most, span in ((PER_MINUTE, 60), (PER_HOUR, 3600)):
        assert all(later - early > span - 0.01 for early, later in zip(taken, taken[most:], strict=False))
    assert taken[-1] < 2.3 * 3600


@pytest.mark.looptime
async def test_a_pause_allows_a_few_at_once_again() -> None:
    """Whoever asked for nothing for a while gets the few at once again, and never more."""
    pace = Pace("acme", loop_time)
    await turns(pace, BURST)
    await asyncio.sleep(100)
    assert [round(at - 100) for at in await turns(pace, BURST + 2)] == [0] * BURST + [1, 2]


@pytest.mark.looptime
async def test_nobody_waits_long() -> None:
    """Of many at once the first go, some wait a few seconds in their order, and the rest are told how long it takes."""
    pace, order = Pace("acme", loop_time), list[int]()

    async def one(number: int) -> timedelta | None:
        try:
            await pace.turn("make something")
        except GitHubUnavailable as error:
            return error.retry_after
        order.append(number)
        return None

    told = await asyncio.gather(*(one(number) for number in range(50)))
    assert order == list(range(BURST + int(PATIENCE)))
    assert loop_time() == pytest.approx(PATIENCE, abs=0.01)
    assert {wait for wait in told if wait is not None} == {timedelta(seconds=PATIENCE + 1)}


@pytest.mark.looptime
async def test_tokens_count_and_never_wait() -> None:
    """A token is counted like all that is made, but nothing is in its way."""
    pace = Pace("acme", loop_time)
    for _ in range(PER_MINUTE):
        pace.count()
    with pytest.raises(GitHubUnavailable, match="60 new things a minute and 450 an hour"):
        await pace.turn("make something")
    assert loop_time() == 0


@pytest.mark.long
@pytest.mark.looptime
async def test_a_burst_of_a_thousand_jobs() -> None:
    """A thousand registrations wanted at once are all made, in time, and no limit of GitHub's is ever met."""
    epoch = utcnow()
    limits = Limits(lambda: epoch + timedelta(seconds=loop_time()))
    stub = StubGitHub()

    async def weighed(request: httpx.Request) -> httpx.Response:
        minting = request.url.path.endswith("/generate-jitconfig")
        limits.weigh(request.method, request.url.path, "acme", "acme" if minting else None)
        return await stub(request)

    longest = 0.0

    async def serve(number: int) -> None:
        nonlocal longest
        name = f"mini-mac-{number}"
        wait: timedelta | None = timedelta()
        while wait is not None:
            await asyncio.sleep(wait.total_seconds())
            asked = loop_time()
            try:
                await client.mint(ACME, name=name, labels=("mac",), group_id=1)
                wait = None
            except GitHubUnavailable as error:
                wait = error.retry_after
            longest = max(longest, loop_time() - asked)

    async def work() -> None:
        while jobs:
            await serve(jobs.pop())

    jobs = list(range(1000))
    async with connected(stub, transport=httpx.MockTransport(weighed), clock=loop_time) as client:
        await asyncio.gather(*(work() for _ in range(20)))
    assert limits.met == Counter()
    assert len(stub.runners) == len(stub.seen("POST .*generate-jitconfig")) == 1000
    assert longest < PATIENCE + 1
    assert loop_time() < 2.5 * 3600


@pytest.mark.looptime
async def test_reading_and_removing_go_on_meanwhile() -> None:
    """While nothing more may be made, what is there is listed and removed at once."""
    stub = StubGitHub()
    async with connected(stub, clock=loop_time) as client:
        mint: Callable[[int], object] = lambda number: client.mint(  # noqa: E731
            ACME, name=f"mini-mac-{number}", labels=("mac",), group_id=1
        )
        await asyncio.gather(*(mint(number) for number in range(20)), return_exceptions=True)
        before = loop_time()
        for one in await client.registrations(ACME):
            assert await client.deregister(ACME, name=one.name, registration_id=one.id)
        assert loop_time() == before
    assert stub.runners == {}


async def test_each_installation_has_its_own_pace() -> None:
    """What one owner's jobs use up holds up nobody else."""
    stub = StubGitHub(installations={"acme": 11, "other": 12})
    clock = Seconds()
    async with connected(stub, clock=clock) as client:
        for number in range(BURST - 1):  # the token was the first
            await client.mint(ACME, name=f"mini-{number}", labels=("mac",), group_id=1)
        await client.mint(Target("other"), name="mini-x", labels=("mac",), group_id=1)
    assert len(stub.runners) == BURST


# -- headroom --------------------------------------------------------------------------------------


def told(remaining: str, *, limit: str = "5000", reset: str = str(NOW + 600), **more: str) -> dict[str, str]:
    names = {name.replace("_", "-"): value for name, value in more.items()}
    quota = {"limit": limit, "remaining": remaining, "reset": reset, "resource": "core"}
    return {f"x-ratelimit-{name}": value for name, value in quota.items()} | {"date": http_date(NOW)} | names


@pytest.mark.parametrize(
    ("headers", "share"),
    [
        pytest.param({}, 1.0, id="not told: unknown, as on a GitHub Enterprise Server"),
        pytest.param(told("5000"), 1.0, id="all"),
        pytest.param(told("1000"), 0.2, id="a fifth"),
        pytest.param(told("0"), 0.0, id="none"),
        pytest.param(told("9999"), 1.0, id="more than all"),
        pytest.param(told("10", limit="0"), 1.0, id="a limit of nothing is no limit"),
        pytest.param(told("10", x_ratelimit_resource="search"), 1.0, id="of another resource"),
        pytest.param(told("lots"), 1.0, id="not a number"),
        pytest.param(told("-1"), 1.0, id="below nothing"),
        pytest.param(told("10", reset=str(NOW - 60)), 1.0, id="begun anew already"),
        pytest.param(told("500", reset="9" * 15), 0.1, id="to be begun anew in a million years"),
        pytest.param(told("500", reset="soon"), 0.1, id="to be begun anew nobody knows when"),
    ],
)
async def test_headroom(headers: dict[str, str], share: float) -> None:
    """The share left is what GitHub's last answer told, until the hour is over; another owner's is not touched."""
    stub, clock = StubGitHub(installations={"acme": 11, "other": 12}), Seconds()
    async with connected(stub, clock=clock) as client:
        assert client.headroom(ACME) == 1.0
        stub.quota_headers = headers
        await client.registrations(ACME)
        assert client.headroom(Target("ACME", "app")) == pytest.approx(share)
        assert client.headroom(Target("other")) == 1.0
        clock.now += 3601
        assert client.headroom(ACME) == 1.0


async def test_no_headroom_while_a_limit_lasts() -> None:
    """Within a limit nothing is left, whatever the numbers say."""
    stub, clock = StubGitHub(), Seconds()
    stub.force("GET .*runners", problem(403, "secondary rate limit", x_ratelimit_remaining="4000"))
    async with connected(stub, clock=clock) as client:
        with pytest.raises(GitHubUnavailable):
            await client.registrations(ACME)
        assert client.headroom(ACME) == 0.0
        clock.now += 61
        assert client.headroom(ACME) == 1.0


# -- the sandbox's limits, which the above is measured against ---------------------------------------


@pytest.mark.parametrize(
    ("method", "place", "most", "span", "which"),
    [
        pytest.param("POST", None, 80, 60, "made", id="eighty things made in a minute"),
        pytest.param("GET", None, 900, 60, "points", id="900 points at an endpoint in a minute"),
        pytest.param("DELETE", None, 180, 60, "points", id="of which a removal costs five"),
    ],
)
def test_the_limits_of_the_sandbox(
    clock: Clock, method: str, place: str | None, most: int, span: int, which: str
) -> None:
    """The sandbox refuses the call after the last that GitHub bears, and bears it again a moment later."""
    limits = Limits(clock)
    for _ in range(most):
        limits.weigh(method, "/x", "me", place)
    with pytest.raises(Exception, match="secondary rate limit"):
        limits.weigh(method, "/x", "me", place)
    assert limits.met == Counter({which: 1})
    limits.weigh(method, "/x", "another", place)
    clock.pass_(seconds=span)
    limits.weigh(method, "/x", "me", place)


def test_the_registrations_that_the_sandbox_bears(clock: Clock) -> None:
    """At one place 1,500 runners are registered in five minutes, whoever asks, and no more."""
    limits = Limits(clock)
    for number in range(1500):
        limits.weigh("POST", "/x", f"app {number // 70}", "acme")
    with pytest.raises(Exception, match="secondary rate limit"):
        limits.weigh("POST", "/x", "one more", "acme")
    assert limits.met == Counter({"registered": 1})
    clock.pass_(minutes=5)
    limits.weigh("POST", "/x", "one more", "acme")
