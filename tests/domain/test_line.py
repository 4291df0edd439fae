"""Which of the jobs that wait has the next slot."""

from __future__ import annotations

from typing import Any

from app.domain.actions import Claim
from app.domain.plan import plan
from tests.builders import NOW, a_demand, a_head, a_pool, a_world, ago


def claims(**world: Any) -> list[str]:
    return [
        action.reason.split(" of ")[1].split(" ")[0]
        for action in plan(a_world(**world), now=NOW)
        if isinstance(action, Claim)
    ]


def test_priority_then_share_then_age() -> None:
    """The next slot goes by pool priority, then to the repository with the smallest share, then to the oldest."""
    pools = (a_pool(), a_pool(name="fast", labels=("x",), priority=5))
    older, newer = a_head(queued_at=ago(minutes=9)), a_head(id=2, queued_at=ago(minutes=1))
    demand = (
        a_demand(9, repository="acme/a", heads=(older, older)),
        a_demand(repository="acme/b", heads=(newer,)),
        a_demand(pool="fast", repository="acme/c", heads=(newer,)),
    )
    assert claims(pools=pools, demand=demand, slots=5) == [
        "acme/c", "acme/a", "acme/b", "acme/a", "acme/a",
    ]  # fmt: skip


def test_starving_goes_first() -> None:
    """A job that has waited half an hour goes first, whatever its pool's priority."""
    pools = (a_pool(), a_pool(name="fast", labels=("x",), priority=5))
    demand = (
        a_demand(repository="acme/a", heads=(a_head(queued_at=ago(minutes=31)),)),
        a_demand(pool="fast", repository="acme/c", heads=(a_head(id=2, queued_at=ago(minutes=29)),)),
    )
    assert claims(pools=pools, demand=demand, slots=1) == ["acme/a"]


def test_caps() -> None:
    """A pool's cap on runners, and its cap per repository, are kept."""
    assert len(claims(pools=(a_pool(max_runners=1),), demand=(a_demand(5),), slots=4)) == 1
    two = (a_demand(5), a_demand(5, repository="acme/b"))
    capped = claims(pools=(a_pool(max_per_repository=1),), demand=two, slots=4)
    assert sorted(capped) == ["acme/app", "acme/b"]
