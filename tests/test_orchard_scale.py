"""A fleet on a real Orchard controller, in small: what is counted, and not how long it takes."""

from __future__ import annotations

import pytest

from benchmarks.fleet import worked

pytestmark = [pytest.mark.orchard, pytest.mark.timeout(240)]


async def test_a_job_costs_the_same_on_a_fleet_five_times_the_size() -> None:
    """All places are taken soon, and a job asks as little of the controller and of GitHub as on a small fleet."""
    small, large = await worked(2, 12), await worked(10, 60)
    for work in (small, large):
        assert work.well == work.jobs
        assert work.scheduler_passes <= 6
    assert large.for_a_job(lists=False) <= 1.25 * small.for_a_job(lists=False)
    assert large.for_a_job(lists=True) <= 1.25 * small.for_a_job(lists=True)
    assert large.github.total() / large.jobs <= 1.25 * small.github.total() / small.jobs
