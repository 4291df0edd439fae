"""The webhook door: verify, record, ring the bell, answer. No question to GitHub is asked inside a request.

The delivery and its effect are durable before the 202. What could not be stored is answered 503, so that it
stands as failed in GitHub's delivery log and can be recovered (docs/contracts/github.md §2). The body of a request
that is not even signed is not read.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import structlog
from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from app.api.context import Ctx, Responses
from app.api.models import Refusal
from app.db import store
from app.github.webhook import BadPayload, BadSignature, claimed_signature, parse

log = structlog.get_logger(__name__)
router = APIRouter(tags=["webhooks"])

DOCUMENTED: Responses = {
    202: {"description": "Recorded, or known already"},
    204: {"description": "Authentic, and not for us"},
    400: {"model": Refusal, "description": "Not JSON, or not sent in time"},
    401: {"model": Refusal, "description": "No valid signature"},
    413: {"model": Refusal, "description": "Over 1 MB"},
    503: {
        "model": Refusal,
        "description": "Could not be stored, or gave way to others; GitHub may redeliver it",
    },
}
# The body is read raw, since its bytes are what is signed; so what it is has to be said here.
TAKEN: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in ("X-GitHub-Event", "X-GitHub-Delivery", "X-Hub-Signature-256")
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
}


@router.post(
    "/webhooks/github", status_code=202, response_class=Response, responses=DOCUMENTED, openapi_extra=TAKEN
)
async def receive(request: Request, context: Ctx) -> Response:
    """Take a delivery of the GitHub App."""
    started = perf_counter()
    try:
        code, outcome = await _take(request, context)
    except HTTPException as refusal:
        context.metrics.webhooks.labels(str(refusal.status_code)).inc()
        raise
    context.metrics.webhooks.labels(outcome).inc()
    context.metrics.webhook_seconds.observe(perf_counter() - started)
    return Response(status_code=code)


async def _take(request: Request, context: Ctx) -> tuple[int, str]:
    try:
        claimed_signature(request.headers)
        body = await context.bodies.read(request)
        delivery = parse(request.headers, body, context.webhook_secrets)
    except BadSignature as error:
        raise HTTPException(401, str(error)) from error
    except BadPayload as error:
        raise HTTPException(400, str(error)) from error
    context.health.webhook_at = context.clock()
    if delivery.job is None:
        return 204, "ignored"
    received = store.Delivery(
        guid=delivery.guid, event=delivery.event, action=delivery.action, hook_id=delivery.hook_id
    )
    try:
        new = await context.store.record(received, delivery.job, at=context.clock())
    except SQLAlchemyError as error:
        log.exception("delivery_not_stored", delivery=delivery.guid)
        raise HTTPException(503, "The delivery could not be stored; redeliver it later.") from error
    if new:
        context.reconciler.wake()
    return 202, "recorded" if new else "known"
