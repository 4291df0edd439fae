"""Serves the setup's pages on loopback until they are done with, and says in the terminal how to open them."""

from __future__ import annotations

import asyncio
import getpass
import socket
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from app.domain.pools import Names
from app.ports import VMError
from app.settings import Settings, default_host_name
from app.setup.files import write
from app.setup.flow import Flow
from app.setup.web import Pages
from app.vm.command import Tart, tart_home

PORT = 8765  # always the same where it is free, so that it can be forwarded
ADDRESS = "127.0.0.1"
GOODBYE = 2  # s, for the last page
OPENER = "setup.html"
IS_MAC = sys.platform == "darwin"


async def run(
    flow: Flow,
    environ: Mapping[str, str],
    *,
    port: int | None,
    browser: bool,
    github: str,
    dashboard: str,
    say: Callable[[str], None],
) -> bool:
    """Serve the pages; whether they were gone through to the end. Raises OSError where *port* is taken."""
    finished = asyncio.Event()
    with _listen(port) as listener:
        pages = Pages(
            flow,
            lambda: local_images(flow, environ),
            finish=finished.set,
            github=github,
            dashboard=dashboard,
            is_mac=IS_MAC,
        )
        number = listener.getsockname()[1]
        url = f"http://{ADDRESS}:{number}/{pages.path}/"
        say(how_to_open(url, number, environ))
        opener = _open(url, flow.files.state_dir) if browser and "SSH_CONNECTION" not in environ else None
        try:
            await _serve(pages, listener, finished)
        finally:
            if opener is not None:
                opener.unlink(missing_ok=True)
    return finished.is_set()


async def _serve(pages: Pages, listener: socket.socket, finished: asyncio.Event) -> None:
    config = uvicorn.Config(
        pages.app(),
        log_config=None,
        log_level="critical",
        access_log=False,  # its lines would hold the link
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GOODBYE,
    )
    server = uvicorn.Server(config)

    async def stop() -> None:
        await finished.wait()
        server.should_exit = True

    stopping = asyncio.create_task(stop())
    try:
        await server.serve(sockets=[listener])
    finally:
        stopping.cancel()


def _listen(port: int | None) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, PORT if port is None else port))
    except OSError:
        if port is not None:
            listener.close()
            raise
        listener.bind((ADDRESS, 0))
    listener.listen()  # so that whoever opens the link at once waits, and is not turned away
    return listener


def how_to_open(url: str, port: int, environ: Mapping[str, str]) -> str:
    """Return what to tell whoever sits at this Mac, or at another computer."""
    said = f"Open this link in a browser; it is for you alone:\n\n  {url}\n\n"
    connection = environ.get("SSH_CONNECTION", "").split()
    host = connection[2] if len(connection) == 4 else "THIS-MAC"
    forward = f"ssh -L {port}:{ADDRESS}:{port} {getpass.getuser()}@{host}"
    said += f"From another computer, run this there first, and leave it running:\n\n  {forward}\n\n"
    return said + "Ctrl-C ends the setup; what it stored by then stays, and the next run goes on from there."


def how_to_go_on(dashboard: str, *, is_mac: bool) -> str:
    """Return what to tell whoever has a configuration that works; launchd is there on a Mac alone."""
    start = "Start it: cidermill serve"
    if is_mac:
        start = (
            "Start it, now and at each login: cidermill service install\nOr in this terminal: cidermill serve"
        )
    return f"{start}\nThe dashboard is at {dashboard} then; `cidermill status` prints a link that needs no typing."


def _open(url: str, folder: Path) -> Path:
    """Have the browser open the link by way of a file, since every user sees the arguments of a command."""
    path = folder / OPENER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write(
        path, f'<!doctype html><meta http-equiv="refresh" content="0;url={url}"><a href="{url}">Setup</a>\n'
    )
    with suppress(webbrowser.Error):
        webbrowser.open(path.as_uri())
    return path


async def local_images(flow: Flow, environ: Mapping[str, str]) -> Sequence[str]:
    """Return the VMs of ``tart list`` that somebody else made; none where there is no tart that answers."""
    home = flow.setting("tart_home")
    program = flow.setting("tart_path") or str(Settings.model_fields["tart_path"].default)
    host_name = flow.setting("host_name") or default_host_name()
    tart = Tart(program, tart_home(Path(home) if home else None, environ), environ)
    try:
        found = await tart.vms()
    except (VMError, OSError):
        return ()
    names, bases = Names(host_name), f"{host_name}-base-"
    return [vm.name for vm in found if not names.is_runner(vm.name) and not vm.name.startswith(bases)]
