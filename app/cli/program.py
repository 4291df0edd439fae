"""The ``cidermill`` command: its families of sub-commands put together.

Everything heavy is imported inside the commands, so that ``--help`` and completion stay quick.
"""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer

from app.cli import (
    config,
    demo,
    doctor,
    forecast,
    hold,
    image,
    jobs,
    runners,
    serve,
    service,
    setup,
    status,
    steer,
)
from app.cli.client import Given

program = typer.Typer(
    name="cidermill",
    help="Ephemeral macOS runners for GitHub Actions, on demand, on your own Macs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables, secrets among them
)
program.command("setup")(setup.setup)
program.command("serve")(serve.serve)
program.command("demo")(demo.demo)
program.command("doctor")(doctor.doctor)
program.command("forecast")(forecast.forecast)
program.command("status")(status.status)
program.command("jobs")(jobs.jobs)
program.command("why")(jobs.why)
program.command("runners")(runners.runners)
program.command("logs")(runners.logs)
program.command("hold")(hold.hold)
program.command("release")(hold.release)
program.command("shell")(runners.shell)
program.command("stop")(runners.stop)
program.command("drain")(steer.drain)
program.command("resume")(steer.resume)
program.command("reconcile")(steer.reconcile)
program.command("reload")(steer.reload)
program.add_typer(config.commands, name="config")
program.add_typer(service.commands, name="service")
program.add_typer(image.commands, name="image")


@program.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(installed("cidermill"))


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@program.callback()
def options(
    context: typer.Context,
    *,
    url: Annotated[
        str | None, typer.Option(help="Where the server is.", show_default="as the configuration says")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="What holds its admin token.", show_default="state_dir/admin-token")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of the whole."""
    context.obj = Given(url=url, token_file=token_file)


def main() -> None:
    """Run the command line."""
    program()


if __name__ == "__main__":
    main()
