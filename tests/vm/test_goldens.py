"""Goldens on the stand-in tart: how one is made, which launches resume a clone of it, and what can go wrong."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.domain.pools import Pool, Start
from app.domain.world import Golden
from app.ports import GuestFacts
from app.sandbox.image import make_image
from app.sandbox.runner import runner_files
from app.sandbox.tart.faults import Fault
from app.sandbox.tart.guest import HOME, SSH, STALE
from app.sandbox.tart.home import VM
from app.vm.tart import TartBackend
from tests.vm.faulty import IMAGE, JIT, A, Host, Must, a_spec, refused

B, C = "mini-mac-bbbbbbbb", "mini-golden-cccccccc"
LONG = pytest.mark.long


def snapshot(**changes: object) -> Pool:
    """Return a pool that is resumed; how long anything takes on a busy machine must not matter."""
    return a_spec(**{"start": Start.SNAPSHOT, "boot_timeout": timedelta(seconds=30)} | changes)


def backend_of(host: Host, **limits: object) -> TartBackend:
    return host.another(**{"settle": 0.0, "suspend": 60.0, "restore": 60.0, "resumed": 60.0} | limits)


async def made(host: Host, backend: TartBackend, spec: Pool | None = None, name: str = C) -> Golden:
    """Make a golden, remove the VM in which that was tried, and return it."""
    before = {golden.name for golden in (await backend.look()).goldens}
    await backend.make_golden(name, spec or snapshot())
    await backend.delete(name)
    (golden,) = (g for g in (await backend.look()).goldens if g.name not in before)
    assert VM(host.vm(golden.name)).state == "suspended"
    return golden


async def cleared(backend: TartBackend, *vms: str) -> None:
    """Remove VMs and all goldens: nothing may be left."""
    for name in vms:
        await backend.delete(name)
    for golden in (await backend.look()).goldens:
        await backend.drop_golden(golden.name)
    await backend.close()


def stale(host: Host, name: str) -> list[str]:
    return [what for what in STALE if (host.vm(name) / "guest" / f".stale-{what}").exists()]


def how(facts: GuestFacts) -> tuple[Start, str | None]:
    return facts.start, facts.trouble.reason if facts.trouble else None


def fill(host: Host) -> None:
    """Have the image hold what no clone may share with another."""
    files = runner_files(version="2.337.0") | {".runner": ("{}", 0o644), ".credentials": ("{}", 0o600)}
    image = make_image(host.home, IMAGE, files)
    (image / "guest" / SSH / "ssh_host_ed25519_key").write_text("a key")
    (image / "guest" / HOME / ".zsh_history").write_text("a secret")


async def test_launches_resume_clones_of_it(host: Host) -> None:
    """Its clones are resumed, mended and take a runner, time after time; it holds no identity and no key."""
    fill(host)
    backend, spec = backend_of(host), snapshot()
    golden = await made(host, backend)
    guest = host.vm(golden.name) / "guest"
    assert list((guest / SSH).iterdir()) == []
    home = guest / HOME
    assert {f.name for f in home.iterdir()} == {"actions-runner"}
    assert not {".runner", ".credentials"} & {f.name for f in (home / "actions-runner").iterdir()}
    assert (golden.pool, golden.source, golden.shape) == ("mac", IMAGE, spec.shape)
    for _ in range(2):
        facts = await backend.start(A, spec)
        assert (how(facts), facts.image, facts.runner_version) == ((Start.SNAPSHOT, None), IMAGE, "2.337.0")
        assert stale(host, A) == []
        await backend.deliver(A, spec, JIT)
        assert (await backend.probe(A)).delivered
        await backend.delete(A)
    assert (await backend.look()).goldens == (golden,)
    await cleared(backend)


@pytest.mark.long
async def test_one_clone_at_a_time(host: Host) -> None:
    """The second of two launches boots, and once another golden is there both are resumed; none has a twin's MAC."""
    backend, spec = backend_of(host), snapshot()
    await made(host, backend)
    both = await asyncio.gather(backend.start(A, spec), backend.start(B, spec))
    assert sorted(how(facts) for facts in both) == [(Start.COLD, None), (Start.SNAPSHOT, None)]
    assert VM(host.vm(A)).config()["macAddress"] != VM(host.vm(B)).config()["macAddress"]
    await cleared(backend, A, B)


@pytest.mark.parametrize(
    ("fault", "expected", "kept"),
    [
        pytest.param(Fault("restore_fails", vm=A), "restore_failed", 0, id="the restore fails"),
        pytest.param(Fault("resume_silent", vm=A), "resume_silent", 0, id="the guest is silent", marks=LONG),
        pytest.param(Fault("mac_taken", vm=A), None, 1, id="a stranger has its MAC", marks=LONG),
        pytest.param(Fault("guest_crash", vm=A, count=1), "guest_crashed", 0, id="it crashes", marks=LONG),
        pytest.param(
            Fault("clone_fails", vm=A, count=2), "clone_failed", 0, id="it cannot be cloned", marks=LONG
        ),
    ],
)
async def test_a_launch_that_is_not_resumed_boots(
    host: Host, fault: Fault, expected: str | None, kept: int
) -> None:
    """The same launch boots, and its end is told as that of any; a golden of which a clone failed is forgotten."""
    spec = snapshot()
    golden = await made(host, backend_of(host))
    backend = backend_of(host, **({"resumed": 2.0} if fault.fault == "resume_silent" else {}))
    host.faults(fault if fault.count else fault._replace(count=1))
    assert how(await backend.start(A, spec)) == (Start.COLD, expected)
    assert len([g for g in (await backend.look()).goldens if g.pool]) == kept
    while not host.ended.empty():
        assert host.ended.get_nowait()[0] != A
    host.faults(Fault("guest_powers_off", vm=A, count=1))
    assert await host.end_of(A) == "guest_powered_off"
    assert host.vm(golden.name).exists()
    await cleared(backend, A)


@pytest.mark.long
async def test_the_hosts_limit_is_no_fault_of_a_golden(host: Host) -> None:
    """A boot would meet it as well: the launch fails as one, and the golden stays."""
    backend = backend_of(host)
    golden = await made(host, backend)
    host.faults(Fault("restore_limit", vm=A, count=1))
    await refused(backend.start(A, snapshot()), Must("vm_limit", "stop it", True))
    assert (await backend.look()).goldens == (golden,)
    await cleared(backend, A)


@pytest.mark.long
async def test_what_makes_it_useless(host: Host) -> None:
    """Another image, pool or tart, or one of another pool: launches boot, and nothing that cannot fit is restored."""
    backend, spec = backend_of(host), snapshot()
    await made(host, backend)
    for other in (replace(spec, cpu=3), replace(spec, name="other"), replace(spec, start=Start.COLD)):
        assert how(await backend.start(A, other)) == (Start.COLD, None)
        await backend.delete(A)
    host.faults(version="2.36.0")
    host.program.touch()  # another program
    assert how(await backend.start(A, spec)) == (Start.COLD, None)
    assert (await backend.look()).system.startswith("tart 2.36.0 ")
    await backend.delete(A)
    host.faults()
    host.program.touch()
    make_image(host.home, IMAGE, {"run.sh": ("#!/bin/sh\nexec sleep 600\n", 0o755)})
    assert how(await backend.start(A, spec)) == (Start.COLD, None)
    await cleared(backend, A)


@pytest.mark.long
async def test_a_restart_remembers(host: Host) -> None:
    """What was made outlives us, and a VM that was resumed is adopted as one; what is forgotten is of no pool."""
    golden = await made(host, backend_of(host))
    backend = backend_of(host)
    assert (await backend.look()).goldens == (golden,)
    await backend.start(A, snapshot())
    again = backend_of(host)
    assert how(await again.start(A, snapshot())) == (Start.SNAPSHOT, None)
    (host.state / "goldens.json").write_text("{")
    (left,) = (await backend_of(host).look()).goldens
    assert (left.name, left.pool) == (golden.name, "")
    await cleared(again, A)


@pytest.mark.long
async def test_its_size_counts_what_the_guest_had_in_memory(host: Host) -> None:
    """Tart does not count the snapshot, we do."""
    backend = backend_of(host)
    golden = await made(host, backend)
    (host.vm(golden.name) / "state.vzvmsave").write_bytes(bytes(3_000_000))
    assert (await backend.look()).goldens[0].size_gb == pytest.approx(golden.size_gb + 0.003, abs=0.001)
    await cleared(backend)


@pytest.mark.parametrize(
    ("fault", "must"),
    [
        pytest.param(Fault("suspend_fails", vm=C), Must("suspend_failed", "macOS 15"), id="it is not suspended"),
        pytest.param(Fault("restore_fails", vm=C), Must("restore_failed", "removed"), id="it is not restored", marks=LONG),
        pytest.param(
            Fault("mac_taken", vm=C, count=2), Must("mac_taken", "tried again"), id="a stranger has its MAC", marks=LONG
        ),
        pytest.param(Fault("resume_silent", vm=C), Must("resume_silent", "did not answer"), id="it is silent", marks=LONG),
        pytest.param(
            Fault("start_keychain", vm=C), Must("host_locked", "unlock", True), id="no keychain", marks=LONG
        ),
        pytest.param(
            Fault("exec_garbage", vm=C, count=None), Must("guest_silent", "by hand"), id="it talks nonsense", marks=LONG
        ),
    ],
)  # fmt: skip
async def test_what_goes_wrong_on_the_way(host: Host, fault: Fault, must: Must) -> None:
    """It ends in time, with the mend; launches boot, and nothing stays but what can be removed."""
    backend = backend_of(host, **({"resumed": 2.0} if fault.fault == "resume_silent" else {}))
    host.faults(fault)
    await refused(backend.make_golden(C, snapshot()), must)
    host.faults()
    assert all(golden.pool == "" for golden in (await backend.look()).goldens)
    await cleared(backend, C)


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=LONG) for step in ("clone", "exec", "suspend")] + ["rename"]
)
async def test_cancelled_at_any_step(host: Host, step: str) -> None:
    """One that yields leaves a VM that can be removed, and no golden that is resumed."""
    backend = backend_of(host)
    making = asyncio.create_task(backend.make_golden(C, snapshot()))
    commands = host.home / "commands.log"
    while not commands.exists() or f" {step} {C}" not in commands.read_text():  # another process
        await asyncio.sleep(0.01)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    await backend.delete(C)
    assert all(golden.pool == "" for golden in (await backend.look()).goldens)
    await cleared(backend)


def test_a_clone_runs_with_the_flags_of_its_golden(host: Host) -> None:
    """Whatever the network, the flags are those that it was suspended with."""
    from app.vm.command import Tart

    tart = Tart("tart", Path("/x"), {})
    spec = snapshot(network="softnet", network_allow=("10.0.0.0/8",))
    argv = tart.run_argv(C, spec, suspendable=True)
    assert argv[:-1] == tart.run_argv(A, spec, suspendable=True)[:-1]
    assert "--suspendable" in argv
    assert "--suspendable" not in tart.run_argv(A, spec)
    assert host.vm().parent.is_dir()
