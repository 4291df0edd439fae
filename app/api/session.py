"""A browser's session: the admin token is shown once, by a link or a form, and a value derived from it is kept.

The value is the time it ends and a keyed hash of that, so nothing is stored here, it outlives a restart, and a new
admin token ends all sessions. Cookies do not tell ports apart, so the cookie's name does: two servers on one
machine would log each other's users out.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from fastapi import Request, Response

LASTS = timedelta(days=30)
READING = frozenset({"GET", "HEAD"})


def begin(response: Response, request: Request, token: str, now: datetime) -> None:
    """Have the browser keep a session. Its cookie is bound to HTTPS where that is spoken."""
    until = int((now + LASTS).timestamp())
    response.set_cookie(
        _cookie(request),
        f"{until}-{_hash(token, until)}",
        max_age=int(LASTS.total_seconds()),
        secure=_is_https(request),
        httponly=True,
        samesite="strict",
    )


def may_read(request: Request, token: str, now: datetime) -> bool:
    """Whether the request bears a session that has not ended."""
    until, _, given = request.cookies.get(_cookie(request), "").partition("-")
    if not (until.isascii() and until.isdecimal() and len(until) <= 12 and int(until) > now.timestamp()):
        return False
    return hmac.compare_digest(given.encode(), _hash(token, int(until)).encode())


def may_act(request: Request, token: str, now: datetime) -> bool:
    """Whether the session may do what is asked: more than reading only from a page of this very server.

    To a browser a page on another port of this machine is the same *site*; only the origin tells it apart.
    """
    from_here = urlsplit(request.headers.get("origin", "")).netloc.lower() == _host(request)
    return (request.method in READING or from_here) and may_read(request, token, now)


def _hash(token: str, until: int) -> str:
    return hmac.new(token.encode(), f"session until {until}".encode(), hashlib.sha256).hexdigest()


def _host(request: Request) -> str:
    return request.headers.get("host", "").lower()


def _cookie(request: Request) -> str:
    return f"cidermill-{_host(request).rpartition(':')[2] if _host(request)[-1:].isdecimal() else 'session'}"


def _is_https(request: Request) -> bool:
    return request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
