"""Taking in what no webhook told: each event once, nothing skipped, wherever it is cut off."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.acts import intake
from app.acts.intake import Intake
from app.acts.means import Means
from app.db.reader import Reader
from app.db.store import Delivery, Store
from app.domain.hearing import LogEntry
from app.domain.jobs import JobStatus, Source, WorkflowJobEvent
from app.metrics import Metrics
from app.ports import GitHubRefused, GitHubUnavailable, NotFound
from app.sight import Sight
from tests.api.conftest import SmallGitHub
from tests.builders import NOW, an_event
from tests.conftest import Clock


@dataclass(slots=True)
class LoggingGitHub(SmallGitHub):
    """A GitHub with a delivery log, and jobs in repositories."""

    log: list[LogEntry] = field(default_factory=list)
    since: list[datetime] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)  # deliveries that cannot be fetched now
    refused: str = ""

    async def delivery_log(self, since: datetime) -> tuple[LogEntry, ...]:
        self.since.append(since)
        return tuple(entry for entry in reversed(self.log) if entry.at >= since)

    async def logged_delivery(self, delivery_id: int) -> WorkflowJobEvent | None:
        self.fetched.append(delivery_id)
        if delivery_id in self.broken:
            msg = "502"
            raise GitHubUnavailable(msg)
        if delivery_id not in self.jobs:
            msg = "404"
            raise NotFound(msg)
        return self.jobs[delivery_id]

    async def queued_jobs(self, repository: str) -> tuple[WorkflowJobEvent, ...]:
        if self.refused:
            raise GitHubRefused(self.refused)
        return await SmallGitHub.queued_jobs(self, repository)

    def lose(self, number: int, *, at: datetime = NOW) -> None:
        """Let the delivery of a queued job fail."""
        self.jobs[number] = an_event(id=number)
        self.log.append(LogEntry(id=number, guid=f"g{number}", event="workflow_job", at=at, arrived=False))


@dataclass(slots=True)
class Desk:
    """An intake with what it works on."""

    github: LoggingGitHub
    sight: Sight
    store: Store
    reader: Reader
    clock: Clock
    metrics: Metrics

    @property
    def intake(self) -> Intake:
        nothing: Any = None  # an intake needs no host
        return Intake(
            Means(
                store=self.store,
                reader=self.reader,
                github=self.github,
                vms=nothing,
                sight=self.sight,
                metrics=self.metrics,
                clock=self.clock,
                chance=random.Random(1),
            )
        )

    def count(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"cidermill_{name}_total")


@pytest.fixture
def desk(store: Store, reader: Reader, clock: Clock) -> Desk:
    return Desk(LoggingGitHub(), Sight(), store, reader, clock, Metrics())


async def status_of(desk: Desk, job_id: int) -> JobStatus | None:
    job = await desk.reader.job(job_id)
    return job and job.status


async def test_a_lost_webhook_is_fetched_once(desk: Desk) -> None:
    """What failed is recorded like a webhook; the next reading goes back a little and fetches nothing again."""
    desk.github.lose(1)
    await desk.intake.read_log()
    assert await status_of(desk, 1) is JobStatus.QUEUED
    desk.clock.pass_(minutes=2)
    await desk.intake.read_log()
    assert (desk.github.fetched, desk.count("deliveries_recovered")) == ([1], 1)
    assert desk.github.since == [NOW - timedelta(hours=24), NOW - timedelta(minutes=10)]
    assert desk.sight.log_read_at == desk.clock()
    assert not await desk.store.record(Delivery(guid="g1", event="workflow_job"), an_event(), at=NOW)


async def test_what_arrived_is_left_alone(desk: Desk) -> None:
    """A delivery that we recorded although GitHub thinks that it failed (our answer came too late) is not fetched."""
    desk.github.lose(1)
    await desk.store.record(Delivery(guid="g1", event="workflow_job"), an_event(), at=NOW)
    await desk.intake.read_log()
    assert desk.github.fetched == []


async def test_a_reading_that_is_cut_off(desk: Desk) -> None:
    """When one cannot be fetched, those before it stay recorded and the reading begins there again."""
    for number in (1, 2, 3):
        desk.github.lose(number)
    desk.github.broken = {2}
    with pytest.raises(GitHubUnavailable):
        await desk.intake.read_log()
    assert (await status_of(desk, 1), await status_of(desk, 3)) == (JobStatus.QUEUED, None)
    assert desk.sight.log_read_at is None
    desk.github.broken = set()
    await desk.intake.read_log()
    assert await status_of(desk, 3) is JobStatus.QUEUED
    assert desk.github.fetched == [1, 2, 2, 3]


async def test_a_long_outage(desk: Desk) -> None:
    """Thousands of lost webhooks are fetched in parts, the oldest first, and none is skipped."""
    many = 2 * intake.AT_ONCE + 5
    for number in range(1, many + 1):
        desk.github.lose(number, at=NOW - timedelta(hours=20) + timedelta(seconds=number))
    readings = 0
    while desk.sight.log_read_at is None:
        await desk.intake.read_log()
        readings += 1
    assert (readings, desk.github.fetched) == (3, list(range(1, many + 1)))


async def test_a_delivery_that_is_kept_no_longer(desk: Desk) -> None:
    """It is noted as seen, so that it is not asked for again."""
    desk.github.lose(1)
    desk.github.jobs.clear()
    await desk.intake.read_log()
    await desk.intake.read_log()
    assert desk.github.fetched == [1]


async def test_a_poll_finds_jobs(desk: Desk) -> None:
    """Jobs that nobody told of are recorded as checked; a second poll finds nothing new."""
    desk.github.jobs[1] = an_event()
    desk.github.jobs[2] = an_event(JobStatus.IN_PROGRESS, id=2, runner="somebody")
    await desk.intake.poll("acme/app")
    await desk.intake.poll("acme/app")
    job = await desk.reader.job(1)
    assert job is not None
    assert (job.pool, job.checked_at, desk.count("jobs_found")) == ("mac", NOW, 2)
    assert await status_of(desk, 2) is JobStatus.IN_PROGRESS


async def test_a_poll_settles_what_events_left_open(desk: Desk) -> None:
    """A job that we think is held back and GitHub lists as queued is queued."""
    await desk.store.record(
        Delivery(guid="g", event="workflow_job"), an_event(JobStatus.WAITING), at=NOW - timedelta(hours=1)
    )
    desk.github.jobs[1] = an_event(source=Source.LOOK)
    await desk.intake.poll("acme/app")
    assert (await status_of(desk, 1), desk.count("jobs_found")) == (JobStatus.QUEUED, 0)


async def test_a_poll_that_is_refused(desk: Desk) -> None:
    """GitHub's reason is kept for people to see."""
    desk.github.refused = "install the App on acme"
    await desk.intake.poll("acme/app")
    assert desk.sight.polls["acme/app"].refusal == "install the App on acme"


@pytest.mark.parametrize(
    ("first", "second", "since"),
    [
        pytest.param(("2.336.0", None), ("2.336.0", None), 0, id="first seen then"),
        pytest.param(("2.336.0", None), ("2.337.0", None), 60, id="a newer one, first seen now"),
        pytest.param(("2.336.0", None), ("2.336.0", NOW - timedelta(days=9)), -9 * 86400, id="published"),
    ],
)
async def test_since_when_a_release_is_expected(desk: Desk, first: Any, second: Any, since: int) -> None:
    """It counts from its publication, or where that is not told from the first time that it was seen."""
    assert await desk.store.note_release(*first, at=NOW) == NOW
    found = await desk.store.note_release(*second, at=NOW + timedelta(seconds=60))
    assert found == NOW + timedelta(seconds=since)
