"""Which requests are let in: by host name and origin, so that a web page cannot reach us through a browser.

Webhooks come from anywhere (their signature decides) and health probes by address; everything else must name a
host that is ours. Answers, a failure of ours among them, carry headers that keep a browser from making anything of
them.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = frozenset({"/webhooks/github", "/healthz", "/readyz"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def guard(app: FastAPI, hosts: frozenset[str]) -> None:
    """Let only requests to *hosts* and loopback reach *app*, and see to the headers of all its answers."""
    app.add_middleware(RequestGuard, hosts=hosts)
    app.add_exception_handler(Exception, _failed)  # its answers pass by the middleware


async def _failed(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "CiderMill failed; its log says more."}, 500, HEADERS)


class RequestGuard:
    """ASGI middleware: checks Host and Origin, and adds the security headers."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts | LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it with 403."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        if scope["path"] in OPEN or (self._is_ours(headers) and self._is_same_origin(headers)):
            await self._app(scope, receive, send_guarded)
            return
        refusal = JSONResponse(
            {"detail": "This host name or origin is not ours: set public_url to the address you use."}, 403
        )
        await refusal(scope, receive, send_guarded)

    def _is_ours(self, headers: Headers) -> bool:
        return _host(f"//{headers.get('host', '')}") in self._hosts

    def _is_same_origin(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        return origin is None or _host(origin) in self._hosts


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
