"""The one place that reads the wall clock; everything else is handed the time."""

from __future__ import annotations

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Return the time now, aware and in UTC."""
    return datetime.now(UTC)
