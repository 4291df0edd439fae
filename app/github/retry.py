"""Our own rule for asking again at once: what changes nothing when it is done twice, after a moment's trouble.

githubkit's rule would repeat every request on 5xx, ``generate-jitconfig`` too, and sleep through rate limits
inside the call (docs/contracts/github.md §7.3); it is switched off. Longer trouble is the reconciler's to wait out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from app.github.errors import Denied, refusal
from app.github.session import Session
from app.ports import GitHubUnavailable

T = TypeVar("T")

# A few hundred milliseconds in all; after a whole time-out, none: the caller has waited enough.
_RETRY = stamina.AsyncRetryingCaller(attempts=3, timeout=4.0, wait_initial=0.2, wait_max=1.0, wait_jitter=0.2)


def may_pass(error: Exception) -> bool:
    """Whether asking again at once may help: an outage, for which GitHub named no time."""
    return isinstance(error, GitHubUnavailable) and error.retry_after is None


async def again(ask: Callable[[], Awaitable[T]]) -> T:
    """Await *ask*, a GET or DELETE, up to three times."""
    return await _RETRY(may_pass, ask)


async def answered(github: Session, doing: str, call: Callable[[Session], Awaitable[T]]) -> T:
    """Return GitHub's answer to *call*, a GET or DELETE asked up to three times. Raises OutsideError."""
    try:
        return await again(lambda: github.ask(doing, call))
    except Denied as denied:
        raise refusal(denied) from None
