"""The composition root: the only place that names concrete adapters.

:func:`create_app` builds the application for given settings (tests hand in their own adapters). ``app`` is what
``uvicorn app.main:app`` serves; it is built when it is asked for, so that importing this module does nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI

from app import logs
from app.advice import advice
from app.api import admin, doctor, events, health, images, webhooks
from app.api.broadcaster import Broadcaster
from app.api.context import Context, Health
from app.api.guard import guard
from app.backend import backend_of, tart_of
from app.boot_session import boot_session
from app.clock import utcnow
from app.configfile import ConfigError, admin_token, load, lock_state_dir, prepare_state_dir
from app.db.database import Database, open_engine
from app.db.migrate import DatabaseUnusable, upgrade
from app.db.reader import Reader
from app.db.store import Store
from app.doctor.examine import Place
from app.doctor.inside import Doctor
from app.doctor.shell import RealShell
from app.domain.pools import Names
from app.github.auth import AppCredentials, TokenCredentials
from app.github.client import GitHubClient
from app.metrics import Metrics, WorldCollector
from app.notify import LOOK_EVERY, notifying
from app.ports import GitHub, VMBackend, VMError
from app.reconcile import Reconciler, Setup
from app.reload import Reload
from app.settings import Settings
from app.timers import Timers
from app.values import LOOPBACK
from app.vm.hostcheck import check_host
from app.web import pages

T = TypeVar("T")
VERSION = version("cidermill")
ROUTERS = (webhooks.router, admin.router, images.router, doctor.router, events.router, health.router)
SWITCH_SECONDS = 0.001
ENDING_SECONDS = 5.0  # for the pass under way when we are told to stop


class Around(Protocol):
    """Puts something round a part that acts (the store, GitHub, the host), and leaves its verbs as they are."""

    def __call__(self, part: T, /) -> T:
        """Return *part*, or what stands in front of it."""


def bare(part: T, /) -> T:
    """Put nothing round it."""
    return part


def create_app(
    settings: Settings,
    *,
    github: GitHub | None = None,
    vms: VMBackend | None = None,
    clock: Callable[[], datetime] = utcnow,
    reread: Callable[[], Settings] | None = None,
    around: Around = bare,
) -> FastAPI:
    """Build the application. Raises ConfigError or DatabaseUnusable where the state directory cannot be used.

    *reread* returns the settings as they are on disk now, for a reload. *around* is for tests that watch the parts
    that act, or end the process between two of their calls.
    """
    state_dir = prepare_state_dir(settings)
    token = admin_token(settings)
    upgrade(state_dir / "cidermill.db")
    hosts = settings.host_names

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            app.state.context = await _run(stack, settings, token, github, vms, clock, reread, around)
            app.state.doctor = _doctor(settings, app.state.context)
            yield

    app = FastAPI(
        title="CiderMill",
        version=VERSION,
        summary="Ephemeral macOS runners for GitHub Actions, on demand, on your own Macs.",
        lifespan=lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # an address that is none is told so, and nobody is sent elsewhere
    )
    guard(app, hosts)
    for router in ROUTERS:
        app.include_router(router)
    pages.mount(app)
    return app


async def _run(
    stack: AsyncExitStack,
    settings: Settings,
    token: str,
    github: GitHub | None,
    vms: VMBackend | None,
    clock: Callable[[], datetime],
    reread: Callable[[], Settings] | None,
    around: Around,
) -> Context:
    """Start everything; *stack* ends it in the opposite order."""
    metrics = Metrics()
    database = Database(open_engine(settings.state_dir / "cidermill.db"))
    stack.callback(database.close)
    broadcaster = Broadcaster()
    store, reader = around(Store(database, settings.pools, broadcaster.tell)), Reader(database)
    if github is None:
        github = await stack.enter_async_context(_github(settings, metrics))
    if vms is None:
        vms = backend_of(settings, clock)
    github, vms = around(github), around(vms)
    stack.push_async_callback(vms.close)
    reconciler = Reconciler(
        _setup(settings),
        store=store,
        reader=reader,
        github=github,
        vms=vms,
        metrics=metrics,
        clock=clock,
        boot=boot_session(),
    )
    metrics.registry.register(WorldCollector(lambda: reconciler.world, clock))
    state = Health(warnings=advice(settings), webhook_at=await reader.last_webhook())
    reload = Reload(settings, reconciler, state, reread)
    reload.on_hangup(stack)
    stack.push_async_callback(reconciler.close)
    stack.push_async_callback(_finish, asyncio.create_task(reconciler.run(), name="reconciler"))
    timers = Timers(
        reconciler=reconciler,
        store=store,
        vms=vms,
        health=state,
        retention=timedelta(days=settings.retention_days),
        clock=clock,
    )
    timers.start(github.whoami)
    if settings.notify_url is not None:
        telling = notifying(settings, lambda: reconciler.world, reader, metrics, clock)
        timers.every(LOOK_EVERY, await stack.enter_async_context(telling))
    stack.callback(timers.stop)
    return Context(
        version=VERSION,
        started_at=clock(),
        webhook_secrets=settings.webhook_secrets,
        admin_token=token,
        metrics_public=settings.metrics_public,
        hosts=settings.host_names,
        store=store,
        reader=reader,
        reconciler=reconciler,
        vms=vms,
        metrics=metrics,
        health=state,
        clock=clock,
        reload=reload,
        quota=github.quota,
        events=broadcaster,
        simulated=urlsplit(settings.github_api_url).hostname in LOOPBACK,
    )


def _setup(settings: Settings) -> Setup:
    return Setup(
        names=Names(settings.host_name),
        pools=settings.pools,
        min_free_disk_gb=settings.min_free_disk_gb,
        poll_interval=settings.poll_interval,
        image_refresh=settings.image_refresh,
        image_pulls=settings.image_pulls,
        image_keep=settings.image_keep,
        spread=settings.placement == "spread",
    )


def _doctor(settings: Settings, context: Context) -> Doctor:
    tart = tart_of(settings)
    place = Place(
        settings=settings,
        pools=settings.pools,
        tart=tart,
        vms=context.vms,
        shell=RealShell(tart.env),
        clock=context.clock,
    )
    return Doctor(place, context.reconciler, context.reader)


def _github(settings: Settings, metrics: Metrics) -> GitHubClient:
    if settings.github_token is not None:
        credentials: AppCredentials | TokenCredentials = TokenCredentials(
            token=settings.github_token.get_secret_value()
        )
    else:
        credentials = AppCredentials(app_id=settings.github_app_id or "", private_key=settings.private_key())
    return GitHubClient(
        credentials,
        api_url=settings.github_api_url,
        ca_path=settings.github_ca_path,
        api_version=settings.github_api_version,
        metrics=metrics,
        downloads=settings.state_dir / "downloads",
    )


async def _finish(loop: asyncio.Task[None]) -> None:
    """Stop the reconciler's task; a pass under way gets a moment to end."""
    loop.cancel()
    with suppress(asyncio.CancelledError, TimeoutError):
        async with asyncio.timeout(ENDING_SECONDS):
            await loop


def build() -> FastAPI:
    """Build the application from the environment and the files it names. Exits with a report where it cannot start."""
    # The writer's thread lets go of the interpreter at each statement, and would wait 5 ms to get it back.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        settings = load(os.environ, Path.cwd())
        logs.configure(settings.log_level, settings.log_format, settings.secrets(), settings.log_path)
        prepare_state_dir(settings)
        lock_state_dir(settings)
        _check_host(settings)
        return create_app(settings, reread=_reread)
    except ConfigError as error:
        sys.exit(error.report())
    except (DatabaseUnusable, VMError) as error:
        sys.exit(f"CiderMill cannot start: {error}.")


def _check_host(settings: Settings) -> None:
    """Want what the pools need on this machine; an Orchard controller is asked once the server runs, as it may come later."""
    if settings.backend == "tart":
        check_host(tart_of(settings), settings.pools)


def _reread() -> Settings:
    settings = load(os.environ, Path.cwd())
    try:
        _check_host(settings)
    except VMError as error:
        raise ConfigError([str(error)]) from error
    return settings


def __getattr__(name: str) -> FastAPI:
    if name == "app":
        globals()["app"] = built = build()  # once: it may be asked for again
        return built
    raise AttributeError(name)
