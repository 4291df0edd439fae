"""The endpoints we ask, each for an organization or a repository; docs/contracts/github.md §13 lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import Any

from githubkit.response import Response
from githubkit.utils import UNSET, Unset

from app.domain.jobs import WorkflowJobEvent
from app.domain.pools import Target
from app.github.answers import ActiveRun, active_run, all_jobs, full_name, jobs, listed, rows, total
from app.github.session import Session

PAGE = 100
READINGS = 3  # of a list that changes while it is read

Answer = Response[Any]  # read as JSON by answers.py, never by githubkit's strict models
Rows = list[dict[str, Any]]


def mint_permission(target: Target) -> str:
    """Return the permission that minting at *target* needs, as GitHub spells it."""
    return "administration=write" if target.repository else "organization_self_hosted_runners=write"


async def mint(
    github: Session, target: Target, *, name: str, labels: tuple[str, ...], group_id: int
) -> Answer:
    """Register a runner."""
    actions = github.rest.actions
    if target.repository:
        return await actions.async_generate_runner_jitconfig_for_repo(
            target.owner, target.repository, name=name, labels=list(labels), runner_group_id=group_id
        )
    return await actions.async_generate_runner_jitconfig_for_org(
        target.owner, name=name, labels=list(labels), runner_group_id=group_id
    )


async def runners(github: Session, target: Target, *, name: str | Unset = UNSET) -> Rows:
    """List runners, all pages; ``name=`` narrows the list to one.

    A runner that leaves while the pages are read moves the others up, one of them to a page that was read before. So
    a list that changed meanwhile is read again, and if it never holds still, what any reading showed is returned, the
    latest last.
    """
    found: Rows = []
    for _ in range(READINGS):
        listed, totals = await _runners(github, target, name)
        if len(totals) <= 1:
            return listed
        found += listed
    return found


async def _runners(github: Session, target: Target, name: str | Unset) -> tuple[Rows, set[int]]:
    """Read the list once; return it with the numbers of runners that its pages told."""
    actions, totals = github.rest.actions, set[int]()

    def read(page: Answer) -> Rows:
        totals.add(total(page))
        return rows(page, "runners")

    if target.repository:
        pages = github.rest.paginate(
            actions.async_list_self_hosted_runners_for_repo,
            read,
            target.owner,
            target.repository,
            per_page=PAGE,
            name=name,
        )
    else:
        pages = github.rest.paginate(
            actions.async_list_self_hosted_runners_for_org, read, target.owner, per_page=PAGE, name=name
        )
    return [row async for row in pages], totals


async def remove(github: Session, target: Target, registration_id: int) -> Answer:
    """Remove a runner."""
    actions = github.rest.actions
    if target.repository:
        return await actions.async_delete_self_hosted_runner_from_repo(
            target.owner, target.repository, registration_id
        )
    return await actions.async_delete_self_hosted_runner_from_org(target.owner, registration_id)


async def job(github: Session, target: Target, job_id: int) -> Answer:
    """Show a job."""
    return await github.rest.actions.async_get_job_for_workflow_run(
        target.owner, target.repository or "", job_id
    )


async def run(github: Session, target: Target, run_id: int) -> Answer:
    """Show a run."""
    return await github.rest.actions.async_get_workflow_run(
        target.owner, target.repository or "", run_id, exclude_pull_requests=True
    )


async def groups(github: Session, organization: str) -> Rows:
    """List runner groups, all pages."""
    pages = github.rest.paginate(
        github.rest.actions.async_list_self_hosted_runner_groups_for_org,
        lambda page: rows(page, "runner_groups"),
        organization,
        per_page=PAGE,
    )
    return [row async for row in pages]


async def group_repositories(github: Session, organization: str, group_id: int) -> Rows:
    """List the repositories of a runner group, all pages."""
    pages = github.rest.paginate(
        github.rest.actions.async_list_repo_access_to_self_hosted_runner_group_in_org,
        lambda page: rows(page, "repositories"),
        organization,
        group_id,
        per_page=PAGE,
    )
    return [row async for row in pages]


def deliveries(github: Session) -> AsyncIterator[dict[str, Any]]:
    """List the App's deliveries, newest first, page by page as they are asked for."""
    return github.rest.paginate(
        github.rest.apps.async_list_webhook_deliveries, lambda page: listed(page, "deliveries"), per_page=PAGE
    )


async def delivery(github: Session, delivery_id: int) -> Answer:
    """Show one of the App's deliveries, with what was sent."""
    return await github.rest.apps.async_get_webhook_delivery(delivery_id)


def installations(github: Session) -> AsyncIterator[dict[str, Any]]:
    """List the accounts on which the App is installed."""
    return github.rest.paginate(
        github.rest.apps.async_list_installations, lambda page: listed(page, "installations"), per_page=PAGE
    )


async def visible_repositories(github: Session) -> list[str]:
    """List the repositories that an installation may see; asking again costs nothing while nothing changed."""
    pages = await github.get_conditional(
        "/installation/repositories",
        {"per_page": PAGE},
        lambda page: tuple(full_name(row) for row in rows(page, "repositories")),
    )
    return [name for page in pages for name in page]


async def active_runs(github: Session, target: Target, status: str) -> list[ActiveRun]:
    """List the newest runs of a status; asking again costs nothing while nothing changed."""
    pages = await github.get_conditional(
        f"/repos/{target}/actions/runs",
        {"status": status, "per_page": PAGE, "exclude_pull_requests": "true"},
        lambda page: tuple(map(active_run, rows(page, "workflow_runs"))),
        first=1,
    )
    return [run for page in pages for run in page]


async def jobs_of(github: Session, target: Target, run: ActiveRun) -> list[WorkflowJobEvent]:
    """List the jobs of a run's latest attempt; asking again costs nothing while nothing changed."""
    pages = await github.get_conditional(
        f"/repos/{target}/actions/runs/{run.id}/jobs",
        {"filter": "latest", "per_page": PAGE},
        lambda page: jobs(rows(page, "jobs"), run),
    )
    return [job for page in pages for job in page]


async def past_runs(github: Session, target: Target, since: date, page: int) -> list[ActiveRun]:
    """List one page of the runs that were made since a day and are over, newest first."""
    answer = await github.rest.actions.async_list_workflow_runs_for_repo(
        target.owner,
        target.repository or "",
        status="completed",
        created=f">={since:%Y-%m-%d}",
        exclude_pull_requests=True,
        per_page=PAGE,
        page=page,
    )
    return [active_run(row) for row in rows(answer, "workflow_runs")]


async def past_jobs_of(github: Session, target: Target, run: ActiveRun) -> list[WorkflowJobEvent]:
    """List the jobs of all attempts of a run that is over."""
    pages = github.rest.paginate(
        github.rest.actions.async_list_jobs_for_workflow_run,
        lambda page: rows(page, "jobs"),
        target.owner,
        target.repository or "",
        run.id,
        filter_="all",
        per_page=PAGE,
    )
    return list(all_jobs([row async for row in pages], run))


async def downloads(github: Session, target: Target) -> Answer:
    """List the packages of the actions runner that GitHub offers."""
    actions = github.rest.actions
    if target.repository:
        return await actions.async_list_runner_applications_for_repo(target.owner, target.repository)
    return await actions.async_list_runner_applications_for_org(target.owner)


async def runner_release(github: Session, version: str) -> Answer:
    """Show a release of the actions runner."""
    return await github.rest.repos.async_get_release_by_tag("actions", "runner", f"v{version}")


async def app(github: Session) -> Answer:
    """Show the App we are."""
    return await github.rest.apps.async_get_authenticated()


async def user(github: Session) -> Answer:
    """Show the user whose token we have."""
    return await github.rest.users.async_get_authenticated()
