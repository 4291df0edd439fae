"""What goes wrong with a launch, and what must come of it: one row a fault.

Each launch fails within its time with a named reason, a sentence that names the mend, and the right scope; deleted
afterwards, as the reconciler does, it leaves nothing.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest

from app.acts.means import Means
from app.clock import utcnow
from app.db.reader import Reader
from app.db.store import Store
from app.domain.actions import Boot, Destroy
from app.domain.runners import RunnerState
from app.metrics import Metrics
from app.perform import Performer
from app.ports import VMError
from app.sandbox.image import make_image
from app.sandbox.tart.faults import Fault
from app.sight import Sight
from app.vm.tart import TartBackend
from app.vm.watch import Watch
from tests.builders import a_runner
from tests.vm.faulty import IMAGE, A, Host, Must, a_spec, refused
from tests.vm.scarcity import no_threads, room_for

LONG = pytest.mark.long  # a variant of a row beside it
SHORT = {"boot_timeout": timedelta(seconds=1)}
SOFTNET = {"network": "softnet"}
SLOW_SETUP = ("#!/bin/sh\nexec sleep 5\n", 0o755)


def image(**files: tuple[str, int]) -> Callable[[Host], object]:
    """Make the image anew, with these files beside, or for, those of the runner."""
    named = {name.replace("__", "/"): file for name, file in files.items()}
    return lambda host: make_image(host.home, IMAGE, named)


def no_sudo(host: Host) -> None:
    (host.vm(IMAGE) / "guest/bin-shims/sudo").write_text("#!/bin/sh\nexit 1\n")


def broken_neighbour(host: Host) -> None:
    make_image(host.home, "other", {})
    (host.vm("other") / "config.json").write_text("{")


def in_the_way(host: Host) -> None:
    make_image(host.home, A, {})


LAUNCHES = [
    # -- the clone
    pytest.param(
        [Fault("clone_fails")],
        {},
        Must("clone_failed", "tart clone IMAGE test"),
        id="clone fails for reasons of its own",
    ),
    pytest.param(
        [Fault("clone_disk_full")], {}, Must("disk_full", "free some space", True), id="no room for a clone"
    ),
    pytest.param(
        lambda host: shutil.rmtree(host.vm(IMAGE)),
        {},
        Must("image_missing", "build it with packer"),
        id="image vanished",
    ),
    pytest.param(
        lambda host: (host.vm(IMAGE) / "nvram.bin").unlink(),
        {},
        Must("image_broken", "build or pull"),
        id="image broken",
        marks=LONG,
    ),
    pytest.param(
        [],
        {"image": "ghcr.io/a/b:c"},
        Must("image_missing", "it is pulled first"),
        id="image not pulled yet",
        marks=LONG,
    ),
    pytest.param(
        broken_neighbour,
        {},
        Must("vm_broken", "plutil -lint", True),
        id="another VM's config.json is damaged",
    ),
    pytest.param(
        in_the_way, {}, Must("interrupted", "takes another"), id="a VM of that name is there and does not run"
    ),
    # -- the configuration
    pytest.param([Fault("set_fails")], {"cpu": 4}, Must("set_failed", "cpu, memory_mib"), id="set fails"),
    pytest.param(
        [], {"disk_gb": 40}, Must("disk_too_small", "raise it"), id="a disk that should shrink", marks=LONG
    ),
    pytest.param([], {"cpu": 1}, Must("resources_too_small", "raise it"), id="too few cores", marks=LONG),
    # -- tart run ends at once
    pytest.param(
        lambda host: host.faults(vm_limit=0),
        {},
        Must("vm_limit", "stop it", True),
        id="VM limit: strangers' VMs",
    ),
    pytest.param(
        lambda host: host.faults(Fault("limit_leaked"), vm_limit=1),
        {},
        Must("vm_limit", "reboot", True),
        id="VM limit: leaked",
        marks=LONG,
    ),
    pytest.param(
        [Fault("softnet_missing")],
        SOFTNET,
        Must("softnet_missing", "brew install", True),
        id="softnet is not there",
    ),
    pytest.param(
        [Fault("softnet_unprivileged")],
        SOFTNET,
        Must("softnet_died", "chmod u+s", True),
        id="softnet has no privileges",
        marks=LONG,
    ),
    pytest.param(
        [Fault("start_keychain")],
        {},
        Must("host_locked", "unlock the login keychain", True),
        id="keychain locked",
    ),
    pytest.param(
        [Fault("start_hostkey")],
        {},
        Must("host_locked", "log in on the Mac", True),
        id="keychain locked, macOS 26",
        marks=LONG,
    ),
    pytest.param(
        [Fault("start_host_outdated")],
        {},
        Must("host_outdated", "upgrade the Mac"),
        id="host macOS outdated",
        marks=LONG,
    ),
    pytest.param(
        [],
        {"network": "bridged:en7"},
        Must("bridge_missing", "networksetup"),
        id="bridged to no interface of this Mac",
        marks=LONG,
    ),
    pytest.param(
        [Fault("start_aux_locked")],
        {},
        Must("orphan_process", "Activity Monitor"),
        id="an orphan holds the VM's files",
        marks=LONG,
    ),
    pytest.param(
        [Fault("start_unknown")],
        {},
        Must("vm_ended", "never happened before"),
        id="a text nobody knows is passed on",
    ),
    # -- the VM ends while it boots
    pytest.param(
        [Fault("agent_never_answers"), Fault("guest_powers_off")],
        {},
        Must("guest_powered_off", "what the image does"),
        id="guest powers off while it boots",
        marks=LONG,
    ),
    pytest.param(
        [Fault("agent_never_answers"), Fault("guest_crash")],
        {},
        Must("guest_crashed", "free space"),
        id="guest panics",
    ),
    pytest.param(
        [Fault("agent_never_answers"), Fault("network_lost")],
        {},
        Must("network_lost", "pmset"),
        id="network lost",
        marks=LONG,
    ),
    pytest.param(
        [Fault("agent_never_answers"), Fault("softnet_dies")],
        SOFTNET,
        Must("softnet_died", "Console", True),
        id="softnet dies while it boots",
        marks=LONG,
    ),
    pytest.param(
        [Fault("agent_never_answers"), Fault("killed")],
        {},
        Must("vm_killed", "SIGKILL"),
        id="a signal ends tart run",
        marks=LONG,
    ),
    # -- the guest
    pytest.param(
        [Fault("boot_slow", seconds=60)],
        SHORT,
        Must("boot_timeout", "boot_timeout = 1 s"),
        id="boot never ends",
        marks=LONG,
    ),
    pytest.param(
        [Fault("agent_never_answers")],
        SHORT,
        Must("boot_timeout", "try the image by hand"),
        id="agent never answers",
    ),
    pytest.param(
        [Fault("exec_hangs")],
        SHORT,
        Must("boot_timeout", "by hand"),
        id="exec hangs, whatever it is told",
        marks=LONG,
    ),
    pytest.param([Fault("exec_garbage")], {}, Must("guest_silent", "guest agent"), id="exec answers garbage"),
    pytest.param(
        [Fault("exec_floods")], {}, Must("output_flood", "not to be trusted"), id="exec floods us", marks=LONG
    ),
    pytest.param(image(), {}, Must("runner_missing", "set runner_dir"), id="the image has no runner"),
    pytest.param(
        no_sudo, {}, Must("image_unfit", "password-less sudo"), id="the image lets us not be root", marks=LONG
    ),
    # -- the host
    pytest.param(
        lambda host: (host.state / "runners").write_text(""),
        {},
        Must("path_lost", "make it again", True),
        id="no place for logs",
    ),
    pytest.param(
        lambda host: host.program.unlink(),
        {},
        Must("tart_missing", "brew install", True),
        id="tart is not there",
    ),
]


@pytest.mark.parametrize(("trouble", "pool", "must"), LAUNCHES)
async def test_a_launch_fails(
    host: Host, trouble: list[Fault] | Callable[[Host], object], pool: dict[str, Any], must: Must
) -> None:
    """A launch that cannot succeed says why and what to do, and leaves nothing once it is deleted."""
    program = host.program.read_text()
    if callable(trouble):
        trouble(host)
    else:
        host.faults(*trouble)
    await fails(host.backend, must, **pool)
    restore(host, program)


def restore(host: Host, program: str) -> None:
    host.program.write_text(program)
    host.program.chmod(0o755)
    shutil.rmtree(host.vm("other"), ignore_errors=True)


async def fails(backend: TartBackend, must: Must, **pool: Any) -> None:
    await refused(backend.start(A, a_spec(**pool)), must)


@pytest.mark.parametrize(
    ("verb", "limits", "pool", "must"),
    [
        pytest.param("clone", {"clone": 0.3}, {}, Must("clone_timeout", "on one volume", True), id="clone"),
        pytest.param(
            "set", {"quick": 0.3}, {"cpu": 4}, Must("set_timeout", "load of the Mac", True), id="set"
        ),
    ],
)
async def test_a_command_hangs(
    host: Host, verb: str, limits: dict[str, float], pool: dict[str, Any], must: Must
) -> None:
    """A command that hangs is ended in its time, and is gone."""
    host.faults(Fault("hang", verb=verb, seconds=60))
    await fails(host.another(**limits), must, **pool)
    assert host.commands(verb) == []


async def test_the_volume_of_the_vms_is_gone(host: Host) -> None:
    """Without TART_HOME nothing starts, and nothing counts as removed: absent is not the same as out of sight."""
    make_image(host.home, A, {})
    away = host.home.rename(host.place / "away")
    host.home.write_text("")
    lost = Must("tart_home_lost", "mount its volume", host_wide=True)
    for work in (
        host.backend.start("mini-mac-bbbbbbbb", a_spec()),
        host.backend.delete(A),
        host.backend.look(),
    ):
        await refused(work, lost)
    host.home.unlink()
    away.rename(host.home)


@pytest.mark.parametrize(
    "scarce", [pytest.param(lambda: room_for(0), id="files"), pytest.param(no_threads, id="threads")]
)
async def test_nothing_more_to_give(host: Host, scarce: Callable[[], AbstractContextManager[None]]) -> None:
    """A Mac without open files or threads to spare fails a launch and a look for that reason, and recovers."""
    exhausted = Must("host_exhausted", "NumberOfFiles", host_wide=True)
    with scarce():
        await fails(host.backend, exhausted)
        await refused(host.backend.look(), exhausted)
    assert (await host.backend.look()).vms


async def test_a_vm_that_cannot_be_watched_does_not_run(host: Host) -> None:
    """A process whose end nobody would hear of is ended at once."""
    watch = Watch(host.home / "vms", lambda _name: None)
    with no_threads(), pytest.raises(VMError) as failed:
        watch.spawn(A, [sys.executable, "-c", "input()"], env={}, log=host.state / "log")
    assert (failed.value.reason, failed.value.host_wide) == ("host_exhausted", True)
    assert watch.get(A) is None
    assert host.commands("-c") == []


# -- where it ends up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "scope"),
    [
        pytest.param("clone_disk_full", "host", id="the host's fault holds up every pool"),
        pytest.param("clone_fails", "pool", id="a pool's holds up that pool"),
    ],
)
async def test_a_failure_is_told(host: Host, store: Store, reader: Reader, fault: str, scope: str) -> None:
    """The reason stands in the runner's history, in the cooldown with the mend, and in the metric with its scope."""
    host.faults(Fault(fault))
    metrics, sight = Metrics(), Sight()
    nothing: Any = None
    means = Means(
        store=store, reader=reader, github=nothing, vms=host.backend, sight=sight, metrics=metrics, clock=utcnow,
        chance=random.Random(1),
    )  # fmt: skip
    performer: Any = Performer(means)
    runner = a_runner(RunnerState.CLAIMED, name=A, spec=a_spec())
    await store.claim(runner)
    await performer.perform(Boot(runner), None)
    reason = "disk_full" if scope == "host" else "clone_failed"
    found = await reader.runner(A)
    assert found is not None
    assert (found[0].state, found[1][-1].reason) == (RunnerState.STOPPING, reason)
    (cooldown,) = (await reader.records(denying="[]", heads=1)).cooldowns
    assert (cooldown.scope.partition(":")[0], cooldown.reason) == (scope, reason)
    labels = {"scope": scope, "reason": reason}
    assert metrics.registry.get_sample_value("cidermill_failures_total", labels) == 1
    await performer.perform(Destroy(found[0]), None)
    gone = await reader.runner(A)
    assert gone is not None
    assert (gone[0].state, gone[0].reason) == (RunnerState.GONE, reason)
    assert (
        metrics.registry.get_sample_value("cidermill_runners_ended_total", {"pool": "mac", "reason": reason})
        == 1
    )
