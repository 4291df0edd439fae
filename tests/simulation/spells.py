"""Trouble that lasts: each begins, stays for a while, and ends; at the latest with the storm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from app.domain.world import VMState
from app.sandbox.hostparts import ModelVM

if TYPE_CHECKING:
    from tests.simulation.site import Site

SPELLS = (
    "host_sick",
    "strangers",
    "disk_full",
    "github_out",
    "suspended",
    "idle_reaped",
    "outdated",
    "hook_out",
)
SHORTEST, LONGEST = 30.0, 900.0  # seconds


@contextmanager
def spell(site: Site, kind: str) -> Iterator[None]:
    """Let trouble of a kind last as long as the block does."""
    match kind:
        case "host_sick":
            with _set(site.trouble, "host_sick", True):
                yield
        case "github_out":
            with _set(site.trouble, "github_out", True):
                yield
        case "hook_out":
            with _set(site, "hooks_out", True):
                yield
        case "disk_full":
            with _set(site.host, "free_disk_gb", 1.0):
                yield
        case "outdated":
            with _set(site.lives, "version", "2.300.0"):
                yield
        case "idle_reaped":
            with _set(site.model.runners, "idle_life", timedelta(minutes=3)):
                yield
        case "strangers":
            with _a_stranger(site):
                yield
        case "suspended":
            with _suspended(site):
                yield
        case _:
            raise ValueError(kind)


async def come_and_go(site: Site, kind: str) -> None:
    """Let it last for a while that chance decides."""
    if site.spells[kind]:
        return
    seconds = site.rng.uniform(SHORTEST, LONGEST)
    site.trouble.injected[kind] += 1
    site.spells[kind] += 1
    site.trace.add(f"{kind} begins")
    try:
        with spell(site, kind):
            await asyncio.sleep(seconds)
    finally:
        site.spells[kind] -= 1
        site.trace.add(f"{kind} ends")


@contextmanager
def _set(thing: object, name: str, value: object) -> Iterator[None]:
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)


@contextmanager
def _a_stranger(site: Site) -> Iterator[None]:
    """Somebody starts a VM of their own, if there is a place for it."""
    vms = site.host.vms
    if len(site.host.running) < site.host.limit:
        vms["somebodys"] = ModelVM("somebodys", state=VMState.RUNNING)
    try:
        yield
    finally:
        vms.pop("somebodys", None)


@contextmanager
def _suspended(site: Site) -> Iterator[None]:
    """Nothing can be asked, and no event is heard, of one account."""
    installation = site.rng.choice(list(site.model.accounts.installations.values()))
    site.model.suspend(installation)
    try:
        yield
    finally:
        site.model.unsuspend(installation)
