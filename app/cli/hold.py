"""``cidermill hold`` and ``cidermill release``: keep a runner's VM for debugging, and let it go."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any

import typer

from app.cli import show
from app.cli.client import Client, part, server
from app.cli.runners import Name
from app.domain.runners import LONGEST_HOLD

LONGEST = int(LONGEST_HOLD.total_seconds() // 60)
TOLD_WITHIN = 10.0  # s, for the guest to be told


def hold(
    context: typer.Context,
    name: Name,
    *,
    minutes: Annotated[int, typer.Option("--minutes", "-m", min=1, max=LONGEST, help="How long.")] = 60,
    as_json: show.AsJson = False,
) -> None:
    """Keep a runner's VM for debugging, after its job too; its slot comes free by itself when the time is over."""
    with server(context) as api:
        held = _told(api, name, api.post(f"/runners/{part(name)}/hold", {"minutes": minutes}))
        if as_json:
            show.print_json(held)
            return
        until = datetime.fromisoformat(held["held_until"]).astimezone()
        show.show(f"{name} is held until {until:%H:%M:%S}. `cidermill shell {name}` opens a shell in it.")
        if held["guest_held_until"] != held["held_until"]:
            typer.echo(
                "Its guest has not been told yet: until then it may power off with its runner.", err=True
            )


def _told(api: Client, name: str, held: dict[str, Any]) -> dict[str, Any]:
    """Wait a moment for the guest to be told."""
    limit = time.monotonic() + TOLD_WITHIN
    while held["guest_held_until"] != held["held_until"] and time.monotonic() < limit:
        time.sleep(0.2)
        held = api.get(f"/runners/{part(name)}")
    return held


def release(context: typer.Context, name: Name) -> None:
    """Keep a runner's VM no longer than usual."""
    with server(context) as api:
        api.delete(f"/runners/{part(name)}/hold")
        show.show(f"{name} is held no longer.")
