"""The reconciler between a simulated host and a simulated GitHub, on virtual time."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.db.store import Delivery
from app.domain.runners import StopRequest
from app.github.webhook import job_event
from app.sandbox import github_faults as faults
from app.sandbox.github_runners import registration_deleted
from app.sandbox.github_values import Job
from tests.builders import a_pool
from tests.simulation.layers import Call, Fuse, Port
from tests.simulation.site import STEP, VIRTUAL_TIME, Site
from tests.simulation.trouble import Latency

pytestmark = VIRTUAL_TIME
LABELS = ("self-hosted", "mac")
LONG = 4000.0  # virtual seconds


def a_site(place: Path, **options: Any) -> Site:
    place.mkdir(exist_ok=True)
    site = Site(place, **options)
    for name in ("acme/app", "acme/lib", "stranger/tool"):
        site.model.accounts.add_repository(name)
    site.model.accounts.install("acme")
    site.model.accounts.install("stranger")
    return site


def queue(site: Site, repository: str = "acme/app", seconds: float = 30.0, **options: Any) -> Job:
    return site.model.queue(repository, labels=options.pop("labels", LABELS), seconds=seconds, **options)


async def one_of_two_runs(site: Site, *, seconds: float) -> tuple[Job, Job]:
    """Queue two jobs and return them once one runs, that one first: GitHub, not we, picks it."""
    jobs = queue(site, seconds=seconds), queue(site, seconds=seconds)
    await site.until(lambda: "in_progress" in {job.status for job in jobs})
    first, second = sorted(jobs, key=lambda job: job.status != "in_progress")
    return first, second


async def test_the_main_job(tmp_path: Path) -> None:
    """A queued webhook becomes a VM, the VM runs exactly that job, and both are gone."""
    async with a_site(tmp_path) as site:
        site.start()
        job = queue(site)
        await site.until(site.is_drained)
        site.check()
        assert job.conclusion == "success"
        assert site.host.calls["start"] == 1
        (runner,) = site.runners(gone=True)
        assert (runner.reason, runner.job_id) == ("job_completed", job.id)


async def test_many_jobs_two_slots(tmp_path: Path) -> None:
    """More jobs than slots are all run, one VM each, and never more than two at a time."""
    async with a_site(tmp_path) as site:
        site.start()
        jobs = [queue(site, repository) for repository in ("acme/app", "acme/lib") for _ in range(4)]
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert {job.conclusion for job in jobs} == {"success"}
        assert (site.host.calls["start"], site.host.most_running) == (8, 2)


async def test_the_next_launch_waits_for_nothing(tmp_path: Path) -> None:
    """Between the end of a VM and the boot of the next lie two calls to the host, and no timer."""
    async with a_site(tmp_path, slots=1, latency=Latency(boot=(5.0, 5.0), verb=(0.0, 0.0))) as site:
        site.start()
        first, second = queue(site), queue(site)
        await site.until(lambda: first.conclusion or second.conclusion)
        await site.until(lambda: len(site.host.running) == 0)
        ended = site.elapsed()
        await site.until(lambda: len(site.host.running) == 1)
        assert site.elapsed() - ended <= STEP
        await site.until(site.is_drained)


@pytest.mark.parametrize(
    ("repository", "labels"),
    [
        pytest.param("stranger/tool", LABELS, id="a repository that is not allowed"),
        pytest.param("acme/app", (*LABELS, "gpu"), id="labels that nobody has"),
        pytest.param("acme/app", (), id="no labels at all"),
    ],
)
async def test_what_is_not_ours_costs_nothing(
    tmp_path: Path, repository: str, labels: tuple[str, ...]
) -> None:
    """Such a job is recorded, and no VM is booted for it."""
    async with a_site(tmp_path) as site:
        site.start()
        job = queue(site, repository, labels=labels)
        await site.pass_time(120)
        assert (job.status, site.host.calls["start"], site.runners(gone=True)) == ("queued", 0, [])
        assert await site.reconciler._reader.job(job.id) is not None


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(0.0, 0), (5.0, 1), (13.0, 1)],
    ids=["before its claim", "during boot", "once registered"],
)
async def test_cancelled(tmp_path: Path, seconds: float, starts: int) -> None:
    """A job that is cancelled while it waits costs at most the VM that was on its way, which goes again."""
    async with a_site(tmp_path) as site:
        if seconds:
            site.start()
        job = queue(site)
        await site.pass_time(seconds)
        site.model.cancel(job)
        if not seconds:
            site.start()
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (job.conclusion, site.host.calls["start"]) == ("cancelled", starts)


async def test_a_vm_whose_job_went_serves_the_next(tmp_path: Path) -> None:
    """When its job is cancelled during the boot, the VM runs the next job of its pool."""
    async with a_site(tmp_path, slots=1) as site:
        site.start()
        first = queue(site)
        await site.pass_time(5)
        site.model.cancel(first)
        second = queue(site, "acme/lib")
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (second.conclusion, site.host.calls["start"]) == ("success", 1)


async def test_a_gated_job_waits(tmp_path: Path) -> None:
    """A job that an approval holds gets no registration before it is approved."""
    async with a_site(tmp_path) as site:
        site.start()
        job = queue(site, gated=True)
        await site.pass_time(90)
        assert site.model.faults.calls["mint"] == 0
        site.model.workflows.approve(job)
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert job.conclusion == "success"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.answer(502), id="5xx"),
        pytest.param(faults.answer(403), id="refused"),
        pytest.param(faults.hang(10, effect=True), id="registered, and the answer lost"),
    ],
)
async def test_a_mint_that_fails(tmp_path: Path, fault: faults.Fault) -> None:
    """The attempt ends, its registration too, and the job is served by another after a while."""
    async with a_site(tmp_path) as site:
        site.model.faults.add("mint", fault)
        site.start()
        job = queue(site)
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (job.conclusion, site.host.calls["start"]) == ("success", 2)


async def test_a_vm_that_dies_under_its_job(tmp_path: Path) -> None:
    """The slot is freed, the registration becomes a debt that is paid once GitHub lets go, and the job's end is known."""
    async with a_site(tmp_path) as site:
        site.start()
        job = queue(site, seconds=300)
        await site.until(lambda: job.status == "in_progress")
        site.trouble.crash(site.runners()[0].name)
        await site.until(lambda: not site.runners())
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert job.conclusion != "success"


@pytest.mark.parametrize(
    ("request_", "conclusion"), [(StopRequest.ASK, "success"), (StopRequest.FORCE, "failure")]
)
async def test_an_operator_stops_a_busy_runner(
    tmp_path: Path, request_: StopRequest, conclusion: str
) -> None:
    """Asked, a busy runner finishes its job; only force ends it."""
    async with a_site(tmp_path) as site:
        process = site.start()
        job = queue(site, seconds=200)
        await site.until(lambda: site.states() == ["busy"])
        await site.operate(process.store.request_stop(site.runners()[0].name, request_))
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (job.conclusion == "success") is (conclusion == "success")


async def test_a_job_that_is_on_its_way_to_a_runner(tmp_path: Path) -> None:
    """What the guest does not know of yet, GitHub does: its 422 keeps the runner for the job it was given."""
    async with a_site(tmp_path) as site:
        process = site.start()
        site.lives.pace.pick_up = 30.0
        job = queue(site)
        await site.until(lambda: job.assigned_at is not None)
        (runner,) = site.runners()
        await site.operate(process.store.request_stop(runner.name, StopRequest.ASK))
        await site.until(lambda: "busy" in site.states())
        assert job.status == "queued"
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (job.conclusion, job.runner_name) == ("success", runner.name)


async def test_drain_and_resume(tmp_path: Path) -> None:
    """Draining lets the running job finish and starts nothing; a restart stays drained; resuming goes on."""
    async with a_site(tmp_path, slots=1) as site:
        process = site.start()
        running, waiting = await one_of_two_runs(site, seconds=100)
        await site.operate(process.store.set_draining(True))
        await site.until(lambda: not site.runners(), within=LONG)
        await site.kill()
        process = site.start()
        await site.pass_time(60)
        assert (running.conclusion, waiting.status, site.runners()) == ("success", "queued", [])
        await site.operate(process.store.set_draining(False))
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert waiting.conclusion == "success"


async def test_a_reload_leaves_what_runs(tmp_path: Path) -> None:
    """A pool that a reload changed: the running job finishes by its old specification, the next one has the new."""
    async with a_site(tmp_path, slots=1) as site:
        site.start()
        first, second = await one_of_two_runs(site, seconds=60)
        await site.configure(a_pool(cpu=8))
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert (first.conclusion, second.conclusion) == ("success", "success")
        assert [runner.spec.cpu for runner in site.runners(gone=True)] == [None, 8]


async def test_barren_runners_back_off(tmp_path: Path) -> None:
    """Runners that end without a job do not boot VMs in a loop."""
    async with a_site(tmp_path) as site:
        site.model.runners.refusals = [registration_deleted() for _ in range(50)]
        site.start()
        job = queue(site)
        await site.pass_time(600)
        assert 2 <= site.host.calls["start"] <= 8
        site.model.runners.refusals = []
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert job.conclusion == "success"


async def test_a_runner_that_github_turns_away(tmp_path: Path) -> None:
    """One VM shows that GitHub no longer takes the runner in an image; until somebody mends it, none follows."""
    async with a_site(tmp_path) as site:
        process = site.start()
        site.lives.version = "2.328.0"
        job = queue(site)
        await site.pass_time(900)
        assert site.host.calls["start"] == 1
        world = site.reconciler.world
        assert world is not None
        assert [(c.scope, c.reason) for c in world.cooldowns] == [("image:sequoia", "runner_too_old")]
        assert "packer/README.md" in world.cooldowns[0].detail
        site.lives.version = "2.336.0"
        await site.operate(process.store.forget_failures())
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert job.conclusion == "success"


async def test_no_webhook_at_all(tmp_path: Path) -> None:
    """Jobs of repositories that the App may see are found by asking, without a single webhook."""
    async with a_site(tmp_path) as site:
        site.vanishing = lambda _: True
        site.start()
        await site.pass_time(5)
        jobs = [queue(site, repository) for repository in ("acme/app", "acme/lib", "stranger/tool")]
        await site.until(lambda: jobs[0].conclusion and jobs[1].conclusion, within=LONG)
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert jobs[2].status == "queued"


async def test_short_jobs_without_webhooks(tmp_path: Path) -> None:
    """Jobs that begin and end between two looks at GitHub count as no failures, so nothing backs off."""
    async with a_site(tmp_path) as site:
        site.vanishing = lambda _: True
        site.start()
        await site.pass_time(5)
        jobs = [queue(site, seconds=1) for _ in range(4)]
        await site.until(lambda: all(job.conclusion for job in jobs), within=LONG)
        world = site.reconciler.world
        assert world is not None
        assert world.cooldowns == ()


async def test_an_hour_of_lost_webhooks(tmp_path: Path) -> None:
    """What failed to arrive while nobody listened is fetched from GitHub's log, each once."""
    async with a_site(tmp_path) as site:
        jobs = [queue(site, seconds=5.0) for _ in range(5)]
        await site.pass_time(3600)
        site.model.faults.add("queued_jobs", faults.answer(502), times=1000)
        process = site.start()
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert {job.conclusion for job in jobs} == {"success"}
        recovered = process.metrics.registry.get_sample_value("cidermill_deliveries_recovered_total")
        assert recovered == 5


async def test_orphans_go_when_seen_twice(tmp_path: Path) -> None:
    """A VM with our prefix that no row knows is removed; a stranger's is not."""
    async with a_site(tmp_path) as site:
        await site.host.start("mini-mac-zzzzzzzz", a_pool())
        await site.host.start("somebodys-vm", a_pool())
        site.start()
        await site.until(lambda: "mini-mac-zzzzzzzz" not in site.host.vms, within=600)
        assert "somebodys-vm" in site.host.vms


@pytest.mark.parametrize(
    ("after", "every"),
    [
        pytest.param(False, 2, id="before every other call"),
        pytest.param(False, 1, id="before a call", marks=pytest.mark.long),
        pytest.param(True, 1, id="after its effect", marks=pytest.mark.long),
    ],
)
async def test_crash_between_any_two_steps(tmp_path: Path, after: bool, every: int) -> None:
    """Wherever our process ends, the next one goes on: the job is done, by one runner or the next, and nothing is left."""
    for n in count(1, every):
        async with a_site(tmp_path / str(n), seed=n) as site:
            fuse = Fuse(at=n, after=after)
            site.start(fuse)
            job = queue(site, seconds=20.0)
            await site.until(lambda site=site, fuse=fuse: fuse.burnt or site.is_drained(), within=LONG)
            if not fuse.burnt:
                break
            await site.kill()
            await site.pass_time(15)
            site.start()
            await site.until(site.is_drained, within=LONG)
            site.check()
            assert job.conclusion == "success", f"ended at call {n}: {fuse.trail}"
    assert n > 15


async def test_a_start_that_fails(tmp_path: Path) -> None:
    """A database that another program holds right at the start ends nothing: the next bell begins again."""
    failures = iter([OperationalError("UPDATE job", {}, Exception("database is locked"))])

    def locked_once(verb: str, call: Call) -> Call:
        async def passed(*args: Any, **kwargs: Any) -> Any:
            if verb == "configure" and (error := next(failures, None)):
                raise error
            return await call(*args, **kwargs)

        return passed

    async with a_site(tmp_path) as site:
        process = site.start()
        process.reconciler._store = Port(process.store, locked_once)
        job = queue(site)
        await site.until(site.is_drained)
        assert job.conclusion == "success"
        assert process.bugs() == ["a pass failed"]


async def test_a_forged_end(tmp_path: Path) -> None:
    """A signed webhook that calls a running job completed long ago ends nothing: GitHub is asked first."""
    async with a_site(tmp_path) as site:
        process = site.start()
        job = queue(site, seconds=1200.0)
        await site.until(lambda: job.status == "in_progress")
        await site.pass_time(30)
        forged = {
            "status": "completed",
            "completed_at": "2020-01-01T00:00:00Z",
            "runner_name": job.runner_name,
        }
        event = job_event(
            site.model.shapes.job(job) | forged, site.model.shapes.repository(job.run.repository)
        )
        await process.store.record(Delivery(guid="forged", event="workflow_job"), event, at=site.our_clock())
        site.reconciler.wake()
        await site.until(site.is_drained, within=LONG)
        site.check()
        assert job.conclusion == "success"
