"""What changed: one value a transition, for whoever watches. A change says that it is time to look, no more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ChangeKind(StrEnum):
    """What it is that changed."""

    JOB = "job"
    RUNNER = "runner"
    COOLDOWN = "cooldown"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A transition that is durable. ``at`` is None where nothing depends on when it was."""

    kind: ChangeKind
    name: str  # the job's id, the runner's name, the cooldown's scope; empty where there is only one
    was: str | None
    now: str | None
    reason: str = ""
    at: datetime | None = None
