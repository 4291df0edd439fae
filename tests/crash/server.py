"""The real server with its steps marked, for a process of its own.

It differs from ``cidermill serve`` in the marks, in that its modules were imported before its process was forked, so
that it starts in a fifth of the time, and in that a guest is suspended as soon as it has booted. ``CRASH_TRAIL`` names the file of the steps made, ``CRASH_AT``
the step at which the process ends, and ``CRASH_JUMP`` a file that sets the clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import alembic.command  # noqa: F401  # else each process would import them by itself, for half a second
import githubkit_schemas.v2026_03_10.rest  # noqa: F401
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
from app.vm.limits import Limits
from app.vm.tart import TartBackend
from tests.crash.steps import MarkedTart, Steps

JUMP = timedelta(hours=1)


def a_clock(jump: Path) -> Callable[[], datetime]:
    """Return a clock that is an hour ahead once the file *jump* is there."""
    return lambda: utcnow() + JUMP * jump.exists()


def build(settings: Settings) -> FastAPI:
    """Build the application as :func:`app.main.build` does, its parts and its tart within the marks."""
    logs.configure(settings.log_level, settings.log_format, settings.secrets())
    prepare_state_dir(settings)
    lock_state_dir(settings)
    steps = Steps(Path(os.environ["CRASH_TRAIL"]), os.environ.get("CRASH_AT"))
    clock = a_clock(Path(os.environ["CRASH_JUMP"]))
    if settings.backend == "orchard":
        return create_app(settings, clock=clock, around=steps.around)
    real = tart_of(settings)
    check_host(real, settings.pools)
    tart = MarkedTart(real.program, real.home, os.environ, Limits(settle=0.0))
    tart.steps = steps
    vms = TartBackend(
        tart=steps.around(tart),
        state_dir=settings.state_dir,
        names=Names(settings.host_name),
        slots=settings.slots,
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
