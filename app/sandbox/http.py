"""The sandbox's GitHub behind HTTP: its REST API, its runner service and its webhook deliveries.

:func:`make_app` is the ASGI application over one model; :func:`serve` runs it on a real socket inside the
current event loop, lets the model's time pass and sends its deliveries, signed as GitHub signs them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from app.sandbox.carrier import Carrier, Send
from app.sandbox.github import ModelGitHub
from app.sandbox.github_hooks import Delivery
from app.sandbox.http_call import DOCUMENTATION, VERSIONS, Endpoint, Face
from app.sandbox.http_limits import Limits
from app.sandbox.http_runner import RunnerFace
from app.sandbox.http_table import endpoints
from app.sandbox.http_web import WebFace
from app.sandbox.serving import loopback, serving

HOOK_TIMEOUT = 10.0  # seconds a receiver may take
ONE_EACH = httpx.Limits(
    max_keepalive_connections=0
)  # a connection that is kept may be closed just then: a lost delivery


def make_app(
    model: ModelGitHub,
    *,
    base_path: str = "",
    versions: frozenset[str] = VERSIONS,
    limits: Limits | None = None,
) -> Starlette:
    """Return the application; *base_path* is ``/api/v3`` on a GitHub Enterprise Server."""
    face = Face(model, limits or Limits(model.now), versions)

    def route(endpoint: Endpoint) -> BaseRoute:
        async def answer(request: Request) -> Response:
            return await face.serve(endpoint, request)

        return Route(base_path + endpoint.path, answer, methods=[endpoint.method])

    routes = [*map(route, endpoints()), *RunnerFace(model).routes(), *WebFace(model).routes()]
    return Starlette(routes=routes, exception_handlers={404: _not_found})


async def _not_found(request: Request, error: Exception) -> Response:
    del request, error
    body = {"message": "Not Found", "documentation_url": DOCUMENTATION, "status": "404"}
    return JSONResponse(body, 404)


@asynccontextmanager
async def serve(
    model: ModelGitHub,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    base_path: str = "",
    versions: frozenset[str] = VERSIONS,
    limits: Limits | None = None,
    client: httpx.AsyncClient | None = None,
) -> AsyncIterator[str]:
    """Run the application and yield the API's base URL; a *client* given carries the deliveries, and is closed."""
    listener = loopback(port, host)
    web_url = f"http://{host}:{listener.getsockname()[1]}"
    model.shapes.api_url, model.shapes.web_url = web_url + base_path, web_url
    model.runners.service_url = f"{web_url}/_runner"
    app = make_app(model, base_path=base_path, versions=versions, limits=limits)
    async with (
        serving(app, listener, date_header=False),  # the model tells its own time
        client or httpx.AsyncClient(timeout=HOOK_TIMEOUT, limits=ONE_EACH) as sender,
        Carrier(model, over_http(model, sender)),
    ):
        yield web_url + base_path


def over_http(model: ModelGitHub, client: httpx.AsyncClient) -> Send:
    """Return what carries deliveries to their hooks' URLs: tried once, and noted in the log."""

    async def send(delivery: Delivery) -> None:
        content, headers = signed(delivery)
        delivery.request_headers = headers
        began = perf_counter()
        try:
            answer = await client.post(
                delivery.hook.url, content=content, headers=headers, timeout=HOOK_TIMEOUT
            )
        except httpx.TimeoutException:
            took = perf_counter() - began
            model.hooks.record(delivery, status="timed out", status_code=504, duration=took)
            return
        except httpx.TransportError:
            took = perf_counter() - began
            model.hooks.record(delivery, status="failed to connect to host", status_code=502, duration=took)
            return
        model.hooks.record(
            delivery,
            status="OK" if answer.is_success else f"Invalid HTTP Response: {answer.status_code}",
            status_code=answer.status_code,
            duration=perf_counter() - began,
            headers=answer.headers,
            body=answer.text,
        )

    return send


def signed(delivery: Delivery) -> tuple[bytes, dict[str, str]]:
    """Return the body and headers of a delivery, with the odd case that header names have on the wire."""
    hook, content, kind = delivery.hook, delivery.body, "application/json"
    if hook.content_type == "form":
        content = urlencode({"payload": content.decode()}).encode()
        kind = "application/x-www-form-urlencoded"
    headers = {
        "Content-Type": kind,
        "User-Agent": "GitHub-Hookshot/cidermill-sandbox",
        "X-GitHub-Event": delivery.event,
        "X-Github-Delivery": delivery.guid,
        "X-GitHub-Hook-ID": str(hook.id),
        "X-Github-Hook-Installation-Target-Type": hook.target_type,
        "X-Github-Hook-Installation-Target-Id": str(hook.target_id),
    }
    if hook.secret:
        key = hook.secret.encode()
        headers["X-Hub-Signature-256"] = "sha256=" + hmac.new(key, content, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature"] = "sha1=" + hmac.new(key, content, hashlib.sha1).hexdigest()
    return content, headers
