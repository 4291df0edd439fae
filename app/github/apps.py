"""What only setting up asks of GitHub: a new App for its code, where it is installed, where its webhooks go.

docs/contracts/github.md §2.3 and §3.5. A code is good once, so exchanging it is never repeated here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from githubkit import UnauthAuthStrategy
from githubkit.auth import BaseAuthStrategy
from githubkit.response import Response

from app.github import answers, routes
from app.github.auth import AppCredentials, as_app, as_installation
from app.github.errors import Denied, refusal
from app.github.pace import Pace
from app.github.quota import Quota
from app.github.retry import again
from app.github.session import Session, connect
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable

T = TypeVar("T")
ORGANIZATION_RUNNERS = "organization_self_hosted_runners"
USED = "the code was used already, or is older than an hour: begin again, and confirm the App within the hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApp:
    """An App as GitHub hands it over, its key and secret for the only time."""

    id: int
    slug: str
    owner: str
    html_url: str
    pem: str = field(repr=False)
    webhook_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownApp:
    """An App as it tells of itself."""

    slug: str
    owner: str
    html_url: str
    at_organizations: bool  # its runners may register there; else at single repositories alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An account that the App is installed on, and the repositories that it may see there."""

    account: str
    every_repository: bool
    repositories: tuple[str, ...]


class Apps:
    """One GitHub, for as long as it takes to set up. Every method raises GitHubRefused and GitHubUnavailable."""

    def __init__(
        self,
        *,
        api_url: str,
        ca_path: Path | None,
        api_version: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._connection = connect(
            api_url=api_url, ca_path=ca_path, api_version=api_version, transport=transport
        )
        self._metrics = Metrics()

    async def convert(self, code: str) -> NewApp:
        """Exchange the code of a confirmed App for the App."""
        async with self._session(UnauthAuthStrategy()) as github:
            try:
                answer = await github.ask(
                    "hand over the new App", lambda asked: asked.rest.apps.async_create_from_manifest(code)
                )
            except Denied as denied:
                if denied.status in {404, 422}:
                    raise GitHubRefused(denied.told(USED)) from None
                raise refusal(denied) from None
        return _new_app(answer)

    async def app(self, credentials: AppCredentials) -> KnownApp:
        """Return the App that the credentials are of."""
        async with self._session(as_app(credentials)) as github:
            found = answers.body(await _read(github, "say who we are", routes.app))
        permissions = found.get("permissions")
        return KnownApp(
            slug=_text(found, "slug"),
            owner=_owner(found),
            html_url=_text(found, "html_url"),
            at_organizations=isinstance(permissions, dict) and ORGANIZATION_RUNNERS in permissions,
        )

    async def installations(self, credentials: AppCredentials) -> tuple[Installed, ...]:
        """Return where the App is installed and not suspended, with the repositories it may see there."""
        async with self._session(as_app(credentials)) as github:
            rows = await _read(github, "list the App's installations", _installations)
        return tuple([await self._installed(credentials, row) for row in rows])

    async def _installed(self, credentials: AppCredentials, row: dict[str, Any]) -> Installed:
        account, number = answers.owner(row), row.get("id")
        if not isinstance(number, int):
            msg = "GitHub's answer cannot be read: an installation has no id"
            raise GitHubUnavailable(msg)
        async with self._session(as_installation(credentials, number)) as github:
            found = await _read(github, f"list the repositories of {account}", routes.visible_repositories)
        return Installed(
            account=account,
            every_repository=row.get("repository_selection") == "all",
            repositories=tuple(sorted(found, key=str.casefold)),
        )

    async def point_hook(
        self, credentials: AppCredentials, *, url: str | None = None, secret: str | None = None
    ) -> None:
        """Have webhooks sent as JSON, to *url* and signed with *secret* where those are given."""
        changes = {"content_type": "json", "insecure_ssl": "0"}
        changes |= {"url": url} if url else {}
        changes |= {"secret": secret} if secret else {}
        async with self._session(as_app(credentials)) as github:
            # Twice the same is once: it may be asked again.
            await _read(
                github,
                "change where the App's webhooks go",
                lambda asked: asked.rest.apps.async_update_webhook_config_for_app(data=changes),  # type: ignore[call-overload]  # the keys are those of its TypedDict
            )

    @asynccontextmanager
    async def _session(self, auth: BaseAuthStrategy) -> AsyncIterator[Session]:
        quota = Quota("setup", metrics=self._metrics, clock=time.monotonic)
        async with AsyncExitStack() as stack:
            session = Session(auth, self._connection, quota, Pace("setup", time.monotonic))
            await session.open(stack)
            yield session


async def _read(github: Session, doing: str, call: Callable[[Session], Awaitable[T]]) -> T:
    try:
        return await again(lambda: github.ask(doing, call))
    except Denied as denied:
        raise refusal(denied) from None


async def _installations(github: Session) -> list[dict[str, Any]]:
    return [row async for row in routes.installations(github) if row.get("suspended_at") is None]


def _new_app(answer: Response[Any]) -> NewApp:
    found = answers.body(answer)
    number, secret = found.get("id"), found.get("webhook_secret")
    if not isinstance(number, int):
        msg = "GitHub's answer cannot be read: the new App has no id"
        raise GitHubUnavailable(msg)
    return NewApp(
        id=number,
        slug=_text(found, "slug"),
        owner=_owner(found),
        html_url=_text(found, "html_url"),
        pem=_text(found, "pem"),
        webhook_secret=secret if isinstance(secret, str) and secret else None,
    )


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        msg = f"GitHub's answer cannot be read: the App has no {key}"
        raise GitHubUnavailable(msg)
    return value


def _owner(found: dict[str, Any]) -> str:
    owner = found.get("owner")
    return _text(owner if isinstance(owner, dict) else {}, "login")
