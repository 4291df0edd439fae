"""Who gets in: by token, by host name, by origin."""

from __future__ import annotations

import httpx
import pytest
from fastapi.routing import APIRoute

from app.api.bodies import MAX_BODY
from app.api.guard import HEADERS
from app.main import ROUTERS
from tests.api.conftest import HOST, TOKEN, Server, signed

OPEN = {("POST", "/webhooks/github"), ("GET", "/healthz"), ("GET", "/readyz")}
FILLED = {"job_id": "1", "name": "mini-mac-aaaaaaaa", "host": "mini2"}
ROUTES = sorted(
    (method, route.path.format_map(FILLED))
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in route.methods
)
CLOSED = [route for route in ROUTES if route not in OPEN]
ANSWERING = [route for route in CLOSED if route != ("GET", "/api/v1/events")]  # which goes on for ever


def test_routes_are_found() -> None:
    """The walk finds the routes, and fills every parameter in."""
    assert len(CLOSED) >= 13
    assert set(ROUTES) > OPEN
    assert not any("{" in path for _, path in ROUTES)


WRONG: list[str | bytes] = [
    "",
    "Bearer",
    "Bearer wrong",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer ünïcode".encode(),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_token(server: Server, method: str, path: str) -> None:
    """Every route but the open ones wants the token, whatever else is right, and does nothing without."""
    await server.passes()
    before = server.reconciler.wakes
    for authorization in WRONG:
        answer = await server.client.request(method, path, headers={"authorization": authorization})
        assert answer.status_code == 401, authorization
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "state_dir/admin-token" in answer.json()["detail"]
        assert TOKEN not in answer.text
    assert (server.flags(), server.reconciler.wakes) == (set(), before)


@pytest.mark.parametrize(("method", "path"), ANSWERING)
async def test_token_lets_in(server: Server, method: str, path: str) -> None:
    """With the token every route answers: with what is there, or that there is none such."""
    await server.passes()
    answer = await server.client.request(method, path)
    assert answer.status_code in {200, 202, 404, 422}


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
async def test_open_routes(server: Server, method: str, path: str) -> None:
    """Webhooks and probes come from anywhere, under any name, without a token."""
    headers = {"authorization": "", "host": "10.0.0.7:8000", "origin": "https://evil.example"}
    answer = await server.client.request(method, path, headers=headers)
    expected = {"/webhooks/github": "not signed", "/healthz": "ok", "/readyz": "ready"}
    assert expected[path] in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"host": "evil.example"}, id="a name that resolves to us"),
        pytest.param({"host": "localhost.evil.example"}, id="a name that begins like ours"),
        pytest.param({"host": f"{HOST}.evil.example"}, id="a name that begins like the public one"),
        pytest.param({"host": ""}, id="no name"),
        pytest.param({"host": "[::1"}, id="half an address"),
        pytest.param({"host": "10.0.0.7"}, id="an address that is not ours"),
        pytest.param({"host": "localhost@evil.example"}, id="a user that is called like us"),
        pytest.param({"origin": "https://evil.example"}, id="a page of another site"),
        pytest.param({"origin": "null"}, id="a page without an origin"),
        pytest.param({"origin": "http://["}, id="an origin that is none"),
    ],
)
async def test_strangers(server: Server, headers: dict[str, str]) -> None:
    """A web page that reaches us through a browser gets nothing, even with a token."""
    answer = await server.client.post("/api/v1/drain", headers=headers)
    assert answer.status_code == 403
    assert "public_url" in answer.json()["detail"]
    assert server.flags() == set()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:8000"},
        {"host": "LOCALHOST"},
        {"host": "127.0.0.1:8000"},
        {"host": "[::1]:8000"},
        {"host": HOST},
        {"host": f"{HOST.upper()}:443", "origin": f"https://{HOST}"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
    ],
    ids=str,
)
async def test_ours(server: Server, headers: dict[str, str]) -> None:
    """The names of this machine and the public one are let in, on any port."""
    assert (await server.client.get("/api/v1/slots", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        pytest.param(200, "GET", "/healthz", {}, id="an answer"),
        pytest.param(401, "GET", "/api/v1/status", {"authorization": ""}, id="no token"),
        pytest.param(401, "POST", "/webhooks/github", {}, id="no signature"),
        pytest.param(403, "GET", "/api/v1/slots", {"host": "evil.example"}, id="a stranger"),
        pytest.param(404, "GET", "/nothing", {}, id="a route that does not exist"),
        pytest.param(404, "GET", "/api/v1/jobs/1", {}, id="a job that does not exist"),
        pytest.param(405, "PUT", "/healthz", {}, id="a method that does not exist"),
        pytest.param(
            413,
            "POST",
            "/webhooks/github",
            signed(b"") | {"content-length": str(MAX_BODY + 1)},
            id="too large",
        ),
        pytest.param(422, "GET", "/api/v1/jobs/x", {}, id="a bad request"),
        pytest.param(500, "GET", "/broken", {}, id="a failure of ours"),
    ],
)
async def test_headers_of_answers(
    server: Server, status: int, method: str, path: str, headers: dict[str, str]
) -> None:
    """Every answer is JSON, shows nothing of our insides, and keeps a browser from sniffing, framing or storing it."""

    async def broken() -> None:
        msg = "our insides"
        raise RuntimeError(msg)

    server.app.add_api_route("/broken", broken)
    await server.passes()
    quiet = httpx.ASGITransport(server.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=quiet, base_url="http://localhost") as client:
        answer = await client.request(method, path, headers={"authorization": f"Bearer {TOKEN}"} | headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert "insides" not in answer.text
    assert HEADERS.items() <= dict(answer.headers).items()
    assert {"x-content-type-options", "content-security-policy", "referrer-policy", "cache-control"} <= set(
        HEADERS
    )
