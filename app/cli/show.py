"""What commands print: on a terminal tables and colours, in a pipe plain lines with tabs; as JSON where it is asked for.

Names and texts come from workflows and guests, so nothing in them can move the cursor or colour a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.client import Trouble
from app.clock import utcnow

if TYPE_CHECKING:
    from rich.console import RenderableType

BETWEEN_LOOKS = 2.0  # s, of a live view
COLOURS = {
    "busy": "green",
    "in_progress": "green",
    "success": "green",
    "failure": "red",
    "queued": "yellow",
    "waiting": "yellow",
    "free": "bright_black",
    "gone": "bright_black",
}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Watch = Annotated[bool, typer.Option("--watch", help="Keep showing it, until Ctrl-C.")]


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows under headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[object]]


Block = str | Grid


def clean(text: object) -> str:
    """Return *text* with everything left out that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in str(text if text is not None else ""))


def span(seconds: float) -> str:
    """Return a stretch of time in few words: "42 s", "7 min", "3 h 5 min", "2 d 4 h"."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def since(at: str | None) -> str:
    """Return how long ago a time of the API is."""
    return span((utcnow() - datetime.fromisoformat(at)).total_seconds()) if at else ""


def left(until: str | None) -> str:
    """Return how long it is until a time of the API; nothing once it is past."""
    seconds = (datetime.fromisoformat(until) - utcnow()).total_seconds() if until else 0
    return span(seconds) if seconds > 0 else ""


def print_json(value: object) -> None:
    """Print *value* for a program."""
    typer.echo(json.dumps(value, indent=2))


def show(*blocks: Block) -> None:
    """Print blocks for whoever reads them."""
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        for block in blocks:
            console.print(_drawn(block), markup=False)
        return
    for block in blocks:
        if isinstance(block, str):
            typer.echo(clean(block))
            continue
        for row in (block.headings, *block.rows):
            typer.echo("\t".join(map(clean, row)))


def _drawn(block: Block) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if isinstance(block, str):
        return Text(clean(block))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in block.headings:
        table.add_column(heading, overflow="fold")
    for row in block.rows:
        table.add_row(*(Text(clean(cell), style=COLOURS.get(str(cell), "")) for cell in row))
    return table


def watch(blocks: Callable[[], Sequence[Block]]) -> None:
    """Show what *blocks* returns, again and again, until Ctrl-C; a server that is gone is said, and waited for."""
    if not sys.stdout.isatty():
        typer.echo("--watch needs a terminal: leave it out, or use --json in a loop of your own.", err=True)
        raise typer.Exit(2)
    from rich.console import Group
    from rich.live import Live

    shown: list[RenderableType] = []
    try:
        with Live(Group(), auto_refresh=False, screen=True) as live:
            while True:
                try:
                    shown = [_drawn(block) for block in blocks()]
                    live.update(Group(*shown), refresh=True)
                except Trouble as trouble:
                    live.update(Group(_drawn(f"{trouble} Trying again …"), *shown), refresh=True)
                time.sleep(BETWEEN_LOOKS)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def rows_of(items: Sequence[dict[str, Any]], *names: str) -> list[list[object]]:
    """Return the named fields of each item, as rows."""
    return [[item[name] for name in names] for item in items]
