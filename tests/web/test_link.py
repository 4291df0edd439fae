"""The link that lets its reader in is shown on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.test_program import CONFIG


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_the_link(tmp_path: Path, terminal: bool) -> None:
    """`serve` says where the dashboard is before anything else, here before it finds that there is no tart."""
    (tmp_path / "cidermill.toml").touch(mode=0o600)
    (tmp_path / "cidermill.toml").write_text(CONFIG, encoding="utf-8")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path.cwd()),
        "CIDERMILL_STATE_DIR": str(tmp_path / "state"),
        "CIDERMILL_TART_PATH": str(tmp_path / "no-tart"),
        "CIDERMILL_LISTEN": "127.0.0.1:8123",
    }
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-m", "app.cli.program", "serve"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=env, stdout=theirs, stderr=theirs, timeout=60, check=False
    )
    os.close(theirs)
    said = b""
    with suppress(OSError):  # the end of a terminal
        while chunk := os.read(ours, 65536):
            said += chunk
    os.close(ours)
    assert ended.returncode != 0
    token = tmp_path / "state" / "admin-token"
    link = b"http://127.0.0.1:8123/?token="
    if terminal:
        assert link + token.read_bytes().strip() in said
    else:
        assert link not in said
        assert not token.exists() or token.read_bytes().strip() not in said
