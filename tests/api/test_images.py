"""The admin API's images: what is shown, pulled and pruned."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.ports import VMError
from app.reconcile import replace_pools
from tests.api.conftest import Server, when
from tests.builders import a_pool

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
    }
    assert remote == {
        "image": IMAGE,
        "pools": ["mac"],
        "remote": True,
        "ready": True,
        "pulling": False,
        "runner_versions": [],
        "asked_next": None,
        "held_up": None,
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
            slots=setup.slots,
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
