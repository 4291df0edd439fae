"""A job's way as a bar: one part for each stage, as long as the stage took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, zip_longest

from app.api.models import Stage
from app.web.words import span

LENGTH = 1000  # units of the drawing
SHORTEST = 8  # units; a part that is there can be seen
# What goes on from a stage until the next one.
GOES_ON = {
    "queued": ("delivery", "GitHub tells us"),
    "received": ("queue", "waits for a slot"),
    "slot": ("boot", "the launch begins"),
    "clone": ("boot", "the VM is cloned"),
    "boot": ("boot", "the VM boots"),
    "ready": ("register", "the guest is ready"),
    "registered": ("register", "GitHub registers the runner"),
    "minted": ("register", "the guest gets its configuration"),
    "delivered": ("register", "the runner comes online"),
    "listening": ("pickup", "GitHub hands out the job"),
    "online": ("pickup", "GitHub hands out the job"),
    "picked up": ("run", "the job runs"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stage as it is drawn."""

    kind: str  # its colour
    text: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The bar, and what it says in words."""

    parts: list[Part]
    text: str


def timeline(stages: list[Stage], now: datetime) -> Timeline:
    """Draw *stages*, which are in order of time, up to the job's end or *now*."""
    spans = list(_spans(stages, now))
    whole = sum(seconds for _, _, seconds in spans) or 1.0
    shown = [
        (*about, seconds)
        for about, group in groupby(spans, lambda s: s[:2])
        if (seconds := sum(s[2] for s in group))
    ]
    lengths = [max(SHORTEST, LENGTH * seconds / whole) for _, _, seconds in shown]
    scale = LENGTH / (sum(lengths) or 1.0)
    parts, x = [], 0.0
    for (kind, text, seconds), length in zip(shown, lengths, strict=True):
        width = length * scale
        parts.append(Part(kind=kind, text=f"{text}: {span(seconds)}", x=round(x, 1), width=round(width, 1)))
        x += width
    return Timeline(parts=parts, text="; ".join(part.text for part in parts) or "it has just begun")


def _spans(stages: list[Stage], now: datetime) -> Iterator[tuple[str, str, float]]:
    """Yield what went on and for how long; a runner that was there before the job is already further along."""
    order, furthest = list(GOES_ON), 0
    heard = False
    for stage, following in zip_longest(stages, stages[1:]):
        if stage.name == "done":
            return
        heard = heard or stage.name == "received"
        if stage.name in order:
            furthest = max(furthest, order.index(stage.name))
        if stage.at < _queued(stages):
            continue
        kind, text = GOES_ON[order[furthest] if heard else "queued"]
        yield kind, text, max(0.0, ((following.at if following else now) - stage.at).total_seconds())


def _queued(stages: list[Stage]) -> datetime:
    """Return when the job was queued."""
    return next(stage.at for stage in stages if stage.name == "queued")
