"""``cidermill setup`` as a command: what it says, and how it exits."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.program import program
from app.setup.serve import how_to_open


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(
            ("--webhook-url", "https://h.example.org"), "run `cidermill setup` first", id="no App yet"
        ),
        pytest.param(("--rotate-secret",), "run `cidermill setup` first", id="no App whose secret to rotate"),
        pytest.param(("--webhook-url", "http://127.0.0.1:8000"), "GitHub cannot reach", id="loopback"),
        pytest.param(("--webhook-url", ""), "Write an address", id="no address"),
        pytest.param(("--github", "http://ghe.example.org"), "Plain http would show", id="plain http"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], says: str
) -> None:
    """A sentence with the mend, exit code 1, nothing written."""
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(program, ["setup", *given], env={"HOME": str(tmp_path)})
    assert said.exit_code == 1
    assert says in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was asked for is not exchanged for another."""
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = CliRunner().invoke(
            program, ["setup", "--no-browser", "--port", port], env={"HOME": str(tmp_path)}
        )
    assert said.exit_code == 1
    assert f"port {port} cannot be used" in said.stderr


def test_left_before_its_end(tmp_path: Path) -> None:
    """Ctrl-C ends it, says how to go on, and leaves nothing; over SSH no browser is opened."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.program", "setup", "--port", "0"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(Path.cwd()),
            "PYTHONUNBUFFERED": "1",
            "SSH_CONNECTION": "10.0.0.2 50000 10.0.0.1 22",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    while "goes on from there" not in printed:
        printed += process.stdout.readline()
    link = re.search(r"http://127\S+/", printed)
    assert link is not None
    assert httpx.get(link[0], trust_env=False).status_code == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ssh -L" in printed
    assert "@10.0.0.1" in printed
    assert "Run `cidermill setup` again" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("connection", ["", "10.0.0.2 50000 10.0.0.1 22"])
def test_how_to_open_it_from_elsewhere(connection: str) -> None:
    """The command to forward the port names this Mac, as far as it is known."""
    said = how_to_open("http://127.0.0.1:8765/x/", 8765, {"SSH_CONNECTION": connection})
    assert f"@{'10.0.0.1' if connection else 'THIS-MAC'}\n" in said
    assert "ssh -L 8765:127.0.0.1:8765 " in said
