"""Which questions for jobs are due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from app.domain.actions import ListRepositories, PollJobs, ReadDeliveryLog
from app.domain.hearing import LogEntry, listen, missed, pace, troubles, watched
from app.domain.world import Hearing, Poll
from tests.builders import NOW, a_pool, ago

MINUTE = timedelta(minutes=1)
POOLS = (a_pool(repositories=("acme/*", "zoe/Pet")), a_pool(name="big", repositories=("zoo/kit",)))


def a_hearing(**changes: Any) -> Hearing:
    values: dict[str, Any] = {
        "poll_interval": MINUTE,
        "log_read_at": ago(seconds=5),
        "listed_at": ago(seconds=5),
        "polls": {name: Poll(at=ago(seconds=5)) for name in ("acme/app", "zoe/Pet", "zoo/kit")},
        "repositories": frozenset({"acme/app", "stranger/tool"}),
    }
    return Hearing(**values | changes)


def test_what_is_watched() -> None:
    """Repositories heard of that a pool serves, and those a pool names in full; each once, whatever its case."""
    hearing = a_hearing(repositories=frozenset({"acme/app", "ACME/lib", "stranger/tool", "Zoe/pet"}))
    assert watched(hearing, POOLS) == ("ACME/lib", "acme/app", "zoe/Pet", "zoo/kit")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [], id="all was asked just now"),
        pytest.param({"log_read_at": None}, [ReadDeliveryLog()], id="the log, at the start"),
        pytest.param({"log_read_at": ago(minutes=2)}, [ReadDeliveryLog()], id="the log, every two minutes"),
        pytest.param({"listed_at": None}, [ListRepositories()], id="the repositories, at the start"),
        pytest.param({"listed_at": ago(hours=1)}, [ListRepositories()], id="the repositories, every hour"),
        pytest.param(
            {"polls": {}},
            [PollJobs("acme/app"), PollJobs("zoe/Pet"), PollJobs("zoo/kit")],
            id="every repository, at the start",
        ),
        pytest.param(
            {
                "polls": {
                    "acme/app": Poll(at=ago(minutes=1)),
                    "zoe/Pet": Poll(at=NOW),
                    "zoo/kit": Poll(at=NOW),
                }
            },
            [PollJobs("acme/app")],
            id="a repository, every poll_interval",
        ),
        pytest.param(
            {
                "polls": {
                    "acme/app": Poll(at=ago(minutes=9), refusal="Not Found"),
                    "zoe/Pet": Poll(at=ago(minutes=10), refusal="Not Found"),
                    "zoo/kit": Poll(at=NOW),
                }
            },
            [PollJobs("zoe/Pet")],
            id="one that GitHub does not show: every ten minutes",
        ),
        pytest.param(
            {"log_read_at": NOW + timedelta(hours=1)}, [ReadDeliveryLog()], id="the clock was set back"
        ),
        pytest.param(
            {"polls": {}, "headroom": {"acme": 0.1, "zoe": 0.3}},
            [PollJobs("zoe/Pet"), PollJobs("zoo/kit")],
            id="not where the quota is nearly used up",
        ),
    ],
)
def test_what_is_due(changes: dict[str, Any], expected: list[Any]) -> None:
    """Each question has its own pace."""
    assert list(listen(a_hearing(**changes), POOLS, NOW)) == expected


@pytest.mark.parametrize(
    ("left", "count", "expected"),
    [
        pytest.param(1.0, 1, MINUTE, id="a whole quota"),
        pytest.param(0.5, 1, MINUTE, id="half of it"),
        pytest.param(0.25, 1, 4 * MINUTE, id="a quarter"),
        pytest.param(0.19, 1, None, id="too little"),
        pytest.param(1.0, 300, 10 * MINUTE, id="many repositories"),
    ],
)
def test_pace(left: float, count: int, expected: timedelta | None) -> None:
    """Polls slow down with the quota and the number of repositories, and pause under the floor."""
    assert pace(a_hearing(headroom={"acme": left}), "Acme/app", count) == expected


def test_troubles_are_told() -> None:
    """What keeps us from asking is said, with GitHub's reason."""
    hearing = a_hearing(polls={"acme/app": Poll(at=NOW, refusal="install the App")}, headroom={"zoo": 0.1})
    first, second = troubles(hearing, POOLS)
    assert first == "GitHub does not show the jobs of acme/app: install the App."
    assert second.startswith("10% of GitHub's quota for zoo are left")


def an_entry(number: int, guid: str, **changes: Any) -> LogEntry:
    values: dict[str, Any] = {"event": "workflow_job", "at": NOW, "arrived": False}
    return LogEntry(id=number, guid=guid, **values | changes)


def test_what_was_missed() -> None:
    """One attempt of each event of which none arrived, the oldest first; other events are nothing to us."""
    log = (
        an_entry(5, "again", arrived=True),
        an_entry(4, "lost"),
        an_entry(3, "ping", event="ping"),
        an_entry(2, "again"),
        an_entry(1, "older", at=ago(minutes=1)),
        an_entry(6, "lost", at=NOW + MINUTE),
    )
    assert [(entry.guid, entry.id) for entry in missed(log)] == [("older", 1), ("lost", 6)]
