"""``cidermill setup``: from nothing to a configuration that works, on a page of this Mac's own."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.cli.client import listening
from app.cli.doctor import doctor

if TYPE_CHECKING:
    from app.setup.flow import Flow


def setup(
    context: typer.Context,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in this Mac's browser.")
    ] = True,
    port: Annotated[
        int | None,
        typer.Option(
            help="The page's port on loopback.", min=0, max=65535, show_default="8765, or a free one"
        ),
    ] = None,
    github: Annotated[
        str, typer.Option(help="GitHub Enterprise Server: https://HOST.", show_default="https://github.com")
    ] = "",
    webhook_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Only send the App's webhooks to this address from now on."),
    ] = None,
    rotate_secret: Annotated[
        bool, typer.Option("--rotate-secret", help="Only sign webhooks with a new secret from now on.")
    ] = False,
) -> None:
    """Create the GitHub App, install it, and write .env and cidermill.toml; asks on a page in your browser.

    Run again, it goes on from what there is and changes only what you ask for.
    """
    from app.configfile import ConfigError
    from app.ports import OutsideError
    from app.setup.files import Unwritable
    from app.setup.flow import Flow
    from app.setup.manifest import Mistake

    try:
        flow = Flow(os.environ, Path.cwd())
        if webhook_url is not None or rotate_secret:
            _change_webhook(flow, webhook_url, rotate=rotate_secret)
        else:
            _ask(context, flow, port=port, browser=browser, github=github)
    except ConfigError as error:
        _fail("; ".join(error.problems))
    except (Mistake, OutsideError, Unwritable) as error:
        _fail(str(error))


def _change_webhook(flow: Flow, webhook_url: str | None, *, rotate: bool) -> None:
    from app.setup.manifest import read_public_url

    public_url = None
    if webhook_url is not None:
        public_url = read_public_url({"public_url": webhook_url or "-"})
    for line in asyncio.run(flow.point_hook(public_url, rotate=rotate)):
        typer.echo(line)
    typer.echo(
        "Restart the service, so that it takes that up: deliveries that fail meanwhile are fetched again."
    )


def _ask(context: typer.Context, flow: Flow, *, port: int | None, browser: bool, github: str) -> None:
    from app.setup.manifest import read_place
    from app.setup.serve import IS_MAC, how_to_go_on, run

    place = read_place(github).web_url if github else ""
    dashboard = listening(flow.setting("listen"))
    try:
        finished = asyncio.run(
            run(
                flow,
                os.environ,
                port=port,
                browser=browser,
                github=place,
                dashboard=dashboard,
                say=typer.echo,
            )
        )
    except KeyboardInterrupt:
        finished = False
    except OSError as error:
        _fail(f"port {port} cannot be used ({error.strerror}): leave --port out, or choose another")
    if not finished:
        typer.echo(
            "\nThe setup was left before its end. Run `cidermill setup` again to go on from here.", err=True
        )
        raise typer.Exit(130)
    problems, _ = flow.check()
    for problem in problems:
        typer.echo(f"  - {problem}", err=True)
    if problems:
        _fail("The configuration is not complete yet; `cidermill config check` checks again")
    typer.echo(
        f"The configuration is valid: {flow.files.env} and {flow.files.toml}.\n\nThe doctor looks at the rest:\n"
    )
    with suppress(typer.Exit):  # its exit code is about the Mac, not about what was set up
        doctor(context, boot=False, as_json=False)
    typer.echo(f"\n{how_to_go_on(dashboard, is_mac=IS_MAC)}")


def _fail(text: str) -> NoReturn:
    typer.echo(f"{text}.", err=True)
    raise typer.Exit(1)
