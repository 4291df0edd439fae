"""The primary rate limit of the sandbox's GitHub: so many calls an hour for each credential.

Every answer carries what is left of it. An answer 304 is free (docs/contracts/github.md §7.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.sandbox.github_values import ApiError

WINDOW = timedelta(hours=1)


@dataclass(slots=True)
class Quota:
    """One credential's hour."""

    used: int
    resets_at: datetime


class Limits:
    """Every credential's quota."""

    def __init__(self, clock: Callable[[], datetime], limit: int = 5000) -> None:
        self._clock = clock
        self.limit = limit
        self._quotas: dict[str, Quota] = {}

    def _quota(self, credential: str) -> Quota:
        quota = self._quotas.get(credential)
        if quota is None or quota.resets_at <= self._clock():
            quota = self._quotas[credential] = Quota(0, self._clock() + WINDOW)
        return quota

    def spend(self, credential: str) -> None:
        """Count one call, or answer that there are none left."""
        quota = self._quota(credential)
        if quota.used >= self.limit:
            raise ApiError(403, "API rate limit exceeded for the installation.")
        quota.used += 1

    def refund(self, credential: str | None) -> None:
        """Take one call back."""
        if credential is not None:
            quota = self._quota(credential)
            quota.used = max(0, quota.used - 1)

    def exhaust(self, credential: str, seconds: float) -> None:
        """Use up all that is left, until *seconds* from now."""
        self._quotas[credential] = Quota(self.limit, self._clock() + timedelta(seconds=seconds))

    def overview(self, credential: str) -> dict[str, int]:
        """Return the numbers of the ``core`` resource."""
        quota = self._quota(credential)
        return {
            "limit": self.limit,
            "used": quota.used,
            "remaining": self.limit - quota.used,
            "reset": int(quota.resets_at.timestamp()),
        }

    def headers(self, credential: str | None) -> dict[str, str]:
        """Return the headers that say so."""
        if credential is None:
            return {}
        numbers = {f"x-ratelimit-{name}": str(value) for name, value in self.overview(credential).items()}
        return numbers | {"x-ratelimit-resource": "core"}
