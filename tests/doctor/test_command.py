"""``cidermill doctor`` as it is typed: beside a real server, and where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.doctor.finding import Finding, Level
from app.doctor.report import lines, summary
from app.sandbox.outside import IMAGE, outside
from app.sandbox.server import Server

CONFIG = f"""
host_name = "mini"
min_free_disk_gb = 0.1

[[pool]]
name = "mac"
labels = ["sequoia"]
image = "{IMAGE}"
repositories = ["acme/app", "acme/lib"]
network = "nat"
scope = "repository"
"""


def command(server: Server, *arguments: str, cwd: Path) -> tuple[int, dict[str, Any]]:
    """Run it where the server's configuration is, with the server's environment."""
    env = server.env | {"PYTHONPATH": str(Path.cwd())}
    said = subprocess.run(
        [sys.executable, "-m", "app.cli.program", "doctor", "--json", *arguments],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert said.stdout, said.stderr
    return said.returncode, json.loads(said.stdout)


async def test_beside_a_server_it_looks_from_inside(capfd: pytest.CaptureFixture[str]) -> None:
    """The server is asked, GitHub's delivery arrives at its door, a VM is booted and goes, and no secret is told."""
    async with outside(1) as (model, url, place), Server(place, url, model, CONFIG) as server:
        model.point_hook(f"{server.url}/webhooks/github")
        model.ping()
        code, told = await asyncio.to_thread(command, server, "--boot", cwd=place)
        found = {row["check"]: row for row in told["findings"]}
        assert (code, told["worst"]) == (0, "warning"), told
        for check in (
            "server",
            "tart",
            "image",
            "credentials",
            "installation",
            "redelivery",
            "guest",
            "database",
        ):
            assert found[check]["level"] == "ok", found[check]
        assert found["keychain"]["level"] == "skipped"
        assert "ping" in found["redelivery"]["what"]
        assert not [secret for secret in model.secrets() if secret in json.dumps(told)]
        (booted,) = [row for row in await server.get("/api/v1/runners") if row["pool"] == "mac"]
        assert booted["state"] in {"ready", "stopping", "gone"}
        async with httpx.AsyncClient() as stranger:
            for method, path in (("GET", "/api/v1/doctor"), ("POST", "/api/v1/doctor/boot")):
                assert (await stranger.request(method, server.url + path)).status_code == 401
    capfd.readouterr()


def alone(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(
        [sys.executable, "-m", "app.cli.program", "doctor", *arguments],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip


def test_without_any_configuration_it_says_what_is_missing(tmp_path: Path) -> None:
    """The first thing that is wrong is told first, with its mend, and the exit code is 1."""
    said = alone(tmp_path)
    assert said.returncode == 1
    assert "✗ configuration: github_app_id" in said.stdout
    assert "mend: correct it, and try `cidermill config check`" in said.stdout
    assert "Traceback" not in said.stderr


def test_without_a_server_it_looks_from_here(tmp_path: Path) -> None:
    """All that can be looked at is looked at from this process: a missing tart and a GitHub that is not there."""
    config = tmp_path / "cidermill.toml"
    config.touch(mode=0o600)
    config.write_text(
        'github_token = "github_pat_0123456789"\ngithub_webhook_secret = "0123456789abcdef0123"\n'
        'github_api_url = "http://127.0.0.1:9"\nlisten = "127.0.0.1:9"\ntart_path = "no-tart"\n'
        + CONFIG.replace("min_free_disk_gb", "retention_days = 1\nmin_free_disk_gb")
    )
    said = alone(tmp_path)
    assert said.returncode == 1
    for expected in (
        "! server: it does not run",
        "✗ tart: tart_path: cannot run no-tart",
        "✗ credentials: GitHub cannot be reached",
        "– permissions, events, installation",
    ):
        assert expected in said.stdout, said.stdout + said.stderr
    assert "github_pat_0123456789" not in said.stdout + said.stderr


def a_finding(level: Level, **more: str) -> Finding:
    return Finding(area="host", check="tart", level=level, what="so it is", why="because", **more)


def test_what_is_wrong_stands_out() -> None:
    """What is fine takes a line; what is not says why it matters and the mend."""
    found = [a_finding(Level.OK), a_finding(Level.FAILURE, mend="do this")]
    assert [text for _, text in lines(found)] == [
        "VMs on this machine",
        "  ✓ tart: so it is",
        "  ✗ tart: so it is",
        "      why:  because",
        "      mend: do this",
        "1 failure, 0 warnings, 1 fine.",
    ]


def test_the_summary_counts() -> None:
    """One sentence sums it up."""
    levels = (Level.WARNING, Level.SKIPPED, Level.OK, Level.OK)
    assert (
        summary([a_finding(level) for level in levels]) == "0 failures, 1 warning, 2 fine, 1 not looked at."
    )
