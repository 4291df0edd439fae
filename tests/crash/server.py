"""The real server with its steps marked, for a process of its own.

It differs from ``cidermill serve`` in the marks, and in that its modules were imported before its process was forked:
so it starts in a fifth of the time. ``CRASH_TRAIL`` names the file of the steps made, ``CRASH_AT``
the step at which the process ends, and ``CRASH_HASTE`` how many times as fast as the true time its clock runs (since
``CRASH_EPOCH``), for what the service does only once minutes have passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from app import logs
from app.cli.serve import GRACE
from app.clock import utcnow
from app.configfile import load, lock_state_dir, prepare_state_dir
from app.domain.pools import Names
from app.main import create_app, tart_of
from app.settings import Settings
from app.vm.hostcheck import check_host
from app.vm.tart import TartBackend
from tests.crash.steps import MarkedTart, Steps


def a_clock() -> Callable[[], datetime]:
    haste = float(os.environ.get("CRASH_HASTE", "1"))
    if haste == 1:
        return utcnow
    epoch = datetime.fromisoformat(os.environ["CRASH_EPOCH"])
    return lambda: epoch + (utcnow() - epoch) * haste


def build(settings: Settings) -> FastAPI:
    """Build the application as :func:`app.main.build` does, its parts and its tart within the marks."""
    logs.configure(settings.log_level, settings.log_format, settings.secrets())
    prepare_state_dir(settings)
    lock_state_dir(settings)
    real = tart_of(settings)
    check_host(real, settings.pools)
    steps, clock = Steps(Path(os.environ["CRASH_TRAIL"]), os.environ.get("CRASH_AT")), a_clock()
    tart = MarkedTart(real.program, real.home, os.environ)
    tart.steps = steps
    vms = TartBackend(
        tart=steps.around(tart),
        state_dir=settings.state_dir,
        names=Names(settings.host_name),
        clock=clock,
    )
    return create_app(settings, vms=vms, clock=clock, around=steps.around)


def run(environ: dict[str, str], place: Path) -> None:
    """Become the server: the whole of this process's environment is *environ*, its directory *place*."""
    os.setsid()
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environ)
    log = os.open(place / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    settings = load(os.environ, place)
    host, port = settings.address
    uvicorn.run(
        build(settings), host=host, port=port, http="httptools", access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
