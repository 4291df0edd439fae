"""The program on a terminal: colours, a live view, a shell."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from app.clock import utcnow
from tests.api.conftest import TOKEN
from tests.cli.conftest import Desk
from tests.cli.test_program import CONFIG

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 30.0  # s


def on_a_terminal(desk: Desk, place: Path, *arguments: str, until: Callable[[str], bool]) -> tuple[str, int]:
    """Run the program on a terminal, press Ctrl-C when *until* holds, and return what it showed and its exit code."""
    ours, theirs = pty.openpty()
    where = ("--url", desk.url, "--token-file", str(desk.token_file))
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.program", *where, *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=place, start_new_session=True,
        env={"PATH": os.environ["PATH"], "HOME": str(place), "PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown, began = "", utcnow()
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        assert (utcnow() - began).total_seconds() < LIMIT, shown
        if select.select([ours], [], [], 0.1)[0]:
            try:
                shown += os.read(ours, 65536).decode(errors="replace")
            except OSError:
                break  # the other end is closed
        if until(shown) and process.poll() is None:
            process.send_signal(signal.SIGINT)
            until = str.isspace
    os.close(ours)
    return shown, process.wait(LIMIT)


async def test_a_live_view(desk: Desk, tmp_path: Path) -> None:
    """`--watch` shows the state in colours, again and again, until Ctrl-C."""
    runner = await desk.server.idle_runner()
    shown, code = await asyncio.to_thread(
        on_a_terminal, desk, tmp_path, "status", "--watch", until=lambda text: text.count(runner.name) >= 2
    )
    assert code == 0
    assert "1 of 2 slots in use" in shown
    assert "\x1b[" in shown


async def test_the_link(desk: Desk, tmp_path: Path) -> None:
    """`status` ends with the dashboard's link, which lets its reader in: whole, whatever the terminal's width."""
    await desk.server.passes()
    shown, code = await asyncio.to_thread(on_a_terminal, desk, tmp_path, "status", until=lambda _: False)
    assert (code, f"Dashboard: {desk.url}/?token={TOKEN}\r\n" in shown) == (0, True), shown


async def test_a_shell_is_tarts(desk: Desk, tmp_path: Path) -> None:
    """`shell` becomes `tart exec` with a terminal, as the configuration names tart."""
    runner = await desk.server.idle_runner()
    tart = tmp_path / "tart"
    tart.write_text('#!/bin/sh\necho "ran: $*"\n')
    tart.chmod(0o755)
    (tmp_path / "cidermill.toml").write_text(f'tart_path = "{tart}"\n{CONFIG}')
    (tmp_path / "cidermill.toml").chmod(0o600)
    shown, code = await asyncio.to_thread(
        on_a_terminal, desk, tmp_path, "shell", runner.name, until=lambda _: False
    )
    assert (code, f"ran: exec -i -t {runner.name} /bin/sh -c" in shown) == (0, True), shown
