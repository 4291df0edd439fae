"""Jobs that are over, read from a repository's runs: as many as there are, as were allowed, and as the quota bears."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.builders import NOW
from tests.github.stub import StubGitHub, connected

HOME = {
    "id": 5,
    "full_name": "acme/app",
    "private": False,
    "owner": {"login": "acme", "type": "Organization"},
}


def runs(count: int) -> httpx.Response:
    rows = [{"id": n, "repository": HOME} for n in range(1, count + 1)]
    return httpx.Response(200, json={"total_count": count, "workflow_runs": rows})


def jobs(number: int, **headers: str) -> httpx.Response:
    row: dict[str, Any] = {"id": number, "run_id": number, "status": "completed", "labels": ["macos-15"]}
    return httpx.Response(200, json={"total_count": 1, "jobs": [row]}, headers=headers)


@pytest.mark.parametrize(
    ("there", "most", "left", "read", "complete"),
    [
        pytest.param(3, 10, "900", 3, True, id="all"),
        pytest.param(3, 2, "900", 2, False, id="as many as are allowed"),
        pytest.param(3, 10, "100", 1, False, id="until the quota is low"),
        pytest.param(0, 10, "900", 0, True, id="none"),
    ],
)
async def test_past_jobs(there: int, most: int, left: str, read: int, complete: bool) -> None:
    """It says how many runs were read, and whether those were all."""
    stub = StubGitHub()
    stub.force(r"GET /repos/acme/app/actions/runs$", runs(there))
    quota = {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": left, "x-ratelimit-resource": "core"}
    stub.force(r"GET /repos/acme/app/actions/runs/\d+/jobs", *(jobs(n, **quota) for n in range(1, there + 1)))
    async with connected(stub) as client:
        past = await client.past_jobs("acme/app", since=NOW.date(), most_runs=most)
    assert ([job.id for job in past.jobs], past.runs, past.complete) == (
        list(range(1, read + 1)),
        read,
        complete,
    )
    assert all(job.organization and not job.private for job in past.jobs)
    (asked,) = stub.seen("GET .*/actions/runs$")
    assert dict(asked.url.params) | {"created": ">=2026-03-01", "status": "completed"} == dict(
        asked.url.params
    )
