"""``cidermill demo``: watch the main job on a simulated Mac, with nothing to configure."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from enum import StrEnum
from typing import Annotated

import typer


class Backend(StrEnum):
    """What may run the VMs."""

    TART = "tart"
    ORCHARD = "orchard"


def demo(
    seed: Annotated[int | None, typer.Option(help="Repeat a run's chance.", show_default="a new one")] = None,
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--once", help="Go on with other jobs until Ctrl-C.", show_default="on a terminal"
        ),
    ] = None,
    backend: Annotated[
        Backend, typer.Option(help="What runs the VMs: tart on one Mac, or Orchard on two.")
    ] = Backend.TART,
) -> None:
    """Watch the main job, from queued webhooks to destroyed VMs, on a simulated GitHub and simulated Macs."""
    from app.sandbox.demo import run

    chosen = secrets.randbelow(2**32) if seed is None else seed
    typer.echo(f"seed {chosen}")
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: it must not leave its server and VMs behind
        signal.signal(number, signal.default_int_handler)
    try:
        went_well = asyncio.run(
            run(
                chosen,
                keep=sys.stdout.isatty() if keep is None else keep,
                orchard=backend is Backend.ORCHARD,
            )
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not went_well:
        raise typer.Exit(1)
