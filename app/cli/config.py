"""``cidermill config``: look at the configuration without starting anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(help="Look at the configuration.", no_args_is_help=True)


@commands.command("check")
def check(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Read the configuration as `serve` would, and say what is wrong with it."""
    from app.advice import advice
    from app.configfile import ConfigError, load

    try:
        settings = load(os.environ, Path.cwd())
    except ConfigError as error:
        if as_json:
            typer.echo(json.dumps({"valid": False, "problems": error.problems, "warnings": []}))
        else:
            typer.echo(error.report(), err=True)
        raise typer.Exit(1) from None
    warnings = list(advice(settings))
    if as_json:
        typer.echo(json.dumps({"valid": True, "problems": [], "warnings": warnings}))
        return
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    pools = ", ".join(f"{pool.name} ({', '.join(pool.runner_labels)})" for pool in settings.pools)
    typer.echo(f"The configuration is valid: {settings.where}, pools: {pools}.")
