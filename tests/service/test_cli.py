"""``cidermill service``: what it prints, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.program import program
from app.cli.serve import OUTPUT_BYTES
from app.cli.service import commands
from app.service.agent import LABEL
from tests.service.conftest import Mac


def test_a_whole_life(mac: Mac) -> None:
    """Install, status and uninstall say what they did; status exits 0 only where the server runs."""

    def said(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(commands, words, obj=mac.place)
        assert done.exit_code == code, done.output
        return done.output

    assert "not installed" in said("status", code=1)
    assert "starts now" in said("install")
    assert "running, process 4242" in said("status")
    found = json.loads(said("status", "--json"))
    assert (found["running"], found["mend"], found["launchd"]["pid"]) == (True, None, 4242)
    assert "removed" in said("uninstall")
    assert json.loads(said("status", "--json", code=1))["mend"] == "run `cidermill service install`"


def test_problems_are_sentences(mac: Mac) -> None:
    """A configuration that is not valid is reported whole, without a traceback."""
    mac.configure("slots = 3")
    done = CliRunner().invoke(commands, ["install"], obj=mac.place)
    assert done.exit_code == 1
    assert "Apple allows 2" in done.output
    assert "Traceback" not in done.output


@pytest.mark.skipif(sys.platform == "darwin", reason="it is about other systems")
@pytest.mark.parametrize("verb", ["install", "uninstall", "status"])
def test_elsewhere_than_on_a_mac(verb: str) -> None:
    """On Linux every command says what to use there."""
    done = CliRunner().invoke(program, ["service", verb])
    assert done.exit_code == 1
    assert "contrib/systemd/cidermill.service" in done.output


@pytest.mark.parametrize(
    ("name", "emptied"),
    [
        pytest.param(LABEL, True, id="under our agent"),
        pytest.param("application.com.apple.Terminal", False, id="in a terminal, into a file"),
    ],
)
def test_the_output_under_launchd_is_bounded(tmp_path: Path, name: str, emptied: bool) -> None:
    """Starts that fail, every ten seconds for a year, do not fill the disk; a file of somebody's is left alone."""
    output = tmp_path / "launchd.log"
    output.write_text("x" * (OUTPUT_BYTES + 1))
    with output.open("a") as file:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli.program", "serve"],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "PYTHONPATH": str(Path.cwd()),
                "XPC_SERVICE_NAME": name,
            },
            stderr=file,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert (output.stat().st_size < OUTPUT_BYTES) is emptied
    assert "CiderMill cannot start with this configuration" in output.read_text()
