"""The client's questions for jobs that no webhook told of, over HTTP; checked against GitHub's description."""

from __future__ import annotations

import tarfile
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from app.clock import utcnow
from app.domain.jobs import JobStatus, Source
from app.domain.pools import Target
from app.github.downloads import Downloads
from app.ports import NotFound, Release
from app.sandbox.github_hooks import HookFault, Mishap
from app.sandbox.github_workflows import JobSpec
from app.sandbox.http import make_app
from app.sandbox.runner import runner_archive
from tests.sandbox.github_world import ACME, LABELS
from tests.sandbox.test_github_client import Pair, pair

__all__ = ["pair"]  # the fixture

HOUR = timedelta(hours=1)


async def test_the_delivery_log(pair: Pair) -> None:
    """What failed to arrive is in the log with its payload; what is older than asked for is not."""
    model = pair.model
    model.hooks.faults.append(HookFault(mishap=Mishap.UNREACHABLE))
    job = model.queue("acme/app", labels=LABELS)
    log = await pair.client.delivery_log(utcnow() - HOUR)
    if not pair.client._is_app:
        assert log == ()
        return
    entry = next(entry for entry in log if entry.event == "workflow_job")
    assert not entry.arrived
    event = await pair.client.logged_delivery(entry.id)
    assert event is not None
    assert (event.id, event.status, event.source) == (job.id, JobStatus.QUEUED, Source.WEBHOOK)
    assert await pair.client.delivery_log(utcnow() + HOUR) == ()
    with pytest.raises(NotFound):
        await pair.client.logged_delivery(1)


async def test_a_long_log_is_read_to_its_end(pair: Pair) -> None:
    """Every page is read, as far back as asked for."""
    model = pair.model
    for _ in range(205):
        model.hooks.faults.append(HookFault(mishap=Mishap.UNREACHABLE))
        model.queue("acme/app", labels=LABELS)
    expected = 205 if pair.client._is_app else 0
    assert len(await pair.client.delivery_log(utcnow() - HOUR)) == expected


async def test_repositories(pair: Pair) -> None:
    """The App lists what it is installed on; a token, which may see far too many, lists nothing."""
    seen = await pair.client.repositories()
    shown = {
        repository.full_name
        for installation in pair.model.accounts.installations.values()
        for repository in pair.model.accounts.repositories.values()
        if installation.covers(repository)
    }
    assert set(seen) == (shown if pair.client._is_app else set())


async def test_queued_jobs(pair: Pair) -> None:
    """Jobs that wait or run are found, with what their repository's answers tell; those that ended are not."""
    model = pair.model
    waiting = model.queue("acme/app", labels=LABELS)
    ended = model.queue("acme/app", labels=LABELS)
    model.cancel(ended)
    mixed = model.workflows.add_job(waiting.run, JobSpec(name="second", labels=LABELS))
    found = await pair.client.queued_jobs("acme/app")
    assert {event.id for event in found} == {waiting.id, mixed.id}
    event = next(event for event in found if event.id == waiting.id)
    assert (event.repository, event.organization, event.private) == ("acme/app", True, True)
    assert (event.labels, event.status, event.source) == (LABELS, JobStatus.QUEUED, Source.LOOK)
    with pytest.raises(NotFound):
        await pair.client.queued_jobs("acme/nothing")


async def test_asking_again_is_free(pair: Pair) -> None:
    """While nothing changed GitHub answers 304, which costs no quota, and the same jobs are found."""
    pair.model.queue("acme/app", labels=LABELS)
    first = await pair.client.queued_jobs("acme/app")
    asked = len(pair.checked)
    assert await pair.client.queued_jobs("acme/app") == first
    assert {status for _, _, status in pair.checked[asked:]} == {304}


@pytest.mark.parametrize("target", [ACME, Target("ada", "tool")], ids=str)
async def test_the_runner_that_github_expects(pair: Pair, target: Target) -> None:
    """Its version comes from the downloads, the day from its release where GitHub shows that."""
    expected = pair.model.runners.expected
    found = await pair.client.latest_runner(target)
    assert found == Release(version=expected.version, published_at=expected.published_at)


async def test_the_runner_itself_is_brought_here(pair: Pair, tmp_path: Path) -> None:
    """By way of the place that GitHub redirects to, with the checksum that GitHub tells; none of our tokens goes along."""
    model, kept = pair.model, Downloads(tmp_path, transport=httpx.ASGITransport(make_app(pair.model)))
    model.shapes.web_url = "https://github.com"
    package = await kept.package(await pair.client._offer(ACME))
    assert package.version == model.runners.expected.version
    assert package.archive.read_bytes() == runner_archive(package.version)
    with tarfile.open(package.archive) as archive:
        assert "./run.sh" in archive.getnames()
