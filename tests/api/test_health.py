"""Liveness, readiness and metrics."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from app.db.database import Database
from app.db.reader import Reader
from app.ports import VMError
from tests.api.conftest import Server
from tests.builders import NOW


class BrokenReader(Reader):
    """A reader whose database does not answer."""

    async def is_intact(self) -> bool:
        statement = "SELECT 1"
        raise OperationalError(statement, {}, Exception("disk I/O error"))


def broken(server: Server) -> Reader:
    return BrokenReader(Database(server.engine, inline=True))


async def test_alive(server: Server) -> None:
    """The process lives from its first moment on, whatever else is wrong."""
    assert await server.get("/healthz") == {"status": "ok"}


async def test_not_ready_before_the_first_look(server: Server) -> None:
    """Before the host was seen it is not ready, and says for what it waits."""
    answer = await server.get("/readyz", 503)
    assert answer["ready"] is False
    assert answer["problems"] == ["The VM host: it has not been looked at yet."]


async def test_ready(server: Server) -> None:
    """Once host and GitHub are known it is ready; what is merely unwise is shown beside that."""
    await server.passes()
    assert await server.get("/readyz") == {"ready": True, "problems": [], "degraded": ["one warning"]}


async def test_no_github(server: Server) -> None:
    """Credentials that GitHub does not take make it unready, with GitHub's reason."""
    await server.passes()
    server.context.health.github = None
    server.context.health.github_trouble = "the App was deleted"
    assert (await server.get("/readyz", 503))["problems"] == ["GitHub credentials: the App was deleted."]


async def test_no_host(server: Server) -> None:
    """A host that cannot be looked at makes it unready, with the reason."""
    server.vms.faults.look = [VMError("tart is not installed")]
    await server.passes()
    assert (await server.get("/readyz", 503))["problems"] == ["The VM host: tart is not installed."]


async def test_no_database(server: Server) -> None:
    """A database that does not answer makes it unready, without showing a statement."""
    await server.passes()
    server.app.state.context = replace(server.context, reader=broken(server))
    assert (await server.get("/readyz", 503))["problems"] == [
        "The database does not answer: OperationalError."
    ]


async def test_all_reasons_at_once(server: Server) -> None:
    """All that is wrong is told in one answer."""
    server.context.health.github = None
    server.app.state.context = replace(server.context, reader=broken(server))
    assert len((await server.get("/readyz", 503))["problems"]) == 3


async def test_degraded_is_ready(server: Server) -> None:
    """What holds work up and passes by itself is told, and no reason to restart a healthy process."""
    await server.passes()
    await server.context.store.fail("host", "vm_limit", "too many VMs", at=NOW, jitter=0.0)
    await server.context.store.set_draining(True)
    await server.passes()
    server.reconciler.sight.host_trouble = "tart timed out"
    server.reconciler.sight.github_trouble = "rate limit"
    answer = await server.get("/readyz")
    assert answer["ready"] is True
    told = "\n".join(answer["degraded"])
    for part in ("host: too many VMs (next try ", "Draining", "tart timed out", "GitHub: rate limit."):
        assert part in told


async def test_metrics_closed(server: Server) -> None:
    """Metrics want the token by default."""
    assert (await server.client.get("/metrics", headers={"authorization": ""})).status_code == 401
    assert (await server.client.get("/metrics")).status_code == 200


async def test_metrics_open(server: Server) -> None:
    """Where the setting opens them, metrics want no token; nothing else opens with them."""
    server.app.state.context = replace(server.context, metrics_public=True)
    assert (await server.client.get("/metrics", headers={"authorization": ""})).status_code == 200
    assert (await server.client.get("/api/v1/slots", headers={"authorization": ""})).status_code == 401


async def test_metrics(server: Server) -> None:
    """Metrics are Prometheus text, and count what happened."""
    await server.idle_runner()
    answer = await server.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for line in (
        'cidermill_webhooks_total{outcome="recorded"} 1.0',
        'cidermill_slots{state="idle"} 1.0',
        'cidermill_slots{state="free"} 1.0',
        'cidermill_jobs_queued{pool="mac"} 1.0',
        'cidermill_stage_seconds_count{pool="mac",state="booting"} 1.0',
    ):
        assert line in lines
    assert "eyI" not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_ask_nothing(server: Server, path: str) -> None:
    """A probe asks neither GitHub nor the host, however often it comes."""
    await server.passes()
    before = server.github.calls.copy(), server.vms.calls.copy()
    for _ in range(5):
        await server.client.get(path)
    assert (server.github.calls, server.vms.calls) == before
