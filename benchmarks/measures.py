"""What a benchmark reports, and how a number is held against its target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

PASSES = re.compile(r"^cidermill_pass_seconds_(sum|count) ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Measure:
    """One number, with its unit and the target of docs/design.md where there is one."""

    name: str
    value: float
    unit: str
    target: str = ""  # "≤ 10" or "≥ 1000", in the same unit

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if not self.target:
            return None
        relation, limit = self.target.split()
        return self.value <= float(limit) if relation == "≤" else self.value >= float(limit)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of *values* are not above."""
    return quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
