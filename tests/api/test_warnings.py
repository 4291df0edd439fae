"""What is shown although everything goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.doctor import github_texts
from app.domain.world import Poll, RunnerRelease
from app.ports import GitHubRefused
from tests.api.conftest import Server
from tests.builders import NOW


async def told(server: Server) -> list[str]:
    """Return the warnings, which the status and /readyz show alike."""
    await server.passes()
    shown: list[str] = (await server.get("/api/v1/status"))["warnings"]
    degraded = (await server.get("/readyz"))["degraded"]
    assert degraded[: len(shown)] == shown
    return [warning for warning in shown if warning != "one warning"]


async def test_nothing(server: Server) -> None:
    """When all is well nothing is said."""
    assert await told(server) == []


async def test_no_webhook_ever(server: Server) -> None:
    """Without any webhook jobs are still found, and that it is slower is said in the doctor's words, with the mend."""
    server.context.health.webhook_at = None
    (warning,) = await told(server)
    said = github_texts.HOOK.wrong("unreached", every=60)
    assert warning == f"N{said.what[1:]}: {said.mend}."
    assert "found by asking GitHub, every 60 s or less often" in warning


async def test_a_webhook_ends_that(server: Server) -> None:
    """An authentic delivery, were it of no use to us, shows that webhooks arrive."""
    server.context.health.webhook_at = None
    await server.deliver("of no action that we know")
    assert await told(server) == []


@pytest.mark.parametrize(("minutes", "count"), [(59, 1), (61, 0)])
async def test_a_missed_webhook(server: Server, minutes: int, count: int) -> None:
    """One that had to be fetched from the log is told of for an hour."""
    server.context.reconciler.sight.missed_at = NOW - timedelta(minutes=minutes)
    assert len(await told(server)) == count


async def test_a_repository_that_is_not_shown(server: Server) -> None:
    """A pool that names a repository which the App may not see is told of, with GitHub's reason."""
    server.context.reconciler.sight.repositories.add("acme/app")
    server.context.reconciler.sight.polls["acme/app"] = Poll(at=NOW, refusal=str(GitHubRefused("install it")))
    assert await told(server) == ["GitHub does not show the jobs of acme/app: install it."]


async def test_an_old_runner(server: Server) -> None:
    """An image whose runner will soon be turned away is told of."""
    sight = server.context.reconciler.sight
    sight.versions["mac"], sight.released_at = "2.335.0", NOW
    sight.release = RunnerRelease(version="2.336.0", since=NOW - timedelta(days=25))
    (warning,) = await told(server)
    assert "(in 5 days) GitHub gives it no more jobs" in warning
