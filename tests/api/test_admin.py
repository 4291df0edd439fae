"""The admin API: what runs, what waits and why, and what an operator may do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.domain.runners import RunnerState
from app.reconcile import replace_pools
from tests.api.conftest import Server
from tests.builders import NOW, a_pool, a_runner, ago

JOB_KEYS = {
    "id", "run_id", "run_attempt", "name", "workflow", "repository", "labels", "status", "conclusion", "pool",
    "runner", "url", "queued_at", "received_at", "started_at", "completed_at",
}  # fmt: skip
UNKNOWN = "mini-mac-zzzzzzzz"


def when(text: str) -> datetime:
    """Read a time of the API, which must be RFC 3339 in UTC."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("path", ["status", "pools", "jobs/1"])
async def test_before_the_first_pass(server: Server, path: str) -> None:
    """What rests on a pass says so until there was one; the rest answers at once."""
    await server.deliver()
    assert "first pass" in (await server.get(f"/api/v1/{path}", 503))["detail"]
    assert len((await server.get("/api/v1/jobs"))["items"]) == 1
    assert len(await server.get("/api/v1/slots")) == 2


async def test_status(server: Server) -> None:
    """The status is the whole on one page."""
    await server.idle_runner()
    await server.deliver(id=2, created_at="2026-03-01T11:50:00Z")
    await server.context.store.fail("pool:other", "boot_timeout", "no answer", at=server.clock(), jitter=0.0)
    await server.passes(2)
    answer = await server.get("/api/v1/status")
    assert when(answer["started_at"]) == NOW
    assert answer["uptime"] == (server.clock() - NOW).total_seconds() > 0
    assert when(answer["oldest_unserved"]) == ago(minutes=10)
    (cooldown,) = answer["cooldowns"]
    assert (cooldown["scope"], cooldown["reason"], cooldown["failures"]) == ("pool:other", "boot_timeout", 1)
    expected = {
        "version": "1.2.3",
        "draining": False,
        "slots": 2,
        "slots_used": 2,
        "queued": 2,
        "in_progress": 0,
        "quota": {"acme": {"core": 4999}},
        "warnings": ["one warning"],
    }
    assert {name: answer[name] for name in expected} == expected


async def test_slots(server: Server) -> None:
    """Every slot is listed, free or with what holds it."""
    runner = await server.idle_runner()
    first, second = await server.get("/api/v1/slots")
    assert when(first.pop("since")) == runner.since
    assert first == {"slot": "1", "state": "idle", "runner": runner.name, "pool": "mac"}
    assert second == {"slot": "2", "state": "free", "runner": None, "pool": None, "since": None}


async def test_slot_that_was_removed(server: Server) -> None:
    """A slot that is no longer configured is listed for as long as a runner holds it."""
    await server.context.store.claim(a_runner(RunnerState.BUSY, slot="3"))
    assert [slot["slot"] for slot in await server.get("/api/v1/slots")] == ["1", "2", "3"]
    await server.context.store.advance("mini-mac-aaaaaaaa", RunnerState.STOPPING, at=NOW, reason="x")
    await server.context.store.advance("mini-mac-aaaaaaaa", RunnerState.GONE, at=NOW, reason="x")
    assert [slot["slot"] for slot in await server.get("/api/v1/slots")] == ["1", "2"]


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
    ("path", "status"),
    [
        ("jobs/x", 422),
        ("jobs/-1", 422),
        ("jobs/1.5", 422),
        (f"jobs/{2**63}", 422),
        (f"jobs/{'9' * 400}", 422),
        (f"jobs/{2**63 - 1}", 404),
        ("jobs/7", 404),
        ("jobs?limit=0", 422),
        ("jobs?limit=201", 422),
        ("jobs?limit=x", 422),
        ("jobs?status=lost", 422),
        ("runners?limit=1001", 422),
        ("runners?live=perhaps", 422),
        ("runners/" + UNKNOWN, 404),
        ("runners/UPPER", 422),
        ("runners/-mac", 422),
        ("runners/" + "a" * 64, 422),
        ("runners/mini%0A", 422),
        ("runners/%00", 422),
        ("runners/..%2f..%2fetc", 404),
        (f"runners/{UNKNOWN}/logs", 404),
        ("runners/UPPER/logs", 422),
        ("nothing", 404),
        ("drain", 405),
    ],
)
async def test_bad_requests(server: Server, path: str, status: int) -> None:
    """What makes no sense is refused with a reason, and never an error of ours."""
    await server.passes()
    answer = await server.client.get(f"/api/v1/{path}")
    assert answer.status_code == status
    assert answer.json()["detail"]


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
    assert set(answer) == JOB_KEYS | {"stages", "explanation"}
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
    assert names[2:] == ["slot", "boot", "ready", "registered", "online", "picked up", "done", "destroyed"]
    assert [when(stage["at"]) for stage in answer["stages"]] == sorted(
        when(stage["at"]) for stage in answer["stages"]
    )


async def test_runners(server: Server) -> None:
    """Runners are listed newest first, with or without those that are gone."""
    gone = a_runner(RunnerState.GONE, name="mini-mac-bbbbbbbb", created_at=ago(hours=1))
    await server.context.store.claim(gone)
    runner = await server.idle_runner()
    listed = await server.get("/api/v1/runners")
    assert [found["name"] for found in listed] == [runner.name, gone.name]
    assert (
        listed[0] | {"state": "idle", "target": "acme/app", "stop_requested": None, "slot": "1"} == listed[0]
    )
    assert [found["name"] for found in await server.get("/api/v1/runners", live=True)] == [runner.name]
    assert len(await server.get("/api/v1/runners", limit=1)) == 1


async def test_runner_with_history(server: Server) -> None:
    """A runner is shown with every transition, oldest first, and without its credentials."""
    runner = await server.idle_runner()
    answer = await server.get(f"/api/v1/runners/{runner.name}")
    steps = [(step["from_state"], step["to_state"]) for step in answer["history"]]
    assert steps == [
        (None, "claimed"),
        ("claimed", "booting"),
        ("booting", "ready"),
        ("ready", "registered"),
        ("registered", "idle"),
    ]
    assert all(step["reason"] for step in answer["history"])
    assert answer["runner_version"] == "2.336.0"
    assert "eyI" not in str(answer)


async def test_stop_idle(server: Server) -> None:
    """A runner that works on nothing is deregistered first, and then destroyed."""
    runner = await server.idle_runner()
    server.github.jobs.clear()
    answer = await server.client.delete(f"/api/v1/runners/{runner.name}")
    assert (answer.status_code, answer.json()["stop_requested"]) == (202, "ask")
    await server.passes(4, seconds=2)
    shown = await server.get(f"/api/v1/runners/{runner.name}")
    assert shown["state"] == "gone"
    assert runner.name not in server.vms.vms
    again = await server.client.delete(f"/api/v1/runners/{runner.name}")
    assert (again.status_code, again.json()["detail"]) == (409, f"Runner {runner.name} has ended already.")


async def test_stop_busy(server: Server) -> None:
    """A runner that works is left alone, unless it is forced."""
    runner = await server.busy_runner()
    assert (await server.client.delete(f"/api/v1/runners/{runner.name}")).status_code == 202
    await server.passes(4, seconds=2)
    assert (await server.get(f"/api/v1/runners/{runner.name}"))["state"] == "busy"
    assert runner.name in server.vms.vms
    forced = await server.client.delete(f"/api/v1/runners/{runner.name}", params={"force": True})
    assert (forced.status_code, forced.json()["stop_requested"]) == (202, "force")
    await server.passes(4, seconds=2)
    assert (await server.get(f"/api/v1/runners/{runner.name}"))["state"] == "gone"
    assert runner.name not in server.vms.vms


async def test_asking_takes_no_force_back(server: Server) -> None:
    """A forced stop stays forced when somebody asks again."""
    runner = await server.busy_runner()
    await server.client.delete(f"/api/v1/runners/{runner.name}", params={"force": True})
    await server.client.delete(f"/api/v1/runners/{runner.name}")
    assert (await server.get(f"/api/v1/runners/{runner.name}"))["stop_requested"] == "force"


async def test_stop_unknown(server: Server) -> None:
    """A runner that is not there cannot be stopped."""
    answer = await server.client.delete(f"/api/v1/runners/{UNKNOWN}")
    assert (answer.status_code, answer.json()["detail"]) == (404, f"No runner {UNKNOWN} is recorded.")
    assert server.reconciler.wakes == 0


async def test_logs(server: Server, tmp_path: Path) -> None:
    """The kept files come one after the other, each under its name, as text that no browser renders."""
    vm, runner = tmp_path / "vm.log", tmp_path / "runner.log"
    vm.write_bytes(b"booted\n")
    runner.write_bytes(b"<script>\xff" + b"x" * 200_000)
    server.vms.kept[UNKNOWN] = (vm, runner)
    answer = await server.client.get(f"/api/v1/runners/{UNKNOWN}/logs")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == (
        b"==> vm.log <==\nbooted\n\n==> runner.log <==\n<script>\xff" + b"x" * 200_000 + b"\n"
    )


async def test_log_that_went_away(server: Server, tmp_path: Path) -> None:
    """A file that is removed while it is asked for costs that file alone."""
    kept = tmp_path / "kept.log"
    kept.write_text("here")
    server.vms.kept[UNKNOWN] = (tmp_path / "gone.log", kept)
    answer = await server.client.get(f"/api/v1/runners/{UNKNOWN}/logs")
    assert answer.status_code == 200
    assert "==> kept.log <==\nhere\n" in answer.text


async def test_pools(server: Server) -> None:
    """Pools are shown as they are in force, with what waits, what runs, and what holds them up."""
    await server.idle_runner()
    (pool,) = await server.get("/api/v1/pools")
    expected = {
        "name": "mac",
        "image": "sequoia",
        "image_ready": True,
        "repositories": ["acme/*"],
        "demand": 1,
        "runners": {"idle": 1},
        "held_up": None,
        "boot_timeout": 300.0,
        "job_timeout": 22500.0,
    }
    assert {name: pool[name] for name in expected} == expected
    assert {"self-hosted", "macOS", "ARM64", "mac"} == set(pool["labels"])


async def test_pool_held_up(server: Server) -> None:
    """What holds a pool up is told with it."""
    await server.context.store.fail("pool:mac", "boot_timeout", "the guest is silent", at=NOW, jitter=0.0)
    await server.passes(2)
    (pool,) = await server.get("/api/v1/pools")
    assert "the guest is silent" in pool["held_up"]


async def test_drain_and_resume(server: Server) -> None:
    """Draining starts nothing new and is explained; resuming starts what waits."""
    await server.passes()
    assert (await server.client.post("/api/v1/drain")).json() == {"draining": True}
    assert (await server.client.post("/api/v1/drain")).json() == {"draining": True}
    await server.deliver()
    await server.passes(4, seconds=2)
    assert await server.get("/api/v1/runners") == []
    assert (await server.get("/api/v1/status"))["draining"] is True
    assert "draining" in (await server.get("/api/v1/jobs/1"))["explanation"]
    assert server.rows("flag") == 1
    assert (await server.client.post("/api/v1/resume")).json() == {"draining": False}
    await server.passes(4, seconds=2)
    assert len(await server.get("/api/v1/runners", live=True)) == 1


async def test_reconcile(server: Server) -> None:
    """Reconciling looks at the host again at once, however fresh the last look is."""
    await server.passes()
    looks = server.vms.calls["look"]
    await server.passes()
    assert server.vms.calls["look"] == looks
    answer = await server.client.post("/api/v1/reconcile")
    assert (answer.status_code, answer.json()) == (202, {"woken": True})
    assert server.reconciler.wakes > 0
    server.clock.pass_(seconds=1)
    await server.passes()
    assert server.vms.calls["look"] == looks + 1


async def test_reload(server: Server) -> None:
    """A reload takes the pools on disk, says what changed, and gives waiting jobs their new pool."""
    await server.deliver()
    server.on_disk = (a_pool(name="other"),)
    answer = await server.client.post("/api/v1/reload")
    assert answer.json() == {
        "pools": ["other"],
        "changed": ["other"],
        "removed": ["mac"],
        "needs_restart": ["slots"],
    }
    await server.passes()
    assert [pool["name"] for pool in await server.get("/api/v1/pools")] == ["other"]
    assert (await server.get("/api/v1/jobs/1"))["pool"] == "other"


async def test_reload_refused(server: Server) -> None:
    """A configuration that is not valid is refused whole, with every reason, and what was in force stays."""
    await server.deliver()
    before = server.reconciler.setup
    server.on_disk = ['pool "mac": image: it is required', "slots = 9: Apple allows 2"]
    answer = await server.client.post("/api/v1/reload")
    assert (answer.status_code, answer.json()) == (409, {"detail": server.on_disk})
    assert server.reconciler.setup is before
    await server.passes()
    assert (await server.get("/api/v1/jobs/1"))["pool"] == "mac"


async def test_runner_of_a_pool_that_was_removed(server: Server) -> None:
    """A runner goes on being shown, and can be stopped, after its pool left the configuration."""
    runner = await server.busy_runner()
    await server.reconciler.configure(replace_pools(server.reconciler.setup, (a_pool(name="other"),)))
    await server.passes()
    assert (await server.get(f"/api/v1/runners/{runner.name}"))["pool"] == "mac"
    assert (await server.get("/api/v1/slots"))[0]["state"] == "busy"
    assert (await server.client.delete(f"/api/v1/runners/{runner.name}")).status_code == 202
