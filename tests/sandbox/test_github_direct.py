"""The model without HTTP: behind the port, with runner lives in the model host, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from app.domain.jobs import JobStatus, Source
from app.domain.pools import Target
from app.domain.world import VMState
from app.ports import (
    GitHub,
    GitHubRefused,
    GitHubUnavailable,
    NameTaken,
    NotFound,
    OutsideError,
    Run,
    RunnerBusy,
)
from app.sandbox import github_faults as fault
from app.sandbox.carrier import Carrier, in_process
from app.sandbox.direct import DirectGitHub
from app.sandbox.github import ModelGitHub
from app.sandbox.github_hooks import Delivery
from app.sandbox.github_runners import SessionRefused
from app.sandbox.host import ModelHost
from app.sandbox.lives import Pace, RunnerLives
from tests.builders import NOW, a_pool
from tests.conftest import Clock
from tests.sandbox.github_world import ACME, APP, LABELS, a_github, running

NAME = "mini-mac-aaaaaaaa"


@pytest.fixture
def model(clock: Clock) -> ModelGitHub:
    return a_github(clock)


@pytest.fixture
def port(model: ModelGitHub) -> GitHub:
    return DirectGitHub(model)


async def test_the_port_s_good_answers(model: ModelGitHub, port: GitHub) -> None:
    """Each verb answers what the model holds."""
    fork = model.accounts.add_repository("eve/app")
    job = model.queue("acme/app", labels=("gpu",), event="pull_request", head=fork)
    minted = await port.mint(ACME, name=NAME, labels=LABELS, group_id=1)
    (listed,) = await port.registrations(ACME)
    assert (listed.id, listed.name, listed.online, listed.busy) == (
        minted.registration_id,
        NAME,
        False,
        False,
    )
    event = await port.job("acme/app", job.id)
    assert (event.id, event.status, event.source, event.labels) == (
        job.id,
        JobStatus.QUEUED,
        Source.LOOK,
        ("gpu",),
    )
    run = await port.run("acme/app", job.run.id)
    assert run == Run(status="queued", conclusion=None, event="pull_request", fork=True)
    group = await port.runner_group("acme", None)
    assert (group.id, group.allows_public, group.visibility) == (1, False, "all")
    assert await port.whoami() == model.accounts.app.slug
    assert await port.deregister(ACME, name=NAME, registration_id=None) is True
    assert await port.deregister(ACME, name=NAME, registration_id=minted.registration_id) is False


async def test_the_port_s_refusals(model: ModelGitHub, port: GitHub) -> None:
    """Each refusal is the port's error for it."""
    session, _ = running(model)
    runner = session.registration
    with pytest.raises(RunnerBusy):
        await port.deregister(ACME, name=runner.name, registration_id=runner.id)
    with pytest.raises(NameTaken):
        await port.mint(ACME, name=runner.name, labels=LABELS, group_id=1)
    for question in (port.job("acme/app", 1), port.run("acme/app", 1), port.runner_group("acme", "nope")):
        with pytest.raises(NotFound):
            await question
    with pytest.raises(NotFound):
        await port.registrations(Target("nobody"))
    model.accounts.installation_of("acme").permissions = {}
    for refused in (port.registrations(ACME), port.registrations(APP), port.job("acme/app", 1)):
        with pytest.raises(GitHubRefused, match="it wants"):
            await refused
    model.suspend(model.accounts.installation_of("acme"))
    with pytest.raises(GitHubRefused, match="suspended"):
        await port.registrations(ACME)


@pytest.mark.parametrize(
    ("what", "kind", "registered"),
    [
        pytest.param(fault.answer(502), GitHubUnavailable, False, id="an answer 502"),
        pytest.param(fault.answer(502, effect=True), GitHubUnavailable, True, id="502, and it registered"),
        pytest.param(fault.reset(effect=True), GitHubUnavailable, True, id="the answer is lost"),
        pytest.param(fault.hang(60), GitHubUnavailable, False, id="no answer"),
        pytest.param(fault.secondary_limit(retry_after=9), GitHubUnavailable, False, id="a limit"),
        pytest.param(fault.answer(403), GitHubRefused, False, id="403"),
        pytest.param(fault.slow(5), None, True, id="slow, and right"),
    ],
)
@pytest.mark.looptime
async def test_faults(
    model: ModelGitHub, port: GitHub, what: fault.Fault, kind: type[OutsideError] | None, registered: bool
) -> None:
    """A fault is the port's error; whether the work was done is another matter."""
    model.faults.add("mint", what)
    with pytest.raises(kind) if kind else nullcontext() as caught:
        await port.mint(ACME, name=NAME, labels=LABELS, group_id=1)
    if caught is not None and what.retry_after:
        assert isinstance(caught.value, GitHubUnavailable)
        assert caught.value.retry_after == timedelta(seconds=9)
    assert bool(model.runners.at(ACME)) is registered


@dataclass(slots=True)
class Place:
    """A model, a host, and what was told."""

    model: ModelGitHub
    host: ModelHost
    github: DirectGitHub
    told: list[str]

    async def launch(self, name: str = NAME) -> None:
        """Boot a VM and deliver a runner to it."""
        pool = a_pool()
        await self.host.start(name, pool)
        minted = await self.github.mint(ACME, name=name, labels=LABELS, group_id=1)
        await self.host.deliver(name, pool, minted.jit)


@asynccontextmanager
async def a_place(pace: Pace | None = None) -> AsyncIterator[Place]:
    loop = asyncio.get_running_loop()

    def now() -> datetime:
        return NOW + timedelta(seconds=loop.time())

    model, host = a_github(now), ModelHost(now)
    lives = RunnerLives(model, host, pace=pace)
    place = Place(model, host, DirectGitHub(model), [])

    async def receive(delivery: Delivery) -> int:
        place.told.append(str(delivery.action))
        return 202

    async with Carrier(model, in_process(model, receive)):
        yield place
        await lives.close()


@pytest.mark.looptime
async def test_a_life_in_a_guest() -> None:
    """A delivered runner takes a job, runs it for its seconds, and its VM ends."""
    async with a_place(Pace(connect=2, pick_up=1, power_off=2)) as place:
        job = place.model.queue("acme/app", labels=LABELS, seconds=60)
        await place.launch()
        await asyncio.sleep(4)
        vm = place.host.vms[NAME]
        assert (job.status, job.runner_name, vm.worker_alive) == ("in_progress", NAME, True)
        await asyncio.sleep(60)
        assert (job.status, job.conclusion, vm.worker_alive) == ("completed", "success", False)
        await asyncio.sleep(2)
        assert (vm.state, vm.exit_code, vm.ending) == (VMState.STOPPED, 0, "worked")
        assert await place.github.registrations(ACME) == ()
        assert place.told == ["queued", "in_progress", "completed"]


@pytest.mark.looptime
async def test_a_vm_that_dies_takes_its_runner_along() -> None:
    """The runner is offline and busy at once, and its job fails when the lock expires, by itself."""
    async with a_place() as place:
        job = place.model.queue("acme/app", labels=LABELS, seconds=600)
        await place.launch()
        await asyncio.sleep(1)
        await place.host.delete(NAME)
        await asyncio.sleep(0)
        (listed,) = await place.github.registrations(ACME)
        assert (listed.online, listed.busy) == (False, True)
        await asyncio.sleep(601)
        assert (job.status, job.conclusion) == ("completed", "failure")
        assert place.told[-1] == "completed"


@pytest.mark.looptime
async def test_a_cancelled_job_stops_at_once() -> None:
    """The runner of a cancelled job stops it and powers off."""
    async with a_place() as place:
        job = place.model.queue("acme/app", labels=LABELS, seconds=600)
        await place.launch()
        await asyncio.sleep(1)
        place.model.cancel(job)
        await asyncio.sleep(1)
        assert (job.status, job.conclusion) == ("completed", "cancelled")
        assert place.host.vms[NAME].state is VMState.STOPPED


@pytest.mark.looptime
async def test_a_deregistered_runner_ends() -> None:
    """An idle runner whose registration is removed ends its VM."""
    async with a_place() as place:
        await place.launch()
        await asyncio.sleep(1)
        assert await place.github.deregister(ACME, name=NAME, registration_id=None)
        await asyncio.sleep(1)
        assert place.host.vms[NAME].state is VMState.STOPPED


@pytest.mark.looptime
async def test_a_version_too_old_and_a_ghost() -> None:
    """A refused version exits 7; a ghost's VM runs on for ever."""
    async with a_place() as place:
        place.model.runners.refusals.append(SessionRefused("version_deprecated", "too old"))
        await place.launch()
        await asyncio.sleep(1)
        assert place.host.vms[NAME].exit_code == 7
        place.model.runners.ghosts = 1
        place.model.queue("acme/app", labels=LABELS)
        await place.launch("mini-mac-bbbbbbbb")
        await asyncio.sleep(3600)
        assert place.host.vms["mini-mac-bbbbbbbb"].runner_alive
