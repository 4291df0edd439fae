"""The rate limits of the sandbox's GitHub: so many calls an hour for each credential, and fewer at a stretch.

Every answer carries what is left of the hour; an answer 304 is free. The secondary limits (points for each endpoint,
things made, runners registered) show only when they are met (docs/contracts/github.md §7.1).
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.sandbox.github_values import ApiError

WINDOW = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
POINTS = (900, MINUTE)  # of one endpoint
MADE = ((80, MINUTE), (500, WINDOW))  # content-creating requests
REGISTERED = (1500, timedelta(minutes=5))  # runners, at one place
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


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
        self._spells: defaultdict[str, deque[datetime]] = defaultdict(deque)
        self.met: Counter[str] = Counter()  # secondary limits, by what there was too much of

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

    def weigh(self, method: str, path: str, identity: str, place: str | None) -> None:
        """Count a call against the secondary limits, or answer that one is met; *place* is where it registers."""
        writes, makes = method != "GET", method in {"POST", "PUT", "PATCH"}
        self._count(f"points {identity} {method} {path}", 5 if writes else 1, POINTS)
        if makes:
            self._count(f"made {identity}", 1, *MADE)
        if place is not None:
            self._count(f"registered {place}", 1, REGISTERED)

    def _count(self, what: str, points: int, *windows: tuple[int, timedelta]) -> None:
        now, spell = self._clock(), self._spells[what]
        while spell and spell[0] <= now - max(span for _, span in windows):
            spell.popleft()
        for most, span in windows:
            if sum(time > now - span for time in spell) + points > most:
                self.met[what.split()[0]] += 1
                raise ApiError(403, SECONDARY, {"retry-after": "60"})
        spell.extend([now] * points)

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
