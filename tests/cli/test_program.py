"""The command line: what it prints, and how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

CONFIG = """
host_name = "mini"
github_token = "github_pat_0123456789abcdefghij"
github_webhook_secret = "0123456789abcdef0123456789abcdef"

[[pool]]
name = "mac"
labels = ["sequoia"]
image = "sequoia"
repositories = ["acme/*"]
network = "nat"
"""


def cidermill(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in *cwd*, with nothing of this process's configuration."""
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(Path.cwd())} | environ
    return subprocess.run(
        [sys.executable, "-m", "app.cli.program", *arguments],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_version(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """The version is the package's."""
    assert cidermill(*arguments, cwd=tmp_path).stdout.strip() == version("cidermill")


def test_config_check_says_all_that_is_missing(tmp_path: Path) -> None:
    """Without any configuration every missing thing is named with how to get it, and the exit code is 1."""
    said = cidermill("config", "check", cwd=tmp_path)
    assert said.returncode == 1
    for expected in (
        "github_app_id",
        "github_webhook_secret",
        "openssl rand -hex 32",
        "cidermill.toml.example",
    ):
        assert expected in said.stderr


def test_config_check_of_a_valid_one(tmp_path: Path) -> None:
    """A valid configuration is summed up, its warnings said, and no secret shown."""
    (tmp_path / "cidermill.toml").write_text(CONFIG)
    said = cidermill("config", "check", cwd=tmp_path)
    assert said.returncode == 0
    assert "mac (self-hosted, macOS, ARM64, sequoia)" in said.stdout
    assert 'set network = "softnet"' in said.stderr
    assert "0123456789abcdef" not in said.stdout + said.stderr


def test_config_check_as_json(tmp_path: Path) -> None:
    """Programs get the same as JSON."""
    (tmp_path / "cidermill.toml").write_text(CONFIG + "cpus = 8\n")
    said = cidermill("config", "check", "--json", cwd=tmp_path)
    assert said.returncode == 1
    assert json.loads(said.stdout)["problems"] == [
        'pool "mac": cpus: there is no such key; did you mean cpu?'
    ]


@pytest.mark.parametrize(
    "arguments", [("serve",), ("-m", "uvicorn", "app.main:app")], ids=["serve", "uvicorn"]
)
def test_a_start_without_configuration_is_clear(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Both ways to start say what is missing and how to get it, without a traceback."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    program = [
        sys.executable,
        *(arguments if arguments[0] == "-m" else ("-m", "app.cli.program", *arguments)),
    ]
    said = subprocess.run(
        program, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert said.returncode == 1
    assert "cidermill.toml.example" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_start_without_tart_is_clear(tmp_path: Path) -> None:
    """A missing tart stops the start with the mend."""
    (tmp_path / "cidermill.toml").write_text(CONFIG)
    said = cidermill("serve", cwd=tmp_path, CIDERMILL_TART_PATH=str(tmp_path / "no-tart"))
    assert said.returncode == 1
    assert "brew install openai/tools/tart" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_mistyped_command_is_a_usage_error(tmp_path: Path) -> None:
    """Wrong usage exits with 2."""
    assert cidermill("sreve", cwd=tmp_path).returncode == 2
