"""What only setting up asks of GitHub: a new App for its code, where it is installed, where its webhooks go.

docs/contracts/github.md §2.3 and §3.5. A code is good once, so exchanging it is never repeated here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from githubkit import UnauthAuthStrategy
from githubkit.auth import BaseAuthStrategy
from githubkit.response import Response

from app.domain.pools import Pool
from app.github import answers, routes
from app.github.auth import AppCredentials, as_app, as_installation
from app.github.errors import Denied, refusal
from app.github.pace import Pace
from app.github.quota import Quota
from app.github.retry import answered
from app.github.session import Session, connect
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable

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
            found = answers.body(await answered(github, "say who we are", routes.app))
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
            rows = await answered(github, "list the App's installations", _installations)
        return tuple([await self._installed(credentials, row) for row in rows])

    async def _installed(self, credentials: AppCredentials, row: dict[str, Any]) -> Installed:
        account = answers.owner(row)
        async with self._session(as_installation(credentials, _id(row))) as github:
            found = await answered(github, f"list the repositories of {account}", routes.visible_repositories)
        return Installed(
            account=account,
            every_repository=row.get("repository_selection") == "all",
            repositories=tuple(sorted(found, key=str.casefold)),
        )

    async def open_group(self, credentials: AppCredentials, pool: Pool, *, name: str) -> str | None:
        """Have a runner group that admits what *pool* serves and no other; return whose, None where it serves nothing.

        There is one for each organization; a pool's repositories are of one. Public ones are let in if any of them is.
        """
        async with self._session(as_app(credentials)) as github:
            rows = await answered(github, "list the App's installations", _installations)
        for row in rows:
            owner = answers.owner(row)
            async with self._session(as_installation(credentials, _id(row))) as github:
                seen = await answered(github, f"list the repositories of {owner}", _repositories)
                served = [one for one in seen if pool.serves(str(one.get("full_name")))]
                if served:
                    await _open_group(github, owner, name, served)
                    return owner
        return None

    async def point_hook(
        self, credentials: AppCredentials, *, url: str | None = None, secret: str | None = None
    ) -> None:
        """Have webhooks sent as JSON, to *url* and signed with *secret* where those are given."""
        changes = {"content_type": "json", "insecure_ssl": "0"}
        changes |= {"url": url} if url else {}
        changes |= {"secret": secret} if secret else {}
        async with self._session(as_app(credentials)) as github:
            # Twice the same is once: it may be asked again.
            await answered(
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


async def _open_group(github: Session, owner: str, name: str, served: list[dict[str, Any]]) -> None:
    numbers, doing = [_id(one) for one in served], f"open the runner group {name} of {owner}"
    groups = await answered(
        github, f"list the runner groups of {owner}", lambda asked: routes.groups(asked, owner)
    )
    known = next((answers.group(row, ()) for row in groups if row.get("name") == name), None)
    actions = github.rest.actions
    if known is not None:
        await answered(
            github,
            doing,
            lambda _: actions.async_set_repo_access_to_self_hosted_runner_group_in_org(
                owner, known.id, selected_repository_ids=numbers
            ),
        )
        return
    try:
        await github.ask(
            doing,
            lambda _: actions.async_create_self_hosted_runner_group_for_org(
                owner,
                name=name,
                visibility="selected",
                selected_repository_ids=numbers,
                allows_public_repositories=any(one.get("private") is False for one in served),
            ),
        )
    except Denied as denied:
        raise refusal(denied, f"{ORGANIZATION_RUNNERS}=write") from None


async def _repositories(github: Session) -> list[dict[str, Any]]:
    pages = github.rest.paginate(
        github.rest.apps.async_list_repos_accessible_to_installation,
        lambda page: answers.rows(page, "repositories"),
        per_page=routes.PAGE,
    )
    return [row async for row in pages]


async def _installations(github: Session) -> list[dict[str, Any]]:
    return [row async for row in routes.installations(github) if row.get("suspended_at") is None]


def _new_app(answer: Response[Any]) -> NewApp:
    found = answers.body(answer)
    secret = found.get("webhook_secret")
    return NewApp(
        id=_id(found),
        slug=_text(found, "slug"),
        owner=_owner(found),
        html_url=_text(found, "html_url"),
        pem=_text(found, "pem"),
        webhook_secret=secret if isinstance(secret, str) and secret else None,
    )


def _id(row: dict[str, Any]) -> int:
    number = row.get("id")
    if not isinstance(number, int):
        msg = "GitHub's answer cannot be read: something in it has no id"
        raise GitHubUnavailable(msg)
    return number


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        msg = f"GitHub's answer cannot be read: the App has no {key}"
        raise GitHubUnavailable(msg)
    return value


def _owner(found: dict[str, Any]) -> str:
    owner = found.get("owner")
    return _text(owner if isinstance(owner, dict) else {}, "login")
