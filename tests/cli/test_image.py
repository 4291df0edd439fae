"""``cidermill image``: what is shown, pulled and pruned, against a real server."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.ports import VMError
from app.reconcile import replace_pools
from tests.builders import TARGET, a_pool
from tests.cli.conftest import Desk

IMAGE = "ghcr.io/acme/macos:latest"
FIRST, SECOND = "a" * 64, "b" * 64


@pytest.fixture
async def pulled(desk: Desk) -> Desk:
    """Have a pool with an image of a registry, pulled once, and then moved on."""
    server = desk.server
    server.vms.registry[IMAGE] = FIRST
    await server.reconciler.configure(replace_pools(server.reconciler.setup, (a_pool(image=IMAGE),)))
    await server.passes(4, seconds=1)
    server.vms.registry[IMAGE] = SECOND
    return desk


async def test_list_pull_prune(pulled: Desk) -> None:
    """The present digest and those before are listed; a pull brings the new one, pruning lets the old one go."""
    first = (await pulled.says("image", "list")).splitlines()[1].split("\t")
    assert first[:5] == [IMAGE, "mac", "ready", "sha256:aaaaaaaaaaaa", "20 GB"]
    assert IMAGE in await pulled.says("image", "pull")
    await pulled.server.passes(4, seconds=1)
    rows = [line.split("\t")[2:4] for line in (await pulled.says("image", "list")).splitlines()[1:]]
    assert rows == [["ready", "sha256:bbbbbbbbbbbb"], ["before", "sha256:aaaaaaaaaaaa"]]
    assert await pulled.says("image", "prune") == "mini-base-aaaaaaaaaaaa goes.\n"
    await pulled.server.passes(4, seconds=1)
    (image,) = json.loads(await pulled.says("image", "list", "--json"))
    assert [base["digest"] for base in image["bases"]] == [f"sha256:{SECOND}"]
    assert await pulled.says("image", "prune") == "Nothing to remove.\n"
    assert json.loads(await pulled.says("image", "prune", "--json")) == {"bases": []}


async def test_what_keeps_a_pull_from_being_made(pulled: Desk) -> None:
    """It is refused with the mend, and listed."""
    pulled.server.vms.free_disk_gb = 12.0
    pulled.server.reconciler.host_changed()
    await pulled.server.passes(2, seconds=1)
    done = await pulled.run("image", "pull", IMAGE)
    assert (done.exit_code, "12 GB are free" in done.stderr) == (1, True)
    assert "12 GB are free" in await pulled.says("image", "list")
    unknown = await pulled.run("image", "pull", "ghcr.io/acme/other:1")
    assert "No pool names" in unknown.stderr


async def test_a_fleet(desk: Desk) -> None:
    """Its Macs are listed with when each fetched the image; asked for, each does again, unless none can be told to."""
    server = desk.server
    server.vms.name, server.vms.fetches = "mini2", True
    await server.reconciler.configure(replace_pools(server.reconciler.setup, (a_pool(image=IMAGE),)))
    for _ in range(3):
        await server.reconciler.turn()
        await asyncio.sleep(0)
    (image,) = json.loads(await desk.says("image", "list", "--json"))
    assert (image["pulling"], [mac["host"] for mac in image["macs"]]) == (True, ["mini2"])
    assert f"pulling {IMAGE}" in await desk.says("status")
    await server.passes(4, seconds=1)
    rows = [line.split("\t")[2] for line in (await desk.says("image", "list")).splitlines()[1:]]
    assert rows == ["on 1 of 1 Macs", "mini2"]
    assert "mini2\topen\t0 of 2\t" in await desk.says("status")
    assert IMAGE in await desk.says("image", "pull")
    await server.passes(5, seconds=1)
    assert server.vms.calls["fetch"] == 2
    server.vms.can_be_chosen = False
    server.reconciler.host_changed()
    await server.passes(2, seconds=1)
    refused = await desk.run("image", "pull")
    assert (refused.exit_code, "has a label with its own name" in refused.stderr) == (1, True)


async def test_prepare_and_wait(desk: Desk) -> None:
    """What will be done is said; the list shows what was done; --wait ends with how it went."""
    server = desk.server
    server.reconciler.sight.known_targets.add(TARGET)
    await server.passes(2, seconds=1)
    said = await desk.says("image", "prepare", "sequoia")
    assert said.startswith(
        "The base of sequoia gets the newest actions runner in ~/actions-runner, in the next slot"
    )
    assert "image list" in said
    await server.passes(6, seconds=1)
    rows = [line.split("\t") for line in (await desk.says("image", "list")).splitlines()[1:]]
    assert [row[2] for row in rows] == ["ready", "prepared"]
    assert rows[1][5] == "2.336.0"
    server.vms.faults.make_base.append(VMError("the prepare script ended with 3", reason="script_failed"))
    waiting = asyncio.create_task(desk.run("image", "prepare", "--wait"))
    while not server.reconciler.sight.to_prepare:
        await asyncio.sleep(0)
    await server.passes(6, seconds=1)
    done = await waiting
    assert (done.exit_code, "ended with 3" in done.stderr) == (1, True)
