"""The endpoints we ask, each for an organization or a repository; docs/contracts/github.md §13 lists them."""

from __future__ import annotations

from typing import Any

from githubkit.response import Response
from githubkit.utils import UNSET, Unset

from app.domain.pools import Target
from app.github.answers import rows
from app.github.session import Session

PAGE = 100

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
    """List runners, all pages; ``name=`` narrows the list to one."""
    actions = github.rest.actions
    if target.repository:
        pages = github.rest.paginate(
            actions.async_list_self_hosted_runners_for_repo,
            lambda page: rows(page, "runners"),
            target.owner,
            target.repository,
            per_page=PAGE,
            name=name,
        )
    else:
        pages = github.rest.paginate(
            actions.async_list_self_hosted_runners_for_org,
            lambda page: rows(page, "runners"),
            target.owner,
            per_page=PAGE,
            name=name,
        )
    return [row async for row in pages]


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


async def app(github: Session) -> Answer:
    """Show the App we are."""
    return await github.rest.apps.async_get_authenticated()


async def user(github: Session) -> Answer:
    """Show the user whose token we have."""
    return await github.rest.users.async_get_authenticated()
