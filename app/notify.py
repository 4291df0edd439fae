"""Tells an operator's own webhook what they want to know unasked (:mod:`app.domain.news`).

It reads what the last pass saw and does nothing to it. A receiver that is slow, wrong or gone costs nothing but the
message: few wait, each is tried a few times, and its answer is not read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never

import httpx
import stamina
import structlog

from app.db.reader import Reader
from app.domain.explain import explain
from app.domain.news import Held, Item, QueueOld, QueueServed, Resumed, Told, news
from app.domain.world import World
from app.logs import Redactor
from app.metrics import Metrics
from app.settings import Settings

log = structlog.get_logger(__name__)

LOOK_EVERY = timedelta(seconds=2)  # it looks at what is in memory
WAITING = 50  # messages that may wait for a receiver; more are dropped
TIMEOUT = 5.0  # s for one try
_RETRY = stamina.AsyncRetryingCaller(attempts=4, timeout=120.0, wait_initial=2.0, wait_max=30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where to send, and by what the receiver knows that it is from us."""

    url: str = field(repr=False)  # it may hold a token
    secret: str | None = field(default=None, repr=False)
    host_name: str
    after: timedelta  # that a job may wait before it is news
    redactor: Redactor


class Undelivered(Exception):
    """The receiver did not take it; *again* says whether another try may help. The text never holds the URL."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


class Notifier:
    """Looks now and then what is new, and sends it in order."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        world: Callable[[], World | None],
        reader: Reader,
        metrics: Metrics,
        clock: Callable[[], datetime],
        client: httpx.AsyncClient,
    ) -> None:
        self._receiver, self._world, self._reader = receiver, world, reader
        self._metrics, self._clock, self._client = metrics, clock, client
        self._told = Told()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WAITING)
        self._sender = asyncio.create_task(self._send_all(), name="notifier")

    async def look(self) -> None:
        """Queue what is new since the last look."""
        world, now = self._world(), self._clock()
        if world is None:
            return
        self._told, found = news(self._told, world, now=now, after=self._receiver.after)
        for item in found:
            message = await self._message(item, world, now)
            try:
                self._queue.put_nowait(message)
            except asyncio.QueueFull:
                self._count(message, "dropped")
                log.warning("notification_dropped", kind=item.kind)

    async def close(self) -> None:
        """Stop sending; what waits is not sent."""
        self._sender.cancel()
        with suppress(asyncio.CancelledError):
            await self._sender

    async def _message(self, item: Item, world: World, now: datetime) -> dict[str, Any]:
        message = {
            "event": str(item.kind),
            "id": str(uuid.uuid4()),
            "at": _text(now),
            "host": self._receiver.host_name,
            **await self._about(item, world, now),
        }
        redacted: dict[str, Any] = self._receiver.redactor.redact(message)
        return redacted

    async def _about(self, item: Item, world: World, now: datetime) -> dict[str, Any]:
        match item:
            case Held(cooldown):
                return {
                    "text": f"Launches wait ({cooldown.scope}): {cooldown.detail}",
                    "scope": cooldown.scope,
                    "reason": cooldown.reason,
                    "failures": cooldown.failures,
                    "until": _text(cooldown.until),
                }
            case Resumed(scope):
                return {"text": f"Launches go on ({scope}).", "scope": scope}
            case QueueOld():
                return await self._about_queue(item, world, now)
            case QueueServed():
                return {"text": "No job waits too long any more."}
            case _:
                assert_never(item)

    async def _about_queue(self, item: QueueOld, world: World, now: datetime) -> dict[str, Any]:
        demand = item.demand
        job = await self._reader.job(demand.heads[0].id)
        why = explain(job, world, now=now) if job else "It is no longer known."
        minutes = int((now - demand.oldest).total_seconds() // 60)
        return {
            "text": f"A job of {demand.repository} has waited {minutes} min. {why}",
            "pool": demand.pool,
            "repository": demand.repository,
            "job": demand.heads[0].id,
            "url": job.url if job else None,
            "queued_at": _text(demand.oldest),
            "queued_jobs": item.count,
            "explanation": why,
        }

    async def _send_all(self) -> None:
        while True:
            message = await self._queue.get()
            try:
                await _RETRY(_may_pass, self._send, message)
            except Undelivered as error:
                log.warning("notification_failed", kind=message["event"], detail=str(error))
                self._count(message, "failed")
            else:
                self._count(message, "sent")

    async def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "cidermill",
            "X-CiderMill-Event": message["event"],
            "X-CiderMill-Delivery": message["id"],
        }
        if self._receiver.secret is not None:
            digest = hmac.new(self._receiver.secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-CiderMill-Signature-256"] = f"sha256={digest}"
        try:
            async with self._client.stream(
                "POST", self._receiver.url, content=body, headers=headers, timeout=TIMEOUT
            ) as answer:
                _check(answer.status_code)
        except httpx.HTTPError as error:
            raise Undelivered(type(error).__name__, again=True) from error  # its text may show the URL

    def _count(self, message: dict[str, Any], outcome: str) -> None:
        self._metrics.notifications.labels(message["event"], outcome).inc()


@asynccontextmanager
async def notifying(
    settings: Settings,
    world: Callable[[], World | None],
    reader: Reader,
    metrics: Metrics,
    clock: Callable[[], datetime],
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Send to the receiver that the settings name, for as long as it is open; what it gives looks for news."""
    url, secret = settings.notify_url, settings.notify_secret
    receiver = Receiver(
        url=url.get_secret_value() if url else "",
        secret=secret.get_secret_value() if secret else None,
        host_name=settings.host_name,
        after=settings.notify_after,
        redactor=Redactor(settings.secrets()),
    )
    async with httpx.AsyncClient() as client:
        notifier = Notifier(receiver, world=world, reader=reader, metrics=metrics, clock=clock, client=client)
        yield notifier.look
        await notifier.close()


def _check(status: int) -> None:
    if not 200 <= status < 300:
        raise Undelivered(f"it answered {status}", again=status >= 500 or status in {408, 429})


def _may_pass(error: Exception) -> bool:
    return isinstance(error, Undelivered) and error.again


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
