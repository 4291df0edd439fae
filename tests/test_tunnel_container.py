"""The tunnel's container: its entrypoint with a real Caddy and a stand-in cloudflared, and what it may do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

ROOT = Path(__file__).parent.parent
ENTRYPOINT = ROOT / "deploy/tunnel/entrypoint.sh"
TOKEN = "eyJhIjoi-the-tunnels-token"
# It says what it was given, and runs until it is told to stop, or for as long as a file of that name is there.
CLOUDFLARED = """#!/bin/sh
trap 'echo stopped >"$STANDIN/stopped"; exit 0' TERM
echo "$@" >"$STANDIN/arguments"
echo "$TUNNEL_TOKEN" >"$STANDIN/token"
while [ ! -e "$STANDIN/fail" ]; do sleep 0.1; done
exit 1
"""


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> str:
    limit = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert process.poll() is None
        assert time.monotonic() < limit, f"{path.name} did not come"
        Event().wait(0.05)
    return path.read_text().strip()


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "STANDIN": str(folder),
        "CIDERMILL_CADDYFILE": str(folder / "Caddyfile"),
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cloudflared = tmp_path / "cloudflared"
    cloudflared.write_text(CLOUDFLARED)
    cloudflared.chmod(0o700)
    text = (ROOT / "deploy/tunnel/Caddyfile").read_text(encoding="utf-8")
    (tmp_path / "Caddyfile").write_text(text.replace(":8080 {", ":0 {"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def container(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which("caddy") is None:
        pytest.skip("no caddy on PATH")
    process = subprocess.Popen(
        ["/bin/sh", str(ENTRYPOINT)], env=environ(folder, TUNNEL_TOKEN=TOKEN), stderr=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait(timeout=10)


def test_the_token_stays_in_the_environment(folder: Path, container: subprocess.Popen[bytes]) -> None:
    """The tunnel finds its token, and no argument list holds it; told to stop, all of it stops."""
    assert wait_for(folder / "token", container) == TOKEN
    assert TOKEN not in wait_for(folder / "arguments", container)
    container.send_signal(signal.SIGTERM)
    assert container.wait(timeout=20) == 143
    assert (folder / "stopped").exists()


def test_both_end_together(folder: Path, container: subprocess.Popen[bytes]) -> None:
    """Where the tunnel ends, so does the container, and the restart policy sees it."""
    wait_for(folder / "token", container)
    (folder / "fail").touch()
    assert container.wait(timeout=20) == 1


@pytest.mark.parametrize(
    ("more", "mend"),
    [
        pytest.param({}, "set TUNNEL_TOKEN", id="no token"),
        pytest.param({"CIDERMILL_ORIGIN": "mini:8000"}, "must be the address", id="no scheme"),
        pytest.param({"CIDERMILL_ORIGIN": "http://mini:8000/api"}, "without a path", id="a path"),
        pytest.param(
            {"CIDERMILL_ORIGIN": "http://mini {\n}"}, "without a path", id="configuration smuggled in"
        ),
    ],
)
def test_what_it_refuses(folder: Path, more: dict[str, str], mend: str) -> None:
    """What cannot work, or would change what the proxy passes, ends it at once with the mend."""
    token = {} if not more else {"TUNNEL_TOKEN": TOKEN}
    done = subprocess.run(
        ["/bin/sh", str(ENTRYPOINT)],
        env=environ(folder, **token, **more), capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert mend in done.stderr
    assert TOKEN not in done.stderr


def test_it_has_no_rights() -> None:
    """The image runs as nobody, pins its two programs, and the compose example takes every right away."""
    image = (ROOT / "Dockerfile.tunnel").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\d+):(\d+)$", image, re.MULTILINE) == [("65532", "65532")]
    assert re.findall(r"^ARG \w+_IMAGE=\S+:[\d.]+", image, re.MULTILINE) != []
    assert ":latest" not in image
    compose = (ROOT / "deploy/tunnel/compose.yaml").read_text(encoding="utf-8")
    for line in ("read_only: true", "- ALL", "- no-new-privileges:true", "restart: unless-stopped"):
        assert line in compose
    assert "ports:" not in compose
    assert "TUNNEL_TOKEN: ${TUNNEL_TOKEN:?" in compose
