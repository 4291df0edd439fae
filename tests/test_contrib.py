"""What is shipped beside the program: the systemd unit, the alert rules, the dashboard."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "contrib"


def program(name: str) -> str:
    """Return the program's path, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on PATH")
    return found


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_systemd_unit(tmp_path: Path) -> None:
    """systemd reads the unit without a complaint, and finds little that it exposes."""
    analyze = program("systemd-analyze")
    text = (CONTRIB / "systemd/cidermill.service").read_text(encoding="utf-8")
    assert "ExecStart=/opt/cidermill/bin/cidermill serve\n" in text
    unit = tmp_path / "cidermill.service"
    unit.write_text(text.replace("/opt/cidermill/bin/cidermill serve", sys.executable), encoding="utf-8")
    assert run(analyze, "verify", "--man=no", str(unit)) == ""
    run(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
