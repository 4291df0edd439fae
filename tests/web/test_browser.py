"""The pages in a real Chromium: what they show, how they follow what happens, what they do, and for whom.

The application runs on loopback, by the protocol that `serve` uses, and its passes are driven by the test; the last test
watches the whole demo. axe-core checks that everybody can use the pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from playwright.async_api import BrowserContext, Page, expect
from sqlalchemy import text

from app.sandbox.demo import CONFIG, LABELS
from app.sandbox.outside import outside
from app.sandbox.server import Server as RealServer
from app.web import pages
from tests.api.conftest import TOKEN, Server, database_path, server
from tests.browser import NEEDS_AXE, NEEDS_CHROMIUM, barriers, chromium
from tests.web.test_events import listening

__all__ = ["database_path", "server"]
PHONE = {"width": 390, "height": 844}
IN_ALL_SECONDS = 100.0

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120), NEEDS_CHROMIUM]


@dataclass(slots=True)
class Reader:
    """Somebody at a browser, and what the browser complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # what was asked of other servers

    def watch(self, home: str) -> None:
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request",
            lambda asked: self.elsewhere.append(asked.url) if not asked.url.startswith(home) else None,
        )


@asynccontextmanager
async def reading(server: Server, **options: object) -> AsyncIterator[Reader]:
    """Open the dashboard by its link. Where nothing was done against the policy the browser has no complaint."""
    pages.mount(server.app)
    async with listening(server) as (_, client), chromium(IN_ALL_SECONDS) as browser:
        context: BrowserContext = await browser.new_context(**options)  # type: ignore[arg-type]
        reader = Reader(await context.new_page())
        reader.watch(str(client.base_url))
        await reader.page.goto(f"{client.base_url}/?token={TOKEN}")
        await expect(reader.page.locator("#link")).to_have_text("live")
        yield reader
        assert reader.complaints == []
        assert reader.elsewhere == []


async def test_the_page_follows(server: Server) -> None:
    """A job that arrives, runs and ends is seen without loading the page again; names are only names."""
    await server.passes()
    async with reading(server) as reader:
        page = reader.page
        assert "token" not in page.url
        await expect(page.locator("#queue")).to_contain_text("No job waits")
        runner = await server.busy_runner()
        await server.deliver(id=2, name="<img src=x onerror=alert(1)>", labels=["nobody has this"])
        await expect(page.locator("#slots")).to_contain_text(runner.name)
        await expect(page.locator("#slots a.job")).to_have_attribute("href", "/jobs/1")
        await expect(page.locator("#queue a.job")).to_have_text("<img src=x onerror=alert(1)>")
        await expect(page.locator("#queue .why")).to_contain_text("No pool has all of its labels")
        await page.locator("#queue a.job").click()
        await expect(page.locator("h1")).to_contain_text("<img")
        await server.deliver("completed", id=2, status="completed", conclusion="cancelled")
        await expect(page.locator("h1 .state")).to_have_text("cancelled")


async def test_acting(server: Server) -> None:
    """Nothing is done before it was confirmed; then it is done, and seen. All of it goes by the keyboard."""
    runner = await server.busy_runner()
    async with reading(server) as reader:
        page, dialog = reader.page, reader.page.locator("#confirm")
        await page.get_by_role("button", name="Drain").focus()
        await page.keyboard.press("Enter")
        await expect(dialog).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        assert not is_draining(server)
        await page.get_by_role("button", name="Drain").click()
        await dialog.get_by_role("button", name="Drain").click()
        await until(lambda: is_draining(server))
        await server.passes()
        await page.get_by_role("button", name="Resume").click()
        await dialog.get_by_role("button", name="Resume").click()
        await until(lambda: not is_draining(server))
        await page.get_by_role("button", name="Hold for an hour").click()
        await dialog.get_by_role("button", name="Hold for an hour").click()
        await expect(page.locator("#slots")).to_contain_text("Held for debugging until")
        await page.get_by_role("button", name="Stop").click()
        await dialog.get_by_role("checkbox").check()
        await dialog.get_by_role("button", name="Stop").click()
        await expect(dialog).to_be_hidden()
        await until(lambda: asked_to_stop(server, runner.name) == "force")


def is_draining(server: Server) -> bool:
    with server.engine.connect() as connection:
        return connection.execute(text("SELECT 1 FROM flag WHERE name = 'draining'")).first() is not None


def asked_to_stop(server: Server, name: str) -> str | None:
    with server.engine.connect() as connection:
        return connection.execute(text("SELECT stop FROM runner WHERE name = :name"), {"name": name}).scalar()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a click brings about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_server_is_gone(server: Server) -> None:
    """A page whose server has gone says so, keeps what it shows, and goes on by itself when it is back."""
    await server.passes()
    pages.mount(server.app)
    async with chromium(IN_ALL_SECONDS) as browser:
        page = await browser.new_page()
        async with listening(server) as (_, client):
            port = client.base_url.port or 0
            await page.goto(f"{client.base_url}/?token={TOKEN}")
            await expect(page.locator("#link")).to_have_text("live")
        await expect(page.locator("#away")).to_contain_text("The server does not answer", timeout=15000)
        await expect(page.locator("#slots")).to_be_visible()
        await server.deliver(id=3, name="while it was away", labels=["nobody has this"])
        async with listening(server, port):
            await expect(page.locator("#queue")).to_contain_text("while it was away", timeout=15000)
            await expect(page.locator("#away")).to_be_hidden()


async def test_without_a_script(server: Server) -> None:
    """All can be read without a script; nothing is offered that would not work."""
    await server.busy_runner()
    pages.mount(server.app)
    async with listening(server) as (_, client), chromium(IN_ALL_SECONDS) as browser:
        context = await browser.new_context(java_script_enabled=False)
        page = await context.new_page()
        await page.goto(f"{client.base_url}/?token={TOKEN}")
        await expect(page.locator("#slots")).to_contain_text("busy")
        await expect(page.get_by_role("button")).to_have_count(0)


@NEEDS_AXE
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it(server: Server, scheme: str) -> None:
    """A checker (axe) finds nothing wrong, in either scheme, on a phone too; and nothing has to be scrolled sideways there."""
    await server.busy_runner()
    await server.deliver(id=2, name="x" * 300, labels=["nobody has this"])
    await server.deliver("completed", id=3, status="completed", conclusion="failure", runner_name="other")
    await server.context.store.fail("host", "slow", "the host is slow", at=server.clock(), jitter=0.5)
    await server.context.store.set_draining(True)
    await server.passes()
    options = {"color_scheme": scheme, "viewport": PHONE, "bypass_csp": True}
    async with reading(server, **options) as reader:
        page = reader.page
        home = page.url
        for path in ("", "jobs/1", "jobs/404", "login"):
            if path == "login":
                await page.context.clear_cookies()
            await page.goto(home + ("" if path == "login" else path))
            reader.complaints.clear()  # of answers that are meant to be 404 and 401
            assert await barriers(page) == [], path
            assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path


async def test_a_link_from_elsewhere(server: Server) -> None:
    """A link on another site to a job's page leads there, although it brings no cookie at first."""
    await server.busy_runner()
    async with reading(server) as reader:
        page, home = reader.page, reader.page.url
        other = home.replace("127.0.0.1", "localhost")
        await page.context.add_cookies([])
        await page.route("**/elsewhere", lambda route: route.fulfill(
            body=f'<a href="{home}jobs/1">here</a>', content_type="text/html"
        ))  # fmt: skip
        await page.goto(other + "elsewhere")
        await page.get_by_text("here").click()
        await expect(page.locator("#job-title")).to_contain_text("build")
        reader.elsewhere.clear()
        reader.complaints.clear()


async def test_jobs_flow() -> None:
    """On the real server, between a simulated GitHub and a simulated tart, a queued job is seen to its end."""
    async with (
        outside(1) as (model, api_url, place),
        RealServer(place, api_url, model, CONFIG) as real,
        chromium(IN_ALL_SECONDS) as browser,
    ):
        model.point_hook(f"{real.url}/webhooks/github")
        reader = Reader(await browser.new_page())
        reader.watch(real.url)
        page = reader.page
        await page.goto(real.link)
        await expect(page.get_by_text("A simulation.")).to_be_visible()
        model.queue("acme/app", "test (1)", LABELS, seconds=3.0)
        await expect(page.locator("#slots")).to_contain_text("booting", timeout=20000)
        ended = page.locator("#jobs li").filter(has_text="success")
        await expect(ended).to_contain_text("test (1)", timeout=40000)
        await expect(ended.locator("rect.run")).to_have_count(1)
        assert reader.complaints == []
        assert reader.elsewhere == []
        assert real.link.partition("token=")[2] not in (place / "server.log").read_text(encoding="utf-8")
