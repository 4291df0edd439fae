"""Who may look at the pages, and act from them."""

from __future__ import annotations

import httpx
import pytest

from app.web.pages import POLICY
from tests.api.conftest import TOKEN, Server
from tests.web.conftest import HERE

COOKIE = "cidermill-8000"


@pytest.mark.parametrize("path", ["/", "/jobs/1"])
async def test_a_stranger_sees_a_form(stranger: httpx.AsyncClient, path: str) -> None:
    """Without a session there is a form that asks for the token, and nothing else."""
    answer = await stranger.get(path)
    assert answer.status_code == 401
    assert f'name="place" value="{path}"' in answer.text
    assert 'id="slots"' not in answer.text
    assert answer.headers["content-security-policy"] == POLICY
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "ünïcode", "%ff"])
async def test_a_wrong_token(stranger: httpx.AsyncClient, token: str) -> None:
    """A link or a form with another token leads nowhere."""
    for answer in (
        await stranger.get("/", params={"token": token}),
        await stranger.post("/login", data={"token": token}, headers={"origin": HERE}),
    ):
        assert answer.status_code == 401
        assert "not the admin token" in answer.text
        assert "set-cookie" not in answer.headers


async def test_the_link(stranger: httpx.AsyncClient) -> None:
    """The link is left at once for an address without the token, and the cookie holds a value derived from it."""
    answer = await stranger.get("/jobs/1", params={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/1")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # plain HTTP on loopback
    assert TOKEN not in cookie + answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_behind_https_the_cookie_is_secure(stranger: httpx.AsyncClient) -> None:
    """Where HTTPS is spoken in front of us the cookie never goes over anything else."""
    headers = {"x-forwarded-proto": "https"}
    answer = await stranger.get("/", params={"token": TOKEN}, headers=headers)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("place", "leads_to"),
    [
        ("/", "/"),
        ("/jobs/12", "/jobs/12"),
        ("//evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/jobs/12\r\nx: y", "/"),
        ("/jobs/12\n", "/"),
        ("/api/v1/drain", "/"),
    ],
)
async def test_the_form(stranger: httpx.AsyncClient, place: str, leads_to: str) -> None:
    """The form leads to the page that was asked for, and to no other site."""
    data = {"token": TOKEN, "place": place}
    answer = await stranger.post("/login", data=data, headers={"origin": HERE})
    assert (answer.status_code, answer.headers["location"]) == (303, leads_to)
    await stranger.get("/", headers={"origin": HERE})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda value: value[:-1] + ("0" if value[-1] != "0" else "1"), id="another hash"),
        pytest.param(lambda value: "9" + value[1:], id="a later end"),
        pytest.param(lambda value: value.partition("-")[0] + "-", id="no hash"),
        pytest.param(lambda value: "x" + value, id="no time"),
        pytest.param(lambda value: "9" * 5000 + value, id="a very long time"),
        pytest.param(lambda _: TOKEN, id="the token itself"),
        pytest.param(lambda _: "", id="nothing"),
    ],
)
async def test_a_made_up_session(browser: httpx.AsyncClient, change: object) -> None:
    """A cookie that is not ours to the last character is none."""
    assert callable(change)
    value = change(browser.cookies[COOKIE])
    browser.cookies.clear()
    answer = await browser.get("/", headers={"cookie": f"{COOKIE}={value}"})
    assert answer.status_code == 401


async def test_a_session_ends(server: Server, browser: httpx.AsyncClient) -> None:
    """A session ends after thirty days."""
    await server.passes()
    server.clock.pass_(days=29)
    assert (await browser.get("/")).status_code == 200
    server.clock.pass_(days=2)
    assert (await browser.get("/")).status_code == 401


@pytest.mark.parametrize(
    ("origin", "code"),
    [
        pytest.param(HERE, 200, id="this server"),
        pytest.param(None, 401, id="not said"),
        pytest.param("http://localhost:3000", 401, id="another port of this machine"),
        pytest.param("http://localhost", 401, id="its default port"),
        pytest.param("https://evil.example", 403, id="another site"),
        pytest.param("null", 403, id="a page without one"),
    ],
)
async def test_acting(server: Server, browser: httpx.AsyncClient, origin: str | None, code: int) -> None:
    """A session acts only from a page of this very server, whatever a browser takes to be the same site."""
    headers = {"origin": origin} if origin else {}
    answer = await browser.post("/api/v1/drain", headers=headers)
    assert answer.status_code == code
    assert server.flags() == ({"draining"} if code == 200 else set())


async def test_reading_the_api(server: Server, browser: httpx.AsyncClient) -> None:
    """A session reads what the token reads; a wrong token beside it is still wrong."""
    await server.passes()
    assert (await browser.get("/api/v1/status")).status_code == 200
    wrong = {"authorization": "Bearer wrong"}
    assert (await browser.get("/api/v1/status", headers=wrong)).status_code == 401


async def test_a_link_from_elsewhere(browser: httpx.AsyncClient) -> None:
    """A link on another site brings no cookie: the browser is made to ask again by itself, and once only."""
    browser.cookies.clear()
    answer = await browser.get("/jobs/1", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0"' in answer.text
    again = await browser.get("/jobs/1", headers={"sec-fetch-site": "same-origin"})
    assert again.status_code == 401
