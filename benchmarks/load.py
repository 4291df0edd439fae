"""A load of signed webhook deliveries, on loopback, bounded in number and time.

Plain HTTP/1.1 over asyncio protocols, so that what is measured is the server and not a client library.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

SAMPLE = Path(__file__).parent.parent / "tests/samples/github-webhooks/workflow_job.queued.ubuntu-latest.json"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Times of answers, in seconds, sorted."""

    sorted: list[float]
    seconds: float  # that all of them took

    def percentile(self, share: float) -> float:
        """Return the latency that *share* of the answers were not above, in milliseconds."""
        return self.sorted[min(len(self.sorted) - 1, int(share * len(self.sorted)))] * 1000


def deliveries(count: int, secret: str, path: str = "/webhooks/github") -> list[bytes]:
    """Return that many requests, each a job of its own, of a repository that no pool serves."""
    payload: dict[str, Any] = json.loads(SAMPLE.read_text(encoding="utf-8"))
    return [_request(payload, n, secret, path) for n in range(count)]


def _request(payload: dict[str, Any], n: int, secret: str, path: str) -> bytes:
    job = payload["workflow_job"] | {"id": 9_000_000_000 + n}
    body = json.dumps(payload | {"workflow_job": job}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-GitHub-Event: workflow_job\r\nX-GitHub-Delivery: {uuid.uuid4()}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def send(requests: list[bytes], port: int, *, connections: int, rate: float | None) -> Latencies:
    """Send all of *requests*, at *rate* a second or as fast as the answers come. Every answer must be 202."""
    queue = list(reversed(requests))
    times: list[float] = []
    began = perf_counter()

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while queue:
            request = queue.pop()
            if rate is not None:
                due = began + (len(requests) - len(queue)) / rate
                await asyncio.sleep(max(0.0, due - perf_counter()))
            sent = perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(head.decode(errors="replace"))
            times.append(perf_counter() - sent)
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one_connection())
    return Latencies(sorted(times), perf_counter() - began)
