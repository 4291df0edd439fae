"""The webhook door: verify, record, ring the bell, answer. No question to GitHub is asked inside a request.

The delivery and its effect are durable before the 202. What could not be stored is answered 503, so that it
stands as failed in GitHub's delivery log and can be recovered (docs/contracts/github.md §2).
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import structlog
from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from app.api.context import Ctx, Responses
from app.api.models import Refusal
from app.db import store
from app.github.webhook import BadPayload, BadSignature, parse

log = structlog.get_logger(__name__)
router = APIRouter(tags=["webhooks"])

MAX_BODY = 1_000_000  # bytes; a workflow_job is 8 to 15 kB
BODY_SECONDS = 10.0  # GitHub gives up then

DOCUMENTED: Responses = {
    202: {"description": "Recorded, or known already"},
    204: {"description": "Authentic, and not for us"},
    400: {"model": Refusal, "description": "Not JSON, or not sent in time"},
    401: {"model": Refusal, "description": "No valid signature"},
    413: {"model": Refusal, "description": "Over 1 MB"},
    503: {"model": Refusal, "description": "Could not be stored; GitHub may redeliver it"},
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
    body = await _body(request)
    try:
        delivery = parse(request.headers, body, context.webhook_secrets)
    except BadSignature as error:
        raise HTTPException(401, str(error)) from error
    except BadPayload as error:
        raise HTTPException(400, str(error)) from error
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


async def _body(request: Request) -> bytes:
    """Read the raw body once, no more than MAX_BODY and no longer than BODY_SECONDS."""
    too_large = HTTPException(413, f"The body is larger than {MAX_BODY} bytes.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(400, f"The body did not arrive within {BODY_SECONDS:.0f} s.") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The connection ended before the body did.") from error
    return bytes(body)
