"""How long the actions runner in an image may go on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.domain.versions import time_left, warnings
from app.domain.world import RunnerRelease
from tests.builders import NOW, a_pool, a_world, ago


@pytest.mark.parametrize(
    ("version", "days", "told"),
    [
        pytest.param("2.336.0", None, None, id="the one expected"),
        pytest.param("2.337.0", None, None, id="a newer one"),
        pytest.param("2.99.0", 20, "in 20 days", id="numbers, not text"),
        pytest.param("2.335.1", 20, "from 2026-03-21 on (in 20 days)", id="an older one"),
    ],
)
def test_time_left(version: str, days: int | None, told: str | None) -> None:
    """An older runner goes on for 30 days after the newer one was published, and that is said with the mend."""
    release = RunnerRelease(version="2.336.0", since=ago(days=10))
    pools = (a_pool(prepare=False),)
    world = a_world(pools=pools, release=release, versions={"mac": version, "gone": "1.0.0"})
    assert time_left(world, NOW) == ({} if days is None else {"mac": timedelta(days=days)})
    said = list(warnings(world, NOW))
    assert len(said) == (told is not None)
    assert all(told in sentence and "build the image anew" in sentence for sentence in said if told)


def test_past_its_time() -> None:
    """Afterwards it is said that GitHub may give it no jobs."""
    release = RunnerRelease(version="2.336.0", since=ago(days=40))
    (said,) = warnings(a_world(release=release, versions={"mac": "2.335.0"}), NOW)
    assert "since 2026-02-19 GitHub may give it no jobs" in said


def test_nothing_known() -> None:
    """Without GitHub's answer nothing is said."""
    assert list(warnings(a_world(versions={"mac": "2.300.0"}), NOW)) == []
