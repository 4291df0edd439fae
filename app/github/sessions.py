"""Which identity speaks for an owner: the App's installation there, looked up once, or the one token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from githubkit.auth import BaseAuthStrategy
from githubkit.exception import RequestFailed
from githubkit.response import Response

from app.domain.pools import Target
from app.github import answers
from app.github.auth import AppCredentials, TokenCredentials, as_app, as_installation, as_token
from app.github.errors import Denied, absence, refusal
from app.github.pace import Pace
from app.github.quota import Quota
from app.github.session import Connection, Session
from app.metrics import Metrics


class Sessions:
    """The sessions in use, opened as they are needed and kept for the life of the program."""

    def __init__(
        self,
        credentials: AppCredentials | TokenCredentials,
        connection: Connection,
        *,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._credentials = credentials
        self._connection = connection
        self._metrics = metrics
        self._clock = clock
        self._stack = AsyncExitStack()
        self._looking = asyncio.Lock()
        self._installed: dict[str, Session] = {}  # by owner, folded
        self._by_id: dict[int, Session] = {}
        match credentials:
            case AppCredentials():
                self.first = self._session(as_app(credentials), "app")
            case TokenCredentials():
                self.first = self._session(as_token(credentials), "token")

    async def open(self) -> None:
        """Open the session that needs no looking up: the App's own, or the token's."""
        await self.first.open(self._stack)

    async def close(self) -> None:
        """Close every connection."""
        await self._stack.aclose()

    async def of(self, target: Target | None) -> Session:
        """Return the session for *target*; None is the App or token itself.

        Where the App is installed may have to be asked first, once. Raises GitHubRefused and GitHubUnavailable.
        """
        if target is None or isinstance(self._credentials, TokenCredentials):
            return self.first
        owner = target.owner.casefold()
        found = self._installed.get(owner)
        if found is not None:
            return found
        async with self._looking:
            if owner not in self._installed:
                self._installed[owner] = await self._installation(target, self._credentials)
            return self._installed[owner]

    def renew(self, target: Target | None, session: Session, denied: Denied) -> bool:
        """Let go of an installation that is gone; whether it makes sense to ask once more, with another token.

        Nothing was done by a request without a valid token, so even a mint may be asked again.
        """
        if target is None or session is self.first:
            return False
        if denied.at_token:
            # The App was installed anew, under another id.
            if denied.status == 404 and self._installed.get(target.owner.casefold()) is session:
                del self._installed[target.owner.casefold()]
            return denied.status == 404
        return denied.status == 401

    def headroom(self, target: Target) -> float:
        """Return the share that is left of the quota that questions about *target* count against."""
        if isinstance(self._credentials, TokenCredentials):
            return self.first.quota.headroom()
        session = self._installed.get(target.owner.casefold())
        return 1.0 if session is None else session.quota.headroom()

    def left(self) -> dict[str, dict[str, int | str]]:
        """Return what is left of every quota."""
        left: dict[str, dict[str, int | str]] = {}
        for session in (self.first, *self._by_id.values()):
            left |= session.quota.left()
        return left

    async def _installation(self, target: Target, credentials: AppCredentials) -> Session:
        with self._metrics.github_call("installation"):
            found = await self._look_up(target)
        session = self._by_id.get(found)
        if session is None:
            session = self._session(as_installation(credentials, found), target.owner)
            await session.open(self._stack)
            self._by_id[found] = session
        return session

    async def _look_up(self, target: Target) -> int:
        doing = f"find the App's installation at {target}"
        try:
            response = await self.first.ask(doing, lambda github: _installation_of(github, target))
        except Denied as denied:
            if denied.status != 404:
                raise refusal(denied) from denied
            mend = (
                f"install the App on {target.owner}, with access to {target.repository or 'its repositories'}"
            )
            raise absence(denied, mend) from denied
        return answers.installation_id(response)

    def _session(self, auth: BaseAuthStrategy, label: str) -> Session:
        quota = Quota(label, metrics=self._metrics, clock=self._clock)
        return Session(auth, self._connection, quota, Pace(label, self._clock))


async def _installation_of(github: Session, target: Target) -> Response[Any]:
    """Ask where the App is installed; whether an owner is an organization or a user, the name does not tell."""
    apps = github.rest.apps
    if target.repository:
        return await apps.async_get_repo_installation(target.owner, target.repository)
    try:
        return await apps.async_get_org_installation(target.owner)
    except RequestFailed as refused:
        if refused.response.status_code != 404 or "Integration not found" in refused.response.text:
            raise
        return await apps.async_get_user_installation(target.owner)
