"""``cidermill runners``, ``logs``, ``stop`` and ``shell``: the runners, what they say, and how one ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import show
from app.cli.client import Client, Trouble, part, server

Name = Annotated[
    str, typer.Argument(metavar="RUNNER", help="The runner's name, as `cidermill runners` shows it.")
]
LOGIN = 'exec "${SHELL:-/bin/bash}" -l'


def runners(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that are gone too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: show.AsJson = False,
) -> None:
    """List runners, newest first."""
    with server(context) as api:
        found = api.get("/runners", live=not every, limit=limit)
        if as_json:
            show.print_json(found)
        else:
            show.show(_table(found))


def _table(found: list[dict[str, Any]]) -> show.Grid:
    rows = [
        [
            one["name"],
            one["state"],
            show.since(one["since"]),
            one["slot"],
            one["target"],
            one["job_id"],
            one["reason"],
            show.left(one["held_until"]),
        ]
        for one in found
    ]
    return show.Grid(("runner", "state", "for", "slot", "registered at", "job", "reason", "held for"), rows)


def logs(
    context: typer.Context,
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the runner is gone.")] = False,
) -> None:
    """Print the kept output of a VM and of the runner in it."""
    with server(context) as api:
        try:
            for line in api.lines(f"/runners/{part(name)}/logs", follow=follow):
                typer.echo(show.clean(line.replace("\t", "    ")))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def stop(
    context: typer.Context,
    name: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Whatever it does: a job that runs on it fails.")
    ] = False,
) -> None:
    """Stop a runner; one that works finishes its job first, unless it is forced."""
    with server(context) as api:
        state = api.get(f"/runners/{part(name)}")["state"]
        if force and state == "busy":
            _make_sure(name)
        api.delete(f"/runners/{part(name)}", force=force)
        waits = state == "busy" and not force
        show.show(f"{name} {'stops once its job is done' if waits else 'is being stopped'}.")


def _make_sure(name: str) -> None:
    typer.echo(f"A job runs on {name} and would fail.", err=True)
    if (
        typer.prompt(
            "Type the runner's name to stop it all the same", err=True, default="", show_default=False
        )
        != name
    ):
        raise Trouble("That is not its name: nothing was stopped.")


def shell(context: typer.Context, name: Name) -> None:
    """Open a shell in a runner's VM, on the Mac that runs it. `cidermill hold` keeps the VM there meanwhile."""
    with server(context) as api:
        _must_run(api, name)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Trouble("A shell needs a terminal: run it without a pipe, over SSH with `ssh -t`.")
        program, env = _tart(name)
        try:
            os.execvpe(program, [program, "exec", "-i", "-t", name, "/bin/sh", "-c", LOGIN], env)  # noqa: S606
        except OSError as error:
            raise Trouble(
                f"Cannot run {program} ({error.strerror}): set tart_path, and run this on the Mac."
            ) from None


def _must_run(api: Client, name: str) -> None:
    state = api.get(f"/runners/{part(name)}")["state"]
    if state in {"claimed", "booting", "stopping", "gone"}:
        raise Trouble(f"{name} is {state}: there is no VM to open a shell in.")


def _tart(name: str) -> tuple[str, dict[str, str]]:
    from app.configfile import ConfigError, load
    from app.vm.command import Tart, tart_home

    try:
        settings = load(os.environ, Path.cwd())
    except ConfigError as error:
        raise Trouble(error.report()) from None
    if settings.backend == "orchard":
        raise Trouble(f"It is on a Mac that Orchard drives: `orchard ssh vm {name}` opens a shell in it.")
    tart = Tart(settings.tart_path, tart_home(settings.tart_home, os.environ), os.environ)
    return tart.program, {**os.environ, **tart.env}
