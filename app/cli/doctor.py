"""``cidermill doctor``: look at everything that may be wrong, inside the server where one runs."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.client import Given, Trouble, find

if TYPE_CHECKING:
    from app.doctor.finding import Finding
    from app.doctor.server import Running
    from app.settings import Settings

ASK = 90.0  # s; a redelivery is waited for
BOOT = 3600.0  # s, for all images
COLOURS = {"failure": "red", "warning": "yellow", "ok": "green", "skipped": "bright_black"}


def doctor(
    context: typer.Context,
    boot: Annotated[bool, typer.Option("--boot", help="Also boot a VM of each image.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine, GitHub and CiderMill itself; each trouble comes with why it matters and the mend."""
    from app.doctor.examine import worst
    from app.doctor.finding import Level

    findings = _findings(context.find_root().obj or Given(), boot=boot)
    level = worst(findings)
    if as_json:
        typer.echo(json.dumps({"worst": level, "findings": [asdict(finding) for finding in findings]}))
    else:
        _print(findings)
    raise typer.Exit(1 if level is Level.FAILURE else 0)


def _findings(given: Given, *, boot: bool) -> list[Finding]:
    from app import logs
    from app.configfile import ConfigError, load
    from app.doctor.server import configuration, server

    try:
        settings = load(os.environ, Path.cwd())
    except ConfigError as error:
        return [*configuration(error), *asyncio.run(_without_settings())]
    logs.configure("error", settings.log_format, settings.secrets())
    running, found = _inside(given, boot=boot)
    if running.version is None or running.refused:
        found = asyncio.run(_here(settings, boot=boot))
    return [*server(running, installed("cidermill")), *found]


def _inside(given: Given, *, boot: bool) -> tuple[Running, list[Finding]]:
    """Have the running server look."""
    import httpx

    from app.doctor.server import Running

    try:
        door = find(given, os.environ, Path.cwd())
    except Trouble as trouble:
        return Running(said=str(trouble)), []
    url, token = door.url, {"Authorization": f"Bearer {door.token}"}
    with httpx.Client(base_url=url, headers=token, trust_env=False) as client:
        try:
            answers = [client.get("/api/v1/doctor", timeout=ASK)]
            if boot and answers[0].is_success:
                answers.append(client.post("/api/v1/doctor/boot", timeout=BOOT))
        except httpx.ConnectError:
            return Running(said=f"nobody listens at {url}"), []
        except httpx.HTTPError as error:
            return Running(said=f"{url} does not answer as it should ({type(error).__name__})"), []
    wrong = next((answer for answer in answers if not answer.is_success), None)
    if wrong is not None and wrong.status_code in {401, 403}:
        return Running(refused=True, said=f"{wrong.status_code} from {url}"), []
    if wrong is not None:
        return Running(
            said=f"what listens at {url} answers {wrong.status_code}: another program, or version"
        ), []
    told = [answer.json() for answer in answers]
    return Running(version=told[0]["version"]), [_finding(row) for one in told for row in one["findings"]]


def _finding(row: dict[str, Any]) -> Finding:
    from app.doctor.finding import Finding, Level

    return Finding(**{**row, "level": Level(row["level"])})


async def _here(settings: Settings, *, boot: bool) -> list[Finding]:
    """Look from this process."""
    from app.doctor.alone import Alone

    alone = Alone(settings)
    return [*await alone.examine(), *(await alone.boot() if boot else [])]


async def _without_settings() -> list[Finding]:
    """Look at what can be looked at before anything is configured: the Mac itself."""
    from app.doctor.alone import unconfigured

    return await unconfigured()


def _print(findings: list[Finding]) -> None:
    from app.doctor.report import lines

    for level, text in lines(findings):
        # typer leaves the colours out where the output is no terminal.
        typer.secho(text, fg=COLOURS.get(level or ""), bold=level is None)
