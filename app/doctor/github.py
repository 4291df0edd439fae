"""What GitHub says of us, asked anew: no token, and no answer, of before is used (docs/contracts/github.md §13)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from githubkit.auth import BaseAuthStrategy
from githubkit.response import Response

from app.domain.pools import Target
from app.domain.world import RunnerGroup
from app.github import answers, routes
from app.github.auth import AppCredentials, TokenCredentials, as_app, as_installation, as_token
from app.github.errors import Denied
from app.github.pace import Pace
from app.github.quota import Quota, server_time
from app.github.retry import answered
from app.github.session import Connection, Session
from app.metrics import Metrics
from app.ports import GitHubUnavailable, OutsideError

LOG_ROWS = 100  # of the delivery log: one page
PING_WAIT = 20.0  # seconds; GitHub may take minutes
PING_EVERY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to deliver a webhook."""

    id: int
    guid: str
    event: str
    at: datetime
    status: str

    @property
    def arrived(self) -> bool:
        """Whether GitHub calls it good (docs/contracts/github.md §2.2)."""
        return self.status == "OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One account that the App is installed on."""

    account: str
    organization: bool
    suspended: bool
    permissions: Mapping[str, str]
    repositories: Mapping[str, bool] = field(default_factory=dict)  # that it sees: whether each is private
    groups: tuple[RunnerGroup, ...] = ()  # of an organization
    expected_runner: str = ""  # the version of the actions runner that GitHub offers; "": it does not tell
    trouble: str = ""  # why it does not show them


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubFacts:
    """What GitHub says of the App, or of the token."""

    at: datetime
    refused: str = ""  # it knows us not
    unavailable: str = ""  # it does not answer
    name: str = ""
    is_app: bool = True
    permissions: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[str] = ()
    clock_ahead: float = 0.0  # seconds that this host's clock is ahead of GitHub's
    hook_url: str = ""
    hook_type: str = "json"
    hook_insecure: bool = False
    log: tuple[Attempt, ...] | None = None  # of deliveries, newest first; None: it does not show it
    pinged: Attempt | None = None  # the one that was sent again, or before that is known, None
    ping_sent: bool = False
    installed: tuple[Installed, ...] = ()
    quota: Mapping[str, Mapping[str, int | str]] = field(default_factory=dict)
    trouble: str = ""  # what it refused to tell beside


class Asker:
    """Asks one GitHub once. Never raises: what went wrong is a fact too."""

    def __init__(
        self,
        credentials: AppCredentials | TokenCredentials,
        connection: Connection,
        *,
        clock: Callable[[], datetime],
        ping_wait: float = PING_WAIT,
        ping_every: float = PING_EVERY,
    ) -> None:
        self._credentials, self._connection, self._clock = credentials, connection, clock
        self._ping_wait, self._ping_every = ping_wait, ping_every
        self._quotas: list[Quota] = []

    async def ask(self) -> GitHubFacts:
        """Return the facts."""
        now = self._clock()
        try:
            match self._credentials:
                case AppCredentials():
                    return await self._ask_as_app(self._credentials, now)
                case TokenCredentials():
                    return await self._ask_as_token(self._credentials, now)
        except GitHubUnavailable as error:
            return GitHubFacts(at=now, unavailable=str(error))
        except OutsideError as error:
            return GitHubFacts(at=now, refused=str(error))

    async def _ask_as_token(self, credentials: TokenCredentials, now: datetime) -> GitHubFacts:
        async with self._session(as_token(credentials), "token") as github:
            user = await answered(github, "say who we are", routes.user)
        name = answers.whose(answers.body(user))
        return GitHubFacts(
            at=now, name=name, is_app=False, clock_ahead=_ahead(user, self._clock()), quota=self._left()
        )

    async def _ask_as_app(self, credentials: AppCredentials, now: datetime) -> GitHubFacts:
        async with self._session(as_app(credentials), "app") as github:
            app = await answered(github, "say who we are", routes.app)
            ahead, told = _ahead(app, self._clock()), answers.body(app)
            hook = answers.body(await answered(github, "show the App's webhook", _hook))
            log, trouble = await self._log(github)
            sent, pinged = await self._ping(github, log or ())
            rows = await answered(github, "list the App's installations", _installations)
        return GitHubFacts(
            at=now,
            name=answers.whose(told),
            permissions=_texts(told.get("permissions")),
            events=tuple(told.get("events") or ()),
            clock_ahead=ahead,
            hook_url=str(hook.get("url") or ""),
            hook_type=str(hook.get("content_type") or "form"),
            hook_insecure=str(hook.get("insecure_ssl", "0")) == "1",
            log=log,
            ping_sent=sent,
            pinged=pinged,
            installed=tuple([await self._installed(credentials, row) for row in rows]),
            quota=self._left(),
            trouble=trouble,
        )

    async def _log(self, github: Session) -> tuple[tuple[Attempt, ...] | None, str]:
        try:
            return await answered(github, "list the App's deliveries", _deliveries), ""
        except OutsideError as error:
            return None, str(error)

    async def _ping(self, github: Session, log: Sequence[Attempt]) -> tuple[bool, Attempt | None]:
        """Have a ping (or, where none is kept, the newest delivery) sent again, and wait for what becomes of it.

        What comes twice is known as such by its GUID, so this starts nothing.
        """
        again_ = next((one for one in log if one.event == "ping"), log[0] if log else None)
        if again_ is None:
            return False, None
        try:
            await github.ask(
                f"send delivery {again_.id} again",
                lambda asked: asked.rest.apps.async_redeliver_webhook_delivery(again_.id),
            )
        except (Denied, OutsideError):
            return False, None
        known = {one.id for one in log}
        deadline = asyncio.get_running_loop().time() + self._ping_wait
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(self._ping_every)
            for one in (await self._log(github))[0] or ():
                if one.guid == again_.guid and one.id not in known:
                    return True, one
        return True, None

    async def _installed(self, credentials: AppCredentials, row: dict[str, Any]) -> Installed:
        account = row.get("account")
        organization = isinstance(account, dict) and account.get("type") == "Organization"
        found = Installed(
            account=answers.owner(row),
            organization=organization,
            suspended=row.get("suspended_at") is not None,
            permissions=_texts(row.get("permissions")),
        )
        return found if found.suspended else await self._seen(credentials, row, found)

    async def _seen(self, credentials: AppCredentials, row: dict[str, Any], found: Installed) -> Installed:
        number, trouble, expected = int(row["id"]), "", ""
        groups: tuple[RunnerGroup, ...] = ()
        async with self._session(as_installation(credentials, number), found.account) as github:
            try:
                seen = await answered(github, f"list the repositories of {found.account}", _repositories)
                if found.organization:
                    groups = await answered(
                        github, f"list the runner groups of {found.account}", _groups(found.account)
                    )
                expected = await _expected(github, found, seen)
            except OutsideError as error:
                seen, trouble = {}, str(error)
        return Installed(
            account=found.account,
            organization=found.organization,
            suspended=False,
            permissions=found.permissions,
            repositories=seen,
            groups=groups,
            expected_runner=expected,
            trouble=trouble,
        )

    def _left(self) -> dict[str, Mapping[str, int | str]]:
        return {name: left for quota in self._quotas for name, left in quota.left().items()}

    @asynccontextmanager
    async def _session(self, auth: BaseAuthStrategy, label: str) -> AsyncIterator[Session]:
        quota = Quota(label, metrics=Metrics(), clock=time.monotonic)
        self._quotas.append(quota)
        async with AsyncExitStack() as stack:
            session = Session(auth, self._connection, quota, Pace(label, time.monotonic))
            await session.open(stack)
            yield session


async def _hook(github: Session) -> Response[Any]:
    return await github.rest.apps.async_get_webhook_config_for_app()


async def _installations(github: Session) -> list[dict[str, Any]]:
    return [row async for row in routes.installations(github)]


async def _deliveries(github: Session) -> tuple[Attempt, ...]:
    page = await github.rest.apps.async_list_webhook_deliveries(per_page=LOG_ROWS)
    return tuple(map(_attempt, answers.listed(page, "deliveries")))


def _attempt(row: dict[str, Any]) -> Attempt:
    entry = answers.log_entry(row)
    return Attempt(
        id=entry.id,
        guid=entry.guid,
        event=entry.event,
        at=entry.at,
        status=str(row.get("status") or "")[:100],
    )


async def _repositories(github: Session) -> dict[str, bool]:
    pages = github.rest.paginate(
        github.rest.apps.async_list_repos_accessible_to_installation,
        lambda page: answers.rows(page, "repositories"),
        per_page=LOG_ROWS,
    )
    return {answers.full_name(row): row.get("private") is not False async for row in pages}


async def _expected(github: Session, found: Installed, seen: Mapping[str, bool]) -> str:
    """Return the version of the runner that GitHub expects; it tells none where runners may not be looked at."""
    targets = [Target(found.account)] if found.organization else [Target.parse(name) for name in seen]
    if not targets:
        return ""
    try:
        doing = f"list the runner's packages for {targets[0]}"
        packages = await answered(github, doing, lambda asked: routes.downloads(asked, targets[0]))
        return answers.offered(packages).version
    except OutsideError:
        return ""


def _groups(organization: str) -> Callable[[Session], Awaitable[tuple[RunnerGroup, ...]]]:
    async def ask(github: Session) -> tuple[RunnerGroup, ...]:
        return tuple(
            [await _group(github, organization, row) for row in await routes.groups(github, organization)]
        )

    return ask


async def _group(github: Session, organization: str, row: dict[str, Any]) -> RunnerGroup:
    group = answers.group(row, ())
    if group.visibility != "selected":
        return group
    return answers.group(row, await routes.group_repositories(github, organization, group.id))


def _ahead(response: Response[Any], now: datetime) -> float:
    return (now - server_time(response.raw_response.headers)) / timedelta(seconds=1)


def _texts(found: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
