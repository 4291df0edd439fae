"""Server-sent events: every transition as it happens, to everybody who listens.

Nothing is replayed. Who connects again reads the state again, and then only has to know when to do so once more; so a
listener who does not keep up is let go, and costs no memory. A comment every 15 s shows that the server lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from fastapi import APIRouter, Depends, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.admin import UNAUTHORIZED
from app.api.context import AdminOnly, Ctx
from app.api.models import Out, Refusal
from app.domain.changes import ChangeKind

RECONNECT = 2000  # ms, until a browser tries again

router = APIRouter(prefix="/api/v1", tags=["admin"], dependencies=[AdminOnly], responses={401: UNAUTHORIZED})


class ChangeOut(Out):
    """A transition of a job or runner, a failure that holds something up or its end, or draining."""

    kind: ChangeKind
    name: str
    was: str | None
    now: str | None
    reason: str
    at: datetime | None


async def has_room(context: Ctx) -> None:
    """Refuse one listener too many."""
    if context.events.is_full:
        raise HTTPException(503, "Too many listen already: close a dashboard that nobody looks at.")


@router.get(
    "/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(has_room)],
    responses={503: {"model": Refusal, "description": "Too many listen"}},
)
async def events(context: Ctx) -> AsyncIterator[ServerSentEvent]:
    """Tell of every transition as it happens; the event is named for what changed: job, runner, cooldown, draining."""
    with context.events.listening() as changes:
        yield ServerSentEvent(comment="listening", retry=RECONNECT)
        async for change in changes:
            yield ServerSentEvent(event=change.kind, data=ChangeOut.model_validate(change))
