"""The Orchard backend in front of the model controller: how VMs end, what gets lost, and what must not leak."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.domain.pools import MACOS_VM, Kind, Names
from app.domain.world import VMState
from app.ports import JitConfig, UnknownHost, VMError
from app.sandbox.image import make_image
from app.sandbox.orchard.values import new_record
from app.vm.orchard import request
from app.vm.orchard.answers import Machine, Status, Worker
from app.vm.orchard.controller import Fleet
from app.vm.orchard.endings import ending
from app.vm.orchard.view import PAUSED, SETTLING, host_look
from tests.builders import NOW, a_pool, ago
from tests.vm.orchard_bench import RUN_SH, OrchardBench, orchard_bench, spec

A, B, C = (f"mini-mac-{letter * 8}" for letter in "abc")
JIT = JitConfig("eyJ-the-jit-config-of-this-test")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[OrchardBench]:
    async with orchard_bench(tmp_path) as made:
        yield made


async def end_of(bench: OrchardBench) -> tuple[str, str]:
    async with asyncio.timeout(20):
        return await bench.ended.get()


@pytest.mark.parametrize(
    ("code", "how"),
    [
        pytest.param(0, "runner_ended", id="well"),
        pytest.param(7, "runner_too_old", id="turned away", marks=pytest.mark.long),
    ],
)
async def test_a_runner_ends(bench: OrchardBench, code: int, how: str) -> None:
    """The runner's end is the VM's, told with its cause; what it said is kept, and its place is free again."""
    await bench.vms.start(A, spec())
    await bench.vms.deliver(A, spec(), JIT)
    (home,) = bench.homes(A)
    (home / "code").write_text(str(code))
    assert await end_of(bench) == (A, how)
    await bench.vms.delete(A)
    look = await bench.vms.look()
    assert look.vms == ()
    kept = "".join(file.read_text() for file in bench.vms.logs(A))
    assert f"run.sh ended with {code}" in kept
    assert "Listening for Jobs" in kept


async def test_no_secret_reaches_the_controller(
    bench: OrchardBench, caplog: pytest.LogCaptureFixture
) -> None:
    """The JIT config is in no record, no URL and no log line, at whatever level; nor is the token."""
    caplog.set_level(logging.DEBUG)
    await bench.vms.start(A, spec())
    await bench.vms.deliver(A, spec(), JIT)
    model = bench.shelf.model
    told = json.dumps([vm.shown() | {"events": vm.events} for vm in model.vms.values()]) + "".join(model.log)
    for text in (told, caplog.text):
        assert JIT.encoded not in text
        assert "orchard-sandbox-token" not in text


@pytest.mark.long
async def test_answers_that_get_lost(bench: OrchardBench) -> None:
    """A VM asked for twice is one VM, and a JIT config delivered twice is one runner."""
    faults = bench.shelf.model.faults
    faults.lost_answer = 1
    await bench.vms.start(A, spec())
    assert [vm.name for vm in (await bench.vms.look()).vms] == [A]
    faults.exec_drops = 1
    await bench.vms.deliver(A, spec(), JIT)
    assert (await bench.vms.probe(A)).runner_alive
    faults.exec_error = 1
    with pytest.raises(VMError) as broken:
        await bench.vms.probe(A)
    assert broken.value.reason == "exec_broken"


@pytest.mark.long
async def test_pending_for_ever(bench: OrchardBench) -> None:
    """A VM that no worker takes, and one that its worker does nothing about, are given up, each with its mend."""
    (worker,) = bench.shelf.workers.values()
    worker.record.paused = True
    with pytest.raises(VMError, match="no worker took"):
        await bench.vms.start(A, spec())
    worker.record.paused, worker.is_stalled = False, True
    with pytest.raises(VMError, match="mini1") as stalled:
        await bench.vms.start(B, spec(boot_timeout=timedelta(seconds=1)))
    assert stalled.value.reason == "worker_stalled"


@pytest.mark.long
async def test_a_mac_is_chosen(tmp_path: Path) -> None:
    """A VM goes to the Mac it is meant for, where that has a label of its own; and to another where it is not taken there."""
    async with orchard_bench(tmp_path, macs=("mini1", "mini2", "mini3")) as bench:
        workers = bench.shelf.workers
        for name in ("mini2", "mini3"):
            workers[name].record.labels["host"] = name
        look = await bench.vms.look()
        assert {host.name for host in look.hosts if host.can_be_chosen} == {"mini2", "mini3"}
        assert (await bench.vms.start(A, spec(), host="mini3")).host == "mini3"
        workers["mini3"].record.paused = True
        assert (await bench.vms.start(B, spec(), host="mini3")).host != "mini3"


@pytest.mark.long
async def test_a_mac_fetches_an_image(tmp_path: Path) -> None:
    """It has the image of the registry then, and the VM that was made for it goes; one that cannot be chosen is not asked."""
    image = "ghcr.io/acme/mac:1"
    async with orchard_bench(tmp_path, macs=("mini1", "mini2")) as bench:
        mini2 = bench.shelf.workers["mini2"]
        make_image(mini2.home, image, {"run.sh": (RUN_SH, 0o755)}, oci=True)
        mini2.record.labels["host"] = "mini2"
        await bench.vms.look()
        facts = await bench.vms.fetch(A, spec(image=image), host="mini2")
        assert (facts.host, facts.image.partition("@")[0]) == ("mini2", image)
        await bench.vms.delete(A)
        with pytest.raises(VMError, match="manifest unknown"):
            await bench.vms.fetch(B, spec(image="ghcr.io/acme/none:1"), host="mini2")
        with pytest.raises(VMError, match="--labels host=mini1"):
            await bench.vms.fetch(C, spec(image=image), host="mini1")


@pytest.mark.long
async def test_a_worker_is_paused(bench: OrchardBench) -> None:
    """A worker that is paused takes nothing new; one that is not there cannot be paused."""
    for paused in (True, False):
        await bench.vms.pause("mini1", paused=paused)
        assert [host.closed for host in (await bench.vms.look()).hosts] == [PAUSED if paused else ""]
    with pytest.raises(UnknownHost):
        await bench.vms.pause("mini9", paused=True)


async def test_a_vm_that_fails_before_it_answers(bench: OrchardBench) -> None:
    """What the worker says of it is the error."""
    with pytest.raises(VMError) as failed:
        await bench.vms.start(A, spec(image="ventura"))
    assert failed.value.reason == "image_missing"


@pytest.mark.long
async def test_a_worker_that_is_lost(bench: OrchardBench) -> None:
    """Its VMs are told to have ended."""
    await bench.vms.start(A, spec())
    (worker,) = bench.shelf.workers.values()
    bench.shelf.model.offline_after = timedelta(seconds=0.5)
    worker.is_silent = True
    assert await end_of(bench) == (A, "worker_lost")


async def some_turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("removed", [False, True], ids=["broken off on the way", "while a VM is removed"])
@pytest.mark.long
async def test_a_shelf_that_is_taken_down(tmp_path: Path, *, removed: bool) -> None:
    """No process of any VM outlives it."""
    async with orchard_bench(tmp_path) as bench:
        await bench.vms.start(A, spec())
        await bench.vms.deliver(A, spec(), JIT)
        if removed:
            del bench.shelf.model.vms[A]
            bench.shelf.model.pokes["mini1"].set()
            await some_turns(10)
        else:
            closing = asyncio.create_task(bench.shelf.close())
            await some_turns(50)
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
    assert await bench.left() == []


async def test_who_is_not_let_in(bench: OrchardBench) -> None:
    """A wrong token and a missing role are refused alike, and said alike."""
    model = bench.shelf.model
    model.account("reader", "its-token", "compute:connect")
    for account, token in (("cidermill", "wrong"), ("reader", "its-token")):
        with pytest.raises(VMError, match="compute:write") as refused:
            await bench.backend(account=account, token=token).look()
        assert (refused.value.reason, refused.value.host_wide) == ("orchard_refused", True)
    model.version = "0.50.2"
    with pytest.raises(VMError, match=r"0\.51"):
        await bench.backend().look()


async def test_only_the_pinned_certificate_is_trusted(tmp_path: Path) -> None:
    """The controller's own certificate is enough, under its own name; no other root, no other name."""
    async with orchard_bench(tmp_path, tls=True) as bench:
        tls = bench.trusting(bench.shelf.certificate)
        pinned = bench.backend(tls=tls, server_name="orchard-controller")
        assert (await pinned.start(A, spec())).runner_version is None
        for access in ({"tls": tls}, {"tls": bench.trusting(None), "server_name": "orchard-controller"}):
            other = bench.backend(**access)
            for attempt in (other.look(), other.probe(A)):
                with pytest.raises(VMError) as untrusted:
                    await attempt
                assert untrusted.value.reason == "orchard_untrusted"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("VM failed: failed to run startup script: Process exited with status 100", "runner_ended"),
        ("VM failed: failed to run startup script: process exited with status 107", "runner_too_old"),
        ("VM failed: failed to run startup script: Process exited with status 90", "jit_never_came"),
        ("VM failed: failed to run startup script: Process exited with status 2", "vm_ended"),
        (
            "VM failed: failed to run startup script: wait: remote command exited without exit status or exit signal",
            "guest_broke_off",
        ),
        (
            "VM failed: failed to run startup script: failed to establish SSH connection: All attempts fail:",
            "guest_unreachable",
        ),
        ("VM failed: VM exited unexpectedly", "guest_powered_off"),
        ('VM failed: tart command failed: "The number of VMs exceeds the system limit"', "vm_limit"),
        ('VM failed: tart command failed: "no such thing"', "run_failed"),
        ('failed to clone the VM: tart command failed: "x"', "image_missing"),
        ("Worker lost track of VM", "worker_restarted"),
        ("VM is assigned to a worker that lost connection with the controller", "worker_lost"),
        ("", "vm_ended"),
    ],
)
def test_endings(message: str, code: str) -> None:
    """Each text of a failed VM is one cause."""
    assert ending(message).code == code


def test_what_is_asked_for() -> None:
    """Numbers are whole, what is nothing is left out, and a Linux guest takes no place of Apple's."""
    mac = request.vm(A, a_pool(cpu=4, network="softnet", network_allow=("10.0.0.0/8",)))
    assert {
        key: mac[key] for key in ("cpu", "netSoftnet", "netSoftnetAllow", "resources", "restart_policy")
    } == {
        "cpu": 4,
        "netSoftnet": True,
        "netSoftnetAllow": ["10.0.0.0/8"],
        "resources": {"org.cirruslabs.tart-vms": 1},
        "restart_policy": "Never",
    }
    assert "memory" not in mac
    kind = Kind(os="linux", resources=(("org.cirruslabs.logical-cores", 4),), labels=(("room", "2"),))
    linux = request.vm(A, a_pool(kind=kind))
    assert (linux["resources"], linux["labels"]) == ({"org.cirruslabs.logical-cores": 4}, {"room": "2"})
    for body in (mac, linux):
        assert new_record(body, NOW).name == A


def a_worker(name: str, **changes: Any) -> Worker:
    values: dict[str, Any] = {
        "last_seen": ago(seconds=5),
        "paused": False,
        "resources": {"org.cirruslabs.tart-vms": 2},
        "labels": {},
        "arch": "arm64",
        "runtime": "tart",
    }
    return Worker(name=name, **values | changes)


def a_machine(name: str, worker: str = "", **changes: Any) -> Machine:
    values: dict[str, Any] = {
        "status": Status.RUNNING,
        "message": "",
        "placed": bool(worker),
        "resources": {"org.cirruslabs.tart-vms": 1},
        "image": "sequoia",
        "exact_image": "",
    }
    return Machine(name=name, worker=worker, **values | changes)


FLEET = Fleet(
    at=NOW,
    workers=(
        a_worker("mini1"),
        a_worker("mini2", paused=True),
        a_worker("mini3", last_seen=ago(minutes=2)),
        a_worker("mini4", last_seen=None),
    ),
    machines=(
        a_machine(A, "mini1"),
        a_machine("strange", "mini3"),
        a_machine(B, "mini1", status=Status.FAILED, placed=False, message="Worker lost track of VM"),
    ),
)


def test_the_fleet_as_hosts() -> None:
    """Paused and silent Macs take nothing new, VMs take the room of theirs, and only ours have an ending."""
    look = host_look(FLEET, Names("mini"), at=NOW, settling=False)
    assert sorted((host.name, host.state) for host in look.hosts) == [
        ("mini1", "open"),
        ("mini2", "paused"),
        ("mini3", "silent"),
        ("mini4", "silent"),
    ]
    closed = {host.name: host.closed for host in look.hosts}
    assert closed == {
        "mini1": "",
        "mini2": PAUSED,
        "mini3": "it was not heard of since 11:58:00 UTC",
        "mini4": "it was not heard of yet",
    }
    assert [(vm.name, vm.host, vm.state, dict(vm.takes), vm.ending) for vm in look.vms] == [
        (A, "mini1", VMState.RUNNING, {MACOS_VM: 1}, None),
        ("strange", "mini3", VMState.RUNNING, {MACOS_VM: 1}, None),
        (B, "mini1", VMState.STOPPED, {}, "worker_restarted"),
    ]


def test_nothing_is_asked_for_until_the_workers_are_back() -> None:
    """Right after the controller was away, no Mac takes anything while one with VMs was not heard of."""
    look = host_look(FLEET, Names("mini"), at=NOW, settling=True)
    assert [(host.state, host.closed) for host in look.hosts if host.name == "mini1"] == [
        ("waiting", SETTLING)
    ]
