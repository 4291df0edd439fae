"""``cidermill status``: the state of the whole on one page."""

from __future__ import annotations

import sys
from typing import Any

import typer

from app.cli import show
from app.cli.client import Client, server


def status(context: typer.Context, *, as_json: show.AsJson = False, watch: show.Watch = False) -> None:
    """Show what runs in each slot, what waits, what rests after failures, what to see to, and where the dashboard is."""
    with server(context) as api:
        if watch:
            show.watch(lambda: _page(api))
        elif as_json:
            show.print_json(api.get("/status") | {"slot": api.get("/slots"), "host": api.get("/hosts")})
        else:
            show.show(*_page(api))
            # The link lets its reader in, so it goes to a terminal and nowhere else; no wrapping may break it.
            typer.echo(f"\nDashboard: {api.door.link if sys.stdout.isatty() else api.door.url}")


def _page(api: Client) -> list[show.Block]:
    whole, slots = api.get("/status"), api.get("/slots")
    blocks: list[show.Block] = [*_summary(whole), "", _slots(slots)]
    macs = [host for host in api.get("/hosts") if host["host"]]
    if macs:
        blocks += ["", _macs(macs)]
    if whole["cooldowns"]:
        blocks += ["", "Waiting after failures:", _cooldowns(whole["cooldowns"])]
    if whole["warnings"]:
        blocks += ["", *(f"Warning: {text}" for text in whole["warnings"])]
    return blocks


def _summary(whole: dict[str, Any]) -> list[str]:
    held = f", {whole['held']} held for debugging" if whole["held"] else ""
    oldest = f", the first for {show.since(whole['oldest_unserved'])}" if whole["oldest_unserved"] else ""
    of = "" if whole["slots"] is None else f" of {whole['slots']}"
    lines = [
        f"CiderMill {whole['version']}, up for {show.span(whole['uptime'])}",
        (
            f"{whole['slots_used']}{of} slots in use{held}; jobs: {whole['in_progress']} running, "
            f"{whole['queued']} waiting{oldest}"
        ),
    ]
    if whole["looked_at"] is None:
        lines.append("The Macs have not been looked at yet, so free slots are not known.")
    if whole["look_failed"]:
        lines.append(f"The last look at the Macs failed: {whole['look_failed']}.")
    if whole["draining"]:
        lines.append("Draining: nothing new starts until `cidermill resume`.")
    return lines


def _doing(slot: dict[str, Any]) -> str:
    if slot["pulling"]:
        return f"{slot['state']}, pulling {slot['pulling']}"
    if slot["preparing"]:
        return f"{slot['state']}, preparing {slot['preparing']}"
    return f"closed, {slot['closed']}" if slot["closed"] and not slot["runner"] else str(slot["state"])


def _slots(slots: list[dict[str, Any]]) -> show.Grid:
    rows = [
        [
            slot["slot"],
            _doing(slot),
            slot["runner"],
            slot["pool"],
            show.since(slot["since"]),
            show.left(slot["held_until"]),
        ]
        for slot in slots
    ]
    return show.Grid(("slot", "state", "runner", "pool", "for", "held for"), rows)


def _macs(macs: list[dict[str, Any]]) -> show.Grid:
    rows = [
        [
            mac["host"],
            f"{mac['state']}, {mac['closed']}" if mac["closed"] else mac["state"],
            f"{mac['used']} of {mac['slots']}",
            f"{show.since(mac['seen_at'])} ago" if mac["seen_at"] else "never",
        ]
        for mac in macs
    ]
    return show.Grid(("Mac", "state", "slots in use", "heard of"), rows)


def _cooldowns(cooldowns: list[dict[str, Any]]) -> show.Grid:
    rows = [[c["scope"], c["failures"], show.left(c["until"]) or "now", c["detail"]] for c in cooldowns]
    return show.Grid(("scope", "failures", "next try in", "why"), rows)
