"""The model of GitHub as ``ports.GitHub``, without HTTP: for tests and simulations on virtual time.

It meets the same faults as the HTTP face, turned into the port's errors; a call whose answer is lost has done
its work. The App must be installed, with the permissions that the call needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from app.domain.hearing import LogEntry
from app.domain.jobs import Source, WorkflowJobEvent
from app.domain.pools import Target
from app.domain.world import Registration, RunnerGroup
from app.github.webhook import event_of, job_event
from app.ports import (
    GitHubRefused,
    GitHubUnavailable,
    JitConfig,
    Minted,
    NameTaken,
    NotFound,
    Package,
    Release,
    Run,
    RunnerBusy,
)
from app.sandbox.github import ModelGitHub
from app.sandbox.github_accounts import allows
from app.sandbox.github_faults import Fault, Kind
from app.sandbox.github_values import ApiError

T = TypeVar("T")

NO_ANSWER = 15.0  # seconds after which the client gives up


class DirectGitHub:
    """``ports.GitHub`` over one :class:`ModelGitHub`."""

    def __init__(self, model: ModelGitHub, *, latency: Callable[[], float] = lambda: 0.0) -> None:
        self.model = model
        self._latency = latency

    async def mint(self, target: Target, *, name: str, labels: tuple[str, ...], group_id: int) -> Minted:
        """Register a runner."""

        def work() -> Minted:
            self._allow(target, "write")
            runner, blob = self.model.runners.mint(target, name=name, labels=labels, group_id=group_id)
            return Minted(registration_id=runner.id, jit=JitConfig(blob))

        return await self._call("mint", work)

    async def registrations(self, target: Target) -> tuple[Registration, ...]:
        """List the runners at a target."""

        def work() -> tuple[Registration, ...]:
            self._allow(target, "read")
            return tuple(
                Registration(id=runner.id, name=runner.name, online=runner.online, busy=runner.busy)
                for runner in self.model.runners.at(target)
            )

        return await self._call("registrations", work)

    async def deregister(self, target: Target, *, name: str, registration_id: int | None) -> bool:
        """Remove a runner, found by its name where its id is not known."""

        def work() -> bool:
            self._allow(target, "write")
            runners = self.model.runners
            known = [registration_id] if registration_id else [r.id for r in runners.at(target, name)]
            if not any(runner_id in runners.registrations for runner_id in known):
                return False
            try:
                runners.deregister(target, known[0])
            except ApiError as error:
                if error.status == 404:
                    return False
                raise
            return True

        try:
            return await self._call("deregister", work)
        except _Invalid as error:
            raise RunnerBusy(str(error)) from error

    async def job(self, repository: str, job_id: int) -> WorkflowJobEvent:
        """Return a job as it is now."""

        def work() -> WorkflowJobEvent:
            home = self.model.accounts.repository(repository)
            self._allow_actions(repository)
            job = self.model.workflows.jobs.get(job_id)
            if job is None or job.run.repository is not home:
                raise ApiError(404, "Not Found")
            shapes = self.model.shapes
            event = job_event(shapes.job(job), shapes.repository(home))
            if event is None:
                raise ApiError(404, "Not Found")
            return replace(event, source=Source.LOOK)

        return await self._call("job", work)

    async def run(self, repository: str, run_id: int) -> Run:
        """Return a run as it is now."""

        def work() -> Run:
            home = self.model.accounts.repository(repository)
            self._allow_actions(repository)
            run = self.model.workflows.runs.get(run_id)
            if run is None or run.repository is not home:
                raise ApiError(404, "Not Found")
            return Run(status=run.status, conclusion=run.conclusion, event=run.event, fork=run.fork)

        return await self._call("run", work)

    async def runner_group(self, organization: str, name: str | None) -> RunnerGroup:
        """Return a runner group, or the default one."""

        def work() -> RunnerGroup:
            self._allow(Target(organization), "read")
            groups = self.model.accounts.groups.get(organization.casefold(), {})
            for group in groups.values():
                if group.default if name is None else group.name.casefold() == name.casefold():
                    repositories = self.model.accounts.repositories.values()
                    return RunnerGroup(
                        id=group.id,
                        name=group.name,
                        visibility=group.visibility,
                        allows_public=group.allows_public,
                        repositories=tuple(r.full_name for r in repositories if r.id in group.repositories),
                    )
            raise ApiError(404, "Not Found")

        return await self._call("runner_group", work)

    async def delivery_log(self, since: datetime) -> tuple[LogEntry, ...]:
        """Return the App's deliveries that were tried since then."""

        def work() -> tuple[LogEntry, ...]:
            return tuple(
                LogEntry(id=d.id, guid=d.guid, event=d.event, at=d.delivered_at, arrived=d.status == "OK")
                for d in self.model.hooks.log
                if d.hook is self.model.app_hook and d.delivered_at is not None and d.delivered_at >= since
            )

        return await self._call("delivery_log", work)

    async def logged_delivery(self, delivery_id: int) -> WorkflowJobEvent | None:
        """Return what a delivery told."""

        def work() -> WorkflowJobEvent | None:
            return event_of(self.model.hooks.delivery(self.model.app_hook, delivery_id).payload)

        return await self._call("logged_delivery", work)

    async def repositories(self) -> tuple[str, ...]:
        """Return the repositories of every installation."""

        def work() -> tuple[str, ...]:
            accounts = self.model.accounts
            return tuple(
                repository.full_name
                for installation in accounts.installations.values()
                if installation.suspended_at is None
                for repository in accounts.repositories.values()
                if installation.covers(repository)
            )

        return await self._call("repositories", work)

    async def queued_jobs(self, repository: str) -> tuple[WorkflowJobEvent, ...]:
        """Return the jobs that wait or run in a repository."""

        def work() -> tuple[WorkflowJobEvent, ...]:
            home = self.model.accounts.repository(repository)
            self._allow_actions(repository)
            shapes = self.model.shapes
            events = [
                job_event(shapes.job(job), shapes.repository(home))
                for job in self.model.workflows.jobs.values()
                if job.run.repository is home
                and job.run.status in {"queued", "in_progress"}
                and job.status != "completed"
            ]
            return tuple(replace(event, source=Source.LOOK) for event in events if event is not None)

        return await self._call("queued_jobs", work)

    async def latest_runner(self, target: Target) -> Release:
        """Return the runner that GitHub expects."""

        def work() -> Release:
            self._allow(target, "read")
            expected = self.model.runners.expected
            return Release(version=expected.version, published_at=expected.published_at)

        return await self._call("latest_runner", work)

    async def runner_package(self, target: Target) -> Package:
        """Return the runner that GitHub expects; there is no file behind it."""

        def work() -> Package:
            self._allow(target, "read")
            version = self.model.runners.expected.version
            return Package(version=version, archive=Path("nowhere"), sha256="0" * 64)

        return await self._call("runner_package", work)

    def headroom(self, target: Target) -> float:
        """Return that the quota is whole: no calls are counted here."""
        del target
        return 1.0

    async def whoami(self) -> str:
        """Return the App's slug."""
        return await self._call("whoami", lambda: self.model.accounts.app.slug)

    def quota(self) -> dict[str, dict[str, int | str]]:
        """Return nothing: no calls are counted here."""
        return {}

    def _allow(self, target: Target, level: str) -> None:
        installation = self.model.accounts.installation_of(target.owner)
        name = "administration" if target.repository else "organization_self_hosted_runners"
        if installation.suspended_at is not None:
            raise ApiError(403, "This installation has been suspended")
        if target.repository and not installation.covers(self.model.accounts.repository(str(target))):
            raise ApiError(404, "Not Found")
        if not allows(installation.permissions, name, level):
            raise ApiError(403, f"Resource not accessible by integration: it wants {name}={level}")

    def _allow_actions(self, repository: str) -> None:
        home = self.model.accounts.repository(repository)
        installation = self.model.accounts.installation_of(home.owner.login)
        if not installation.covers(home):
            raise ApiError(404, "Not Found")
        if not allows(installation.permissions, "actions", "read"):
            raise ApiError(403, "Resource not accessible by integration: it wants actions=read")

    async def _call(self, verb: str, work: Callable[[], T]) -> T:
        self.model.tick()
        fault = self.model.faults.take(verb)
        await asyncio.sleep(self._latency())
        if fault is not None and not fault.effect:
            await self._meet(fault)
        try:
            answer = work()
        except ApiError as error:
            raise _translated(error) from error
        if fault is not None and fault.effect:
            await self._meet(fault)
        return answer

    async def _meet(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.SLOW:
                await asyncio.sleep(fault.seconds)
            case Kind.ANSWER:
                raise _translated(ApiError(fault.status, fault.message))
            case Kind.PRIMARY_LIMIT | Kind.SECONDARY_LIMIT:
                seconds = fault.retry_after or fault.seconds or 60.0
                msg = f"GitHub limits our calls ({fault.status})"
                raise GitHubUnavailable(msg, retry_after=timedelta(seconds=seconds), maybe_done=False)
            case Kind.PAGE | Kind.RESET | Kind.CUT | Kind.HANG:
                await asyncio.sleep(min(fault.seconds, NO_ANSWER))
                msg = "GitHub did not answer"
                raise GitHubUnavailable(msg)


class _Invalid(GitHubRefused):
    """A 422."""


def _translated(error: ApiError) -> Exception:
    text = f"GitHub answered {error.status}: {error.message}"
    if error.status >= 500 or error.status == 429:
        return GitHubUnavailable(text)
    kinds = {404: NotFound, 409: NameTaken, 422: _Invalid}
    return kinds.get(error.status, GitHubRefused)(text)
