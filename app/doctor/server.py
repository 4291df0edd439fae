"""What CiderMill itself needs: a configuration, a database, a token that is its owner's, and a server of this version."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.advice import advice
from app.configfile import ConfigError
from app.db.migrate import current_revision, head_revision
from app.db.trouble import DAMAGED, trouble_of
from app.doctor.finding import Check, Finding, failure, warning
from app.settings import Settings

CONFIGURATION = Check(
    area="server",
    name="configuration",
    looks_at="the settings and pools, as `cidermill config check` does",
    why="A server does not start with a configuration that means two things, or nothing.",
    troubles={
        "invalid": failure("{problem}", "correct it, and try `cidermill config check`"),
        "warned": warning("{problem}", "change it, or leave it so if that is what you want"),
    },
)
DATABASE = Check(
    area="server",
    name="database",
    looks_at="the database file, its structure and its revision",
    why="What is queued and what runs is written there before anything is done about it.",
    troubles={
        "unusable": failure("{path}: {said}", "{mend}"),
        "newer": failure(
            "{path} was written by a newer version of CiderMill (revision {at}, and this knows {known})",
            "upgrade CiderMill, or put the copy {name}.before-{at} back",
        ),
    },
)
TOKEN = Check(
    area="server",
    name="admin-token",
    looks_at="who may read the state directory and the admin token in it",
    why="Whoever has the token may stop jobs and read their logs.",
    troubles={
        "exposed": failure("others may use {path} (mode {mode})", "`chmod {wanted} {path}`"),
    },
)
SERVER = Check(
    area="server",
    name="server",
    looks_at="whether the server runs, and its version",
    why="Only the running server sees the keychain, the session and the PATH that VMs are started with.",
    troubles={
        "down": warning(
            "it does not run: {said}",
            "`cidermill serve`, or on a Mac `cidermill service install` (docs/service.md)",
        ),
        "other_version": warning(
            "version {theirs} runs, and {ours} is installed", "restart the server: VMs that run go on"
        ),
        "refuses": failure("it runs, and does not take the admin token: {said}", "{mend}"),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the server on this machine answers."""

    version: str | None = None  # None: it does not run
    said: str = ""
    refused: bool = False


def configuration(found: Settings | ConfigError) -> Iterator[Finding]:
    """Want a valid configuration."""
    if isinstance(found, ConfigError):
        for problem in found.problems:
            yield CONFIGURATION.wrong("invalid", problem=problem)
        return
    warnings = advice(found)
    for problem in warnings:
        yield CONFIGURATION.wrong("warned", problem=problem)
    if not warnings:
        pools = ", ".join(pool.name for pool in found.pools)
        yield CONFIGURATION.fine(f"{found.where}, pools: {pools}")


def database(path: Path) -> Iterator[Finding]:
    """Want a database that is whole, and not newer than this program."""
    known = head_revision()
    try:
        at = current_revision(path)
    except (sqlite3.DatabaseError, OSError) as error:
        yield DATABASE.wrong("unusable", path=path, said=error, mend=trouble_of(error) or DAMAGED)
        return
    if at is None:
        yield DATABASE.fine("there is none yet: the first start makes it")
    elif at > known:
        yield DATABASE.wrong("newer", path=path, at=at, known=known, name=path.name)
    else:
        yield DATABASE.fine(f"it is whole, at revision {at}")


def admin_token(state_dir: Path) -> Iterator[Finding]:
    """Want a state directory and a token that are their owner's alone."""
    exposed = []
    for path, wanted in ((state_dir, "700"), (state_dir / "admin-token", "600")):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # the first start makes it
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            exposed.append(TOKEN.wrong("exposed", path=path, mode=f"{mode:03o}", wanted=wanted))
    yield from exposed
    if not exposed:
        yield TOKEN.fine("they are their owner's alone")


def server(running: Running, ours: str) -> Iterator[Finding]:
    """Want a running server, of the version that is installed."""
    if running.refused:
        mend = "set CIDERMILL_ADMIN_TOKEN as the server has it, or run this as the user that runs the server"
        yield SERVER.wrong("refuses", said=running.said, mend=mend)
    elif running.version is None:
        yield SERVER.wrong("down", said=running.said)
    elif running.version != ours:
        yield SERVER.wrong("other_version", theirs=running.version, ours=ours)
    else:
        yield SERVER.fine(f"version {ours} runs")


CHECKS = (CONFIGURATION, DATABASE, TOKEN, SERVER)
