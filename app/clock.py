"""The one place that reads the wall clock; whatever starts often imports it, so it imports next to nothing itself."""

from __future__ import annotations

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Return the time now, aware and in UTC."""
    return datetime.now(UTC)
