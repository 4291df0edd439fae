"""``cidermill jobs`` and ``cidermill why``: the jobs we know of, and why one stands where it does."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from app.cli import show
from app.cli.client import Client, part, server

STATUSES = ("waiting", "queued", "in_progress", "completed")


def jobs(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="Only those: " + ", ".join(STATUSES) + ".")] = None,
    repository: Annotated[str | None, typer.Option(help="Only those of OWNER/NAME.")] = None,
    pool: Annotated[str | None, typer.Option(help="Only those of a pool.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 20,
    as_json: show.AsJson = False,
    watch: show.Watch = False,
) -> None:
    """List jobs, newest first."""
    if status is not None and status not in STATUSES:
        raise typer.BadParameter(f"{status!r} is none of {', '.join(STATUSES)}", param_hint="--status")

    def found(api: Client) -> list[dict[str, Any]]:
        page = api.get("/jobs", status=status, repository=repository, pool=pool, limit=limit)
        items: list[dict[str, Any]] = page["items"]
        return items

    with server(context) as api:
        if watch:
            show.watch(lambda: [_table(found(api))])
        elif as_json:
            show.print_json(found(api))
        else:
            show.show(_table(found(api)))


def _table(items: list[dict[str, Any]]) -> show.Grid:
    rows = [
        [
            job["id"],
            job["conclusion"] or job["status"],
            job["repository"],
            job["name"],
            job["pool"],
            job["runner"],
            _waited(job),
            _ran(job),
        ]
        for job in items
    ]
    return show.Grid(("job", "status", "repository", "name", "pool", "runner", "waited", "ran"), rows)


def _waited(job: dict[str, Any]) -> str:
    return _between(job["queued_at"], job["started_at"] or job["completed_at"])


def _ran(job: dict[str, Any]) -> str:
    return _between(job["started_at"], job["completed_at"]) if job["started_at"] else ""


def _between(start: str, end: str | None) -> str:
    if end is None:
        return show.since(start)
    return show.span((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def why(
    context: typer.Context,
    job: Annotated[
        int, typer.Argument(help="The number of the job: the last one in its address at GitHub.", min=0)
    ],
    *,
    as_json: show.AsJson = False,
) -> None:
    """Say why a job stands where it does, stage by stage."""
    with server(context) as api:
        found = api.get(f"/jobs/{part(job)}")
        if as_json:
            show.print_json(found)
            return
        title = f"Job {found['id']}, {found['name']} of {found['repository']}: {found['status']}"
        show.show(title, found["explanation"], "", _stages(found["stages"]))


def _stages(stages: list[dict[str, Any]]) -> show.Grid:
    rows, before = [], None
    for stage in stages:
        at = datetime.fromisoformat(stage["at"])
        after = f"+{show.span((at - before).total_seconds())}" if before else ""
        rows.append([f"{at.astimezone():%Y-%m-%d %H:%M:%S}", after, stage["name"], stage["detail"]])
        before = at
    return show.Grid(("at", "after", "stage", "detail"), rows)
