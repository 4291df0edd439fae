"""plan() of the runners there are: a row per situation in a runner's life."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.domain.jobs import JobStatus
from app.domain.lifecycle import may_destroy
from app.domain.runners import StopRequest
from tests.builders import (
    TARGET,
    a_demand,
    a_guest,
    a_head,
    a_host,
    a_job,
    a_registration,
    ago,
    listing,
)
from tests.domain.situations import DONE_LONG_AGO, DOWN, NAME, OFFLINE, QUIET, UP, S, decide, run

SITUATIONS = [
    # -- believing
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.REGISTERED), [("note", NAME, "idle")], id="online: idle"
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(busy=True))}} | run(S.IDLE),
        [("note", NAME, "busy")],
        id="GitHub lists it busy",
    ),
    pytest.param(
        {"host": UP, "work": {NAME: a_job(JobStatus.IN_PROGRESS, runner=NAME)}, "registrations": QUIET}
        | run(S.REGISTERED),
        [("note", NAME, "busy")],
        id="a job says it runs on it, whatever it was booted for",
    ),
    pytest.param(
        {"host": UP, "guests": {NAME: a_guest(worker_alive=True)}, "registrations": QUIET} | run(S.IDLE),
        [("note", NAME, "busy")],
        id="the guest runs a job",
    ),
    pytest.param(
        {
            "host": UP,
            "work": {NAME: a_job(JobStatus.IN_PROGRESS, runner=NAME)},
            "registrations": {TARGET: listing(a_registration(busy=True))},
        }
        | run(S.BUSY),
        [("note", NAME, "busy")],
        id="which job it runs becomes known",
    ),
    # -- the end of a VM
    *(
        pytest.param(
            {"host": DOWN, "registrations": QUIET} | run(state),
            [("stop", NAME, "guest_powered_off")],
            id=f"{state}: its VM ended",
        )
        for state in (S.READY, S.REGISTERED, S.IDLE, S.BUSY)
    ),
    pytest.param(
        {
            "host": DOWN,
            "registrations": QUIET,
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=2))},
        }
        | run(S.BUSY, job_id=1),
        [("stop", NAME, "job_completed")],
        id="busy: its job is over and its VM ended",
    ),
    pytest.param(
        {"host": a_host(), "registrations": QUIET} | run(S.BUSY, job_id=1),
        [("stop", NAME, "vm_vanished")],
        id="busy: the host does not list its VM any more",
    ),
    pytest.param(
        {"host": None, "registrations": QUIET} | run(S.BUSY, job_id=1),
        [("ask guest", NAME), ("look", "host")],
        id="busy: a look that failed is no absence",
    ),
    pytest.param(
        {"host": a_host(at=ago(seconds=9)), "registrations": QUIET} | run(S.IDLE),
        [],
        id="a look begun before the last transition proves nothing",
    ),
    pytest.param(run(S.STOPPING), [("destroy", NAME)], id="stopping: destroy"),
    pytest.param(
        {"in_hand": frozenset({f"boot:{NAME}"})} | run(S.STOPPING),
        [],
        id="stopping, but its boot has not ended",
    ),
    pytest.param({"in_hand": frozenset({NAME})} | run(S.STOPPING), [], id="one thing at a time for a runner"),
    # -- a busy runner is left alone
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing(a_registration(busy=True))},
            "work": {NAME: a_job(JobStatus.IN_PROGRESS, runner=NAME)},
            "draining": True,
            "pools": (),
        }
        | run(S.BUSY, job_id=1, since=ago(hours=6)),
        [],
        id="busy: neither draining nor a reload touches it",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.BUSY, since=ago(hours=6, minutes=16)),
        [("stop", NAME, "job_timeout")],
        id="busy: its time limit ends it",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.BUSY, stop=StopRequest.ASK, job_id=1),
        [("ask guest", NAME)],
        id="busy: an operator who asks does not end it",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET} | run(S.BUSY, stop=StopRequest.FORCE),
        [("stop", NAME, "forced_by_operator")],
        id="busy: an operator who forces does",
    ),
    # -- the guest stays up after its job
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=3))},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=5)),
        [],
        id="job over: the guest has a moment to power off",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=30))},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=5)),
        [("ask guest", NAME)],
        id="job over, guest still up: ask it",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: a_job(JobStatus.COMPLETED, runner=NAME, completed_at=ago(seconds=30))},
            "guests": {NAME: a_guest(runner_alive=False)},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=5)),
        [("stop", NAME, "job_completed")],
        id="job over, runner ended, guest still up: stop it",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: DONE_LONG_AGO},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=9)),
        [("stop", NAME, "job_completed")],
        id="job over long ago, guest does not answer",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: replace(DONE_LONG_AGO, checked_at=None)},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=9)),
        [("check", 1)],
        id="only a webhook said that the job is over: ask GitHub before ending what may run",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "work": {NAME: DONE_LONG_AGO},
            "guests": {NAME: a_guest(worker_alive=True)},
        }
        | run(S.BUSY, job_id=1, since=ago(minutes=9)),
        [("stop", NAME, "job_completed")],
        id="job over long ago, and a process in the guest pretends to be its worker",
    ),
    pytest.param(
        {"host": UP, "registrations": QUIET, "guests": {NAME: a_guest()}}
        | run(S.BUSY, since=ago(minutes=11)),
        [("retire", NAME, "no_job")],
        id="busy without a job and without a worker",
    ),
    # -- registered, and it goes wrong
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(online=False))}}
        | run(S.REGISTERED, since=ago(minutes=4)),
        [("retire", NAME, "never_online")],
        id="never came online",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing(a_registration(online=False))}}
        | run(S.REGISTERED, delivered=False),
        [("ask guest", NAME)],
        id="nobody delivers any more: ask the guest whether it got it",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest(delivered=False, runner_alive=False)},
        }
        | run(S.REGISTERED, delivered=False),
        [("retire", NAME, "delivery_lost")],
        id="it did not: the JIT config died with us",
    ),
    pytest.param(
        {
            "demand": (a_demand(),),
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest(delivered=False, runner_alive=False)},
        }
        | run(S.REGISTERED, delivered=False),
        [("retire", NAME, "delivery_lost", "again")],
        id="it did not, and a job waits: the same VM gets another",
    ),
    pytest.param(
        {
            "demand": (a_demand(),),
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest(delivered=False, runner_alive=False)},
        }
        | run(S.REGISTERED, delivered=False, created_at=ago(minutes=10)),
        [("retire", NAME, "delivery_lost")],
        id="it did not, and its VM is ten minutes old: a fresh one",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing(a_registration(online=False))},
            "guests": {NAME: a_guest()},
        }
        | run(S.REGISTERED, delivered=False),
        [],
        id="it did: go on",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": {TARGET: listing()},
            "guests": {NAME: a_guest(runner_alive=False, at=ago(seconds=1))},
        }
        | run(S.IDLE),
        [("stop", NAME, "ended_without_job")],
        id="the runner ended without a job",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}} | run(S.IDLE),
        [("ask guest", NAME)],
        id="its registration vanished: ask the guest",
    ),
    pytest.param(
        {"host": UP, "registrations": {TARGET: listing()}, "guests": {NAME: a_guest()}}
        | run(S.IDLE, since=ago(minutes=3)),
        [("retire", NAME, "ghost")],
        id="listening without a registration: a ghost",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(queued_at=ago(minutes=4), checked_at=ago(seconds=9)),)),),
            "host": UP,
            "registrations": QUIET,
        }
        | run(S.IDLE, since=ago(minutes=3)),
        [("retire", NAME, "deaf")],
        id="online beside a job that waits for it: deaf",
    ),
    pytest.param(
        {
            "demand": (a_demand(heads=(a_head(queued_at=ago(minutes=4), checked_at=ago(minutes=4)),)),),
            "host": UP,
            "registrations": QUIET,
        }
        | run(S.IDLE, since=ago(minutes=3)),
        [],
        id="the job may be gone by now: not deaf",
    ),
    pytest.param(
        {
            "host": UP,
            "registrations": OFFLINE,
            "guests": {NAME: a_guest(runner_alive=False, exit_code=7)},
        }
        | run(S.REGISTERED),
        [("stop", NAME, "runner_too_old")],
        id="GitHub turned its runner away",
    ),
    # -- adoption
    pytest.param(
        {"demand": (a_demand(),), "host": UP} | run(S.BOOTING),
        [("boot", NAME)],
        id="booting when we died: go on",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": DOWN} | run(S.BOOTING),
        [("stop", NAME, "interrupted")],
        id="cloned but never started when we died",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": a_host()} | run(S.BOOTING),
        [("stop", NAME, "interrupted")],
        id="not even cloned when we died: a new name, not this one",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": None} | run(S.BOOTING),
        [("look", "host")],
        id="adoption waits for a look",
    ),
    pytest.param(
        {"demand": (a_demand(),), "host": UP} | run(S.BOOTING, since=ago(minutes=6)),
        [("stop", NAME, "boot_timeout")],
        id="booting too long already",
    ),
]


@pytest.mark.parametrize(("world", "expected"), SITUATIONS)
def test_situation(world: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    """Each situation leads to exactly these actions."""
    assert decide(**world) == expected


@pytest.mark.parametrize(
    ("removed", "guest", "over", "expected"),
    [
        pytest.param(True, None, False, True, id="GitHub removed it: it was idle"),
        pytest.param(False, None, False, False, id="unlisted, guest silent: unknown is not idle"),
        pytest.param(False, None, True, True, id="unlisted, guest silent, but its job is over"),
        pytest.param(False, a_guest(worker_alive=True), True, False, id="the guest runs a job"),
        pytest.param(False, a_guest(), False, True, id="unlisted and the guest runs none"),
    ],
)
def test_may_destroy(removed: bool, guest: Any, over: bool, expected: bool) -> None:
    """GitHub's and the guest's word together decide whether a registered runner may go."""
    assert may_destroy(removed=removed, guest=guest, over=over) is expected
