"""The ``cidermill`` command: its families of sub-commands put together.

Everything heavy is imported inside the commands, so that ``--help`` and completion stay quick.
"""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Annotated

import typer

from app.cli import config, demo, doctor, serve, service, setup

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
program.add_typer(config.commands, name="config")
program.add_typer(service.commands, name="service")


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
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options of the whole."""


def main() -> None:
    """Run the command line."""
    program()


if __name__ == "__main__":
    main()
