"""What actions are carried out with, and the three things that each of them may have to do: move, fail, ask."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from app.db.reader import Reader
from app.db.store import Store
from app.domain.runners import RunnerState
from app.metrics import Metrics
from app.ports import GitHub, GitHubRefused, GitHubUnavailable, OutsideError, VMBackend
from app.sight import Sight

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The database, the outside, and what is seen of it."""

    store: Store
    reader: Reader
    github: GitHub
    vms: VMBackend
    sight: Sight
    metrics: Metrics
    clock: Callable[[], datetime]
    chance: random.Random  # for names and jitter

    async def move(self, name: str, to: RunnerState, reason: str, **changes: Any) -> None:
        """Change a runner's state: the one place where transitions are logged and counted."""
        before, after = await self.store.advance(name, to, at=self.clock(), reason=reason, **changes)
        log.info("runner", runner=name, pool=after.pool, was=before.state, now=to, reason=reason)
        self.metrics.transition(before, after)

    async def fail(self, scope: str, reason: str, detail: str, *, at_least: timedelta | None = None) -> None:
        """Record a failure, after which its scope waits; *at_least* so long."""
        log.warning("failure", scope=scope, reason=reason, detail=detail)
        self.metrics.failures.labels(scope.partition(":")[0], reason).inc()
        await self.store.fail(
            scope,
            reason,
            detail,
            at=self.clock(),
            jitter=self.chance.random(),
            at_least=at_least or timedelta(0),
        )

    async def ask(self, question: Awaitable[T]) -> T:
        """Await an answer of GitHub, keeping in sight whether it answers at all. Raises what it raises."""
        try:
            answer = await question
        except (GitHubUnavailable, GitHubRefused) as error:
            self.sight.github_trouble = str(error)
            raise
        except OutsideError:
            self.sight.github_trouble = None
            raise
        self.sight.github_trouble = None
        return answer
