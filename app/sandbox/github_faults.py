"""What the sandbox's GitHub does wrong, on purpose: a queue of faults per verb.

A fault is used up by one call of its verb. ``effect`` says that the call did its work all the same and only its
answer went wrong: a mint that answers 502 and did register the runner (docs/contracts/github.md §4.1).
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a call goes wrong."""

    ANSWER = "answer"  # an error status with a message
    PRIMARY_LIMIT = "primary_limit"  # the quota is used up: remaining 0 and a reset time
    SECONDARY_LIMIT = "secondary_limit"  # "You have exceeded a secondary rate limit"
    PAGE = "page"  # an answer that is not GitHub's: a proxy's page, half a JSON, nothing
    RESET = "reset"  # the connection breaks without an answer
    CUT = "cut"  # it breaks in the middle of the answer
    HANG = "hang"  # no answer for ``seconds``, then the connection breaks
    SLOW = "slow"  # the right answer, after ``seconds``


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong once."""

    kind: Kind
    status: int = 502
    message: str = "Server Error"
    retry_after: int | None = None
    as_date: bool = False  # retry_after is told as an HTTP date
    seconds: float = 0.0
    effect: bool = False  # the work was done; only the answer went wrong


def answer(status: int, message: str = "Server Error", *, effect: bool = False) -> Fault:
    """Answer with an error status."""
    return Fault(kind=Kind.ANSWER, status=status, message=message, effect=effect)


def primary_limit(status: int = 403, *, seconds: float = 60.0) -> Fault:
    """Say that the hour's quota is used up, until *seconds* from now."""
    return Fault(kind=Kind.PRIMARY_LIMIT, status=status, seconds=seconds)


def secondary_limit(status: int = 429, *, retry_after: int | None = None, as_date: bool = False) -> Fault:
    """Say that calls come too fast, with or without a hint when to come back."""
    return Fault(kind=Kind.SECONDARY_LIMIT, status=status, retry_after=retry_after, as_date=as_date)


def page(text: str, status: int = 200, *, effect: bool = False) -> Fault:
    """Answer with a text that is not GitHub's."""
    return Fault(kind=Kind.PAGE, status=status, message=text, effect=effect)


def reset(*, effect: bool = False) -> Fault:
    """Break the connection; with *effect* only the answer is lost."""
    return Fault(kind=Kind.RESET, effect=effect)


def cut(*, effect: bool = False) -> Fault:
    """Break the connection in the middle of the answer."""
    return Fault(kind=Kind.CUT, effect=effect)


def hang(seconds: float, *, effect: bool = False) -> Fault:
    """Answer nothing for so long, and then break the connection."""
    return Fault(kind=Kind.HANG, seconds=seconds, effect=effect)


def slow(seconds: float) -> Fault:
    """Answer rightly, after so long."""
    return Fault(kind=Kind.SLOW, seconds=seconds)


class Faults:
    """Faults waiting for their calls, and how often each verb was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._waiting: dict[str, deque[Fault]] = {}

    def add(self, verb: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next *times* calls of *verb* meet *fault*; verb ``*`` is any call that meets no other."""
        self._waiting.setdefault(verb, deque()).extend([fault] * times)

    def clear(self, verb: str | None = None) -> None:
        """Forget the waiting faults of a verb, or all."""
        if verb is None:
            self._waiting.clear()
        else:
            self._waiting.pop(verb, None)

    def take(self, verb: str) -> Fault | None:
        """Count a call of *verb* and return the fault it meets."""
        self.calls[verb] += 1
        for queue in (self._waiting.get(verb), self._waiting.get("*")):
            if queue:
                return queue.popleft()
        return None
