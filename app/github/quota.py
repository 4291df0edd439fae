"""GitHub's limits, as its answers tell of them, for one identity (an installation, the App itself, a token).

After an answer that says a limit is reached nothing is asked before the time it names: going on may get the App
banned (docs/contracts/github.md §7.1). This is decided on the raw answer, since githubkit fails on a
``retry-after`` that is a date and overlooks secondary limits that only the text names (§7.3).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from app.clock import utcnow
from app.metrics import Metrics
from app.ports import GitHubUnavailable

NO_HINT = timedelta(seconds=60)  # GitHub: wait at least a minute
SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(hours=1)  # every window of GitHub's is an hour at most; one question an hour harms nobody
CORE = "core"  # minting too is counted here (docs/contracts/github.md §7.1)
LIMIT_TEXTS = ("secondary rate limit", "rate limit exceeded", "abuse detection")


class Quota:
    """What is left for one identity, and until when it must keep silent."""

    def __init__(self, label: str, *, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.label = label
        self._metrics = metrics
        self._clock = clock  # seconds, monotonic
        self._silent_until: float | None = None
        self._left: dict[str, dict[str, int | str]] = {}
        self._share, self._share_until = 1.0, 0.0  # of the resource that all our questions count against

    def check(self, doing: str) -> None:
        """Raise GitHubUnavailable with the time left while a limit lasts."""
        if self._silent_until is None:
            return
        left = self._silent_until - self._clock()
        if left > 0:
            raise self._limited(doing, timedelta(seconds=left))
        self._silent_until = None

    def note(self, response: httpx.Response) -> None:
        """Take the quota off an answer's headers."""
        headers = response.headers
        limit, remaining = _number(headers, "x-ratelimit-limit"), _number(headers, "x-ratelimit-remaining")
        if limit is None or remaining is None:
            return
        resource = headers.get("x-ratelimit-resource", CORE)[:50]
        self._left[resource] = {"limit": limit, "remaining": remaining, "reset": _reset_text(headers)}
        self._metrics.github_quota.labels(self.label, resource).set(remaining)
        if resource == CORE and limit:
            self._share = min(1.0, remaining / limit)
            self._share_until = self._clock() + (_until_reset(headers) or LONGEST).total_seconds()

    def headroom(self) -> float:
        """Return the share of the hour's quota that is left, from 0 to 1; 1 when unknown, or begun anew since.

        What can wait should not be asked below a fifth: registering and removing runners must always go.
        """
        now = self._clock()
        if self._silent_until is not None and now < self._silent_until:
            return 0.0
        return self._share if now < self._share_until else 1.0

    async def heed(self, response: httpx.Response, doing: str) -> None:
        """Keep silent from now on, and raise, where *response* says that a limit is reached."""
        if response.status_code not in {403, 429}:
            return
        await response.aread()
        if is_limit(response):
            wait = pause(response)
            self._silent_until = max(self._silent_until or 0.0, self._clock() + wait.total_seconds())
            raise self._limited(doing, wait)

    def left(self) -> dict[str, dict[str, int | str]]:
        """Return what is left, by identity and resource."""
        return {f"{self.label}/{resource}": dict(left) for resource, left in self._left.items()}

    def _limited(self, doing: str, wait: timedelta) -> GitHubUnavailable:
        seconds = max(1, round(wait.total_seconds()))
        msg = f"GitHub's rate limit for {self.label} is reached: could not {doing}; next question in {seconds} s"
        return GitHubUnavailable(msg, retry_after=wait, maybe_done=False)


def is_limit(response: httpx.Response) -> bool:
    """Whether a 403 or 429, its body read, speaks of a rate limit and not of a missing permission."""
    headers = response.headers
    if response.status_code == 429 or "retry-after" in headers:
        return True
    if headers.get("x-ratelimit-remaining") == "0":
        return True
    text = response.text[:1000].lower()
    return any(hint in text for hint in LIMIT_TEXTS)


def pause(response: httpx.Response) -> timedelta:
    """Return how long GitHub wants us to wait."""
    headers = response.headers
    wait = retry_after(response)
    if wait is None and headers.get("x-ratelimit-remaining") == "0":
        wait = _until_reset(headers)
    return min(max(NO_HINT if wait is None else wait, SHORTEST), LONGEST)


def _until_reset(headers: httpx.Headers) -> timedelta | None:
    reset = _number(headers, "x-ratelimit-reset")
    if not reset:
        return None
    wait = timedelta(seconds=min(reset, 2**40) - server_time(headers).timestamp())
    return min(wait, LONGEST)


def retry_after(response: httpx.Response) -> timedelta | None:
    """Read ``retry-after``: seconds, or by RFC 9110 a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:12]), LONGEST.total_seconds()))
    date = _date(text)
    return date - server_time(response.headers) if date else None


def server_time(headers: httpx.Headers) -> datetime:
    """Return GitHub's own time where it says so: this host's clock may be wrong by more than a wait lasts."""
    return _date(headers.get("date", "")) or utcnow()


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _number(headers: httpx.Headers, name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _reset_text(headers: httpx.Headers) -> str:
    reset = _number(headers, "x-ratelimit-reset")
    try:
        return datetime.fromtimestamp(reset, UTC).isoformat().replace("+00:00", "Z") if reset else ""
    except (ValueError, OverflowError, OSError):
        return ""
