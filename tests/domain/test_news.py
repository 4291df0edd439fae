"""What an operator is told unasked: once when it begins, once when it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.news import TOLD_FROM, Held, Kind, QueueOld, Told, news
from app.domain.world import Cooldown, Demand
from tests.builders import NOW, a_demand, a_head, a_world, ago

AFTER = timedelta(minutes=30)


def a_cooldown(failures: int = TOLD_FROM, **changes: Any) -> Cooldown:
    values: dict[str, Any] = {
        "scope": "pool:mac",
        "reason": "boot_timeout",
        "detail": "It did not boot.",
        "failures": failures,
        "until": NOW,
    }
    return Cooldown(**values | changes)


def waiting(**span: float) -> Demand:
    return a_demand(heads=(a_head(queued_at=ago(**span)),))


QUEUE, POOL = Told(queue=True), Told(scopes=frozenset({"pool:mac"}))


@pytest.mark.parametrize(
    ("told", "world", "found"),
    [
        pytest.param(Told(), {}, [], id="nothing"),
        pytest.param(Told(), {"cooldowns": (a_cooldown(TOLD_FROM - 1),)}, [], id="a failure or two are no news"),
        pytest.param(Told(), {"cooldowns": (a_cooldown(),)}, [Kind.LAUNCHES_HELD], id="the third is"),
        pytest.param(POOL, {"cooldowns": (a_cooldown(9),)}, [], id="it goes on: told already"),
        pytest.param(
            Told(), {"cooldowns": (a_cooldown(1, reason="runner_too_old"),)}, [Kind.LAUNCHES_HELD],
            id="what only a person can mend is news at once",
        ),
        pytest.param(POOL, {}, [Kind.LAUNCHES_RESUMED], id="it is over"),
        pytest.param(POOL, {"cooldowns": (a_cooldown(1),)}, [], id="it failed again after an hour: not over"),
        pytest.param(
            POOL, {"cooldowns": (a_cooldown(scope="host"),)}, [Kind.LAUNCHES_HELD, Kind.LAUNCHES_RESUMED],
            id="one begins, another is over",
        ),
        pytest.param(Told(), {"demand": (waiting(minutes=29),)}, [], id="a job may wait"),
        pytest.param(Told(), {"demand": (waiting(minutes=31),)}, [Kind.QUEUE_OLD], id="a job waits too long"),
        pytest.param(QUEUE, {"demand": (waiting(hours=9),)}, [], id="it still does: told already"),
        pytest.param(QUEUE, {"demand": (waiting(minutes=1),)}, [Kind.QUEUE_SERVED], id="only young ones wait"),
        pytest.param(QUEUE, {}, [Kind.QUEUE_SERVED], id="none waits"),
    ],
)  # fmt: skip
def test_what_is_new(told: Told, world: dict[str, Any], found: list[Kind]) -> None:
    """Each beginning and each end is news, once: asked again at once, nothing is."""
    after, items = news(told, a_world(**world), now=NOW, after=AFTER)
    assert [item.kind for item in items] == found
    assert news(after, a_world(**world), now=NOW, after=AFTER) == (after, [])


def test_the_oldest_of_all_is_told_of() -> None:
    """The oldest job is named, and how many wait in all."""
    demand = (a_demand(3, repository="acme/young"), waiting(hours=1))
    _, items = news(Told(), a_world(demand=demand, cooldowns=(a_cooldown(),)), now=NOW, after=AFTER)
    assert items == [Held(a_cooldown()), QueueOld(demand[1], 4)]
