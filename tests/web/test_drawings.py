"""Bars, charts and words: what is drawn from times and numbers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.api.models import Stage
from app.db.board import Statistics, Waits
from app.web.charts import chart
from app.web.timeline import LENGTH, timeline
from app.web.words import span
from tests.builders import NOW


def stages(**at: float) -> list[Stage]:
    """Return stages by name, each so many seconds after NOW."""
    made = [
        Stage(name=name.replace("_", " "), at=NOW + timedelta(seconds=seconds))
        for name, seconds in at.items()
    ]
    return sorted(made, key=lambda stage: stage.at)


@pytest.mark.parametrize(
    ("reached", "text"),
    [
        pytest.param({"queued": 0, "received": 1}, "GitHub tells us: 1 s; waits for a slot: 99 s", id="waits"),
        pytest.param(
            {"queued": 0, "received": 1, "slot": 11, "clone": 12, "boot": 13, "ready": 32, "registered": 33,
             "minted": 34, "delivered": 35, "listening": 38, "online": 39, "picked_up": 40, "done": 60, "destroyed": 65},
            "GitHub tells us: 1 s; waits for a slot: 10 s; the launch begins: 1 s; the VM is cloned: 1 s; the VM boots: 19 s; "
            "the guest is ready: 1 s; GitHub registers the runner: 1 s; the guest gets its configuration: 1 s; "
            "the runner comes online: 3 s; GitHub hands out the job: 2 s; the job runs: 20 s",
            id="its whole way",
        ),
        pytest.param(
            {"slot": -10, "boot": -9, "queued": 0, "received": 1, "ready": 5, "registered": 6, "picked_up": 8,
             "done": 18},
            "GitHub tells us: 1 s; the VM boots: 4 s; the guest is ready: 1 s; GitHub registers the runner: 2 s; "
            "the job runs: 10 s",
            id="its runner was on its way already",
        ),
        pytest.param(
            {"queued": 0, "received": 1, "picked_up": 7, "registered": 7.5, "online": 8, "done": 17},
            "GitHub tells us: 1 s; waits for a slot: 6 s; the job runs: 10 s",
            id="GitHub's times are whole seconds, and say it was picked up before it could be",
        ),
        pytest.param({"queued": 0, "received": 1, "done": 5}, "GitHub tells us: 1 s; waits for a slot: 4 s", id="cancelled"),
        pytest.param({"queued": 100, "received": 100}, "it has just begun", id="this moment"),
    ],
)  # fmt: skip
def test_timeline(reached: dict[str, float], text: str) -> None:
    """The bar tells what went on and for how long, from the job's being queued until its end, and fills its length."""
    drawn = timeline(stages(**reached), NOW + timedelta(seconds=100))
    assert drawn.text == text
    assert sum(part.width for part in drawn.parts) == pytest.approx(LENGTH if drawn.parts else 0, abs=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (0.44, "0.4 s"), (2.0, "2 s"), (10.6, "10 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7260, "2 h 1 min"),
     (172800, "2 d 0 h"), (273600, "3 d 4 h")],
)  # fmt: skip
def test_span(seconds: float, text: str) -> None:
    """A span is told in the units that matter."""
    assert span(seconds) == text


def test_chart() -> None:
    """The highest column has the whole height, and the words tell the whole."""
    statistics = Statistics(
        since=NOW,
        width=timedelta(hours=1),
        whole=Waits(6, 30.0, 130.0),
        intervals=[Waits(), Waits(4, 10.0, 20.0), Waits(2, 40.0, 80.0)],
    )
    drawn = chart("Last day", statistics)
    assert drawn.text == "6 jobs; half of them started within 30 s, nine in ten within 2 min"
    assert [column.height for column in drawn.jobs] == [0.0, 40.0, 20.0]
    assert [(column.height, column.inner) for column in drawn.waits] == [
        (0.0, 0.0),
        (10.0, 5.0),
        (40.0, 20.0),
    ]
    assert "no job ended" in drawn.jobs[0].text
