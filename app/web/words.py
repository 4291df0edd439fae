"""Times and spans in the words the pages use."""

from __future__ import annotations

from datetime import UTC, datetime

TENTHS, MINUTE, HOUR, DAY = 10, 60, 3600, 86400


def span(seconds: float) -> str:
    """Return a span in the units that matter: ``0.4 s``, ``34 s``, ``5 min``, ``2 h 5 min``, ``3 d 4 h``."""
    if 0 < seconds < TENTHS:
        return f"{round(seconds, 1):g} s"
    whole = max(0, int(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < 2 * HOUR:
        return f"{whole // MINUTE} min"
    if whole < 2 * DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def iso(at: datetime) -> str:
    """Return a time as machines read it, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: datetime) -> str:
    """Return a time as people read it, in UTC; a script shows it in the reader's own zone."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
