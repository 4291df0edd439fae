"""Snapshots of a suspended VM: what one was taken of, so that a restore can fail as the framework does.

A snapshot fits only the configuration and the devices it was taken with, and serves once (docs/contracts/tart.md §6).
Processes of the guest do not survive in it, its directory does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.sandbox.tart.home import VM, Config
from app.sandbox.tart.refusals import Broken

Devices = Mapping[str, Any]  # options of `tart run` that become hardware

UNUSABLE = (
    'Error Domain=VZErrorDomain Code=12 "The virtual machine failed to restore." UserInfo={NSLocalizedFailure='
    "The virtual machine failed to restore., NSLocalizedFailureReason=The restore request failed with the error "
    "“invalid argument”.}"
)


def take(vm: VM, config: Config, devices: Devices) -> None:
    """Write the snapshot of a VM that runs with *config*."""
    content = {"config": _hardware(config), "devices": dict(devices)}
    vm.snapshot.write_text(json.dumps(content, sort_keys=True), encoding="utf-8")


def check(vm: VM, config: Config, devices: Devices) -> None:
    """Raise Broken where the snapshot does not fit; it stays then."""
    try:
        found = json.loads(vm.snapshot.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != json.loads(json.dumps({"config": _hardware(config), "devices": dict(devices)})):
        raise Broken(UNUSABLE)


def _hardware(config: Config) -> Config:
    return {key: value for key, value in config.items() if key != "displayRefit"}
