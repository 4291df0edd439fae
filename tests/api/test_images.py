"""The admin API's images: what is shown, pulled and pruned."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from app.ports import VMError
from app.reconcile import replace_pools
from tests.api.conftest import Server, when
from tests.builders import TARGET, a_pool

IMAGE = "ghcr.io/acme/macos:latest"
FIRST, SECOND = "a" * 64, "b" * 64


@pytest.fixture
async def pulled(server: Server) -> Server:
    """Have a pool with an image of a registry, pulled once, and then moved on."""
    server.vms.registry[IMAGE] = FIRST
    pools = (a_pool(image=IMAGE), a_pool(name="local", labels=("local",)))
    await server.reconciler.configure(replace_pools(server.reconciler.setup, pools))
    await server.passes(4, seconds=1)
    server.vms.registry[IMAGE] = SECOND
    return server


async def test_before_the_first_pass(server: Server) -> None:
    """What rests on a pass says so until there was one."""
    assert "first pass" in (await server.get("/api/v1/images", 503))["detail"]


async def test_images_are_listed(pulled: Server) -> None:
    """Each image says what it is here, since when, and what launches clone."""
    remote, local = await pulled.get("/api/v1/images")
    assert when(remote.pop("asked_at")) == pulled.vms.asked_at[IMAGE]
    (base,) = remote.pop("bases")
    assert base == {
        "name": "mini-base-aaaaaaaaaaaa",
        "digest": f"sha256:{FIRST}",
        "size_gb": 20.0,
        "age": 0,
        "prunable": False,
        "made": None,
    }
    assert remote == {
        "image": IMAGE,
        "pools": ["mac"],
        "remote": True,
        "ready": True,
        "pulling": False,
        "runner_versions": [],
        "asked_next": None,
        "goldens": [],
        "held_up": None,
        "preparing": None,
        "due": None,
        "asked": False,
        "macs": [],
        "failures": [],
    }
    assert (local["image"], local["remote"], local["ready"], local["bases"]) == ("sequoia", False, True, [])


async def test_pull_and_prune(pulled: Server) -> None:
    """What the tag is by now is pulled and cloned from then on; the one before stays until it is pruned."""
    assert (await pulled.client.post("/api/v1/images/pull", json={})).json() == {"images": [IMAGE]}
    await pulled.passes(4, seconds=1)
    remote, _ = await pulled.get("/api/v1/images")
    assert [(base["age"], base["digest"], base["prunable"]) for base in remote["bases"]] == [
        (0, f"sha256:{SECOND}", False),
        (1, f"sha256:{FIRST}", True),
    ]
    answer = await pulled.client.post("/api/v1/images/prune")
    assert (answer.status_code, answer.json()) == (202, {"bases": ["mini-base-aaaaaaaaaaaa"]})
    await pulled.passes(4, seconds=1)
    remote, _ = await pulled.get("/api/v1/images")
    assert [base["digest"] for base in remote["bases"]] == [f"sha256:{SECOND}"]
    assert (await pulled.client.post("/api/v1/images/prune")).json() == {"bases": []}


async def test_a_pull_that_fails_holds_nothing_up(pulled: Server) -> None:
    """The failure is shown; launches go on from what is here, and the pull is tried again."""
    pulled.vms.faults.prepare.append(VMError("the registry is away", reason="pull_failed"))
    await pulled.client.post("/api/v1/images/pull", json={"image": IMAGE})
    await pulled.passes(3, seconds=1)
    remote, _ = await pulled.get("/api/v1/images")
    assert [failure["scope"] for failure in remote["failures"]] == [f"refresh:{IMAGE}"]
    assert remote["bases"][0]["digest"] == f"sha256:{FIRST}"
    assert [pool["held_up"] for pool in await pulled.get("/api/v1/pools")] == [None, None]


async def test_a_new_image_is_tried_at_once(pulled: Server) -> None:
    """What was wrong with the image before holds up no launch of the new one; the same one again stays held up."""
    scope = f"image:{IMAGE}"
    await pulled.context.store.fail(scope, "runner_too_old", "too old", at=pulled.clock(), jitter=0.5)
    for digest, held in ((FIRST, [scope]), (SECOND, [])):
        pulled.vms.registry[IMAGE] = digest
        await pulled.client.post("/api/v1/images/pull", json={"image": IMAGE})
        await pulled.passes(4, seconds=1)
        remote, _ = await pulled.get("/api/v1/images")
        assert [failure["scope"] for failure in remote["failures"]] == held


@pytest.mark.parametrize(
    ("image", "code", "text"),
    [
        pytest.param("ghcr.io/acme/other:1", 404, "No pool names", id="no pool names it"),
        pytest.param("sequoia", 409, "local VM", id="no registry knows it"),
        pytest.param(IMAGE, 409, "12 GB are free", id="no room"),
    ],
)
async def test_a_pull_that_cannot_be(pulled: Server, image: str, code: int, text: str) -> None:
    """A pull that cannot be made is refused at once, with the mend."""
    pulled.vms.free_disk_gb = 12.0
    pulled.reconciler.host_changed()
    await pulled.passes(2, seconds=1)
    answer = await pulled.client.post("/api/v1/images/pull", json={"image": image})
    assert answer.status_code == code
    assert text in answer.json()["detail"]


async def test_a_schedule_is_kept(pulled: Server) -> None:
    """A tag is asked about again once image_refresh is over, and not before."""
    setup = pulled.reconciler.setup
    await pulled.reconciler.configure(
        type(setup)(
            names=setup.names,
            pools=setup.pools,
            min_free_disk_gb=setup.min_free_disk_gb,
            image_refresh=timedelta(days=1),
        )
    )
    calls = pulled.vms.calls
    await pulled.passes(3, seconds=1)
    assert calls["prepare"] == 1
    pulled.clock.pass_(hours=25)
    await pulled.passes(4, seconds=1)
    assert calls["prepare"] == 2
    assert pulled.vms.pulled[IMAGE] == (SECOND, FIRST)


async def test_prepare(server: Server) -> None:
    """What will be done is told; the slot says what it is held for, the image what it holds, with what and since when."""
    server.reconciler.sight.known_targets.add(TARGET)
    await server.passes(2, seconds=1)
    server.vms.prepare_seconds = 0.5
    (asked,) = (await server.client.post("/api/v1/images/prepare", json={})).json()["images"]
    assert asked == {
        "image": "sequoia",
        "runner_version": None,
        "runner_dir": "~/actions-runner",
        "script": None,
    }
    (image,) = await server.get("/api/v1/images")
    assert (image["asked"], image["preparing"], image["due"]) == (True, None, None)
    for _ in range(2):
        await server.reconciler.turn()
    slot, free = await server.get("/api/v1/slots")
    assert (slot["state"], slot["preparing"], free["preparing"]) == ("claimed", "sequoia", None)
    (runner,) = await server.get("/api/v1/runners")
    assert (runner["purpose"], runner["name"].startswith("mini-base-")) == ("base", True)
    (image,) = await server.get("/api/v1/images")
    assert (image["preparing"], image["due"]) == (runner["name"], "an operator asked for it")
    assert (await server.get("/api/v1/pools"))[0]["runners"] == {}
    held = await server.client.post(f"/api/v1/runners/{runner['name']}/hold", json={"minutes": 5})
    assert held.status_code == 409
    server.vms.prepare_seconds = 0
    await server.passes(6, seconds=1)
    (image,) = await server.get("/api/v1/images")
    assert (image["asked"], image["preparing"], image["due"]) == (False, None, None)
    (base,) = image["bases"]
    assert when(base["made"].pop("at")) <= server.clock()
    assert base["made"] == {"runner_version": "2.336.0", "runner_dir": "~/actions-runner", "script": None}
    assert (image["runner_versions"], base["prunable"]) == (["2.336.0"], False)
    (free, _) = await server.get("/api/v1/slots")
    assert free["state"] == "free"


async def test_a_preparation_that_fails(server: Server) -> None:
    """It is told where images are; the operator's wish is over, and launches go on."""
    server.reconciler.sight.known_targets.add(TARGET)
    await server.passes(2, seconds=1)
    server.vms.faults.make_base.append(VMError("the prepare script ended with 3", reason="script_failed"))
    await server.client.post("/api/v1/images/prepare", json={"image": "sequoia"})
    await server.passes(6, seconds=1)
    (image,) = await server.get("/api/v1/images")
    (failure,) = image["failures"]
    assert (failure["scope"], failure["reason"]) == ("prepare:sequoia", "script_failed")
    assert (image["asked"], image["bases"]) == (False, [])
    assert (await server.get("/api/v1/pools"))[0]["held_up"] is None


async def test_nothing_to_prepare(server: Server) -> None:
    """It is refused with the mend where no pool names the image or none wants a base, and while draining."""
    await server.passes(2, seconds=1)
    ask = partial(server.client.post, "/api/v1/images/prepare")
    assert "No pool names" in (await ask(json={"image": "tahoe"})).json()["detail"]
    await server.client.post("/api/v1/drain")
    await server.passes()
    refused = await ask(json={"image": "sequoia"})
    assert (refused.status_code, "resume" in refused.json()["detail"]) == (409, True)
    await server.client.post("/api/v1/resume")
    pools = (a_pool(prepare=False),)
    await server.reconciler.configure(replace_pools(server.reconciler.setup, pools))
    await server.passes()
    refused = await ask(json={"image": "sequoia"})
    assert (refused.status_code, "prepare = false" in refused.json()["detail"]) == (409, True)
