"""What goes wrong with a VM that runs, with looking at it, and with its removal: one row a fault."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.clock import utcnow
from app.domain.world import VMState
from app.sandbox.image import make_image
from app.sandbox.tart.faults import Fault
from app.vm.locks import owner
from app.vm.runlog import LONGEST
from app.vm.watch import Watched
from tests.vm.faulty import JIT, RUN_SH, A, Host, Must, a_spec, refused
from tests.vm.scarcity import open_files

LONG = pytest.mark.long  # a variant of a row beside it
HOLDER = "import fcntl,sys,time; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); print(1,flush=True); time.sleep(60)"
SLOW_LISTENER = {"run.sh": (RUN_SH, 0o755), "bin/Runner.Listener": ("#!/bin/sh\nexec sleep 60\n", 0o755)}


@pytest.fixture
async def up(host: Host) -> Host:
    """Provide a Mac on which one VM of ours runs, ready for its JIT config."""
    await host.backend.start(A, a_spec())
    return host


# -- the VM ends under a job ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        pytest.param(
            "guest_powers_off", "guest_powered_off", id="the guest powers off: the usual end", marks=LONG
        ),
        pytest.param("guest_crash", "guest_crashed", id="the guest panics", marks=LONG),
        pytest.param("network_lost", "network_lost", id="the network is lost", marks=LONG),
        pytest.param("softnet_dies", "softnet_died", id="softnet dies", marks=LONG),
        pytest.param("killed", "vm_killed", id="a signal ends tart run"),
    ],
)
async def test_a_vm_ends_under_a_job(up: Host, fault: str, ending: str) -> None:
    """The end is told at once with its cause, and every later look says the same."""
    await up.backend.deliver(A, a_spec(), JIT)
    up.faults(Fault(fault))
    assert await up.end_of() == ending
    (vm,) = [vm for vm in (await up.another().look()).vms if vm.name == A]
    assert (vm.state, vm.ending) == (VMState.STOPPED, ending)


async def test_a_vm_ends_while_it_is_set_up(host: Host) -> None:
    """The VM's own end is the reason, not the guest that broke off, and nobody waits for the guest."""
    make_image(host.home, "sequoia", SLOW_LISTENER)
    host.faults(Fault("guest_crash", seconds=0.5))
    await refused(host.backend.start(A, a_spec()), Must("guest_crashed", "free space"))


async def test_the_log_of_a_vm_is_gone(up: Host) -> None:
    """A VM whose log was deleted ends all the same, for a reason that says so."""
    up.log().unlink()
    os.kill(up.pid(), signal.SIGINT)
    assert await up.end_of() == "vm_ended"


async def test_the_log_of_a_vm_is_huge(up: Host) -> None:
    """A log that grows without end is emptied, and how the VM ended is read all the same."""
    os.truncate(up.log(), LONGEST + 1)
    await up.backend.look()
    assert up.log().stat().st_size == 0
    up.faults(Fault("guest_crash"))
    assert await up.end_of() == "guest_crashed"


# -- the guest is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "limits", "must"),
    [
        pytest.param(
            "exec_hangs", {"probe": 0.5}, Must("guest_silent", "guest agent"), id="exec hangs", marks=LONG
        ),
        pytest.param(
            "exec_garbage", {}, Must("guest_silent", "guest agent"), id="exec answers garbage", marks=LONG
        ),
        pytest.param("exec_floods", {}, Must("output_flood", "not to be trusted"), id="exec floods us"),
        pytest.param(
            "exec_unreachable",
            {},
            Must("guest_silent", "guest agent"),
            id="the agent is not there",
            marks=LONG,
        ),
    ],
)
async def test_a_guest_does_not_answer(up: Host, fault: str, limits: dict[str, float], must: Must) -> None:
    """A guest that cannot be asked is an error in time, never an answer, and the command is gone."""
    up.faults(Fault(fault), agent_timeout=0.1)
    await refused(up.another(**limits).probe(A), must)
    assert up.commands("exec") == []


@pytest.mark.parametrize(
    ("fault", "limits", "must"),
    [
        pytest.param(
            "exec_hangs", {"deliver": 0.5}, Must("guest_silent", "guest agent"), id="exec hangs", marks=LONG
        ),
        pytest.param(
            "exec_garbage",
            {},
            Must("delivery_unconfirmed", "it is asked"),
            id="exec answers garbage",
            marks=LONG,
        ),
        pytest.param("exec_dies", {}, Must("delivery_unconfirmed", "it is asked"), id="exec breaks off"),
    ],
)
async def test_a_delivery_fails(up: Host, fault: str, limits: dict[str, float], must: Must) -> None:
    """A delivery without the guest's own word is an error, which holds no JIT config, and follows nothing."""
    up.faults(Fault(fault))
    said = await refused(up.another(**limits).deliver(A, a_spec(), JIT), must)
    assert JIT.encoded not in said
    assert up.commands("exec") == []


# -- the host is looked at -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "limits", "must"),
    [
        pytest.param(Fault("list_fails"), {}, Must("list_failed", "by hand", True), id="list fails"),
        pytest.param(
            Fault("hang", verb="list", seconds=60),
            {"quick": 0.5},
            Must("list_timeout", "volume", True),
            id="list hangs",
        ),
        pytest.param(
            Fault("list_garbage"),
            {},
            Must("list_unreadable", "this version of tart", True),
            id="list prints garbage",
        ),
    ],
)
async def test_a_look_fails(host: Host, fault: Fault, limits: dict[str, float], must: Must) -> None:
    """A look that failed raises, since unknown is not absent; the next one is as good as any."""
    host.faults(fault)
    await refused(host.another(**limits).look(), must)
    host.faults()
    assert {vm.name for vm in (await host.backend.look()).vms} == {"sequoia"}


async def test_a_list_leaves_vms_out(up: Host) -> None:
    """A VM that tart leaves out is there all the same, and runs or not as the kernel says."""
    make_image(up.home, "other", {})
    up.faults(Fault("list_partial"))
    seen = {vm.name: vm.state for vm in (await up.backend.look()).vms}
    assert seen == {A: VMState.RUNNING, "sequoia": VMState.STOPPED, "other": VMState.STOPPED}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Provide a directory on another volume, where this machine has one."""
    shm = Path("/dev/shm")  # noqa: S108
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other volume here")
    with tempfile.TemporaryDirectory(dir=shm) as place:
        yield Path(place)


async def test_free_space_is_that_of_the_vms_volume(host: Host, elsewhere: Path) -> None:
    """The space that counts is that of the volume of TART_HOME, and of its VMs where that is another one."""
    vms, before = host.home / "vms", host.home / "vms.before"
    least = min(shutil.disk_usage(place).free for place in (host.home, elsewhere))
    vms.rename(before)
    vms.symlink_to(elsewhere)
    assert (await host.backend.look()).free_disk_gb == pytest.approx(least / 1e9, rel=0.05)
    vms.unlink()
    before.rename(vms)


# -- the VM is removed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("stop_fails"), id="tart stop fails", marks=LONG),
        pytest.param(Fault("hang", verb="stop", seconds=60), id="tart stop hangs", marks=LONG),
        pytest.param(Fault("ignores_sigint"), id="the guest does not heed it"),
        pytest.param(Fault("delete_leaves"), id="tart delete leaves a directory"),
        pytest.param(Fault("slot_release_slow", seconds=0.5), id="the place is given up late", marks=LONG),
    ],
)
async def test_a_removal_succeeds_all_the_same(up: Host, fault: Fault) -> None:
    """Where tart does not do its part, we do: the process ends and the files go."""
    up.faults(fault)
    await up.another(quick=0.5, stop=1).delete(A)
    assert not up.vm().exists()
    assert await up.end_of() in {"stopped", "vm_killed"}


@pytest.mark.parametrize(
    ("fault", "limits", "must"),
    [
        pytest.param(Fault("delete_fails"), {}, Must("delete_failed", "tried again"), id="tart delete fails"),
        pytest.param(
            Fault("hang", verb="delete", seconds=60),
            {"clone": 0.5},
            Must("delete_timeout", "tried again"),
            id="tart delete hangs",
            marks=LONG,
        ),
    ],
)
async def test_a_removal_fails(up: Host, fault: Fault, limits: dict[str, float], must: Must) -> None:
    """A removal that was not confirmed is an error; the next try succeeds."""
    up.faults(fault)
    await refused(up.another(**limits).delete(A), must)
    assert up.vm().exists()
    up.faults()
    await up.backend.delete(A)
    assert not up.vm().exists()


@pytest.mark.long
async def test_a_removal_has_a_limit_of_its_own(up: Host) -> None:
    """However many steps it takes, all of them together end in time."""
    up.faults(Fault("hang", verb="delete", seconds=60))
    await refused(up.another(delete=0.5).delete(A), Must("delete_timeout", "tried again"))


@pytest.fixture
def stranger(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    """Provide a process that holds the lock of a VM of ours and is no `tart run`."""
    make_image(host.home, A, {})
    argv = [sys.executable, "-c", HOLDER, host.vm() / "config.json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


async def test_a_stranger_holds_the_lock(host: Host, stranger: subprocess.Popen[bytes]) -> None:
    """A process that holds a VM's lock and is no `tart run` of it is named, and lives."""
    await refused(host.backend.delete(A), Must("lock_held", f"process {stranger.pid}"))
    assert stranger.poll() is None


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="locks without an owner are Linux's")
async def test_nobody_is_named_as_the_locks_holder(host: Host) -> None:
    """Where the kernel names no process, none is signalled: -1 would be all of them."""
    make_image(host.home, A, {})
    with (host.vm() / "config.json").open("r+") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        await refused(host.backend.delete(A), Must("owner_unknown", "lsof"))


def test_a_number_that_went_to_another_process() -> None:
    """A process that merely got the number of a VM's is not signalled."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        process = psutil.Process(bystander.pid)
        process._ident = (process.pid, process._ident[1] - 1)  # as it was known: started a second before
        Watched(process).signal(signal.SIGKILL)
        bystander.communicate(b"\n")
    assert bystander.returncode == 0


async def test_the_files_of_a_running_vm_are_removed_by_hand(up: Host) -> None:
    """A VM whose lock file is gone is found by its arguments after a restart, and ended."""
    pid = up.pid()
    (up.vm() / "config.json").unlink()
    await up.another().delete(A)
    assert not up.vm().exists()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_vm_of_the_same_name_elsewhere(up: Host, tmp_path: Path) -> None:
    """A VM that has our name and another TART_HOME is none of ours, and lives."""
    other = Host(tmp_path / "other")
    await other.backend.delete(A)
    assert up.pid()
    assert psutil.Process(up.pid()).is_running()


async def test_the_owner_is_known_by_more_than_its_number(up: Host) -> None:
    """Whoever holds the lock is returned with its start time, and nobody once it is free."""
    found = owner(up.vm())
    assert found is not None
    assert (found.pid, found.is_running()) == (up.pid(), True)
    os.kill(found.pid, signal.SIGINT)
    await up.end_of()
    assert owner(up.vm()) is None


# -- the host itself -----------------------------------------------------------------------------------


async def without_tart(host: Host, task: asyncio.Task[Any]) -> Path:
    """Take tart away as soon as the VM runs, and return where it is now."""
    while not host.pid():
        assert not task.done()
        await asyncio.sleep(0.005)
    return host.program.rename(host.program.with_name("tart.new"))


@pytest.mark.long
async def test_tart_is_replaced_while_a_guest_boots(host: Host) -> None:
    """While `brew upgrade` replaces tart, a boot goes on, and ends well when tart is back."""
    host.faults(Fault("exec_unreachable", count=1), agent_timeout=0.5)
    task = asyncio.create_task(host.backend.start(A, a_spec()))
    away = await without_tart(host, task)
    await asyncio.sleep(1)
    assert not task.done()
    away.rename(host.program)
    assert "sequoia" in (await task).image


@pytest.mark.long
async def test_tart_is_gone_for_good_while_a_guest_boots(host: Host) -> None:
    """Where tart does not come back, that is the reason, and not a guest that was never asked."""
    host.faults(Fault("agent_never_answers"), agent_timeout=0.1)
    task = asyncio.create_task(host.backend.start(A, a_spec(boot_timeout=timedelta(seconds=4))))
    away = await without_tart(host, task)
    await refused(task, Must("tart_missing", "brew install", True))
    await refused(host.backend.delete(A), Must("tart_missing", "brew install", True))
    assert host.pid() == 0  # it was stopped without tart
    away.rename(host.program)


@pytest.mark.long
async def test_the_mac_sleeps_for_a_night(host: Host) -> None:
    """The wall clock jumps, in the middle of a boot and of a removal; no limit of ours is measured by it."""
    jumps = iter(range(1000))
    host.now = lambda: utcnow() + timedelta(hours=8 * next(jumps))
    await host.backend.start(A, a_spec())
    await host.backend.deliver(A, a_spec(), JIT)
    assert (await host.backend.probe(A)).runner_alive
    assert (await host.backend.look()).vms
    await host.backend.delete(A)


async def test_a_life_leaves_nothing_in_this_process(host: Host) -> None:
    """No open file, thread or task of ours is left of a VM that came, ran and went."""
    before = len(open_files()), threads(), len(asyncio.all_tasks())
    await host.backend.start(A, a_spec())
    await host.backend.deliver(A, a_spec(), JIT)
    await host.backend.look()
    await host.backend.delete(A)
    await host.end_of()
    await host.backend.look()
    for thread in threads() - before[1]:
        # It told us of a process's end, and is about to end itself.
        await asyncio.to_thread(thread.join, 10.0)
    assert (len(open_files()), threads(), len(asyncio.all_tasks())) == before


def threads() -> set[threading.Thread]:
    """Return the threads, but for those of the loop's own pool, which stay for the next call."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
