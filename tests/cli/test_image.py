"""``cidermill image``: what is shown, pulled and pruned, against a real server."""

from __future__ import annotations

import json

import pytest

from app.reconcile import replace_pools
from tests.builders import a_pool
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
