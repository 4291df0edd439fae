"""Conditional GETs: free while nothing changed, and never a page too few."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from githubkit.response import Response

from app.clock import utcnow
from app.domain.pools import Target
from app.github.answers import rows
from app.github.auth import AppCredentials
from app.github.client import GitHubClient
from app.github.etags import MOST_PAGES, Etags
from app.github.session import Session
from app.metrics import Metrics
from app.ports import GitHubUnavailable
from app.sandbox.github import ModelGitHub
from app.sandbox.http import make_app
from app.sandbox.http_limits import Limits
from tests.openapi import CheckedTransport
from tests.sandbox.github_world import a_github

RUNS = "/repos/acme/app/actions/runs"
QUEUED: dict[str, str | int] = {"status": "queued", "per_page": 2}


def ids(page: Response[object]) -> tuple[int, ...]:
    return tuple(row["id"] for row in rows(page, "workflow_runs"))


@dataclass(slots=True)
class World:
    """The session of an installation, the model behind it, and the status of every answer."""

    session: Session
    model: ModelGitHub
    statuses: list[int]
    limits: Limits

    async def poll(self, path: str = RUNS) -> list[tuple[int, ...]]:
        """Ask for the queued runs, page by page, forgetting the statuses of before."""
        self.statuses.clear()
        return await self.session.ask("list runs", lambda github: github.get_conditional(path, QUEUED, ids))

    def used(self) -> int:
        return int(self.session.quota.left()["acme/core"]["limit"]) - int(
            self.session.quota.left()["acme/core"]["remaining"]
        )


@asynccontextmanager
async def a_world(base: str = "") -> AsyncIterator[World]:
    model, statuses = a_github(utcnow), list[int]()
    limits = Limits(model.now)
    checked = CheckedTransport(
        httpx.ASGITransport(make_app(model, base_path=base, limits=limits)), base_path=base
    )

    class Noted(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await checked.handle_async_request(request)
            statuses.append(response.status_code)
            return response

    client = GitHubClient(
        AppCredentials(app_id=str(model.accounts.app.id), private_key=model.accounts.app.pem),
        api_url=f"https://ghes.example{base}" if base else "https://api.github.com",
        ca_path=None,
        api_version="2022-11-28" if base else "2026-03-10",
        metrics=Metrics(),
        downloads=Path("nowhere"),
        transport=Noted(),
    )
    async with client:
        await client.registrations(Target("acme"))
        yield World(await client._sessions.of(Target("acme")), model, statuses, limits)
    assert checked.violations == []


@pytest.mark.parametrize("base", [pytest.param("", id="github.com"), pytest.param("/api/v3", id="GHES")])
async def test_a_list_that_did_not_change_is_free(base: str) -> None:
    """Every page is asked about, and while nothing changed none of them costs anything."""
    async with a_world(base) as world:
        for number in range(5):
            world.model.queue("acme/app", f"job {number}")
        first = await world.poll()
        assert (world.statuses, [len(page) for page in first]) == ([200] * 3, [2, 2, 1])
        used = world.used()
        assert await world.poll() == first
        assert world.statuses == [304] * 3
        assert world.used() == used


async def test_a_change_is_seen() -> None:
    """What changed is read anew, whether it moves the pages or only adds one, and is remembered from then on."""
    async with a_world() as world:
        jobs = [world.model.queue("acme/app", f"job {number}") for number in range(2)]
        (before,) = await world.poll()
        jobs.append(world.model.queue("acme/app"))
        after = await world.poll()
        assert world.statuses == [200, 200]
        assert [run for page in after for run in page] == [job.run.id for job in reversed(jobs)]
        assert set(before) < {run for page in after for run in page}
        world.model.cancel(jobs[2])
        assert await world.poll() == [before]
        assert world.statuses == [200]
        await world.poll()
        assert world.statuses == [304]


async def test_each_question_has_its_own_answer() -> None:
    """One repository's answer is never taken for another's."""
    async with a_world() as world:
        world.model.queue("acme/app")
        assert len((await world.poll())[0]) == 1
        assert await world.poll("/repos/acme/site/actions/runs") == [()]
        assert world.statuses == [200]


async def test_what_cannot_be_read_is_not_kept() -> None:
    """An answer that the reader refuses is asked for again in full."""
    async with a_world() as world:

        def picky(page: Response[object]) -> tuple[int, ...]:
            if not ids(page):
                raise GitHubUnavailable("unreadable")
            return ids(page)

        async def poll() -> list[tuple[int, ...]]:
            return await world.session.ask(
                "list runs", lambda github: github.get_conditional(RUNS, QUEUED, picky)
            )

        for _ in range(2):
            world.statuses.clear()
            with pytest.raises(GitHubUnavailable, match="unreadable"):
                await poll()
            assert world.statuses == [200]


@dataclass(slots=True)
class Pages:
    """A list whose pages name the next, answered as githubkit would."""

    tagged: bool = True
    endless: bool = False
    asked: int = 0

    async def arequest(self, method: str, url: str, *, headers: dict[str, str]) -> Response[object]:
        self.asked += 1
        request = httpx.Request(method, f"https://api.github.test{url}")
        if headers.get("If-None-Match") == 'W/"1"':
            return Response(httpx.Response(304, request=request), object)
        answer = {"etag": 'W/"1"'} if self.tagged else {}
        if self.endless:
            answer["link"] = f'<{url}x>; rel="next"'
        return Response(httpx.Response(200, json=url, headers=answer, request=request), object)


async def pages(etags: Etags, github: Pages, path: str) -> list[object]:
    return await etags.pages(github, path, {}, lambda page: page.json())  # type: ignore[arg-type]


async def test_only_so_many_are_kept() -> None:
    """The page that was not asked for the longest is forgotten first."""
    etags, github = Etags(2), Pages()
    for path in ("/a", "/b", "/a", "/c", "/a", "/b"):
        assert await pages(etags, github, path) == [path]
    assert list(etags._pages) == ["/a", "/b"]


async def test_an_answer_without_a_tag() -> None:
    """A GitHub (or a proxy) that gives no tag is simply asked again."""
    etags, github = Etags(), Pages(tagged=False)
    assert [await pages(etags, github, "/a") for _ in range(2)] == [["/a"]] * 2
    assert not etags._pages


async def test_a_list_without_an_end() -> None:
    """Pages that name ever more pages are an outage and not a loop."""
    github = Pages(endless=True)
    with pytest.raises(GitHubUnavailable, match="does not end"):
        await pages(Etags(), github, "/a")
    assert github.asked == MOST_PAGES
