"""``set``: changes a VM's configuration, and its disk after that, so a failing disk leaves the rest changed.

It neither refuses nor clears a snapshot, which cannot be restored afterwards; a driver that does that to a
suspended VM is noted (docs/contracts/tart.md §1.5, §6).
"""

from __future__ import annotations

import re
import uuid

from app.sandbox.tart import faults, leaks
from app.sandbox.tart.copying import make_disk
from app.sandbox.tart.home import GIGABYTE, VM, Config, Home, random_mac
from app.sandbox.tart.options import Options, Spec, parse
from app.sandbox.tart.refusals import Failure, Refusal

SET = Spec(
    "set",
    ("name",),
    flags=("--random-mac", "--random-serial", "--display-refit", "--no-display-refit"),
    values=("--cpu", "--memory", "--display", "--disk", "--disk-size"),
)
DISPLAY = re.compile(r"(\d+)x(\d+)(pt|px)?")
MIB = 2**20


def set_vm(home: Home, arguments: list[str]) -> None:
    """Change a VM; silent."""
    options = parse(SET, arguments)
    size = options.number("--disk-size")
    vm = home.vm(options.names[0])
    if faults.take(home.root, "set_fails", vm.name):
        raise Failure(faults.UNKNOWN_TEXT)
    if vm.state == "suspended":
        leaks.report(home.root, "set-suspended", f"set on the suspended VM {vm.name} breaks its snapshot")
    vm.configure(_changed(vm.config(), options))
    if "--disk" in options.values:
        raise Failure("the stand-in has no disks to replace one by")
    if size is not None:
        _grow(vm, size)


def _changed(config: Config, options: Options) -> Config:
    new = {key: value for key, value in config.items() if key != "displayRefit"}
    cpu, memory = options.number("--cpu"), options.number("--memory")
    if cpu is not None:
        least = config["cpuCountMin"]
        if cpu < least:
            raise _too_little(f"{least} CPU cores", str(cpu))
        new["cpuCount"] = cpu
    if memory is not None:
        least = config["memorySizeMin"]
        if memory * MIB < least:
            raise _too_little(f"{least} bytes of memory", str(memory * MIB))
        new["memorySize"] = memory * MIB
    display = DISPLAY.fullmatch(options.text("--display", ""))
    if display is not None:
        unit = {"unit": display[3]} if display[3] else {}
        new["display"] = {"width": int(display[1]), "height": int(display[2]), **unit}
    elif "--display" in options.values:
        raise options.misuse(
            f"The value '{options.text('--display', '')}' is invalid for '--display <display>'"
        )
    for flag, refit in (("--display-refit", True), ("--no-display-refit", False)):
        if flag in options.flags:
            new["displayRefit"] = refit
    if "--random-mac" in options.flags:
        new["macAddress"] = random_mac()
    if "--random-serial" in options.flags:
        new["ecid"] = uuid.uuid4().hex
    return new


def _too_little(least: str, asked: str) -> Failure:
    return Failure(f"LessThanMinimalResourcesError: VM should have {least} at minimum (requested {asked})")


def _grow(vm: VM, size: int) -> None:
    now = vm.disk.stat().st_size
    if size * GIGABYTE < now:
        text = (
            f"new disk size of {size} GB should be larger than the current disk size of {now // GIGABYTE} GB"
        )
        raise Refusal(text)
    make_disk(vm.disk, size * GIGABYTE)
