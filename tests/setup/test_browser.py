"""The whole first run, clicked in a real Chromium: from nothing to a server that serves a job."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from playwright.async_api import BrowserContext, Page

from app.sandbox.github import ModelGitHub
from app.sandbox.outside import IMAGE, outside
from app.sandbox.server import free_port
from tests.browser import AXE, NEEDS_CHROMIUM, barriers, chromium

CLICKING_SECONDS = 120.0
SERVING_SECONDS = 60.0
IN_ALL_SECONDS = 240.0

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), NEEDS_CHROMIUM]


class Home:
    """A Mac's user, with tart and an image, and nothing of ours."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.listen = f"127.0.0.1:{free_port()}"
        self._env = {
            "PATH": f"{place / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(place),
            "TART_HOME": str(place / "tart"),
            "PYTHONPATH": str(Path.cwd()),
            "CIDERMILL_HOST_NAME": "mini",
            "CIDERMILL_LISTEN": self.listen,
            "CIDERMILL_MIN_FREE_DISK_GB": "0",
            "CIDERMILL_LOG_PATH": str(place / "server.log"),
        }

    def log(self) -> str:
        """Return the end of what the server wrote."""
        path = self.place / "server.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else "the server wrote nothing"

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli.program", *arguments,
            cwd=self.place, env=self._env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def link(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        found = re.search(rb"http://127\S+/$", line.strip())
        if found:
            return found[0].decode()
    msg = "the setup printed no link"
    raise AssertionError(msg)


class Watched:
    """A browser's context whose pages must stay quiet and at home."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.wrong: list[str] = []
        context.on("console", lambda said: self._note(said.type == "error", f"console: {said.text}"))
        context.on("weberror", lambda error: self._note(True, f"script: {error.error}"))
        context.on(
            "request",
            lambda asked: self._note(not asked.url.startswith(("http://127.0.0.1:", "data:")), asked.url),
        )

    def _note(self, wrong: bool, text: str) -> None:
        if wrong:
            self.wrong.append(text)


async def accessible(page: Page) -> None:
    """Have axe look at the page, where it is; the run itself is worth it without."""
    if AXE.exists():
        assert await barriers(page) == [], page.url


async def go_through(page: Page, url: str, context: BrowserContext) -> None:
    """Click as a maintainer would: the App, GitHub's consent, the installation, the pool, the end."""
    await page.goto(url)
    await accessible(page)
    await page.get_by_label("Organization", exact=True).fill("acme")
    await page.get_by_role("button", name="Continue").click()
    await accessible(page)
    await page.get_by_role("button", name="Create the App on GitHub").click()
    await page.get_by_role("button", name="Create GitHub App").click()
    async with context.expect_page() as opened:
        await page.get_by_role("link", name="Install it on GitHub").click()
    github = await opened.value
    await github.get_by_label("Only select repositories").check()
    await github.get_by_label("acme/app").check()
    await github.get_by_role("button", name="Install").click()
    await github.get_by_text("is installed on acme").wait_for()
    await github.close()
    await page.get_by_role("heading", name="Installed on acme").wait_for()  # by itself
    await accessible(page)
    await page.get_by_role("link", name="Continue").click()
    assert await page.get_by_label("Image", exact=True).input_value() == IMAGE
    assert await page.get_by_label("acme/app").is_checked()
    await accessible(page)
    await page.get_by_role("button", name="Write cidermill.toml").click()
    await page.get_by_role("heading", name="Ready").wait_for()
    await accessible(page)
    await page.get_by_role("button", name="Finish").click()
    await page.get_by_role("heading", name="Done").wait_for()


async def serves_a_job(home: Home, model: ModelGitHub) -> None:
    """Start what was set up, and see it serve a job; the webhook's way in is what a tunnel would be."""
    model.point_hook(f"http://{home.listen}/webhooks/github")
    async with home.running("serve"):
        job = model.queue("acme/app", "first", ("self-hosted", "macOS", "sequoia"), seconds=0.5)
        deadline = monotonic() + SERVING_SECONDS
        while job.status != "completed" or list((home.place / "tart" / "vms").glob("mini-*")):
            assert monotonic() < deadline, f"the job is {job.status}\n{home.log()}"
            await asyncio.sleep(0.1)
        assert job.conclusion == "success"
        assert job.runner_name is not None
        assert job.runner_name.startswith("mini-sequoia-")


async def test_from_nothing_to_a_job_that_ran() -> None:
    """In two minutes of clicking, with nothing loaded from elsewhere and no error in the browser."""
    async with (
        outside(11, base_path="/api/v3") as (model, api_url, place),
        chromium(IN_ALL_SECONDS) as browser,
    ):
        for installation in tuple(model.accounts.installations.values()):
            model.accounts.uninstall(installation)
        home = Home(place)
        context = await browser.new_context()
        watched = Watched(context)
        web = api_url.removesuffix("/api/v3")
        began = monotonic()
        async with home.running("setup", "--no-browser", "--port", "0", "--github", web) as process:
            await go_through(await context.new_page(), await link(process), context)
            said, _ = await process.communicate()
        print(f"clicked for {monotonic() - began:.1f} s")
        assert b"The configuration is valid" in said
        assert process.returncode == 0, said.decode()[-3000:]
        assert monotonic() - began < CLICKING_SECONDS
        assert watched.wrong == []
        await serves_a_job(home, model)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_reads_on_a_phone(scheme: str) -> None:
    """At 390 px nothing is cut off, in either scheme; the first mistake has the focus, and says what it is about."""
    async with outside(12, base_path="/api/v3") as (_, _, place), chromium(IN_ALL_SECONDS) as browser:
        context = await browser.new_context(
            viewport={"width": 390, "height": 800}, color_scheme="dark" if scheme == "dark" else "light"
        )
        page = await context.new_page()
        async with Home(place).running("setup", "--no-browser", "--port", "0") as process:
            await page.goto(await link(process))
            await page.get_by_role("button", name="Continue").click()
            focused = page.locator(":focus")
            assert await focused.get_attribute("name") == "owner"
            about = await focused.get_attribute("aria-describedby")
            told = [await page.locator(f"#{part}").inner_text() for part in (about or "").split()]
            assert "Write the organization" in told[-1]
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            await accessible(page)
            assert ground == ("rgb(22, 24, 27)" if scheme == "dark" else "rgb(247, 246, 243)")
