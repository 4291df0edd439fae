"""The admin API: what runs, what waits and why, and what an operator may do about it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from app.domain.runners import RunnerState
from app.ports import VMError
from app.reconcile import replace_pools
from tests.api.conftest import Server, when
from tests.builders import NOW, a_pool, a_runner, ago

UNKNOWN = "mini-mac-zzzzzzzz"


async def test_before_the_first_look(server: Server) -> None:
    """A look that failed leaves the number of slots unknown, and says why; what holds one is shown all the same."""
    await server.context.store.claim(a_runner(RunnerState.BUSY, slot="mini2/1"))
    server.vms.faults.look.append(VMError("the controller does not answer: see whether it runs"))
    await server.passes(2)
    status = await server.get("/api/v1/status")
    assert (status["looked_at"], status["slots"], status["slots_used"]) == (None, None, 1)
    assert status["look_failed"] == "the controller does not answer: see whether it runs"
    assert [slot["slot"] for slot in await server.get("/api/v1/slots")] == ["mini2/1"]


@pytest.mark.parametrize("path", ["status", "pools", "jobs/1"])
async def test_before_the_first_pass(server: Server, path: str) -> None:
    """What rests on a pass says so until there was one; the rest answers at once."""
    await server.deliver()
    assert "first pass" in (await server.get(f"/api/v1/{path}", 503))["detail"]
    assert len((await server.get("/api/v1/jobs"))["items"]) == 1
    assert await server.get("/api/v1/slots") == []


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
        "look_failed": None,
        "slots": 2,
        "slots_used": 2,
        "queued": 2,
        "in_progress": 0,
        "quota": {"acme/core": {"limit": 5000, "remaining": 4999}},
        "warnings": ["one warning"],
    }
    assert {name: answer[name] for name in expected} == expected


async def test_slots(server: Server) -> None:
    """Every slot is listed, free or with what holds it."""
    runner = await server.idle_runner()
    first, second = await server.get("/api/v1/slots")
    assert when(first.pop("since")) == runner.since
    assert first == {
        "slot": "1",
        "state": "idle",
        "runner": runner.name,
        "pool": "mac",
        "held_until": None,
        "preparing": None,
        "pulling": None,
        "closed": None,
    }
    assert second == {
        "slot": "2",
        "state": "free",
        "runner": None,
        "pool": None,
        "since": None,
        "held_until": None,
        "preparing": None,
        "pulling": None,
        "closed": None,
    }


async def test_slot_that_was_removed(server: Server) -> None:
    """A slot that is no longer configured is listed for as long as a runner holds it."""
    await server.passes(2)
    await server.context.store.claim(a_runner(RunnerState.BUSY, slot="3"))
    assert [slot["slot"] for slot in await server.get("/api/v1/slots")] == ["1", "2", "3"]
    await server.context.store.advance("mini-mac-aaaaaaaa", RunnerState.STOPPING, at=NOW, reason="x")
    await server.context.store.advance("mini-mac-aaaaaaaa", RunnerState.GONE, at=NOW, reason="x")
    assert [slot["slot"] for slot in await server.get("/api/v1/slots")] == ["1", "2"]


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
    assert server.flags() == {"draining"}
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
        "added": [],
        "changes": [],
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


async def test_a_held_runner_stays_after_its_job(server: Server) -> None:
    """Held while it works, a VM outlives its job, says so everywhere, and goes when it is released."""
    runner = await server.busy_runner()
    path = f"/api/v1/runners/{runner.name}"
    held = (await server.client.post(f"{path}/hold", json={"minutes": 30})).json()
    assert when(held["held_until"]) == server.clock() + timedelta(minutes=30)
    assert held["guest_held_until"] is None
    await server.passes(2)
    server.vms.vms[runner.name].runner_alive = server.vms.vms[runner.name].worker_alive = False
    await server.deliver("completed", status="completed", conclusion="success", runner_name=runner.name)
    await server.passes(24, seconds=15)
    shown = await server.get(path)
    assert (shown["state"], shown["guest_held_until"]) == ("busy", held["held_until"])
    assert (await server.get("/api/v1/slots"))[0]["held_until"] == held["held_until"]
    assert (await server.get("/api/v1/status"))["held"] == 1
    await server.client.delete(f"{path}/hold")
    await server.passes(4, seconds=15)
    assert (await server.get(path))["state"] == "gone"


async def test_a_hold_ends_by_itself(server: Server) -> None:
    """Nobody has to release a VM: its slot comes free when the time is over."""
    runner = await server.idle_runner()
    await server.client.post(f"/api/v1/runners/{runner.name}/hold", json={"minutes": 7})
    await server.passes(24, seconds=15)
    assert (await server.get(f"/api/v1/runners/{runner.name}"))["state"] == "idle"
    await server.passes(10, seconds=15)
    assert (await server.get(f"/api/v1/runners/{runner.name}"))["state"] == "gone"


@pytest.mark.parametrize(
    ("method", "name", "body", "code"),
    [
        pytest.param("POST", "mini-mac-none", {"minutes": 5}, 404, id="unknown"),
        pytest.param("DELETE", "mini-mac-none", None, 404, id="unknown, to be released"),
        pytest.param("POST", None, {"minutes": 0}, 422, id="no time"),
        pytest.param("POST", None, {"minutes": 1441}, 422, id="more than a day"),
        pytest.param("POST", None, {"minutes": 5}, 409, id="about to stop"),
    ],
)
async def test_a_hold_that_cannot_be(
    server: Server, method: str, name: str | None, body: object, code: int
) -> None:
    """What cannot be held is refused with the reason."""
    runner = await server.idle_runner()
    await server.client.delete(f"/api/v1/runners/{runner.name}")
    answer = await server.client.request(method, f"/api/v1/runners/{name or runner.name}/hold", json=body)
    assert answer.status_code == code, answer.text


async def test_one_mac_of_a_fleet_is_drained(server: Server) -> None:
    """A Mac that is drained alone shows so in its slots and in the warnings, and takes VMs again once it is resumed."""
    server.vms.name = "mini2"
    await server.passes(2)
    answer = await server.client.post("/api/v1/hosts/mini2/drain")
    assert answer.json() == {"host": "mini2", "draining": True}
    await server.passes(2)
    assert {slot["closed"] for slot in await server.get("/api/v1/slots")} == {"it is paused"}
    assert "mini2 takes no VMs: it is paused." in (await server.get("/api/v1/status"))["warnings"]
    (mac,) = await server.get("/api/v1/hosts")
    assert when(mac.pop("seen_at")) == server.clock()
    assert mac == {"host": "mini2", "state": "paused", "closed": "it is paused", "slots": 2, "used": 0} | {
        "images": [],
        "pulling": None,
    }
    assert (await server.client.post("/api/v1/hosts/mini2/resume")).json()["draining"] is False
    await server.passes(2)
    assert [slot["slot"] for slot in await server.get("/api/v1/slots") if not slot["closed"]] == [
        "mini2/1",
        "mini2/2",
    ]
    assert (await server.client.post("/api/v1/hosts/mini3/drain")).status_code == 404
