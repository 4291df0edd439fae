"""The bell rings whatever the wall clock does, and whose credentials we have is asked again only where there is reason to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

import pytest
from freezegun import freeze_time

from app.api.context import Health
from app.db.store import Store
from app.ports import GitHubRefused, GitHubUnavailable, VMBackend
from app.reconcile import Reconciler
from app.sight import Sight
from app.timers import Timers
from tests.builders import NOW
from tests.conftest import Clock
from tests.simulation.site import VIRTUAL_TIME


@dataclass
class Loop:
    """What the timers know of the reconciler."""

    sight: Sight = field(default_factory=Sight)
    rings: int = 0

    def wake(self) -> None:
        self.rings += 1


@dataclass
class Shelves:
    """The store, and the host, of which the timers ask to forget."""

    asked: int = 0

    async def prune(self, *, before: datetime) -> int:
        del before
        self.asked += 1
        return 0

    def forget(self, before: datetime) -> None:
        del before


def some_timers(loop: Loop, health: Health, clock: Clock, shelves: Shelves | None = None) -> Timers:
    kept = shelves or Shelves()
    return Timers(
        reconciler=cast("Reconciler", loop),
        store=cast("Store", kept),
        vms=cast("VMBackend", kept),
        health=health,
        retention=timedelta(days=1),
        clock=clock,
    )


@dataclass
class Identity:
    """GitHub, asked who we are."""

    answer: str | Exception = "the App mill"
    asked: int = 0

    async def __call__(self) -> str:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@VIRTUAL_TIME
@pytest.mark.parametrize("jump", [timedelta(0), timedelta(hours=-8), timedelta(days=3650)], ids=str)
async def test_the_wall_clock_is_set(clock: Clock, jump: timedelta) -> None:
    """The bell rings every five seconds all the same."""
    loop, identity, shelves = Loop(), Identity(), Shelves()
    with freeze_time(NOW, real_asyncio=True) as wall:
        timers = some_timers(loop, Health(warnings=()), clock, shelves)
        timers.start(identity)
        for seconds in range(120):
            await asyncio.sleep(1)
            wall.tick(1)
            if seconds == 60:
                wall.tick(jump)
        timers.stop()
    assert 24 <= loop.rings <= 26


@pytest.mark.parametrize(
    ("trouble", "answer", "asked", "known"),
    [
        pytest.param(None, "the App mill", 1, "the App mill", id="all is well: once an hour is enough"),
        pytest.param("401", "the App mill", 2, "the App mill", id="GitHub refused something else"),
        pytest.param("401", GitHubRefused("a new key"), 2, None, id="the key is not taken any longer"),
        pytest.param("503", GitHubUnavailable("down"), 2, "the App mill", id="no answer is no refusal"),
    ],
)
async def test_identity(
    clock: Clock, trouble: str | None, answer: str | Exception, asked: int, known: str | None
) -> None:
    """A key that was replaced shows within a minute of the first refusal, not at the hour's end."""
    loop, health, identity = Loop(), Health(warnings=()), Identity()
    timers = some_timers(loop, health, clock)
    await timers._identify(identity)
    clock.pass_(minutes=1)
    loop.sight.github_trouble, identity.answer = trouble, answer
    await timers._identify(identity)
    assert (identity.asked, health.github) == (asked, known)
