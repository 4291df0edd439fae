"""The real process, killed at every step it makes, at any moment under load, and told to stop.

After each the next process goes on: every job runs exactly once, a job that runs is not touched, and nothing is left.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

import pytest

from tests.crash.site import Site, a_site
from tests.crash.stories import NEVER_ALONE, STORIES, Story

AT_ONCE = 12  # sites side by side: most of a case is waiting
TABLE = frozenset(step for story in STORIES for step in story.steps)


async def play(site: Site, story: Story, at: str | None = None) -> None:
    """Play a story to its end in one process, or until that is killed at a step."""
    await story.before(site)
    await site.start({"CRASH_AT": at} if at else {})
    await story.play(site)
    await site.until(lambda: site.has_ended() or story.is_over(site))
    if at is not None:
        with suppress(TimeoutError):  # what is drained is seen before the last step is over
            await site.until(site.has_ended, within=5.0)
        assert site.exit_code() == -signal.SIGKILL, f"the story is over, and {at} was never reached"
        await site.start()
        await site.until(lambda: story.is_over(site))


async def problems(site: Site, story: Story) -> list[str]:
    ended = [f"job {job.id} ended {job.conclusion}" for job in site.jobs if job.conclusion != story.ends]
    return ended + await site.problems()


async def killed(story: Story, at: str) -> list[str]:
    """Return what is wrong after a process was killed at a step and the next one did the rest."""
    async with a_site(len(at), story.config) as site:
        await play(site, story, at)
        return await problems(site, story)


async def left_alone(story: Story) -> list[str]:
    """Return what is wrong after a process that nobody killed: above all, a step that no row of the table has."""
    async with a_site(1, story.config) as site:
        await play(site, story)
        made = {step.rpartition(" ")[0] for step in site.steps()}
        unknown = [f"{step} is in no row of the table" for step in made - TABLE - NEVER_ALONE]
        idle = [f"{step} is a row, and is never made" for step in set(story.steps) - made]
        return unknown + idle + await problems(site, story)


async def told(story: Story, at: str | None, turn: asyncio.Semaphore) -> list[str]:
    async with turn:
        try:
            wrong = await (killed(story, at) if at else left_alone(story))
        except (AssertionError, TimeoutError) as error:
            wrong = [str(error)]
    return [f"{story}, killed {at}: {text}" for text in wrong]


@pytest.mark.crash
@pytest.mark.timeout(1800)
async def test_killed_at_every_step() -> None:
    """Whatever step the process is killed at, the next one goes on to a good end; and no step is left out."""
    turn = asyncio.Semaphore(AT_ONCE)
    alone = [(story, None) for story in STORIES]
    rows = [(story, row) for story in STORIES for row in story.rows]
    for cases in (alone, rows):  # what does not even work undisturbed is told at once
        async with asyncio.TaskGroup() as side_by_side:
            tasks = [side_by_side.create_task(told(story, at, turn)) for story, at in cases]
        assert not [wrong for task in tasks for wrong in task.result()]
