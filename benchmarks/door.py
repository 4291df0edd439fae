"""How fast a webhook is answered, its row durable before the answer."""

from __future__ import annotations

from benchmarks.load import deliveries, send
from benchmarks.measures import Measure
from benchmarks.place import POOLS, running


async def measure(*, short: bool) -> list[Measure]:
    """Measure the answer at 100 deliveries a second, and the most that are answered."""
    paced, flat_out = (300, 2000) if short else (3000, 20000)
    async with running(POOLS) as (server, model, _):
        requests = deliveries(200 + paced + flat_out, model.app_hook.secret)
        await send(requests[:200], server.port, connections=4, rate=None)  # warm
        slow = await send(requests[200 : 200 + paced], server.port, connections=16, rate=100)
        fast = await send(requests[200 + paced :], server.port, connections=16, rate=None)
    return [
        Measure("webhook answered at 100/s, p50", slow.percentile(0.5), "ms"),
        Measure("webhook answered at 100/s, p99", slow.percentile(0.99), "ms", target="≤ 10"),
        Measure("webhooks answered, 16 connections", len(fast.sorted) / fast.seconds, "/s", target="≥ 1000"),
        Measure("webhook answered flat out, p99", fast.percentile(0.99), "ms"),
    ]
