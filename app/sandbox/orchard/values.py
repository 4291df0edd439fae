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
WHOLE = ("cpu", "memory", "diskSize")


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
    scheduled: bool | None = None  # None: never was
    runs: bool = False  # the condition, which comes a pass after the status
    image_fqn: str = ""
    scheduled_at: datetime = NEVER
    started_at: datetime = NEVER
    version: int = 0
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
        conditions = [] if self.scheduled is None else [_condition("scheduled", holds=self.scheduled)]
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
        return {key: value for key, value in found.items() if value} | {"last_seen": stamp(self.last_seen)}


def _condition(kind: str, *, holds: bool) -> dict[str, str]:
    return {"type": kind, "state": "true" if holds else "false"}


def stamp(at: datetime) -> str:
    """Write a time as Go does, with nanoseconds where there are any."""
    if at == NEVER:
        return "0001-01-01T00:00:00Z"
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def new_record(body: object, at: datetime) -> Record:
    """Return the VM that a body asks for. Raises Refused as the controller does: 400 what is no JSON of its kind, 412 what makes no sense."""
    if not isinstance(body, dict):
        raise Refused(400, "invalid JSON was provided")
    asked = {key: value for key, value in body.items() if key not in {"status", "uid", "conditions"}}
    resources = asked.get("resources", {})
    numbers = [asked.get(key, 0) for key in WHOLE] + list(resources.values())
    if any(type(number) is not int or number < 0 for number in numbers):
        raise Refused(400, "invalid JSON was provided")
    for key, values in CHOICES.items():
        if asked.setdefault(key, values[0]) not in values:
            raise Refused(400, "invalid JSON was provided")
    name, image = asked.get("name", ""), asked.get("image", "")
    if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-"):
        raise Refused(412, "VM name is empty or holds what it may not")
    if not image:
        raise Refused(412, "VM image is empty")
    if asked["runtime"] == "vetu" and any(
        asked.get(key) for key in ("netSoftnet", "hostDirs", "suspendable")
    ):
        raise Refused(412, 'runtime "vetu" does not support field "netSoftnet"')
    if asked["os"] == "darwin" and asked["runtime"] == "tart":
        resources = {TART_VMS: 1} | resources
    return Record(name=name, asked=asked, resources=dict(resources), created_at=at)


def covers(room: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether there is room for it."""
    return all(room.get(what, 0) >= amount for what, amount in wanted.items())
