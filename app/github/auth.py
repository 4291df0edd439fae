"""Who we are to GitHub: an App with its private key, or a token.

githubkit signs requests by itself: App routes with the App's JWT, all others with an installation's token, which
it keeps until a minute before it ends. What it lacks is added here: calls that start together ask for one token,
not for one each (docs/contracts/github.md §7.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from githubkit import AppAuthStrategy, AppInstallationAuthStrategy, GitHubCore, TokenAuthStrategy
from githubkit.auth import BaseAuthStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class AppCredentials:
    """A GitHub App: its App id or client id, and its key as PEM text."""

    app_id: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCredentials:
    """A personal access token."""

    token: str = field(repr=False)


def as_app(credentials: AppCredentials) -> BaseAuthStrategy:
    """Speak as the App itself: about itself, and about where it is installed."""
    return AppAuthStrategy(credentials.app_id, _signing_key(credentials.private_key))


def as_installation(credentials: AppCredentials, installation_id: int) -> BaseAuthStrategy:
    """Speak as the App where it is installed."""
    key = _signing_key(credentials.private_key)
    return _OneTokenForAll(AppInstallationAuthStrategy(credentials.app_id, key, installation_id))


def as_token(credentials: TokenCredentials) -> BaseAuthStrategy:
    """Speak as whoever made the token. A newline after it, as files have, would spoil every request."""
    return TokenAuthStrategy(credentials.token.strip())


@lru_cache(maxsize=1)  # there is one App
def _signing_key(pem: str) -> Any:
    """Return a key as PyJWT signs with it: from text it would read and check it for each JWT, for some 50 ms of the loop.

    What is no key stays text, and is refused when it should sign.
    """
    with suppress(ValueError):
        return load_pem_private_key(pem.encode(), password=None)
    return pem


class _OneTokenForAll(BaseAuthStrategy):
    def __init__(self, strategy: BaseAuthStrategy) -> None:
        self._strategy = strategy

    def get_auth_flow(self, github: GitHubCore[Any]) -> httpx.Auth:
        return _SingleFlight(self._strategy.get_auth_flow(github))


class _SingleFlight(httpx.Auth):
    """githubkit's flow, of which one at a time may be at the stage where it asks for a token."""

    def __init__(self, auth: httpx.Auth) -> None:
        self._auth = auth
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        flow = self._auth.async_auth_flow(request)
        try:
            async with self._lock:
                outgoing = await anext(flow)
                while outgoing is not request:
                    response = yield outgoing
                    outgoing = await flow.asend(response)
            yield outgoing
        finally:
            await flow.aclose()
