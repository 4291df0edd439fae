"""GitHub behind :class:`app.ports.GitHub`, on githubkit.

Every verb is counted and timed, bounded in time and, where doing it twice changes nothing, asked again after a
moment's trouble. Minting never is: a lost answer may have registered (docs/contracts/github.md §4.1).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from githubkit.response import Response

from app.domain.hearing import FLOOR, LogEntry
from app.domain.jobs import WorkflowJobEvent
from app.domain.pools import Target
from app.domain.world import Registration, RunnerGroup
from app.github import answers, routes
from app.github.auth import AppCredentials, TokenCredentials
from app.github.downloads import Downloads, Offer
from app.github.errors import Denied, mint_refusal, refusal, removal_refusal
from app.github.retry import again
from app.github.session import Session, connect
from app.github.sessions import Sessions
from app.metrics import Metrics
from app.ports import GitHubRefused, Minted, NotFound, Package, Release, Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJobs:
    """Jobs that are over, of how many runs, and whether those were all that was asked for."""

    jobs: tuple[WorkflowJobEvent, ...]
    runs: int
    complete: bool


class GitHubClient:
    """GitHub at the scope of one App or token. Enter it once, for the life of the program; any task may call."""

    def __init__(
        self,
        credentials: AppCredentials | TokenCredentials,
        *,
        api_url: str,
        ca_path: Path | None,
        api_version: str,
        metrics: Metrics,
        downloads: Path,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_app = isinstance(credentials, AppCredentials)
        self._metrics = metrics
        connection = connect(api_url=api_url, ca_path=ca_path, api_version=api_version, transport=transport)
        self._sessions = Sessions(credentials, connection, metrics=metrics, clock=clock)
        self._downloads = Downloads(downloads, tls=connection.tls, transport=transport)

    async def __aenter__(self) -> Self:
        """Open the connection."""
        await self._sessions.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self._sessions.close()

    async def mint(self, target: Target, *, name: str, labels: tuple[str, ...], group_id: int) -> Minted:
        """Register *name* at *target*; see :meth:`app.ports.GitHub.mint`."""
        doing = f"register a runner at {target}"
        with self._metrics.github_call("mint"):
            try:
                await again(lambda: self._sessions.of(target))  # that may be asked twice
                response = await self._ask(
                    target,
                    doing,
                    lambda github: routes.mint(github, target, name=name, labels=labels, group_id=group_id),
                )
            except Denied as denied:
                raise mint_refusal(denied, name, routes.mint_permission(target)) from denied
            return answers.minted(response)

    async def registrations(self, target: Target) -> tuple[Registration, ...]:
        """Return every runner listed at *target*, all pages."""
        with self._metrics.github_call("registrations"):
            rows = await self._read(
                target, f"list the runners of {target}", lambda github: routes.runners(github, target)
            )
            # A runner that leaves between two pages moves the others: one may be listed twice.
            return tuple({one.id: one for one in map(answers.registration, rows)}.values())

    async def deregister(self, target: Target, *, name: str, registration_id: int | None) -> bool:
        """Remove a registration; see :meth:`app.ports.GitHub.deregister`."""
        with self._metrics.github_call("deregister"):
            if registration_id is None:
                registration_id = await self._find(target, name)
            if registration_id is None:
                return False
            return await self._remove(target, name, registration_id)

    async def job(self, repository: str, job_id: int) -> WorkflowJobEvent:
        """Return what GitHub says of a job now."""
        target = Target.parse(repository)
        with self._metrics.github_call("job"):
            response = await self._read(
                target,
                f"show job {job_id} of {repository}",
                lambda github: routes.job(github, target, job_id),
            )
            return answers.job(response, repository, job_id)

    async def run(self, repository: str, run_id: int) -> Run:
        """Return a job's run."""
        target = Target.parse(repository)
        with self._metrics.github_call("run"):
            response = await self._read(
                target,
                f"show run {run_id} of {repository}",
                lambda github: routes.run(github, target, run_id),
            )
            return answers.run(response)

    async def runner_group(self, organization: str, name: str | None) -> RunnerGroup:
        """Return the group called *name*, or the default group, with the repositories it is open to."""
        target = Target(organization)
        with self._metrics.github_call("runner_group"):
            groups = await self._read(
                target,
                f"list the runner groups of {organization}",
                lambda github: routes.groups(github, organization),
            )
            row = answers.find_group(groups, name)
            if row is None:
                msg = f"{organization} has no runner group {name or 'that is the default'!r}: create it, or correct runner_group"
                raise NotFound(msg)
            group = answers.group(row, ())
            if group.visibility != "selected":
                return group
            repositories = await self._read(
                target,
                f"list the repositories of the runner group {group.name} of {organization}",
                lambda github: routes.group_repositories(github, organization, group.id),
            )
            return answers.group(row, repositories)

    async def delivery_log(self, since: datetime) -> tuple[LogEntry, ...]:
        """Return every attempt to deliver a webhook of the App since then."""
        if not self._is_app:
            return ()

        async def walk(github: Session) -> list[LogEntry]:
            found = []
            async for row in routes.deliveries(github):
                entry = answers.log_entry(row)
                if entry.at < since:
                    break
                found.append(entry)
            return found

        with self._metrics.github_call("delivery_log"):
            return tuple(await self._read(None, "list the App's deliveries", walk))

    async def logged_delivery(self, delivery_id: int) -> WorkflowJobEvent | None:
        """Return what a delivery of the log tells of a job."""
        with self._metrics.github_call("logged_delivery"):
            response = await self._read(
                None, f"show delivery {delivery_id}", lambda github: routes.delivery(github, delivery_id)
            )
            return answers.logged_event(response)

    async def repositories(self) -> tuple[str, ...]:
        """Return every repository that the App may see, on whatever account it is installed."""
        if not self._is_app:
            return ()
        with self._metrics.github_call("repositories"):
            owners = await self._read(None, "list the App's installations", _installed_on)
            found: list[str] = []
            for owner in owners:
                found += await self._read(
                    Target(owner), f"list the repositories of {owner}", routes.visible_repositories
                )
            return tuple(found)

    async def queued_jobs(self, repository: str) -> tuple[WorkflowJobEvent, ...]:
        """Return the jobs that wait or run in a repository.

        A run with one running job is "in_progress" while its other jobs wait (docs/contracts/github.md §9).
        """
        target = Target.parse(repository)

        async def ask(github: Session) -> list[WorkflowJobEvent]:
            runs = {
                run.id: run
                for status in ("queued", "in_progress")
                for run in await routes.active_runs(github, target, status)
            }
            return [job for run in runs.values() for job in await routes.jobs_of(github, target, run)]

        with self._metrics.github_call("queued_jobs"):
            return tuple(await self._read(target, f"list the queued jobs of {repository}", ask))

    async def past_jobs(self, repository: str, *, since: date, most_runs: int) -> PastJobs:
        """Return the jobs of a repository's runs that were made since a day and are over, newest first.

        It ends early after *most_runs*, and where the quota falls so low that other questions would miss it.
        """
        target = Target.parse(repository)
        found: list[WorkflowJobEvent] = []
        with self._metrics.github_call("past_jobs"):
            runs = await self._past_runs(target, since, most_runs + 1)
            for read, run in enumerate(runs[:most_runs]):
                if self.headroom(target) < FLOOR:
                    return PastJobs(jobs=tuple(found), runs=read, complete=False)
                found += await self._read(
                    target,
                    f"list the jobs of run {run.id} of {repository}",
                    partial(routes.past_jobs_of, target=target, run=run),
                )
        return PastJobs(jobs=tuple(found), runs=min(len(runs), most_runs), complete=len(runs) <= most_runs)

    async def _past_runs(self, target: Target, since: date, most: int) -> list[answers.ActiveRun]:
        found: list[answers.ActiveRun] = []
        while len(found) < most:
            page = await self._read(
                target,
                f"list the runs of {target}",
                partial(routes.past_runs, target=target, since=since, page=len(found) // routes.PAGE + 1),
            )
            found += page
            if len(page) < routes.PAGE:
                break
        return found[:most]

    async def latest_runner(self, target: Target) -> Release:
        """Return the version of the actions runner that GitHub expects of a Mac, and when it was published."""
        with self._metrics.github_call("latest_runner"):
            expected = (await self._offer(target)).version
            try:
                release = await self._read(
                    target,
                    f"show release {expected} of the runner",
                    lambda github: routes.runner_release(github, expected),
                )
            except (NotFound, GitHubRefused):
                return Release(version=expected, published_at=None)  # a GitHub Enterprise Server has no such
            return Release(version=expected, published_at=answers.published(release))

    async def runner_package(self, target: Target) -> Package:
        """Bring the actions runner that GitHub expects of a Mac to this host; see :meth:`app.ports.GitHub.runner_package`."""
        with self._metrics.github_call("runner_package"):
            return await self._downloads.package(await self._offer(target))

    async def _offer(self, target: Target) -> Offer:
        packages = await self._read(
            target, "list the runner's packages", lambda github: routes.downloads(github, target)
        )
        return answers.offered(packages)

    async def whoami(self) -> str:
        """Prove the credentials; see :meth:`app.ports.GitHub.whoami`."""
        with self._metrics.github_call("whoami"):
            call = routes.app if self._is_app else routes.user
            data = answers.body(await self._read(None, "say who we are", call))
            name = answers.whose(data)
            lacks = answers.lacking(data) if self._is_app else []
            if lacks:
                msg = (
                    f"The GitHub App {name} lacks {', and '.join(lacks)}: change that on its page under Permissions "
                    "& events, then accept the change on the page of each installation"
                )
                raise GitHubRefused(msg)
            return name

    def quota(self) -> dict[str, dict[str, int | str]]:
        """Return what is left of GitHub's limits, as ``OWNER/RESOURCE``: limit, remaining, reset."""
        return self._sessions.left()

    def headroom(self, target: Target) -> float:
        """Return the share left of GitHub's quota for *target*; see :meth:`app.ports.GitHub.headroom`."""
        return self._sessions.headroom(target)

    async def _find(self, target: Target, name: str) -> int | None:
        doing = f"look for the runner {name} at {target}"
        rows = await self._read(target, doing, lambda github: routes.runners(github, target, name=name))
        found = (answers.registration(row) for row in rows)
        return next((one.id for one in found if one.name.casefold() == name.casefold()), None)

    async def _remove(self, target: Target, name: str, registration_id: int) -> bool:
        async def remove() -> Response[Any]:
            doing = f"remove the runner {name} at {target}"
            return await self._ask(
                target, doing, lambda github: routes.remove(github, target, registration_id)
            )

        try:
            response = await again(remove)
        except Denied as denied:
            if denied.status == 404 and not denied.at_token:
                return False
            raise removal_refusal(denied, name) from denied
        answers.expect_removed(response)
        return True

    async def _read(self, target: Target | None, doing: str, call: Callable[[Session], Awaitable[T]]) -> T:
        """Ask what changes nothing, again where that may help."""
        try:
            return await again(lambda: self._ask(target, doing, call))
        except Denied as denied:
            raise refusal(denied) from denied

    async def _ask(self, target: Target | None, doing: str, call: Callable[[Session], Awaitable[T]]) -> T:
        """Ask as whoever speaks for *target*; again with a new token, and with a new installation, once each."""
        renewed: set[bool] = set()
        while True:
            session = await self._sessions.of(target)
            try:
                return await session.ask(doing, call)
            except Denied as denied:
                if denied.at_token in renewed or not self._sessions.renew(target, session, denied):
                    raise
                renewed.add(denied.at_token)


async def _installed_on(github: Session) -> list[str]:
    """Return the accounts on which the App is installed and not suspended."""
    return [
        answers.owner(row) async for row in routes.installations(github) if row.get("suspended_at") is None
    ]
