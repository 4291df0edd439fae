"""Pulls to the Macs of a fleet: which Mac fetches which image next, a row a situation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain.actions import Claim, FetchImage, Stop
from app.domain.plan import plan
from app.domain.pools import MACOS_VM, Kind
from app.domain.pulls import next_ones
from app.domain.runners import Purpose, RunnerState, StopRequest
from app.domain.world import Cooldown, Host, HostState, World
from tests.builders import NOW, a_demand, a_host, a_pool, a_runner, a_world, ago

IMAGE, PINNED = "ghcr.io/acme/mac:1", "ghcr.io/acme/mac@sha256:1"
DAY = timedelta(days=1)
MINI1, MINI2, MINI3 = (Host(name=name, room={MACOS_VM: 2}) for name in ("mini1", "mini2", "mini3"))


def a_fleet(*hosts: Host, image: str = IMAGE, **changes: Any) -> World:
    host = a_host(hosts=hosts or (MINI1, MINI2), images=None)
    return a_world(**{"host": host, "pools": (a_pool(image=image),), "image_refresh": DAY} | changes)


def a_pull(state: RunnerState = RunnerState.BOOTING, **changes: Any) -> Any:
    values = {"slot": "mini1/1", "purpose": Purpose.PULL, "spec": a_pool(image=IMAGE)}
    return a_runner(state, **values | changes)


def had(**ages: timedelta) -> dict[tuple[str, str], Any]:
    return {(host, IMAGE): NOW - age for host, age in ages.items()}


FRESH, STALE = timedelta(hours=1), timedelta(days=2)
COOLING = (Cooldown(scope=f"refresh:{IMAGE}", reason="x", detail="x", failures=1, until=NOW + DAY),)


@pytest.mark.parametrize(
    ("world", "hosts"),
    [
        pytest.param(a_fleet(), ["mini1"], id="no Mac has it: one at a time"),
        pytest.param(a_fleet(MINI1, MINI2, MINI3, image_pulls=2), ["mini1", "mini2"], id="two at a time"),
        pytest.param(a_fleet(image_pulls=2, runners=(a_pull(),)), ["mini2"], id="beside one under way"),
        pytest.param(a_fleet(runners=(a_pull(),)), [], id="one is under way"),
        pytest.param(a_fleet(images_at=had(mini1=FRESH)), ["mini2"], id="the Mac that lacks it"),
        pytest.param(
            a_fleet(images_at=had(mini1=FRESH, mini2=STALE)), ["mini2"], id="the Mac whose image is old"
        ),
        pytest.param(
            a_fleet(images_at=had(mini1=STALE)), ["mini2"], id="one that lacks it before one whose is old"
        ),
        pytest.param(a_fleet(images_at=had(mini1=FRESH, mini2=FRESH)), [], id="all have it"),
        pytest.param(
            a_fleet(images_at=had(mini1=STALE, mini2=STALE), image_refresh=timedelta(0)), [], id="never again"
        ),
        pytest.param(
            a_fleet(images_at=had(mini1=FRESH, mini2=FRESH), to_refresh={IMAGE: ago(minutes=90)}),
            [],
            id="asked for, and done since",
        ),
        pytest.param(
            a_fleet(
                images_at=had(mini1=FRESH, mini2=FRESH), to_refresh={IMAGE: ago(minutes=1)}, image_pulls=9
            ),
            ["mini1", "mini2"],
            id="asked for",
        ),
        pytest.param(
            a_fleet(MINI1, image=PINNED, images_at={("mini1", PINNED): ago(days=9)}),
            [],
            id="a digest stays what it is",
        ),
        pytest.param(a_fleet(image="sequoia"), [], id="a local VM of the Macs is their owner's to bring"),
        pytest.param(a_fleet(draining=True), [], id="draining"),
        pytest.param(a_fleet(cooldowns=COOLING), [], id="it failed lately"),
        pytest.param(a_fleet(replace(MINI1, can_be_chosen=False)), [], id="a Mac that cannot be chosen"),
        pytest.param(
            a_fleet(replace(MINI1, state=HostState.PAUSED, closed="it is paused")), [], id="a paused Mac"
        ),
        pytest.param(
            a_fleet(pools=(a_pool(image=IMAGE, kind=Kind(labels=(("room", "2"),))),)),
            [],
            id="a Mac that runs none of its VMs",
        ),
        pytest.param(
            replace(a_fleet(), host=a_host(images=frozenset())),
            [],
            id="one Mac, whose images are pulled without a VM",
        ),
        pytest.param(replace(a_fleet(), host=None), [], id="nobody has looked yet"),
    ],
)
def test_which_mac_fetches_next(world: World, hosts: list[str]) -> None:
    """Macs fetch images a few at a time, first those that never had one, and only those that can be had do it."""
    assert [pull.host for pull in next_ones(world, NOW)] == hosts


def claims(world: World) -> list[tuple[str, Purpose]]:
    return [(action.slot, action.purpose) for action in plan(world, now=NOW) if isinstance(action, Claim)]


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(a_fleet(MINI1), [("mini1/1", Purpose.PULL)], id="an idle slot"),
        pytest.param(
            a_fleet(MINI1, demand=(a_demand(1),)),
            [("mini1/1", Purpose.JOBS), ("mini1/2", Purpose.PULL)],
            id="a job first",
        ),
        pytest.param(
            a_fleet(MINI1, demand=(a_demand(2),)),
            [("mini1/1", Purpose.JOBS), ("mini1/2", Purpose.JOBS)],
            id="jobs need them all",
        ),
    ],
)
def test_jobs_come_first(world: World, expected: list[tuple[str, Purpose]]) -> None:
    """A pull takes a slot of its Mac that no job needs, with what a VM of the pool takes."""
    assert claims(world) == expected


@pytest.mark.parametrize(
    ("runner", "changes", "expected"),
    [
        pytest.param(a_pull(RunnerState.CLAIMED), {}, FetchImage, id="claimed"),
        pytest.param(a_pull(), {"in_hand": frozenset({"boot:mini-mac-aaaaaaaa"})}, None, id="under way"),
        pytest.param(a_pull(), {}, "interrupted", id="whoever had it done is gone"),
        pytest.param(a_pull(stop=StopRequest.ASK), {}, "stopped_by_operator", id="an operator"),
        pytest.param(a_pull(), {"draining": True}, "draining", id="draining"),
        pytest.param(a_pull(), {"pools": (a_pool(),)}, "pool_changed", id="no pool names the image now"),
        pytest.param(
            a_pull(),
            {"in_hand": frozenset({"boot:mini-mac-aaaaaaaa"}), "demand": (a_demand(9),)},
            None,
            id="jobs wait: half an image is none",
        ),
    ],
)
def test_what_becomes_of_a_pull(runner: Any, changes: dict[str, Any], expected: Any) -> None:
    """It is begun once, ended when nobody wants it, and its VM is removed whenever we lost sight of it."""
    actions = plan(a_fleet(MINI1, runners=(runner,), **changes), now=NOW)
    about = [action for action in actions if getattr(action, "runner", None) == runner]
    found = about[0] if about else None
    assert (found.reason if isinstance(found, Stop) else found and type(found)) == expected
