"""What the routes work with: built once by the composition root, found on the application."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api import session
from app.api.bodies import Bodies
from app.api.broadcaster import Broadcaster
from app.db.reader import Reader
from app.db.store import Store
from app.metrics import Metrics
from app.ports import VMBackend
from app.reconcile import Reconciler

Responses = dict[int | str, dict[str, Any]]  # what a route may answer, for the OpenAPI document


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """One key of a pool that a reload changed, as text; None: it was not set, or is not any more."""

    pool: str
    key: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What a reload changed."""

    pools: tuple[str, ...]  # in force now
    changed: tuple[str, ...]  # of them, those that were added or changed
    removed: tuple[str, ...]
    needs_restart: tuple[str, ...]  # settings that differ and cannot change while we run
    added: tuple[str, ...] = ()
    changes: tuple[KeyChange, ...] = ()  # of the pools that were there before and are there now


class ReloadRefused(Exception):
    """The configuration on disk is not valid; nothing was changed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(slots=True, kw_only=True)
class Health:
    """What is known of the outside beside the looks of the reconciler."""

    github: str | None = None  # who GitHub says we are; None: not known
    github_trouble: str | None = "GitHub has not been asked yet"
    warnings: tuple[str, ...] = field(default=())  # of the configuration
    webhook_at: datetime | None = None  # when a webhook last arrived; None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of one running application."""

    version: str
    started_at: datetime
    webhook_secrets: tuple[str, ...] = field(repr=False)
    admin_token: str = field(repr=False)
    metrics_public: bool
    hosts: frozenset[str]  # names that requests other than webhooks may be sent to
    store: Store
    reader: Reader
    reconciler: Reconciler
    vms: VMBackend
    metrics: Metrics
    health: Health
    clock: Callable[[], datetime]
    reload: Callable[[], Awaitable[Reloaded]]
    quota: Callable[[], dict[str, dict[str, int | str]]]  # GitHub's, by installation
    bodies: Bodies = field(default_factory=Bodies)
    events: Broadcaster = field(default_factory=Broadcaster)
    simulated: bool = False  # GitHub is on this machine, as in the demo: every page says so


async def context_of(request: Request) -> Context:
    """Return the context of the application that serves *request*.

    A coroutine, as all dependencies here: FastAPI would run a plain function on a thread of its own.
    """
    context: Context = request.app.state.context
    return context


Ctx = Annotated[Context, Depends(context_of)]
BEARER = HTTPBearer(auto_error=False, description="The admin token, from state_dir/admin-token.")


async def admin(
    request: Request,
    context: Ctx,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None,
) -> None:
    """Let only the bearer of the admin token pass, or a browser that showed it once."""
    if credentials is None and session.may_act(request, context.admin_token, context.clock()):
        return
    given = credentials.credentials if credentials else ""
    if not secrets.compare_digest(given.encode(), context.admin_token.encode()):
        raise HTTPException(
            401,
            "The admin token is missing or wrong: send `Authorization: Bearer …` with the text of "
            "state_dir/admin-token.",
            headers={"WWW-Authenticate": "Bearer"},
        )


AdminOnly = Depends(admin)
