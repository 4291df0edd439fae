"""Durations as people write them: seconds, or ``90s``, ``15m``, ``6h``, ``1d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)


def parse_duration(value: object) -> timedelta:
    """Read a duration. Raises ValueError with the forms that are understood."""
    if isinstance(value, timedelta):
        return value
    seconds = _seconds(value)
    if seconds is None:
        msg = 'write seconds, or a number with a unit: "90s", "15m", "6h", "1d"'
        raise ValueError(msg)
    try:
        return timedelta(seconds=seconds)
    except (ValueError, OverflowError) as error:  # nan, inf, and what no timedelta can hold
        msg = "it is no length of time that can be waited for"
        raise ValueError(msg) from error


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1]) * UNITS[match[2] or "s"] if match else None


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
