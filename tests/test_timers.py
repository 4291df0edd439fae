"""Whose credentials we have is asked again only where there is reason to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest

from app.api.context import Health
from app.ports import GitHubRefused, GitHubUnavailable
from app.reconcile import Reconciler
from app.sight import Sight
from app.timers import Timers
from tests.conftest import Clock


@dataclass
class Loop:
    """What the timers know of the reconciler."""

    sight: Sight = field(default_factory=Sight)


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
    timers = Timers(
        reconciler=cast("Reconciler", loop),
        store=None,
        vms=None,
        health=health,
        retention=timedelta(days=1),
        clock=clock,
    )
    await timers._identify(identity)
    clock.pass_(minutes=1)
    loop.sight.github_trouble, identity.answer = trouble, answer
    await timers._identify(identity)
    assert (identity.asked, health.github) == (asked, known)
