"""Liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from sqlalchemy.exc import SQLAlchemyError

from app.api.context import BEARER, Context, Ctx, admin
from app.api.models import HealthOut, ReadyOut, Refusal
from app.api.warnings import warnings_of
from app.db.trouble import trouble_of

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> HealthOut:
    """Say that the process lives."""
    return HealthOut(status="ok")


@router.get("/readyz", responses={503: {"model": ReadyOut, "description": "It cannot do its work"}})
async def readyz(context: Ctx, response: Response) -> ReadyOut:
    """Say whether it can do its work. Degraded is still ready, or a supervisor would restart a healthy one."""
    problems = [problem async for problem in _problems(context)]
    if problems:
        response.status_code = 503
    return ReadyOut(ready=not problems, problems=problems, degraded=_degraded(context))


async def _problems(context: Context) -> AsyncIterator[str]:
    try:
        await context.reader.is_intact()
        trouble = await context.store.trouble()
    except SQLAlchemyError as error:
        yield f"The database does not answer: {trouble_of(error) or type(error).__name__}."
    else:
        if trouble:
            yield f"The database takes nothing: {trouble}."
    if context.health.github is None:
        yield f"GitHub credentials: {context.health.github_trouble}."
    sight = context.reconciler.sight
    if sight.host is None:
        yield f"The VM host: {sight.host_trouble or 'it has not been looked at yet'}."


def _degraded(context: Context) -> list[str]:
    found = warnings_of(context)
    world = context.reconciler.world
    if world is not None:
        found += [f"{c.scope}: {c.detail} (next try {c.until:%H:%M:%S} UTC)." for c in world.cooldowns]
        if world.draining:
            found.append("Draining: nothing new starts.")
    sight = context.reconciler.sight
    if sight.host is not None and sight.host_trouble:
        found.append(f"The last look at the VM host failed: {sight.host_trouble}.")
    if context.health.github is not None and sight.github_trouble:
        found.append(f"GitHub: {sight.github_trouble}.")
    return found


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}},
        401: {"model": Refusal, "description": "No valid admin token"},
    },
)
async def metrics(
    request: Request,
    context: Ctx,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None,
) -> Response:
    """Return all metrics as Prometheus text."""
    if not context.metrics_public:
        await admin(request, context, credentials)
    return Response(context.metrics.expose(), media_type="text/plain; version=0.0.4; charset=utf-8")
