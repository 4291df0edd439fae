"""Jobs in the admin API: found, turned over page by page, and explained."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.conftest import Server, when
from tests.builders import NOW

JOB_KEYS = {
    "id", "run_id", "run_attempt", "name", "workflow", "repository", "labels", "status", "conclusion", "pool",
    "runner", "url", "queued_at", "received_at", "started_at", "completed_at",
}  # fmt: skip


async def some_jobs(server: Server) -> None:
    await server.deliver(id=1)
    await server.deliver(id=2, repository="Acme/Lib", labels=["mac"])
    await server.deliver(id=3, labels=["linux"])
    await server.deliver("in_progress", id=4, status="in_progress")
    await server.deliver("completed", id=5, status="completed", conclusion="skipped")
    await server.deliver("queued", id=6, status="waiting")


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        pytest.param({}, [6, 5, 4, 3, 2, 1], id="all, newest first"),
        pytest.param({"status": "queued"}, [3, 2, 1], id="by status"),
        pytest.param({"status": "waiting"}, [6], id="held back"),
        pytest.param({"repository": "acme/lib"}, [2], id="by repository, in any case"),
        pytest.param({"repository": "acme"}, [], id="a part of a repository's name"),
        pytest.param({"pool": "mac"}, [6, 4, 2, 1], id="by pool, to which what came ended never belonged"),
        pytest.param({"pool": "none"}, [], id="a pool that is not there"),
        pytest.param({"pool": "mac", "status": "queued", "repository": "acme/app"}, [1], id="by all of them"),
        pytest.param({"limit": 2}, [6, 5], id="a few"),
        pytest.param({"repository": "a'b\0%"}, [], id="a name that is none"),
    ],
)
async def test_job_filters(server: Server, query: dict[str, Any], ids: list[int]) -> None:
    """Jobs are listed newest first, and narrowed down by status, repository and pool."""
    await some_jobs(server)
    answer = await server.get("/api/v1/jobs", **query)
    assert [job["id"] for job in answer["items"]] == ids


async def test_job_as_json(server: Server) -> None:
    """A job has the documented keys, and its times are in UTC."""
    await server.deliver()
    (job,) = (await server.get("/api/v1/jobs"))["items"]
    assert set(job) == JOB_KEYS
    assert when(job["queued_at"]) == NOW
    assert (job["repository"], job["labels"], job["pool"]) == ("acme/app", ["self-hosted", "mac"], "mac")
    assert (job["started_at"], job["completed_at"], job["conclusion"]) == (None, None, None)


async def walk(server: Server, **query: Any) -> list[int]:
    found: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = await server.get("/api/v1/jobs", **query, **cursor)
        found += [job["id"] for job in page["items"]]
        if page["next_cursor"] is None:
            return found
        assert len(page["items"]) == query["limit"]
        cursor = {"cursor": page["next_cursor"]}


@pytest.mark.parametrize("limit", [1, 3, 4, 8, 9])
async def test_pages(server: Server, limit: int) -> None:
    """Page after page each job comes once, also where many came in the same moment."""
    for n in range(8):
        await server.deliver(id=10 + n)
        if n % 4 == 3:
            server.clock.pass_(seconds=1)
    assert await walk(server, limit=limit) == list(range(17, 9, -1))
    assert await walk(server, limit=limit, status="queued", pool="mac") == list(range(17, 9, -1))


async def test_pages_while_jobs_come(server: Server) -> None:
    """Jobs that come while somebody turns the pages shift nothing."""
    for n in range(4):
        await server.deliver(id=10 + n)
    first = await server.get("/api/v1/jobs", limit=2)
    server.clock.pass_(seconds=1)
    await server.deliver(id=50)
    rest = await server.get("/api/v1/jobs", limit=9, cursor=first["next_cursor"])
    assert [job["id"] for job in first["items"] + rest["items"]] == [13, 12, 11, 10]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "-",
        "5",
        "5-",
        "-5",
        "5-x",
        "-5-5",
        "5-5 ",
        "5-5\n",
        "٣-٣",
        "\0",
        "1e9-5",
        f"{10**16}-5",
        f"5-{10**19}",
    ],
)
async def test_bad_cursors(server: Server, cursor: str) -> None:
    """A cursor that is none of ours is refused, whatever it holds."""
    await server.deliver()
    assert (await server.client.get("/api/v1/jobs", params={"cursor": cursor})).status_code == 422


@pytest.mark.parametrize(("cursor", "found"), [("0-0", 0), (f"{10**16 - 1}-{10**19 - 1}", 1)])
async def test_farthest_cursors(server: Server, cursor: str, found: int) -> None:
    """A cursor from before all jobs, or from behind them, is a place in the list like any other."""
    await server.deliver()
    assert len((await server.get("/api/v1/jobs", cursor=cursor))["items"]) == found


async def test_largest_id_in_a_cursor(server: Server) -> None:
    """The largest ids are turned over like all others."""
    for job in (2**63 - 1, 2**63 - 2, 2**63 - 3):
        await server.deliver(id=job)
    assert await walk(server, limit=1) == [2**63 - 1, 2**63 - 2, 2**63 - 3]


@pytest.mark.parametrize(
    ("job", "part"),
    [
        pytest.param({}, "It is next in line", id="next in line"),
        pytest.param({"labels": ["linux"]}, "No pool has all of its labels (linux)", id="no such labels"),
        pytest.param({"labels": []}, "It asks for no labels", id="no labels"),
        pytest.param({"repository": "evil/app"}, "add it to `repositories` of pool mac", id="not allowed"),
        pytest.param({"status": "waiting"}, "GitHub holds it back", id="held back"),
    ],
)
async def test_why(server: Server, job: dict[str, Any], part: str) -> None:
    """A job that waits is explained in one sentence that names what to change."""
    await server.passes()
    await server.deliver(**job)
    await server.reconciler.see()
    answer = await server.get("/api/v1/jobs/1")
    assert set(answer) == JOB_KEYS | {"stages", "start", "explanation"}
    assert part in answer["explanation"]
    assert [stage["name"] for stage in answer["stages"]] == ["queued", "received"]


async def test_a_job_to_its_end(server: Server) -> None:
    """A job that ran shows its whole way, in order of time, and what became of it."""
    runner = await server.busy_runner()
    assert (await server.get("/api/v1/jobs/1"))["explanation"].startswith(
        f"It has been running on {runner.name}"
    )
    times = {"started_at": "2026-03-01T12:01:00Z", "completed_at": "2026-03-01T12:05:00Z"}
    await server.deliver(
        "completed", status="completed", conclusion="success", runner_name=runner.name, **times
    )
    server.clock.now = datetime(2026, 3, 1, 12, 6, tzinfo=UTC)
    server.github.listed.clear()
    server.vms.end(runner.name)
    await server.passes(6, seconds=2)
    answer = await server.get("/api/v1/jobs/1")
    assert answer["explanation"] == f"It ran on {runner.name} after waiting 60 s and ended: success."
    names = [stage["name"] for stage in answer["stages"]]
    assert names[:2] == ["queued", "received"] or names[:2] == ["received", "queued"]
    assert names[2:] == [
        "slot",
        "clone",
        "boot",
        "ready",
        "registered",
        "minted",
        "delivered",
        "online",
        "picked up",
        "done",
        "destroyed",
    ]
    assert [when(stage["at"]) for stage in answer["stages"]] == sorted(
        when(stage["at"]) for stage in answer["stages"]
    )
