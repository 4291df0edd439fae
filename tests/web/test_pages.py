"""What the pages show, and that nobody's text does anything on them."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from app.ports import VMError
from app.web.pages import POLICY
from app.web.views import FEW_SLOTS
from tests.api.conftest import Server
from tests.builders import TARGET

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</title><svg/onload=alert(1)>",
    "\u202eevil\u0007\x1b[31m",
    "x" * 5000,
)


async def test_the_dashboard(server: Server, browser: httpx.AsyncClient) -> None:
    """A slot shows the job in it, the queue the reason that the API gives, and health the warnings."""
    runner = await server.busy_runner()
    await server.deliver(id=2, name="other", labels=["nothing has this"])
    await server.passes()
    page = unescape((await browser.get("/")).text)
    why = (await server.get("/api/v1/jobs/2"))["explanation"]
    assert f"/api/v1/runners/{runner.name}/logs" in page
    assert 'href="/jobs/1"' in page
    assert why in page
    assert "one warning" in page
    assert "4999 of 5000 left" in page
    assert "the App of the tests" in page


async def test_a_fleet(server: Server, browser: httpx.AsyncClient) -> None:
    """Its places are named after their Macs; while nobody could look they are not known, which is said with the reason."""
    server.vms.name, server.vms.free_disk_gb = "mini2", None
    await server.passes(2, seconds=1)
    page = unescape((await browser.get("/")).text)
    assert "Slot mini2/1" in page
    assert "GB free" not in page
    assert 'data-path="/api/v1/hosts/mini2/drain"' in page
    server.vms.slots = server.vms.limit = 2 * FEW_SLOTS
    server.reconciler.host_changed()
    await server.passes(2, seconds=1)
    assert f"{2 * FEW_SLOTS} more have no runner" in (await browser.get("/")).text
    server.vms.faults.look.append(VMError("the controller does not answer"))
    server.reconciler.sight.forget_looks()
    await server.passes(2, seconds=1)
    page = unescape((await browser.get("/")).text)
    assert "free slots are not known" in page
    assert "the controller does not answer" in page


async def test_a_slot_in_which_a_base_is_prepared(server: Server, browser: httpx.AsyncClient) -> None:
    """It says of which image, and that nothing of a job ends with it."""
    server.reconciler.sight.known_targets.add(TARGET)
    await server.passes(2, seconds=1)
    server.vms.prepare_seconds = 0.5
    server.reconciler.tend_images(prepare=["sequoia"])
    for _ in range(2):
        await server.reconciler.turn()
    page = unescape((await browser.get("/")).text)
    assert "preparing the base of <bdi>sequoia</bdi>" in page
    assert "launches go on from the one there is" in page
    assert "the job fails" not in page
    await server.passes(3, seconds=1)


async def test_a_job_that_ended(server: Server, browser: httpx.AsyncClient) -> None:
    """A job that ran shows its stages, and is counted in how it went."""
    runner = await server.busy_runner()
    await server.deliver(
        "completed", status="completed", conclusion="success", runner_name=runner.name,
        completed_at="2026-03-01T12:00:40Z",
    )  # fmt: skip
    page = unescape((await browser.get("/jobs/1")).text)
    assert all(f'<th scope="row">{stage}</th>' in page for stage in ("queued", "boot", "registered", "done"))
    assert (await server.get("/api/v1/jobs/1"))["explanation"] in page
    server.clock.pass_(minutes=1)
    assert "1 job; half of them started within" in unescape((await browser.get("/")).text)


class Markup(HTMLParser):
    """What a browser would make of a page: its elements and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def acts(tag: str, attributes: dict[str, str | None]) -> bool:
    """Whether an element could do something that we did not write."""
    leads = attributes.get("href") or attributes.get("src") or "/"
    return (
        tag in {"img", "iframe", "object", "style", "base"}
        or (tag == "script" and attributes.get("src") != "/static/live.js")
        or any(name.startswith("on") or name == "style" for name in attributes)
        or not leads.startswith(("/", "#", "https://github.com/"))
    )


@pytest.mark.parametrize(
    "place", ["name", "workflow_name", "labels", "html_url", "runner_name", "conclusion"]
)
async def test_hostile_text(server: Server, browser: httpx.AsyncClient, place: str) -> None:
    """Text of strangers is shown as text, in whatever field it comes."""
    await server.passes()
    for number, text in enumerate(HOSTILE, 1):
        status = ("queued", "in_progress", "completed")[number % 3]
        value = [text] if place == "labels" else text
        await server.deliver(status, id=number, status=status, **{place: value})
    for path in ("/", *(f"/jobs/{number}" for number in range(1, len(HOSTILE) + 1))):
        page = await browser.get(path)
        assert page.status_code == 200
        assert "49" not in page.text.replace("4999 of", "")
        assert [element for element in Markup(page.text).elements if acts(*element)] == []


async def test_a_url_that_is_none(server: Server, browser: httpx.AsyncClient) -> None:
    """Only an address of the web becomes a link."""
    await server.passes()
    await server.deliver(html_url="javascript:alert(1)")
    assert "javascript:" not in (await browser.get("/jobs/1")).text


async def test_the_policy_holds(server: Server, browser: httpx.AsyncClient) -> None:
    """No page needs what the policy forbids: scripts and styles are files of ours, and those are there."""
    await server.busy_runner()
    files = set()
    for path in ("/", "/jobs/1"):
        page = await browser.get(path)
        assert page.headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY
        assert [element for element in Markup(page.text).elements if acts(*element)] == []
        files |= set(re.findall(r'(?:src|href)="(/static/[^"#]+)', page.text))
    assert len(files) == 4
    for file in files:
        assert (await browser.get(file)).status_code == 200


async def test_before_the_first_pass(browser: httpx.AsyncClient) -> None:
    """In the moment after a start the page says so, and asks again."""
    page = await browser.get("/")
    assert page.status_code == 503
    assert 'http-equiv="refresh" content="1"' in page.text


async def test_no_such_job(server: Server, browser: httpx.AsyncClient) -> None:
    """A job that is not recorded has a page that says so."""
    await server.passes()
    page = await browser.get("/jobs/404")
    assert page.status_code == 404
    assert "No job 404 is recorded" in page.text


async def test_draining_is_shown(server: Server, browser: httpx.AsyncClient) -> None:
    """While draining the page says so, and offers to resume."""
    await server.client.post("/api/v1/drain")
    await server.passes()
    page = (await browser.get("/")).text
    assert "nothing new starts" in page
    assert 'data-path="/api/v1/resume"' in page
