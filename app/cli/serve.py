"""``cidermill serve``: the service, on the address that the configuration names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GRACE = 5  # s, for requests under way when we are told to stop


def serve() -> None:
    """Run the service until it is told to stop; VMs that run go on, and the next start takes them up."""
    import uvicorn

    from app.configfile import ConfigError, load

    try:
        host, port = load(os.environ, Path.cwd()).address
    except ConfigError as error:
        sys.exit(error.report())
    uvicorn.run(
        "app.main:app",
        host=host,
        port=port,
        http="httptools",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
