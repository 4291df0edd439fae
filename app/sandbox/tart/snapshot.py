"""Snapshots of a suspended VM: what one was taken of, so that a restore can fail as the framework does.

A snapshot fits only the configuration, the devices, the tart and the macOS that it was taken with, and serves once
(docs/contracts/tart.md §6). Processes of the guest do not survive in it, its directory does. A driver that has one
restored which cannot fit is noted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.sandbox.tart import leaks
from app.sandbox.tart.home import VM, Config, Home
from app.sandbox.tart.refusals import Broken

Devices = Mapping[str, Any]  # options of `tart run` that become hardware

UNUSABLE = (
    'Error Domain=VZErrorDomain Code=12 "The virtual machine failed to restore." UserInfo={NSLocalizedFailure='
    "The virtual machine failed to restore., NSLocalizedFailureReason=The restore request failed with the error "
    "“invalid argument”.}"
)


def take(home: Home, vm: VM, config: Config, devices: Devices) -> None:
    """Write the snapshot of a VM that runs with *config*."""
    vm.snapshot.write_text(json.dumps(_content(home, config, devices), sort_keys=True), encoding="utf-8")


def check(home: Home, vm: VM, config: Config, devices: Devices) -> None:
    """Raise Broken where the snapshot does not fit; it stays then."""
    try:
        found = json.loads(vm.snapshot.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Broken(UNUSABLE) from error
    wanted = json.loads(json.dumps(_content(home, config, devices)))
    other = sorted(key for key in wanted if found.get(key) != wanted[key])
    if other:
        text = f"the snapshot of {vm.name} was taken with another {', another '.join(other)}"
        leaks.report(home.root, "unfit-snapshot", text)
        raise Broken(UNUSABLE)


def _content(home: Home, config: Config, devices: Devices) -> dict[str, Any]:
    hardware = {key: value for key, value in config.items() if key != "displayRefit"}
    settings = home.settings
    return {
        "config": hardware,
        "devices": dict(devices),
        "tart": settings.version,
        "macOS": settings.macos,
    }
