"""Reads GitHub's answers: plain JSON in, our frozen values out.

Read tolerantly, the few fields we need: githubkit's models turn away a job with a status that is new
(docs/contracts/github.md §7.3). What lacks even these is no answer, never an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from githubkit.response import Response

from app.domain.hearing import LogEntry
from app.domain.jobs import JobStatus, Source, WorkflowJobEvent
from app.domain.world import Registration, RunnerGroup
from app.github.downloads import Offer
from app.github.webhook import event_of, job_event
from app.ports import GitHubUnavailable, JitConfig, Minted, Run

SUBSCRIPTION = "workflow_job"
RUNNER_PACKAGE = re.compile(r"[A-Za-z0-9_-]+-(\d+\.\d+\.\d+)\.tar\.gz", re.ASCII)
RUNNER_PERMISSIONS = ("organization_self_hosted_runners", "administration")


def _unreadable(what: str) -> GitHubUnavailable:
    return GitHubUnavailable(f"GitHub's answer cannot be read: {what}")


def body(response: Response[Any]) -> dict[str, Any]:
    """Return the JSON object of an answer."""
    try:
        data = response.json()
    except (ValueError, RecursionError):
        data = None  # some proxy's page; its text is not for logs
    if not isinstance(data, dict):
        raise _unreadable("it is not a JSON object")
    return data


def rows(response: Response[Any], key: str) -> list[dict[str, Any]]:
    """Return the objects listed under *key* on one page."""
    listed = body(response).get(key)
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise _unreadable(f"{key} is not a list")
    return listed


def total(response: Response[Any]) -> int:
    """Return how many things GitHub says there are on all pages together."""
    return _number(body(response), "total_count")


def listed(response: Response[Any], what: str) -> list[dict[str, Any]]:
    """Return the objects of an answer that is a list."""
    try:
        data = response.json()
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise _unreadable(f"the list of {what} is not one")
    return data


def _number(data: dict[str, Any], key: str) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _unreadable(f"{key} is not a number")
    return value


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise _unreadable(f"{key} is not text")
    return value


def installation_id(response: Response[Any]) -> int:
    """Return the id of an installation."""
    return _number(body(response), "id")


def minted(response: Response[Any]) -> Minted:
    """Return what was registered. The JIT config is looked at by nobody."""
    data = body(response)
    runner = data.get("runner")
    if not isinstance(runner, dict) or not data.get("encoded_jit_config"):
        raise _unreadable("no runner, or no JIT config")
    jit = JitConfig(_text(data, "encoded_jit_config"))
    return Minted(registration_id=_number(runner, "id"), jit=jit)


def expect_removed(response: Response[Any]) -> None:
    """Take nothing but 204 for a removal: a redirect or a proxy may have made another answer of it."""
    if response.status_code != 204:
        raise _unreadable(f"{response.status_code} to a removal")


def registration(row: dict[str, Any]) -> Registration:
    """Return one runner of a list."""
    return Registration(
        id=_number(row, "id"),
        name=_text(row, "name"),
        online=row.get("status") == "online",
        busy=row.get("busy") is True,
    )


def job(response: Response[Any], repository: str, job_id: int) -> WorkflowJobEvent:
    """Return a job. The answer names no repository, so the event's owner and visibility are only defaults."""
    event = job_event(body(response), {"full_name": repository})
    if event is None or event.id != job_id:
        raise _unreadable(f"it is not the job {job_id} of {repository}")
    return replace(event, source=Source.LOOK)


def run(response: Response[Any]) -> Run:
    """Return a run. Where its head came from and that is gone, or is not told, it counts as a fork."""
    data = body(response)
    head, home = data.get("head_repository"), data.get("repository")
    same = isinstance(head, dict) and isinstance(home, dict) and _number(head, "id") == _number(home, "id")
    conclusion = data.get("conclusion")
    return Run(
        status=_text(data, "status"),
        conclusion=conclusion if isinstance(conclusion, str) else None,
        event=_text(data, "event"),
        fork=not same,
    )


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that is not over, with its repository as GitHub shows it: what its jobs do not tell of themselves."""

    id: int
    full_name: str
    repository_id: int
    organization: bool
    private: bool


def active_run(row: dict[str, Any]) -> ActiveRun:
    """Return one run of a list."""
    home = row.get("repository")
    if not isinstance(home, dict):
        raise _unreadable("a run without a repository")
    owner = home.get("owner")
    return ActiveRun(
        id=_number(row, "id"),
        full_name=_text(home, "full_name"),
        repository_id=_number(home, "id"),
        organization=isinstance(owner, dict) and owner.get("type") == "Organization",
        private=home.get("private") is not False,
    )


def jobs(rows: Iterable[dict[str, Any]], run: ActiveRun) -> tuple[WorkflowJobEvent, ...]:
    """Return the jobs of a run that are not over."""
    return tuple(event for event in all_jobs(rows, run) if event.status is not JobStatus.COMPLETED)


def all_jobs(rows: Iterable[dict[str, Any]], run: ActiveRun) -> tuple[WorkflowJobEvent, ...]:
    """Return the jobs of a run."""
    home = {
        "full_name": run.full_name,
        "id": run.repository_id,
        "private": run.private,
        "owner": {"type": "Organization" if run.organization else "User"},
    }
    read = (job_event(row, home) for row in rows)
    return tuple(replace(event, source=Source.LOOK) for event in read if event is not None)


def full_name(row: dict[str, Any]) -> str:
    """Return a repository's full name."""
    return _text(row, "full_name")


def owner(row: dict[str, Any]) -> str:
    """Return the account of an installation."""
    account = row.get("account")
    if not isinstance(account, dict):
        raise _unreadable("an installation without an account")
    return _text(account, "login")


def log_entry(row: dict[str, Any]) -> LogEntry:
    """Return one attempt of the delivery log. Only ``OK`` is a success (docs/contracts/github.md §2.2)."""
    return LogEntry(
        id=_number(row, "id"),
        guid=_text(row, "guid"),
        event=_text(row, "event"),
        at=_when(row, "delivered_at"),
        arrived=row.get("status") == "OK",
    )


def logged_event(response: Response[Any]) -> WorkflowJobEvent | None:
    """Return what a logged delivery tells of a job; trusted, since GitHub's API told it."""
    request = body(response).get("request")
    payload = request.get("payload") if isinstance(request, dict) else None
    return event_of(payload) if isinstance(payload, dict) else None


def offered(response: Response[Any]) -> Offer:
    """Return the runner that GitHub offers for a Mac with Apple silicon (docs/contracts/github.md §4.4)."""
    for row in listed(response, "packages"):
        if (row.get("os"), row.get("architecture")) == ("osx", "arm64"):
            found = RUNNER_PACKAGE.fullmatch(_text(row, "filename"))
            if found is not None:
                checksum, token = row.get("sha256_checksum"), row.get("temp_download_token")
                return Offer(
                    version=found[1],
                    file_name=found[0],
                    url=_text(row, "download_url"),
                    sha256=checksum.lower() if isinstance(checksum, str) and checksum else None,
                    token=token if isinstance(token, str) and token else None,
                )
    raise _unreadable("no runner for osx/arm64")


def published(response: Response[Any]) -> datetime:
    """Return when a release was published."""
    return _when(body(response), "published_at")


def _when(data: dict[str, Any], key: str) -> datetime:
    try:
        return datetime.fromisoformat(_text(data, key)).astimezone(UTC)
    except ValueError as error:
        raise _unreadable(f"{key} is not a time") from error


def find_group(groups: Iterable[dict[str, Any]], name: str | None) -> dict[str, Any] | None:
    """Return the group called *name*, or the default one."""
    for group in groups:
        if (
            group.get("default") is True
            if name is None
            else _text(group, "name").casefold() == name.casefold()
        ):
            return group
    return None


def group(row: dict[str, Any], repositories: Iterable[dict[str, Any]]) -> RunnerGroup:
    """Return a runner group with the repositories that it is open to."""
    return RunnerGroup(
        id=_number(row, "id"),
        name=_text(row, "name"),
        visibility=_text(row, "visibility"),
        allows_public=row.get("allows_public_repositories") is True,
        repositories=tuple(_text(repository, "full_name") for repository in repositories),
    )


def whose(data: dict[str, Any]) -> str:
    """Return the name of an App, or of a user."""
    return _text(data, "slug" if "slug" in data else "login")


def lacking(app: dict[str, Any]) -> list[str]:
    """Return what the App's registration lacks for us, each with its name on GitHub's page."""
    found = app.get("permissions")
    permissions = found if isinstance(found, dict) else {}
    lacks = []
    if permissions.get("actions") not in {"read", "write"}:
        lacks.append("the repository permission Actions: read")
    if not any(permissions.get(key) == "write" for key in RUNNER_PERMISSIONS):
        lacks.append(
            "the organization permission Self-hosted runners: write (or, for repositories of a user, the "
            "repository permission Administration: write)"
        )
    events = app.get("events")
    if isinstance(events, list) and SUBSCRIPTION not in events:
        lacks.append("the subscription to the event Workflow job")
    return lacks
