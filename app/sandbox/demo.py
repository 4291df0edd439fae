"""The main job, watched: the real server, between a simulated GitHub and a simulated tart, on this machine.

A dozen jobs of two repositories, one of them cancelled while it waits, one of a repository that is not allowed
and one whose labels nobody has. It ends well only if every job that may run ran, nothing else cost a VM, and
nothing at all is left: no VM, no registration, no process, no secret in anything that was written.
"""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

from app.clock import utcnow
from app.sandbox.demo_screen import Screen
from app.sandbox.github import ModelGitHub
from app.sandbox.github_values import Job
from app.sandbox.image import make_image
from app.sandbox.orchard.server import shelf
from app.sandbox.outside import IMAGE, outside
from app.sandbox.runner import runner_files
from app.sandbox.server import Server

CONFIG = f"""\
slots = 2
host_name = "demo"
min_free_disk_gb = 0

[[pool]]
name = "sequoia"
labels = ["sequoia"]
image = "{IMAGE}"
repositories = ["acme/*"]
"""
ORCHARD_CONFIG = CONFIG.replace("slots = 2\n", "").replace("min_free_disk_gb = 0\n", "")
ORCHARD_CONFIG += "cpu = 4\nmemory_mib = 4096\n"
MACS = ("mini1", "mini2")
LABELS = ("self-hosted", "macOS", "sequoia")
LATER = (
    ("acme/app", "test (macos)"),
    ("acme/app", "lint"),
    ("acme/lib", "wheel (cp314)"),
    ("acme/lib", "docs"),
)
MOST_WAITING = 7  # jobs that are not over, after the story
FAILING = 0.15  # the share of them that fail
LIMIT_SECONDS = 55.0
BETWEEN_LOOKS = 0.25


@dataclass(slots=True)
class Story:
    """What was queued, and what must become of it."""

    served: list[Job] = field(default_factory=list)
    cancelled: list[Job] = field(default_factory=list)
    refused: list[Job] = field(default_factory=list)

    @property
    def jobs(self) -> list[Job]:
        """Every job, in the order queued."""
        return sorted([*self.served, *self.cancelled, *self.refused], key=lambda job: job.id)


async def run(seed: int, *, keep: bool = False, orchard: bool = False) -> bool:
    """Run the demo; True when all of it went as it must. *keep* goes on with other jobs until Ctrl-C.

    *orchard*: on two Macs behind an Orchard controller, and not on one.
    """
    screen = Screen()
    async with AsyncExitStack() as stack:
        model, api_url, place = await stack.enter_async_context(outside(seed))
        if orchard:
            made = await stack.enter_async_context(shelf(place, utcnow, macs=MACS, tls=True))
            for worker in made.workers.values():
                make_image(worker.home, IMAGE, runner_files())
            server = Server(place, api_url, model, ORCHARD_CONFIG, backend=made.settings)
        else:
            server = Server(place, api_url, model, CONFIG)
        await stack.enter_async_context(server)
        model.point_hook(f"{server.url}/webhooks/github")
        screen.begin(server.link, place)
        story = queue_jobs(model)
        done = await _watch(server, model, story, screen)
        problems = [] if done else [f"not everything was done within {LIMIT_SECONDS:.0f} s"]
        problems += await _check_story(server, story)
        await screen.table(server, story.jobs)
        if orchard:
            await made.settled()
        problems += _left_behind(model, server)
        screen.end(problems)
        if keep:
            screen.going_on(server.link)
            await _go_on(model, random.Random(seed))  # noqa: S311  # a simulation's chance
    return not problems


async def _go_on(model: ModelGitHub, chance: random.Random) -> None:
    """Queue one job after the other, never many at a time, until Ctrl-C."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, told.set)
    queued: list[Job] = []
    while not told.is_set():
        queued = [job for job in queued if job.status != "completed"]
        if len(queued) < MOST_WAITING:
            repository, name = chance.choice(LATER)
            outcome = "failure" if chance.random() < FAILING else "success"
            seconds = chance.uniform(3.0, 12.0)
            queued.append(model.queue(repository, name, LABELS, seconds=seconds, outcome=outcome))
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(2.0, 6.0)):
                await told.wait()


def queue_jobs(model: ModelGitHub) -> Story:
    """Queue the story's jobs, but for the one to be cancelled, which comes while all slots work."""
    story = Story()
    for n in range(1, 7):
        story.served.append(model.queue("acme/app", f"test ({n})", LABELS, seconds=1.0 + 0.3 * (n % 3)))
    for name in ("wheel (cp312)", "wheel (cp313)", "docs"):
        story.served.append(model.queue("acme/lib", name, LABELS, seconds=1.0))
    story.refused.append(model.queue("stranger/tool", "mine coins", LABELS, seconds=1.0))
    story.refused.append(model.queue("acme/app", "needs a GPU", (*LABELS, "gpu"), seconds=1.0))
    return story


async def _watch(server: Server, model: ModelGitHub, story: Story, screen: Screen) -> bool:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with screen.live():
        while loop.time() - began < LIMIT_SECONDS:
            slots = await server.get("/api/v1/slots")
            screen.show(slots, story.jobs, loop.time() - began)
            ran = sum(job.status == "completed" for job in story.served)
            # No runner can be online before long, so the job is certain to be cancelled while it waits.
            if not story.cancelled and slots and all(slot["state"] in {"busy", "stopping"} for slot in slots):
                story.cancelled.append(await _cancel_one(server, model))
            if story.cancelled and ran == len(story.served) and {slot["state"] for slot in slots} == {"free"}:
                return True
            await asyncio.sleep(BETWEEN_LOOKS)
    return False


async def _cancel_one(server: Server, model: ModelGitHub) -> Job:
    """Queue a job, and cancel it once the server knows of it."""
    job = model.queue("acme/lib", "superseded", LABELS, seconds=9.0)
    while (await server.get("/api/v1/jobs?limit=1"))["items"][0]["id"] != job.id:  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.02)
    model.cancel(job)
    return job


async def _check_story(server: Server, story: Story) -> list[str]:
    problems = [
        f"{job.name} of {job.run.repository.full_name} ended {job.conclusion}, not success"
        for job in story.served
        if job.conclusion != "success"
    ]
    problems += [
        f"{job.name} ran on {job.runner_name}, and must not have run"
        for job in (*story.refused, *story.cancelled)
        if job.runner_name is not None
    ]
    for job in story.refused:
        seen = await server.get(f"/api/v1/jobs/{job.id}")
        if seen["status"] != "queued" or not seen["explanation"]:
            problems.append(f"{job.name} is not explained")
    runners = await server.get("/api/v1/runners?limit=1000")
    if len(runners) > len(story.served) + 1:  # one may have been on its way for the cancelled job
        problems.append(f"{len(runners)} VMs were booted for {len(story.served)} jobs")
    return problems


def _left_behind(model: ModelGitHub, server: Server) -> list[str]:
    registered = [runner.name for runner in model.runners.registrations.values()]
    problems = [f"VM {name} is left" for name in server.vms() if name != IMAGE]
    problems += [f"registration {name} is left" for name in registered]
    problems += [f"tart was used wrongly: {line}" for line in server.violations()]
    problems += [f"a secret was written to {file}" for file in server.leaks(model.secrets())]
    return problems
