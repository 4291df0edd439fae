"""Tart and what runs on this machine: facts in, findings out, and the facts of a simulated Mac."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from app.doctor import host, host_checks
from app.doctor.host import MACHINE, Host, Process, Softnet
from app.doctor.shell import Said
from app.domain.pools import Names
from app.domain.world import HostLook, RunnerRelease, World
from app.ports import VMError
from app.sandbox.host import ModelHost
from app.sandbox.image import install
from app.vm.command import Tart
from tests.builders import NOW, a_host, a_pool, a_vm, ago
from tests.doctor.seen import expect

NAMES = Names("mini")
OURS, THEIRS = "mini-mac-aaaaaaaa", "ubuntu"
POOL = a_pool(network="softnet")
OLDER = World(
    names=NAMES, pools=(POOL,), versions={"mac": "2.330.0"}, release=RunnerRelease(version="2.336.0", since=ago(days=10))
)  # fmt: skip


def a_look(*running: str, images: frozenset[str] = frozenset({"sequoia"})) -> HostLook:
    return a_host(*map(a_vm, running), at=NOW, images=images)


GOOD = Host(
    pools=(POOL,),
    names=NAMES,
    slots=2,
    min_free_gb=30,
    program="tart",
    version=(2, 35, 0),
    softnet=Softnet(path="/opt/homebrew/bin/softnet", setuid=True, sudo=True),
    free_gb=200,
    look=a_look(OURS),
    processes=(Process(7, ("tart", "run", "--no-graphics", OURS), 300.0), Process(8, (MACHINE,), 300.0)),
    world=replace(OLDER, versions={"mac": "2.336.0"}),
)


def row(check: str, code: str, name: str, **changes: Any) -> ParameterSet:
    return pytest.param(check, code, replace(GOOD, **changes), id=name)


def runs(name: str, seconds: float = 300.0) -> Process:
    return Process(9, ("/opt/homebrew/bin/tart", "run", name), seconds)


NO_TART = VMError(
    "tart_path: cannot run tart (No such file or directory): `brew install …`", reason="tart_missing"
)
OLD_TART = VMError("tart 2.20.0 is too old, 2.28.3 is the least: `brew upgrade …`", reason="tart_too_old")

TABLE = [
    row("tart", "missing", "no tart", tart_trouble=NO_TART, look=None),
    row("tart", "too_old", "a tart of before exec", tart_trouble=OLD_TART, look=None),
    row("tart", "old", "a tart below 2.33", version=(2, 30, 0)),
    row("tart", "ok", "an unofficial build", version=None),
    row("softnet", "missing", "no softnet", softnet=None),
    row("softnet", "not_set_up", "softnet after a brew upgrade", softnet=Softnet(path="/x", setuid=False, sudo=False)),
    row("softnet", "ok", "softnet by sudo", softnet=Softnet(path="/x", setuid=False, sudo=True)),
    row("softnet", "ok", "nat needs none", pools=(a_pool(network="nat"),), softnet=None),
    row("launchd-path", "off", "a tart in a folder of one's own", off_path={"tart": "/Users/ci/bin/tart"}),
    row("launchd-path", "ok", "a program that no pool uses", pools=(a_pool(network="nat"),), off_path={"softnet": "/x"}),
    row("disk-space", "low", "below the floor", free_gb=29.0),
    row("disk-space", "tight", "little above the floor", free_gb=40.0),
    row("foreign-vms", "running", "somebody else's VM", look=a_look(THEIRS)),
    row("foreign-vms", "ok", "room enough beside it", look=a_look(THEIRS), slots=1),
    row("foreign-vms", "unlisted", "a list that fails", look=None, look_trouble="tart list failed"),
    row("foreign-vms", "skipped", "no tart to list them", look=None, tart_trouble=NO_TART),
    row("vm-processes", "stray", "a tart run without its VM", processes=(runs("mini-mac-bbbbbbbb"),)),
    row("vm-processes", "others", "VMs of another program", processes=(Process(1, (MACHINE,), 99.0),) * 3),
    row("vm-processes", "ok", "a tart run that has just begun", processes=(runs("mini-mac-bbbbbbbb", 2.0),)),
    row("vm-processes", "skipped", "nothing to compare with", look=None),
    row("image", "missing", "no such VM", look=a_look(images=frozenset())),
    row("image", "not_pulled", "an image that was never pulled", pools=(a_pool(image="ghcr.io/acme/mac:1"),)),
    row("image", "skipped", "images that nobody lists", look=None),
    row("runner-version", "older", "a runner that will be too old", world=OLDER),
    row("runner-version", "too_old", "a runner that is too old", world=replace(OLDER, release=RunnerRelease(version="2.336.0", since=ago(days=31)))),
    row("runner-version", "skipped", "no VM was booted yet", world=None),
]  # fmt: skip


@pytest.mark.parametrize(("check", "code", "facts"), TABLE)
def test_what_is_wrong_is_found(check: str, code: str, facts: Host) -> None:
    """Each trouble is found, with its mend."""
    look = {one.name: look for one, look in host_checks.CHECKS}[check]
    (found,) = look(facts, NOW)
    expect(found, code)


def test_a_good_host_is_fine() -> None:
    """Nothing is found where nothing is wrong."""
    for _, look in host_checks.CHECKS:
        for found in look(GOOD, NOW):
            expect(found, "ok")


def test_the_mend_of_softnet_names_its_path() -> None:
    """What is to be typed can be copied."""
    (found,) = host_checks.softnet(
        replace(GOOD, softnet=Softnet(path="/a/softnet", setuid=False, sudo=False)), NOW
    )
    assert found.mend.startswith("`sudo chown root /a/softnet && sudo chmod u+s /a/softnet`")


async def no_sudo(_argv: Sequence[str]) -> Said:
    return Said(1, "", "sudo: a password is required\n")


async def gathered(tmp_path: Path, path: str, **more: Any) -> Host:
    tart = Tart("tart", tmp_path / "home" / "tart", {"PATH": path})
    vms = ModelHost(lambda: NOW)
    return await host.gather(
        no_sudo, tart, vms, pools=(POOL,), names=NAMES, slots=2, min_free_gb=30, processes=tuple, **more
    )


async def test_the_facts_of_a_machine(tmp_path: Path) -> None:
    """Tart and softnet are found on PATH, where launchd would miss them, and neither is taken for set up."""
    folder = tmp_path / "bin"
    folder.mkdir()
    install(folder)
    softnet = folder / "softnet"
    softnet.write_text("#!/bin/sh\n")
    softnet.chmod(0o755)
    found = await gathered(tmp_path, f"{folder}:/usr/bin:/bin", bare_path="/usr/bin")
    assert found.tart_trouble is None
    assert found.version is not None
    assert found.softnet == Softnet(path=str(softnet), setuid=False, sudo=False)
    assert set(found.off_path) == {"tart", "softnet"}
    assert found.look is not None
    assert found.free_gb > 0


async def test_the_facts_of_a_machine_without_tart(tmp_path: Path) -> None:
    """A missing tart is told once, and nothing is concluded about its VMs."""
    found = await gathered(tmp_path, "/nowhere")
    assert found.tart_trouble is not None
    assert found.tart_trouble.reason == "tart_missing"
    assert found.look is None


def test_processes_are_looked_at() -> None:
    """The processes of this machine can be read, whoever they belong to; none of them is a VM here."""
    assert [process for process in host.running() if process.argv[0] == MACHINE] == []
