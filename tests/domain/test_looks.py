"""plan() of the looks that are due: a row per situation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.jobs import JobStatus
from app.domain.world import Hearing, Poll
from tests.builders import TARGET, a_demand, a_head, a_host, a_job, ago, listing
from tests.domain.situations import OTHER, decide


def heard(**poll: Any) -> Hearing:
    """Return that GitHub was asked for everything five seconds ago."""
    at = ago(seconds=5)
    return Hearing(
        poll_interval=timedelta(minutes=1),
        log_read_at=at,
        listed_at=at,
        polls={"acme/app": Poll(at=at, **poll)},
    )


UNCHECKED = tuple(a_head(id=n, checked_at=None) for n in (1, 2))

SITUATIONS = [
    pytest.param({"host": a_host(at=ago(seconds=61))}, [("look", "host")], id="quiet: a look a minute"),
    pytest.param(
        {"host": a_host(at=ago(seconds=5)), "host_changed_at": ago(seconds=4)},
        [("look", "host")],
        id="something happened on the host",
    ),
    pytest.param(
        {"host": a_host(at=ago(seconds=61)), "in_hand": frozenset({"look:host"})}, [], id="one look at a time"
    ),
    pytest.param(
        {"known_targets": frozenset({TARGET})}, [("look", "acme/app")], id="known targets are swept"
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.IN_PROGRESS, runner=OTHER, started_at=ago(minutes=5)),)},
        [("check", 1)],
        id="a job that runs on a runner that is gone is read again",
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.WAITING),)},
        [("check", 1)],
        id="a job that is held back is asked about at once: it may have been queued since",
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.WAITING, received_at=ago(seconds=4)),)}, [], id="not at once"
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.WAITING, checked_at=ago(minutes=59)),)}, [], id="nor soon again"
    ),
    pytest.param(
        {"unsettled": (a_job(JobStatus.WAITING, checked_at=ago(hours=1)),)},
        [("check", 1)],
        id="but every hour, since it may have ended and no webhook told of it",
    ),
    pytest.param(
        {"draining": True, "demand": (a_demand(2, heads=UNCHECKED),), "hearing": heard(jobs={1})},
        [("check", 2)],
        id="a waiting job that a poll does not show may be over",
    ),
    pytest.param(
        {"draining": True, "demand": (a_demand(2, heads=UNCHECKED),), "hearing": heard(refusal="Not Found")},
        [],
        id="a poll that was refused says nothing",
    ),
    pytest.param(
        {
            "draining": True,
            "demand": (a_demand(heads=(a_head(checked_at=ago(seconds=4)),)),),
            "hearing": heard(),
        },
        [],
        id="nor does one that is older than what is known",
    ),
    pytest.param(
        {
            "known_targets": frozenset({TARGET}),
            "registrations": {TARGET: listing()},
            "versions": {"mac": "2.335.0"},
        },
        [("look", "release", "acme/app")],
        id="which runner GitHub expects",
    ),
    pytest.param(
        {
            "known_targets": frozenset({TARGET}),
            "registrations": {TARGET: listing()},
            "versions": {"mac": "2.335.0"},
            "released_at": ago(hours=5),
        },
        [],
        id="that changes rarely",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert decide(**world) == expected
