"""What is asked of the controller for a VM of a pool (docs/contracts/orchard.md §2.2, §5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.pools import MACOS_VM, Pool
from app.domain.warm import LASTS
from app.vm import guest

TART_VMS = "org.cirruslabs.tart-vms"  # Orchard's name for the places that Apple allows
PATIENCE = 1800  # s that a guest waits for a job, before it ends by itself: whoever started it is gone then


def vm(name: str, spec: Pool, *, pin: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the body that asks for a VM; *pin* are the labels of the one worker that may have it.

    Zeros are left out, and numbers are whole: others are refused.
    """
    kind = spec.kind
    patience = PATIENCE + (round(LASTS.total_seconds()) if spec.min_ready else 0)
    body: dict[str, Any] = {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "os": kind.os,
        "arch": kind.arch,
        "runtime": kind.runtime,
        "headless": True,
        "restart_policy": "Never",  # a second life could use nothing: a JIT config is good for one
        "resources": outward(spec.takes),
        "labels": dict(kind.labels) | dict(pin or {}),
        "startup_script": {
            "script_content": guest.attend_script(),
            "env": {"CIDERMILL_VM": name, "CIDERMILL_PATIENCE": str(patience)},
        },
    }
    sizes = {"cpu": spec.cpu, "memory": spec.memory_mib, "diskSize": spec.disk_gb}
    return body | {key: size for key, size in sizes.items() if size} | _network(spec)


def pulling(name: str, spec: Pool, *, pin: Mapping[str, str]) -> dict[str, Any]:
    """Return the body that has a worker pull an image: a VM that is of no use once it runs."""
    body = vm(name, spec, pin=pin) | {"imagePullPolicy": "Always"}
    del body["startup_script"]
    return body


def _network(spec: Pool) -> dict[str, Any]:
    if spec.kind.runtime != "tart":
        return {}
    if spec.network == "softnet":
        rules = {"netSoftnetAllow": list(spec.network_allow), "netSoftnetBlock": list(spec.network_block)}
        return {"netSoftnet": True} | {key: list_ for key, list_ in rules.items() if list_}
    kind, _, interface = spec.network.partition(":")
    return {"net-bridged": interface} if kind == "bridged" else {}


def outward(room: Mapping[str, int]) -> dict[str, int]:
    """Return resources by Orchard's names."""
    return {TART_VMS if what == MACOS_VM else what: amount for what, amount in room.items()}


def inward(resources: Mapping[str, int]) -> dict[str, int]:
    """Return resources by ours."""
    return {MACOS_VM if what == TART_VMS else what: amount for what, amount in resources.items()}
