"""``cidermill drain``, ``resume``, ``reconcile`` and ``reload``: what an operator has the server do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from app.cli import show
from app.cli.client import Client, part, server

Worker = Annotated[
    str | None,
    typer.Option("--worker", help="One Mac of an Orchard fleet alone, such as mini2.", show_default=False),
]


def drain(
    context: typer.Context,
    *,
    worker: Worker = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return once nothing runs any more.")] = False,
) -> None:
    """Start nothing new, and let what runs finish; it outlives a restart."""
    with server(context) as api:
        if worker is not None:
            api.post(f"/hosts/{part(worker)}/drain")
            show.show(f"Nothing new starts on {worker} until `cidermill resume --worker {worker}`.")
            while wait and _in_use(api, worker):
                time.sleep(show.BETWEEN_LOOKS)
            if wait:
                show.show(f"{worker} is empty.")
            return
        api.post("/drain")
        show.show("Nothing new starts until `cidermill resume`.")
        used = None
        while wait and (status := api.get("/status"))["slots_used"]:
            if status["slots_used"] != used:
                used = status["slots_used"]
                held = f", {status['held']} of them held for debugging" if status["held"] else ""
                show.show(f"{used} slots in use{held} …")
            time.sleep(show.BETWEEN_LOOKS)
        if wait:
            show.show("Empty.")


def _in_use(api: Client, worker: str) -> bool:
    slots = api.get("/slots")
    return any(slot["runner"] and slot["slot"].rpartition("/")[0] == worker for slot in slots)


def resume(context: typer.Context, *, worker: Worker = None) -> None:
    """Start runners again."""
    with server(context) as api:
        if worker is not None:
            api.post(f"/hosts/{part(worker)}/resume")
            show.show(f"Runners start on {worker} again.")
            return
        api.post("/resume")
        show.show("Runners start again.")


def reconcile(context: typer.Context) -> None:
    """Look at the host now, and try at once whatever waits after failures."""
    with server(context) as api:
        api.post("/reconcile")
        show.show("It looks again now.")


def reload(context: typer.Context, *, as_json: show.AsJson = False) -> None:
    """Read the configuration again and take its pools, all or nothing; runners with a job go on as they were launched."""
    with server(context) as api:
        done = api.post("/reload")
        if as_json:
            show.print_json(done)
        else:
            show.show(*_told(done))


def _told(done: dict[str, Any]) -> Iterator[str]:
    yield from (f"pool {name}: added" for name in done["added"])
    yield from (f"pool {name}: removed" for name in done["removed"])
    yield from (f"pool {c['pool']}: {c['key']}: {c['old']} → {c['new']}" for c in done["changes"])
    if not (done["added"] or done["removed"] or done["changes"]):
        yield "The pools are as they were."
    if done["needs_restart"]:
        yield f"Changed on disk, and taken at the next start: {', '.join(done['needs_restart'])}"
