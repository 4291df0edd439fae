"""What is put off for want of room is said, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.domain.putoff import warnings
from app.domain.world import World
from tests.builders import NOW, a_host, a_pool, a_world, ago
from tests.domain.test_images import IMAGE, PINNED, a_base, about_images, of_registry

FULL = {"free_disk_gb": 49.0}  # 30 are to stay free, and the image took 20


@pytest.mark.parametrize(
    ("world", "said"),
    [
        pytest.param(of_registry(a_base(), host=FULL), "not renewed", id="due, and no room"),
        pytest.param(of_registry(a_base()), None, id="due, and room"),
        pytest.param(of_registry(a_base(asked_at=ago(hours=1)), host=FULL), None, id="not due"),
        pytest.param(
            of_registry(a_base(asked_at=NOW), host=FULL, to_refresh={IMAGE: NOW}),
            "not renewed",
            id="an operator asked for it",
        ),
        pytest.param(of_registry(a_base(), host=FULL, image_refresh=timedelta(0)), None, id="never renewed"),
        pytest.param(of_registry(a_base(image=PINNED), host=FULL, image=PINNED), None, id="a digest"),
        pytest.param(of_registry(a_base(), host=FULL, pools=()), None, id="no pool names it"),
        pytest.param(of_registry(host={"free_disk_gb": 29.0}), "not pulled", id="not here, and no room"),
        pytest.param(of_registry(host=FULL), None, id="not here, and as much room as is known to be needed"),
        pytest.param(
            a_world(
                pools=(a_pool(), a_pool(name="other", image=IMAGE)),
                host=a_host(free_disk_gb=29.0, images=frozenset({"sequoia", IMAGE}), bases=(a_base(),)),
                image_refresh=timedelta(days=1),
                min_free_disk_gb=30.0,
            ),
            "not renewed",
            id="a local image takes no room",
        ),
        pytest.param(a_world(host=None), None, id="the host has not been looked at"),
    ],
)
def test_what_is_put_off(world: World, said: str | None) -> None:
    """A pull that the plan leaves out for want of room is told with what would free some; each image once."""
    found = list(warnings(world, NOW))
    assert len(found) == (0 if said is None else 1)
    for warning in found:
        assert f"An image is {said}" in warning
        assert "GB are free and pulling" in warning
        assert "`cidermill image prune`" in warning
        assert about_images(world) == []
