"""``cidermill serve``: the service, on the address that the configuration names."""

from __future__ import annotations

import os
import resource
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.cli.client import Door, listening
from app.service.agent import LABEL

if TYPE_CHECKING:
    from app.settings import Settings

GRACE = 5  # s, for requests under way when we are told to stop
# s that a connection is kept for another request: longer than tunnels and proxies keep theirs to us (cloudflared 90 s, nginx
# 60 s), or a delivery now and then meets one that we are just closing, and GitHub sends it once.
KEEP_ALIVE = 95
OUTPUT_BYTES = 1_000_000  # of what is said outside the log: starts that failed
OPEN_FILES = 4096  # launchd allows 256, which strangers' connections could use up; a VM could not start then


def serve() -> None:
    """Run the service until it is told to stop; VMs that run go on, and the next start takes them up."""
    import uvicorn

    from app.api.connection import Connection
    from app.configfile import ConfigError, load

    try:
        settings = load(os.environ, Path.cwd())
        if sys.stdout.isatty():
            _show_link(settings)
    except ConfigError as error:
        sys.exit(error.report())
    finally:
        _bound_output(os.environ)
    host, port = settings.address
    _allow_open_files()
    uvicorn.run(
        "app.main:app",
        host=host,
        port=port,
        http=Connection,
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the other end says it is
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )


def _bound_output(environ: Mapping[str, str]) -> None:
    """Empty the file that launchd appends our output to, once it is large: nobody else does."""
    said = os.fstat(sys.stderr.fileno())
    if (
        environ.get("XPC_SERVICE_NAME") == LABEL
        and stat.S_ISREG(said.st_mode)
        and said.st_size > OUTPUT_BYTES
    ):
        os.ftruncate(sys.stderr.fileno(), 0)


def _show_link(settings: Settings) -> None:
    """Say where the dashboard is; the link lets its reader in, so it goes to a terminal and nowhere else."""
    from app.configfile import admin_token, prepare_state_dir

    prepare_state_dir(settings)
    door = Door(url=listening(settings.listen), token=admin_token(settings))
    typer.echo(f"Dashboard: {door.link}\n")


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
