"""What a controller answers, as values: its JSON leaves out what is nothing, and knows no null.

docs/contracts/orchard.md §2.2–2.4. A stamp of the year 1 is no stamp, and a VM is placed while its condition
``scheduled`` is ``"true"``, whatever its status says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """All that a VM can be; there is no "stopped" and no "succeeded"."""

    PENDING = "pending"
    RUNNING = "running"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One VM the controller lists."""

    name: str
    status: Status
    message: str  # of the scheduler or the worker; see app.vm.orchard.endings
    worker: str  # empty: none took it yet
    placed: bool  # it takes its resources of the worker now
    resources: Mapping[str, int]
    image: str
    exact_image: str  # with its digest, once the worker told


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One Mac the controller lists."""

    name: str
    last_seen: datetime | None  # by the worker's own clock
    paused: bool
    resources: Mapping[str, int]
    labels: Mapping[str, str]
    arch: str
    runtime: str

    @property
    def pin(self) -> Mapping[str, str]:
        """The label that makes a VM its own: one whose value is the worker's name. Nothing: it has none such."""
        named = (name for name, value in sorted(self.labels.items()) if value == self.name)
        return dict.fromkeys(list(named)[:1], self.name)


def machine(found: object) -> Machine:
    """Return the VM that *found* describes. Raises ValueError where it is none."""
    fields = _fields(found)
    conditions = fields.get("conditions", [])
    scheduled = [c["state"] for c in conditions if c["type"] == "scheduled"] if conditions else []
    worker = str(fields.get("worker", ""))
    return Machine(
        name=str(fields["name"]),
        status=Status(fields["status"]),
        message=str(fields.get("status_message", "")),
        worker=worker,
        placed=scheduled == ["true"] if scheduled else bool(worker),
        resources=_resources(fields),
        image=str(fields.get("image", "")),
        exact_image=str(fields.get("image_fqn", "")),
    )


def worker(found: object) -> Worker:
    """Return the worker that *found* describes. Raises ValueError where it is none."""
    fields = _fields(found)
    return Worker(
        name=str(fields["name"]),
        last_seen=_stamp(str(fields.get("last_seen", ""))),
        paused=bool(fields.get("scheduling_paused", False)),
        resources=_resources(fields),
        labels={str(name): str(value) for name, value in fields.get("labels", {}).items()},
        arch=str(fields.get("arch", "arm64")),
        runtime=str(fields.get("runtime", "tart")),
    )


def _fields(found: object) -> dict[str, Any]:
    if not isinstance(found, dict) or "name" not in found:
        msg = "it is no object with a name"
        raise ValueError(msg)
    return found


def _resources(fields: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(amount) for name, amount in fields.get("resources", {}).items()}


def _stamp(text: str) -> datetime | None:
    """Return a time with a zone; None where there is none, which is written as the year 1."""
    at = datetime.fromisoformat(text) if text else None
    return None if at is None or at.year == 1 else at.astimezone(UTC)
