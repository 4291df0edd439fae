"""What the demo shows: live on a terminal, a line a change on a pipe, and a table of every job at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.sandbox.github_values import Job
from app.sandbox.server import Server

STAGES = ("slot", "boot", "ready", "registered", "picked up", "done", "destroyed")
WIDTH = 110  # on a pipe
COLOURS = {"queued": "yellow", "in_progress": "cyan", "completed": "green"}


class Screen:
    """The demo's output."""

    def __init__(self) -> None:
        console = Console()
        self._console = console if console.is_terminal else Console(width=WIDTH)
        self._live: Live | None = None
        self._said: dict[str, str] = {}

    def begin(self, link: str, place: Path) -> None:
        """Say what is about to be seen."""
        self._console.print(
            Panel(
                "This is a [bold]simulation[/]: the real CiderMill server, between a simulated GitHub and a "
                f"simulated tart.\nEverything lives in {place} and goes with it.",
                title="cidermill demo",
                border_style="magenta",
            )
        )
        self._console.print(f"Dashboard: {link}", soft_wrap=True)  # a link that is broken in two is none

    def live(self) -> AbstractContextManager[object]:
        """Update in place for as long as this lasts, where there is a terminal."""
        if not self._console.is_terminal:
            return nullcontext()
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        return self._live

    def show(self, slots: Sequence[dict[str, Any]], jobs: Sequence[Job], seconds: float) -> None:
        """Show the present state."""
        if self._live is not None:
            self._live.update(Group(_slots(slots, seconds), _queue(jobs)))
            return
        for job in jobs:
            key, now = f"{job.name} of {job.run.repository.full_name}", job.conclusion or job.status
            if self._said.get(key) != now:
                self._said[key] = now
                where = f" on {job.runner_name}" if job.runner_name else ""
                self._console.print(f"{seconds:5.1f} s  {key}: {now}{where}", highlight=False)

    async def table(self, server: Server, jobs: Sequence[Job]) -> None:
        """Show every job with its stages, in seconds since its webhook came, or why it did not run."""
        table = Table(
            title="Every job, in seconds since its webhook came",
            caption="A simulation: control-plane time. GitHub's own times (picked up, done) are whole seconds.",
        )
        for heading in ("job", "repository", "ended"):
            table.add_column(heading)
        for heading in STAGES:
            table.add_column(heading, justify="right")
        waiting: list[str] = []
        for job in jobs:
            seen = await server.get(f"/api/v1/jobs/{job.id}")
            table.add_row(
                job.name, seen["repository"], seen["conclusion"] or seen["status"], *_seconds(seen["stages"])
            )
            if seen["runner"] is None:
                waiting.append(f"{job.name}: {seen['explanation']}")
        self._console.print(table)
        for line in waiting:
            self._console.print(f"  {line}", highlight=False)

    def end(self, problems: Sequence[str]) -> None:
        """Say what is left behind, and whether all went as it must."""
        if not problems:
            self._console.print("[green]Left behind: nothing[/] (no VM, no registration, no secret on disk).")
        for problem in problems:
            self._console.print(f"[red]wrong:[/] {problem}", highlight=False)

    def going_on(self, link: str) -> None:
        """Say that jobs go on, and how to end it."""
        self._console.print(f"Jobs go on until Ctrl-C: {link}", soft_wrap=True)


def _seconds(stages: Sequence[dict[str, str]]) -> list[str]:
    at = {stage["name"]: datetime.fromisoformat(stage["at"]) for stage in stages}
    return [f"{(at[name] - at['received']).total_seconds():.1f}" if name in at else "" for name in STAGES]


def _slots(slots: Sequence[dict[str, Any]], seconds: float) -> Table:
    table = Table(title=f"Slots after {seconds:.0f} s", expand=True)
    for heading in ("slot", "state", "runner"):
        table.add_column(heading)
    for slot in slots:
        table.add_row(slot["slot"], slot["state"], slot["runner"] or "")
    return table


def _queue(jobs: Sequence[Job]) -> Table:
    table = Table(expand=True)
    for heading in ("job", "repository", "status", "runner"):
        table.add_column(heading)
    for job in jobs:
        status = Text(job.conclusion or job.status, style=COLOURS.get(job.status, ""))
        table.add_row(job.name, job.run.repository.full_name, status, job.runner_name or "")
    return table
