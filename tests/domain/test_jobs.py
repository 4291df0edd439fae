"""merge(): observations in any order and number lead to the same job."""

from __future__ import annotations

from itertools import permutations

import pytest

from app.domain.jobs import RANK, JobStatus, Source, WorkflowJobEvent, merge
from tests.builders import NOW, ago, an_event

J = JobStatus

QUEUED = an_event(J.QUEUED)
STARTED = an_event(J.IN_PROGRESS, runner="mini-mac-aaaaaaaa", started_at=ago(seconds=5))
ENDED = an_event(
    J.COMPLETED,
    runner="mini-mac-aaaaaaaa",
    conclusion="success",
    started_at=ago(seconds=5),
    completed_at=ago(seconds=1),
)


@pytest.mark.parametrize("order", list(permutations([QUEUED, STARTED, ENDED, QUEUED, ENDED])))
def test_any_order_ends_the_same(order: tuple[WorkflowJobEvent, ...]) -> None:
    """Whatever the order and the number of deliveries, the job ends completed, by the same runner."""
    job = None
    for event in order:
        job = merge(job, event, at=NOW)
    assert job is not None
    assert (job.status, job.conclusion, job.runner) == (J.COMPLETED, "success", "mini-mac-aaaaaaaa")
    assert (job.started_at, job.completed_at) == (ago(seconds=5), ago(seconds=1))


@pytest.mark.parametrize("first", list(J))
@pytest.mark.parametrize("second", list(J))
def test_never_backwards(first: J, second: J) -> None:
    """No observation moves a job to an earlier rank, and completed is final."""
    job = merge(merge(None, an_event(first), at=NOW), an_event(second), at=NOW)
    assert RANK[job.status] == max(RANK[first], RANK[second])


def test_queued_and_waiting_contradict() -> None:
    """Their events carry no order: the newest is taken, and the job must be asked about."""
    job = merge(None, QUEUED, at=NOW)
    checked = merge(job, an_event(J.QUEUED, source=Source.LOOK), at=NOW)
    doubtful = merge(checked, an_event(J.WAITING), at=NOW)
    assert (doubtful.status, doubtful.checked_at) == (J.WAITING, None)


def test_an_answer_settles_it() -> None:
    """GitHub's answer to a question outweighs what webhooks said."""
    job = merge(None, an_event(J.WAITING), at=NOW)
    assert merge(job, an_event(J.QUEUED, source=Source.LOOK), at=NOW).status is J.QUEUED


def test_a_late_event_fills_gaps() -> None:
    """A stray completed event without labels does not erase what a late queued one knows."""
    job = merge(None, an_event(J.COMPLETED, labels=(), name=""), at=NOW)
    late = merge(job, QUEUED, at=NOW)
    assert (late.labels, late.name, late.status) == (("self-hosted", "mac"), "build", J.COMPLETED)


@pytest.mark.parametrize("text", ["pending", "requested", "tomorrow's word", "", None])
def test_unknown_status_is_no_demand(text: str | None) -> None:
    """A status that we do not know is taken as waiting."""
    assert JobStatus.from_github(text) is J.WAITING


def test_start_of_a_queued_job_is_no_start() -> None:
    """GitHub fills started_at while a job is still queued; it then only repeats created_at."""
    assert merge(None, an_event(J.QUEUED, started_at=ago(seconds=20)), at=NOW).started_at is None


def test_completed_without_times() -> None:
    """A completed job without completed_at is over since we heard of it."""
    assert merge(None, an_event(J.COMPLETED), at=NOW).completed_at == NOW
