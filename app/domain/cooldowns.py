"""How long to wait after a failure, capped exponential back-off with jitter, and whether that is over."""

from __future__ import annotations

from datetime import datetime, timedelta

from app.domain.world import Cooldown, World

FIRST = timedelta(seconds=10)
LONGEST = timedelta(minutes=15)
FORGET = timedelta(hours=1)  # a failure this long after the last one starts anew
# What only a person can mend, at the first failure and at the longest.
LASTING = {
    reason: (timedelta(minutes=30), timedelta(hours=6))
    for reason in ("runner_too_old", "script_failed", "script_timeout", "stopped_by_operator")
}


def after_failure(
    known: Cooldown | None, *, scope: str, reason: str, detail: str, at: datetime, jitter: float
) -> Cooldown:
    """Return the cooldown after one more failure at *at*; *jitter* in 0…1 spreads it from ½ to 1½ times."""
    fresh = known is None or at - known.until > FORGET
    failures = 1 if fresh or known is None else known.failures + 1
    first, longest = LASTING.get(reason, (FIRST, LONGEST))
    wait = min(longest, first * 2 ** min(failures - 1, 10)) * (0.5 + jitter)
    return Cooldown(scope=scope, reason=reason, detail=detail, failures=failures, until=at + wait)


def is_cooling(world: World, scope: str, now: datetime) -> bool:
    """Whether *scope* must wait after a failure."""
    return any(cooldown.scope == scope and cooldown.until > now for cooldown in world.cooldowns)
