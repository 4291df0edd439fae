"""githubkit for one identity, on one httpx client that every task shares.

githubkit keeps its client in a ContextVar: a task that was not started inside the ``async with`` (a request
handler, say) would build a client, and a connection, for each call (docs/contracts/github.md §7.3). A Session
holds its client itself, so it does not matter who calls. Hooks of that client see every request that goes out,
the ones that githubkit makes by itself too (later pages, tokens, redirects), and give each the API version and
the time it may take; on their own those of githubkit have neither.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import httpx
from githubkit import GitHub
from githubkit.auth import BaseAuthStrategy
from githubkit.cache import MemCacheStrategy
from githubkit.config import get_config
from githubkit.exception import GitHubException
from githubkit.response import Response
from githubkit.throttling import BaseThrottler, LocalThrottler

from app.github.errors import TOKEN_ROUTE, Denied, read
from app.github.etags import Etags
from app.github.pace import Pace, Paced
from app.github.quota import Quota
from app.ports import GitHubRefused, GitHubUnavailable

T = TypeVar("T")

USER_AGENT = f"cidermill/{version('cidermill')}"
TIMEOUT = httpx.Timeout(10, connect=5)
MINT_TIMEOUT = httpx.Timeout(15, connect=5)  # seen to take ten seconds
MINT_ROUTE = "/generate-jitconfig"
CONCURRENCY = 4  # GitHub asks to be asked one thing after another; a few at a time are fine
DEADLINE = 45.0  # for all pages together; httpx's own limits start anew with every byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What all sessions have in common."""

    api_url: str
    api_version: str
    tls: ssl.SSLContext | bool
    transport: httpx.AsyncBaseTransport | None
    throttler: BaseThrottler


def connect(
    *, api_url: str, ca_path: Path | None, api_version: str, transport: httpx.AsyncBaseTransport | None
) -> Connection:
    """Return the connection to a GitHub, its internal CA trusted too. Raises GitHubRefused."""
    return Connection(
        api_url=api_url,
        api_version=api_version,
        tls=True if transport else _trust(ca_path),
        transport=transport,
        throttler=LocalThrottler(CONCURRENCY),
    )


def _trust(ca_path: Path | None) -> ssl.SSLContext:
    """Return what is trusted: the usual authorities, and a private one beside them."""
    context = httpx.create_ssl_context()
    if ca_path is not None:
        try:
            context.load_verify_locations(cafile=ca_path)
        except (ssl.SSLError, OSError) as error:
            msg = f"github_ca_path: {ca_path} holds no certificate in PEM form that can be read"
            raise GitHubRefused(msg) from error
    return context


class Session(GitHub[BaseAuthStrategy]):
    """One identity at GitHub: its client, its tokens, its quota and its pace."""

    def __init__(self, auth: BaseAuthStrategy, connection: Connection, quota: Quota, pace: Pace) -> None:
        self._tokens = (
            MemCacheStrategy()
        )  # githubkit's default is one for the whole process, whatever the host
        super().__init__(
            auth,
            config=get_config(
                base_url=connection.api_url,
                user_agent=USER_AGENT,
                timeout=TIMEOUT,
                ssl_verify=connection.tls,
                async_transport=connection.transport,
                async_event_hooks={"request": [self._outgoing], "response": [self._incoming]},
                cache_strategy=self._tokens,
                http_cache=False,  # it keeps every changed answer for ever
                throttler=Paced(pace, connection.throttler),
                auto_retry=False,
                rest_api_validate_body=False,  # what is wrong with a pool's labels GitHub says itself
            ),
        )
        self.quota = quota
        self._pace = pace
        self._token_generation = 0
        self._api_version = connection.api_version
        self._etags = Etags()
        self._shared: httpx.AsyncClient | None = None

    async def open(self, stack: AsyncExitStack) -> None:
        """Build the one client; *stack* closes it."""
        self._shared = await stack.enter_async_context(super().get_async_client())

    @asynccontextmanager
    async def get_async_client(self) -> AsyncGenerator[httpx.AsyncClient, None]:
        """Lend the one client, in place of githubkit's choice by context."""
        if self._shared is None:
            msg = "enter the GitHub client (async with) before asking"
            raise RuntimeError(msg)
        yield self._shared

    async def ask(self, doing: str, call: Callable[[Session], Awaitable[T]]) -> T:
        """Await *call*, bounded in time. Raises Denied, and errors of :mod:`app.ports`."""
        self.quota.check(doing)
        generation = self._token_generation
        try:
            async with asyncio.timeout(DEADLINE):
                return await call(self)
        except TimeoutError as error:
            msg = f"GitHub did not answer within {DEADLINE:.0f} s when asked to {doing}"
            raise GitHubUnavailable(msg) from error
        except GitHubException as error:
            told, cause = read(error, doing)
            if isinstance(told, Denied) and told.status in {401, 403}:
                self._forget_token(generation)
            raise told from cause

    async def get_conditional(
        self,
        path: str,
        params: Mapping[str, str | int],
        read: Callable[[Response[Any]], T],
        *,
        first: int | None = None,
    ) -> list[T]:
        """GET *path*, free while nothing changed; see :meth:`app.github.etags.Etags.pages`.

        Part of a *call* given to :meth:`ask`, which bounds it in time and translates its errors.
        """
        return await self._etags.pages(self, path, params, read, first=first)

    def _forget_token(self, generation: int) -> None:
        """Make a new token (or JWT) next time, unless somebody saw to that since *generation*.

        One that was revoked, or made when this host's clock was wrong, would be refused until it ends by itself;
        after a 403 the next call shall see what was granted since.
        """
        if generation == self._token_generation:
            self._token_generation += 1
            self._tokens.cleanup()

    async def _outgoing(self, request: httpx.Request) -> None:
        self._keep_home(request.url)
        if request.url.path.endswith(TOKEN_ROUTE):
            self._pace.count()
        timeout = MINT_TIMEOUT if request.url.path.endswith(MINT_ROUTE) else TIMEOUT
        request.headers["X-GitHub-Api-Version"] = self._api_version
        request.extensions = {**request.extensions, "timeout": timeout.as_dict()}

    async def _incoming(self, response: httpx.Response) -> None:
        path = response.request.url.path
        if not path.endswith(TOKEN_ROUTE):  # counted on the App, not on its installation
            self.quota.note(response)
        await self.quota.heed(response, f"{response.request.method} {path}")

    def _keep_home(self, url: httpx.URL) -> None:
        """Refuse to follow a link to another host: our token would go with the request."""
        home = self.config.base_url
        if (url.scheme, url.host, url.port) != (home.scheme, home.host, home.port):
            msg = (
                f"GitHub's answer points to {url.scheme}://{url.netloc.decode()}, and github_api_url is {home}: "
                "correct github_api_url, or what stands between"
            )
            raise GitHubRefused(msg)
