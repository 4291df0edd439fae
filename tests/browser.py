"""A real Chromium, and axe-core, which finds what keeps people from using a page.

axe-core (MPL-2.0) is no part of this repository: whoever runs the tests fetches it from npm, as ``.ci/run`` does.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
AXE = Path(__file__).parents[1] / ".venv" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
NEEDS_AXE = pytest.mark.skipif(
    not AXE.exists(), reason="there is no axe-core: npm install --prefix .venv/npm axe-core@4.14.1"
)


@asynccontextmanager
async def chromium(within: float) -> AsyncIterator[Browser]:
    """Start a browser for so many seconds at the most: some of its calls have no limit of their own."""
    async with asyncio.timeout(within), async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


async def barriers(page: Page) -> list[str]:
    """Return what axe finds on a page; its script is evaluated, since the page's policy lets no other in."""
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run()")
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]
