"""What the sandbox's controller keeps, and how it looks in an answer: zeros are left out, unset times are the year 1.

docs/contracts/orchard.md §2.2, §2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

NEVER = datetime(1, 1, 1, tzinfo=UTC)
TART_VMS = "org.cirruslabs.tart-vms"
CHOICES = {"os": ("darwin", "linux"), "arch": ("arm64", "amd64"), "runtime": ("tart", "vetu")}
POLICIES = {
    "imagePullPolicy": ("image pull policy", ("IfNotPresent", "Always")),
    "restart_policy": ("restart policy", ("Never", "OnFailure")),
}
WHOLE = ("cpu", "memory", "diskSize")
ONLY_TART = ("netSoftnet", "hostDirs", "suspendable")
KEPT = frozenset(
    {*CHOICES, *POLICIES, *WHOLE, *ONLY_TART, "image", "headless", "nested", "net-bridged", "net-softnet"}
    | {
        "netSoftnetAllow",
        "netSoftnetBlock",
        "username",
        "password",
        "startup_script",
        "randomSerial",
        "labels",
    }
)
IN_A_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-")


class Refused(Exception):
    """An answer that is no success; an empty text is an empty body."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(slots=True, kw_only=True)
class Record:
    """One VM. ``asked`` is what the client sent, which it gets back in clear."""

    name: str
    asked: dict[str, Any]
    resources: dict[str, int]
    created_at: datetime
    uid: str = field(default_factory=lambda: str(uuid4()))
    status: str = "pending"
    message: str = ""
    worker: str = ""
    scheduled: bool = False
    runs: bool = False  # the condition, which comes a pass after the status
    image_fqn: str = ""
    scheduled_at: datetime = NEVER
    started_at: datetime = NEVER
    version: int = 1
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def local_name(self) -> str:
        """What it is called on its worker."""
        return f"orchard-{self.name}-{self.uid}-0"

    def is_over(self) -> bool:
        """Whether nothing more can come of it."""
        return self.status == "failed"

    def shown(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        conditions = [_condition("scheduled", holds=self.scheduled)]
        if self.runs:
            conditions.append(_condition("running", holds=True))
        found = self.asked | {
            "name": self.name,
            "uid": self.uid,
            "status": self.status,
            "status_message": self.message,
            "worker": self.worker,
            "resources": self.resources,
            "conditions": conditions,
            "image_fqn": self.image_fqn,
            "version": self.version,
            "localName": self.local_name,
            "tartName": self.local_name,
            "powerState": "running",
        }
        times = {
            "createdAt": self.created_at,
            "scheduled_at": self.scheduled_at,
            "started_at": self.started_at,
            "restarted_at": NEVER,
        }
        return (
            {key: value for key, value in found.items() if value not in (0, "", False, [], {}, None)}
            | {key: stamp(at) for key, at in times.items()}
            | {"generation": 0, "observedGeneration": 0}
        )


@dataclass(slots=True, kw_only=True)
class WorkerRecord:
    """One worker."""

    name: str
    resources: dict[str, int]
    labels: dict[str, str] = field(default_factory=dict)
    arch: str = "arm64"
    runtime: str = "tart"
    created_at: datetime = NEVER
    last_seen: datetime = NEVER
    paused: bool = False

    def shown(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        found = {
            "name": self.name,
            "machine_id": f"machine-{self.name}",
            "resources": self.resources,
            "labels": self.labels,
            "arch": self.arch,
            "runtime": self.runtime,
            "scheduling_paused": self.paused,
        }
        times = {"createdAt": stamp(self.created_at), "last_seen": stamp(self.last_seen)}
        return {key: value for key, value in found.items() if value} | times


def _condition(kind: str, *, holds: bool) -> dict[str, str]:
    return {"type": kind, "state": "true" if holds else "false"}


def stamp(at: datetime) -> str:
    """Write a time as Go does, with nanoseconds where there are any."""
    if at == NEVER:
        return "0001-01-01T00:00:00Z"
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def new_record(body: object, at: datetime) -> Record:
    """Return the VM that a body asks for. Raises Refused as the controller does: 400 what is no JSON of its kind, 412 what makes no sense.

    What it does not know it forgets, and some of what is its own it takes as it is sent.
    """
    body = {} if body is None else body
    if not isinstance(body, dict):
        raise _no_json()
    asked = {key: value for key, value in body.items() if key in KEPT}
    resources, labels = body.get("resources", {}), asked.get("labels", {})
    numbers = [asked.get(key, 0) for key in WHOLE] + list(resources.values())
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _no_json()
    if not all(isinstance(value, str) for value in labels.values()):
        raise _no_json()
    for key, values in CHOICES.items():
        if asked.setdefault(key, values[0]) not in values:
            raise _no_json()
    _make_sense(body.get("name", ""), asked)
    if asked["os"] == "darwin" and asked["runtime"] == "tart":
        resources = {TART_VMS: 1} | resources
    return Record(
        name=body["name"],
        asked=asked,
        resources=dict(resources),
        created_at=at,
        worker=body.get("worker", ""),
        message=body.get("status_message", ""),
    )


def _no_json() -> Refused:
    return Refused(400, "invalid JSON was provided")


def _make_sense(name: str, asked: dict[str, Any]) -> None:
    if not name:
        raise Refused(412, "VM name is empty")
    if not set(name) <= IN_A_NAME:
        text = "VM name name contains restricted characters, please only use [A-Za-z0-9:-_.]"
        raise Refused(412, text)
    if not asked.get("image"):
        raise Refused(412, "VM image is empty")
    for key, (what, values) in POLICIES.items():
        if asked.setdefault(key, values[0]) not in values:
            raise Refused(412, f'unsupported {what}: "{asked[key]}"')
    unfit = [key for key in ONLY_TART if asked.get(key)] if asked["runtime"] == "vetu" else []
    if unfit:
        raise Refused(412, f'runtime "vetu" does not support field "{unfit[0]}"')
    for share in asked.get("hostDirs", []):
        text = f'host directory "{share["name"]}:{share["path"]}" is disallowed by policy, check your cluster settings'
        raise Refused(400, text)


def covers(room: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether there is room for it."""
    return all(room.get(what, 0) >= amount for what, amount in wanted.items())
