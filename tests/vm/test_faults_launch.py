"""What goes wrong with a launch, and what must come of it: one row a fault.

Each launch fails within its time with a named reason, a sentence that names the mend, and the right scope; deleted
afterwards, as the reconciler does, it leaves nothing.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app.ports import VMError
from app.sandbox.image import make_image
from app.sandbox.tart.faults import Fault
from app.vm.tart import TartBackend
from tests.vm.faulty import IMAGE, A, Host, Must, a_spec

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
    ),
    pytest.param(
        [],
        {"image": "ghcr.io/a/b:c"},
        Must("image_missing", "it is pulled first"),
        id="image not pulled yet",
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
    pytest.param([], {"disk_gb": 40}, Must("disk_too_small", "raise it"), id="a disk that should shrink"),
    pytest.param([], {"cpu": 1}, Must("resources_too_small", "raise it"), id="too few cores"),
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
    ),
    pytest.param(
        [Fault("start_host_outdated")], {}, Must("host_outdated", "upgrade the Mac"), id="host macOS outdated"
    ),
    pytest.param(
        [],
        {"network": "bridged:en7"},
        Must("bridge_missing", "networksetup"),
        id="bridged to no interface of this Mac",
    ),
    pytest.param(
        [Fault("start_aux_locked")],
        {},
        Must("orphan_process", "Activity Monitor"),
        id="an orphan holds the VM's files",
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
    ),
    pytest.param(
        [Fault("agent_never_answers"), Fault("softnet_dies")],
        SOFTNET,
        Must("softnet_died", "Console", True),
        id="softnet dies while it boots",
    ),
    pytest.param(
        [Fault("agent_never_answers"), Fault("killed")],
        {},
        Must("vm_killed", "SIGKILL"),
        id="a signal ends tart run",
    ),
    # -- the guest
    pytest.param(
        [Fault("boot_slow", seconds=60)],
        SHORT,
        Must("boot_timeout", "boot_timeout = 1 s"),
        id="boot never ends",
    ),
    pytest.param(
        [Fault("agent_never_answers")],
        SHORT,
        Must("boot_timeout", "try the image by hand"),
        id="agent never answers",
    ),
    pytest.param(
        [Fault("exec_hangs")], SHORT, Must("boot_timeout", "by hand"), id="exec hangs, whatever it is told"
    ),
    pytest.param([Fault("exec_garbage")], {}, Must("guest_silent", "guest agent"), id="exec answers garbage"),
    pytest.param([Fault("exec_floods")], {}, Must("output_flood", "not to be trusted"), id="exec floods us"),
    pytest.param(image(), {}, Must("image_unfit", "set runner_dir"), id="the image has no runner"),
    pytest.param(no_sudo, {}, Must("image_unfit", "password-less sudo"), id="the image lets us not be root"),
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
    with pytest.raises(VMError) as failed:
        async with asyncio.timeout(15):
            await backend.start(A, a_spec(**pool))
    assert (failed.value.reason, failed.value.host_wide) == (must.reason, must.host_wide), str(failed.value)
    assert must.mend in str(failed.value)
