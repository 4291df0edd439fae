"""``cidermill service``: the server under launchd, in the session of the user on the Mac's screen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.service.install import Place, Status

commands = typer.Typer(help="Run the server under launchd, from each login on.", no_args_is_help=True)


@commands.command("install")
def install(context: typer.Context) -> None:
    """Install and start the launch agent, or renew it after an upgrade or a move."""
    from app.service import install as steps

    _do(context, steps.install)


@commands.command("uninstall")
def uninstall(context: typer.Context) -> None:
    """Stop and remove the launch agent; VMs that run, and the state directory, stay."""
    from app.service import install as steps

    _do(context, steps.uninstall)


@commands.command("status")
def status(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Say whether the launch agent is installed and runs; the exit code is 1 where it does not run."""
    from app.service import install as steps
    from app.service.launchctl import ServiceError

    try:
        found = steps.status(_place(context))
    except ServiceError as error:
        typer.echo(f"{error}.", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(_as_json(found)) if as_json else _as_text(found))
    raise typer.Exit(0 if found.is_running else 1)


def _place(context: typer.Context) -> Place:
    from app.service.install import Place

    return context.obj if isinstance(context.obj, Place) else Place.here()  # a test hands one in


def _do(context: typer.Context, step: Callable[[Place], str]) -> None:
    from app.configfile import ConfigError
    from app.service.launchctl import ServiceError

    try:
        typer.echo(f"{step(_place(context))}.")
    except ConfigError as error:
        typer.echo(error.report(), err=True)
        raise typer.Exit(1) from None
    except ServiceError as error:
        typer.echo(f"{error}.", err=True)
        raise typer.Exit(1) from None


def _as_json(found: Status) -> dict[str, object]:
    return {
        "installed": found.installed,
        "running": found.is_running,
        "session": found.session,
        "launchd": asdict(found.loaded) if found.loaded else None,
        "mend": found.mend,
    }


def _as_text(found: Status) -> str:
    loaded = found.loaded
    if loaded is not None and found.is_running:
        first = f"running, process {loaded.pid}, started {loaded.runs or '?'} times since it was loaded"
    elif loaded is not None:
        first = (
            f"not running ({loaded.state or 'state unknown'}), last exit code {loaded.last_exit or 'unknown'}"
        )
    else:
        first = "installed, and not loaded" if found.installed else "not installed"
    return first + (f"\n{found.mend}" if found.mend else "")
