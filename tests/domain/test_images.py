"""Images of a registry: when they are pulled again, and which of their bases go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.actions import Action, DropBase, PrepareImage, RefreshImage
from app.domain.images import no_room, refresh_at, unneeded, unused
from app.domain.plan import plan
from app.domain.pools import Names
from app.domain.runners import RunnerState
from app.domain.world import Base, Cooldown, World
from tests.builders import NOW, a_demand, a_host, a_pool, a_runner, a_world, ago

IMAGE = "ghcr.io/acme/macos:latest"
PINNED = f"ghcr.io/acme/macos@sha256:{'a' * 64}"
DAY = timedelta(days=1)


def a_base(letter: str = "a", **changes: Any) -> Base:
    values: dict[str, Any] = {
        "name": Names("mini").base(letter * 12),
        "image": IMAGE,
        "digest": letter * 64,
        "age": 0,
        "asked_at": ago(hours=25),
        "size_gb": 20.0,
    }
    return Base(**values | changes)


def of_registry(*bases: Base, **changes: Any) -> World:
    host = changes.pop("host", {})
    image = changes.pop("image", IMAGE)
    images = frozenset(base.image for base in bases if base.age == 0)
    values: dict[str, Any] = {
        "pools": (a_pool(image=image),),
        "host": a_host(bases=bases, images=images, **host),
        "image_refresh": DAY,
        "min_free_disk_gb": 30.0,
    }
    return a_world(**values | changes)


def about_images(world: World) -> list[Action]:
    return [
        action
        for action in plan(world, now=NOW)
        if isinstance(action, PrepareImage | RefreshImage | DropBase)
    ]


def failed(scope: str) -> tuple[Cooldown, ...]:
    until = NOW + timedelta(minutes=1)
    return (Cooldown(scope=f"{scope}:{IMAGE}", reason="pull_failed", detail="?", failures=1, until=until),)


REFRESHED: list[Action] = [RefreshImage(IMAGE)]
NOTHING: list[Action] = []


@pytest.mark.parametrize(
    ("world", "expected"),
    [
        pytest.param(of_registry(), [PrepareImage(IMAGE)], id="not here: pulled at once"),
        pytest.param(of_registry(host={"free_disk_gb": 29.0}), NOTHING, id="not here, and no room for it"),
        pytest.param(
            a_world(host=a_host(images=frozenset(), free_disk_gb=1.0), min_free_disk_gb=30.0),
            [PrepareImage("sequoia")],
            id="a local VM takes no room to look for",
        ),
        pytest.param(of_registry(cooldowns=failed("image")), NOTHING, id="the pull has just failed"),
        pytest.param(of_registry(a_base()), REFRESHED, id="asked about more than a day ago"),
        pytest.param(of_registry(a_base(asked_at=ago(hours=23))), NOTHING, id="asked about today"),
        pytest.param(of_registry(a_base(), image_refresh=timedelta(0)), NOTHING, id="never refreshed"),
        pytest.param(
            of_registry(a_base(image=PINNED), image=PINNED), NOTHING, id="a digest stays what it is"
        ),
        pytest.param(of_registry(a_base(), demand=(a_demand(),)), NOTHING, id="not while a job waits"),
        pytest.param(
            of_registry(a_base(), runners=(a_runner(RunnerState.BOOTING),)),
            NOTHING,
            id="not while a VM boots",
        ),
        pytest.param(
            of_registry(a_base(), runners=(a_runner(RunnerState.BUSY),)),
            REFRESHED,
            id="beside a job that runs",
        ),
        pytest.param(
            of_registry(a_base(asked_at=ago(hours=48)), demand=(a_demand(),)),
            REFRESHED,
            id="not put off for ever on a Mac that is never quiet",
        ),
        pytest.param(
            of_registry(a_base(), cooldowns=failed("refresh")), NOTHING, id="the refresh has just failed"
        ),
        pytest.param(
            of_registry(a_base(), cooldowns=failed("image")),
            REFRESHED,
            id="an image that failed may be mended by a newer one",
        ),
        pytest.param(
            of_registry(a_base(), host={"free_disk_gb": 49.0}),
            NOTHING,
            id="the new one would not fit beside the old",
        ),
        pytest.param(
            of_registry(a_base(asked_at=NOW), to_refresh={IMAGE: NOW}, demand=(a_demand(),)),
            REFRESHED,
            id="an operator asked for it",
        ),
        pytest.param(
            of_registry(a_base(), in_hand=frozenset({"image:another"})), NOTHING, id="one pull at a time"
        ),
        pytest.param(of_registry(a_base(), pools=()), NOTHING, id="no pool names it"),
        pytest.param(
            of_registry(a_base(), host_changed_at=NOW),
            NOTHING,
            id="a pull that just ended is not in the look yet",
        ),
    ],
)
def test_when_an_image_is_pulled(world: World, expected: list[Action]) -> None:
    """A missing image is pulled at once; one that is here is asked about again in a quiet moment, with room for both."""
    assert about_images(world) == expected


FRESH = a_base("c", asked_at=NOW)
OLDER = a_base("b", age=1, asked_at=NOW)
OLDEST = a_base("a", age=2, asked_at=NOW)
LEFT = a_base("d", image="", asked_at=NOW)
ELSEWHERE = a_base("e", image="ghcr.io/acme/other:1", asked_at=NOW)


@pytest.mark.parametrize(
    ("world", "dropped"),
    [
        pytest.param(of_registry(FRESH, OLDER), set(), id="the present and the one before are kept"),
        pytest.param(of_registry(FRESH, OLDER, OLDEST), {OLDEST}, id="what is older goes"),
        pytest.param(of_registry(FRESH, OLDER, OLDEST, image_keep=0), {OLDER, OLDEST}, id="only the present"),
        pytest.param(of_registry(FRESH, OLDER, OLDEST, image_keep=2), set(), id="two more are kept"),
        pytest.param(of_registry(FRESH, LEFT), {LEFT}, id="no image is known to have been it"),
        pytest.param(
            of_registry(FRESH, ELSEWHERE), set(), id="a pool may come back: only an operator drops it"
        ),
        pytest.param(
            of_registry(FRESH, ELSEWHERE, to_drop=frozenset({ELSEWHERE.name})),
            {ELSEWHERE},
            id="an operator does",
        ),
        pytest.param(
            of_registry(FRESH, to_drop=frozenset({FRESH.name})),
            set(),
            id="what launches clone is never dropped",
        ),
        pytest.param(
            of_registry(FRESH, OLDEST, a_base("a", image="ghcr.io/acme/other:1", asked_at=NOW)),
            set(),
            id="another image is the same",
        ),
        pytest.param(
            of_registry(FRESH, OLDER, OLDEST, in_hand=frozenset({f"image:{IMAGE}"})),
            set(),
            id="not during a pull",
        ),
    ],
)
def test_which_bases_go(world: World, dropped: set[Base]) -> None:
    """The present base and the last ones before it are kept; what no image was is removed."""
    in_use = frozenset({IMAGE})
    names = sorted(base.name for base in dropped)
    assert about_images(world) == [DropBase(name, in_use) for name in names]


def test_what_an_operator_may_do_without() -> None:
    """The older ones and those of images that no pool names; not one that a launch under way will clone."""
    world = of_registry(FRESH, OLDER, ELSEWHERE, LEFT)
    assert unneeded(world) == {LEFT.name}
    assert unused(world) == {OLDER.name, ELSEWHERE.name, LEFT.name}
    launch = a_runner(RunnerState.BOOTING, spec=a_pool(image=ELSEWHERE.image))
    assert unused(of_registry(FRESH, ELSEWHERE, runners=(launch,))) == frozenset()


def test_what_is_said_of_it() -> None:
    """The next question is told, and what keeps a pull from being made names the mend."""
    world = of_registry(a_base(asked_at=NOW), host={"free_disk_gb": 49.0})
    assert refresh_at(a_base(asked_at=NOW), world) == NOW + DAY
    assert refresh_at(ELSEWHERE, world) is None
    assert "49 GB are free and pulling ghcr.io/acme/macos:latest wants 50" in (no_room(IMAGE, world) or "")
    assert no_room(IMAGE, a_world(host=None)) is None
